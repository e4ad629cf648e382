"""In which format the results of operators are held: one for activations, one for gradients, one for losses."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from posit.formats import Format
from posit.torch.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Policy:
    """Formats of results, carried by a `PositTensor` and handed on to all that is computed from it.

    An operator whose operands carry a policy rounds its result, once, to `activations` in a forward pass and to
    `gradients` in a backward pass, whatever formats its operands have.  Without a policy all operands must have one
    format, and the result has it too.

    >>> from posit import posit8, posit16
    >>> Policy(posit8, posit16, posit16).gradients.name
    'posit16'
    """

    activations: Format
    gradients: Format
    loss: Format  #: of losses, forward only: their gradients are rounded to `gradients` like all others
    simulate: bool = False  #: matrix products and convolutions accumulate in float32: fast, not exact
    #: new results are rounded a second time, to narrow posits times a power of two that `activations` and `gradients`
    #: hold exactly; see `posit.torch.scaling`
    scaling: Scaling | None = None


_forced: ContextVar[bool | None] = ContextVar("in_backward", default=None)


def in_backward() -> bool:
    """Whether autograd is running a backward pass here (a forward pass run again inside of one is not)."""
    forced = _forced.get()
    if forced is not None:
        return forced
    return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()


@contextmanager
def phase(*, backward: bool) -> Iterator[None]:
    """Take what is computed in this context for a backward or a forward pass, whatever autograd does."""
    token = _forced.set(backward)
    try:
        yield
    finally:
        _forced.reset(token)
