"""Second roundings where a policy scales: results of operators go to the grid of activations or of gradients.

It happens outside of the rules, which know nothing of it: where an operator returns, where a function with a rule
returns, and where autograd has run the backward pass of one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch._C._autograd import _get_sequence_nr
from torch.autograd.function import BackwardCFunction
from torch.utils import _pytree as pytree

from posit.torch.policy import in_backward
from posit.torch.scaling import Grid, on_grid

aten = torch.ops.aten
_COPIES = {aten.clone.default, aten.copy_.default, aten._to_copy.default}


def settled(function: Any, given: Any, call: Callable[[], Any]) -> Any:
    """What a function with a derivative of its own returns, on its grid; so will be the gradients it hands back."""
    start = _get_sequence_nr()
    result = call()
    settle(function, given, result)
    _follow(result, start)
    return result


def settle(op: Any, given: Any, result: Any) -> None:
    """Round what an operator or a function made to the grid of its policy, in place.

    Views, copies, losses and scaled parameters stay as they are.
    """
    if isinstance(result, torch.Tensor) and _grid(result) is None:
        return  # nearly always
    if op in _COPIES:
        return
    scaled = [(each, grid) for each in _leaves(result) if (grid := _grid(each)) is not None]
    if not scaled:
        return
    operands = [each for each in pytree.tree_leaves(given) if isinstance(each, torch.Tensor)]
    storages = {_place(each) for each in operands}
    for each, grid in scaled:
        written = any(each is operand for operand in operands)  # an in-place form
        if written or _place(each) not in storages:
            _write(each, grid)


def _follow(result: Any, start: int) -> None:
    """Round gradients too: those that functions called since sequence number `start` will hand back."""
    for each in _leaves(result):
        if each.grad_fn is not None and each._policy is not None and each._policy.scaling is not None:
            for node in _nodes(each.grad_fn, start):
                node.register_hook(_settled_gradients)


def on_its_grid(parameter: Any, grid: Grid | None) -> Any:
    """A parameter rounded to a grid in place, and marked: its updates will be, too."""
    parameter._grid = grid
    if grid is not None:
        _write(parameter, grid)
    return parameter


def _leaves(result: Any) -> Iterable[Any]:
    """The posits in a result."""
    leaves = [result] if isinstance(result, torch.Tensor) else pytree.tree_leaves(result)
    return [each for each in leaves if hasattr(each, "_codes")]


def _grid(x: Any) -> Grid | None:
    """The grid that a new result is to lie on."""
    policy = getattr(x, "_policy", None)
    if policy is None or policy.scaling is None or x._is_loss or x._grid is not None:
        return None
    grid: Grid = policy.scaling.gradients if in_backward() else policy.scaling.activations
    return grid if x._format == grid.held else None


def _place(x: Any) -> int:
    return int(getattr(x, "_codes", x).untyped_storage().data_ptr())


def _write(x: Any, grid: Grid) -> None:
    codes = x._codes.detach()
    if all(stride != 0 or size <= 1 for stride, size in zip(codes.stride(), codes.shape, strict=True)):
        codes.copy_(torch.from_numpy(on_grid(codes.numpy(), x._format, grid)))


def _nodes(last: Any, start: int) -> Iterator[Any]:
    """Functions of the graph, written in Python, from `last` back to those made before `start`."""
    waiting, seen = [last], set()
    while waiting:
        node = waiting.pop()
        if node in seen or not start <= node._sequence_nr() < 2**62:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            yield node
        waiting += [each for each, _ in node.next_functions if each is not None]


def _settled_gradients(found: tuple[Any, ...], _: Any) -> tuple[Any, ...]:
    """Hook of a node: what its backward pass found, on the grid of gradients."""
    return tuple(_settled(each) if each is not None and hasattr(each, "_codes") else each for each in found)


def _settled(x: Any) -> Any:
    scaling = None if x._policy is None else x._policy.scaling
    if scaling is None or x._format != scaling.gradients.held:
        return x
    return x.like(torch.from_numpy(on_grid(x._codes.detach().numpy(), x._format, scaling.gradients)))
