"""Nested state as named tensors and JSON, and back: what a checkpoint file holds, without pickling anything.

Plain values (None, bool, int, float, str) stay JSON; floats survive to the bit. Tensors, posits and arrays get a name
made of their path, as ``optimizer/state/0/momentum``; tensors that share memory get one name. Dictionaries whose keys
are not text become lists of pairs.
"""

from typing import Any

import numpy as np
import torch

from posit.formats import Format
from posit.torch import PositTensor
from postrain.errors import DataError, RecipeError

Tensors = dict[str, torch.Tensor]
_POSIT, _TENSOR, _ARRAY, _TUPLE, _ITEMS = "$posit", "$tensor", "$array", "$tuple", "$items"


def flatten(state: Any) -> tuple[Any, Tensors]:
    """The state as JSON that names its tensors, and the tensors by name.

    Raises:
        RecipeError: something in it is neither a number, text, tensor, array nor a container of these.

    >>> tree, tensors = flatten({"step": 3, "w": torch.ones(2)})
    >>> tree
    {'step': 3, 'w': {'$tensor': 'w'}}
    >>> unflatten(tree, tensors)
    {'step': 3, 'w': tensor([1., 1.])}
    """
    tensors: Tensors = {}
    return _Flattening(tensors).tree(state, ""), tensors


class _Flattening:
    """The tensors named so far, and by which memory they are known."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self._names: dict[tuple[Any, ...], str] = {}

    def tree(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, (list, tuple)):
            items = [self.tree(item, _join(path, index)) for index, item in enumerate(value)]
            return items if isinstance(value, list) else {_TUPLE: items}
        return self._array(value, path)

    def _dict(self, value: dict[Any, Any], path: str) -> dict[str, Any]:
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: self.tree(item, _join(path, key)) for key, item in value.items()}
        items = [[self.tree(key, path), self.tree(item, _join(path, key))] for key, item in value.items()]
        return {_ITEMS: items}

    def _array(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, PositTensor):
            return {_POSIT: self._keep(value.codes, path), "format": value.format.name}
        if isinstance(value, torch.Tensor):
            return {_TENSOR: self._keep(value, path)}
        if isinstance(value, np.ndarray):
            return {_ARRAY: self._keep(torch.from_numpy(np.array(value)), path)}
        raise RecipeError(
            f"{path or 'the state'} is a {type(value).__name__}, which cannot be saved without pickling; "
            "keep numbers, text, tensors, arrays, lists and dictionaries"
        )

    def _keep(self, tensor: torch.Tensor, path: str) -> str:
        tensor = tensor.detach()
        memory = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and memory in self._names:
            return self._names[memory]
        self.tensors[path] = tensor
        self._names[memory] = path
        return path


def unflatten(tree: Any, tensors: Tensors) -> Any:
    """What `flatten` was given.

    Raises:
        DataError: a tensor that the tree names is not there.
    """
    if isinstance(tree, list):
        return [unflatten(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _TUPLE in tree:
        return tuple(unflatten(item, tensors) for item in tree[_TUPLE])
    if _ITEMS in tree:
        return {unflatten(key, tensors): unflatten(item, tensors) for key, item in tree[_ITEMS]}
    if _POSIT in tree:
        return PositTensor(_named(tree[_POSIT], tensors), Format.parse(tree["format"]))
    if _TENSOR in tree:
        return _named(tree[_TENSOR], tensors)
    if _ARRAY in tree:
        return _named(tree[_ARRAY], tensors).numpy()
    return {key: unflatten(item, tensors) for key, item in tree.items()}


def _named(name: str, tensors: Tensors) -> torch.Tensor:
    if name not in tensors:
        raise DataError(f"a tensor called {name} is named but not there")
    return tensors[name]


def _join(path: str, key: object) -> str:
    return f"{path}/{key}".lstrip("/")
