"""Functions that a tensor subclass may answer whole, as it may torch's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

_P = ParamSpec("_P")


def overridable(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Ask the ``__torch_function__`` of the positional tensor arguments first, where a subclass has one.

    A number format that sums exactly can so form a result with one rounding that plain torch forms in steps.
    """

    @wraps(function)
    def result(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        if not torch.compiler.is_compiling():
            tensors = tuple(each for each in args if isinstance(each, Tensor))
            if has_torch_function(tensors):
                found: Tensor = handle_torch_function(result, tensors, *args, **kwargs)
                return found
        return function(*args, **kwargs)

    return result
