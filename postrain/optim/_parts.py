"""One step of any optimizer, some parameters at a time."""

from collections.abc import Sequence

import torch

from postrain.errors import ModeError
from postrain.optim._base import PositOptimizer

#: optimizers of torch whose update of a parameter depends on nothing but that parameter and its state
_SEPARATE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adagrad,
    torch.optim.RMSprop,
    torch.optim.Adafactor,
)


def require_parts(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer whose step cannot be taken in parts.

    Raises:
        ModeError: naming it.
    """
    if not isinstance(optimizer, (PositOptimizer, *_SEPARATE)):
        names = ", ".join(kind.__name__ for kind in _SEPARATE)
        raise ModeError(
            f"{type(optimizer).__name__} has no rule for a step in parts; use one of postrain.optim, or torch's {names}"
        )


def step_part(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]) -> None:
    """Update these parameters, as part of the step that the next ``optimizer.step()`` ends, and free their gradients.

    >>> a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([a, b], lr=0.5)
    >>> (a + b).sum().backward()
    >>> step_part(optimizer, [b])
    >>> a.item(), b.item(), b.grad
    (1.0, 0.5, None)
    """
    if isinstance(optimizer, PositOptimizer):
        optimizer.part(parameters)
    else:
        _narrowed(optimizer, {id(each) for each in parameters})
    for each in parameters:
        each.grad = None


def _narrowed(optimizer: torch.optim.Optimizer, only: set[int]) -> None:
    whole = [group["params"] for group in optimizer.param_groups]
    try:
        for group, members in zip(optimizer.param_groups, whole, strict=True):
            group["params"] = [each for each in members if id(each) in only]
        optimizer.step()
    finally:
        for group, members in zip(optimizer.param_groups, whole, strict=True):
            group["params"] = members
