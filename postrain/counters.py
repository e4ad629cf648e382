"""What a number format does to a training step: lost updates, saturations, NaR, and where a NaR first appeared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from posit.torch import PositTensor


@dataclass
class Counts:
    """Numbers of elements, of one step."""

    lost_updates: int = 0  #: weights that a gradient other than zero left as they were
    saturations: int = 0  #: of weights, gradients and activations: at ±maxpos (float32: infinite)
    nar: int = 0  #: of gradients and activations: NaR (float32: NaN)


@dataclass
class StepCounter:
    """Counts one step of a model, between its forward pass and its update.

    Costs a copy of the weights and a pass over weights, gradients and activations, so the loop counts some steps only.
    """

    model: nn.Module
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._before = {name: _stored(each).clone() for name, each in self.model.named_parameters()}

    @contextmanager
    def activations(self) -> Iterator[None]:
        """Count the outputs of every module that has no modules inside."""
        with watched(self.model, lambda _, output: self._count(output)):
            yield

    def gradients(self) -> None:
        """Count the gradients; call it after the backward pass."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                self._count(parameter.grad)

    def updates(self) -> Counts:
        """Count weights that stayed and weights that saturate; call it after the update."""
        for name, parameter in self.model.named_parameters():
            after, grad = _stored(parameter), parameter.grad
            self.counts.saturations += saturated(parameter)
            if grad is not None:
                moved = _stored(grad) != 0
                self.counts.lost_updates += int((moved & (after == self._before[name])).sum())
        return self.counts

    def _count(self, tensor: torch.Tensor) -> None:
        self.counts.saturations += saturated(tensor)
        self.counts.nar += nars(tensor)


def saturated(tensor: torch.Tensor) -> int:
    """How many elements lie at ±maxpos; of floating-point tensors, how many are infinite.

    >>> from posit.torch import posit_tensor
    >>> saturated(posit_tensor(torch.tensor([1e30, -1e30, 1.0]), "posit8"))
    2
    """
    if isinstance(tensor, PositTensor):
        return int((tensor.codes.abs() == tensor.format.maxpos).sum())
    return int(torch.isinf(tensor).sum()) if tensor.is_floating_point() else 0


def nars(tensor: torch.Tensor) -> int:
    """How many elements are NaR; of floating-point tensors, how many are NaN."""
    if isinstance(tensor, PositTensor):
        return int((tensor.codes == -(1 << (tensor.format.nbits - 1))).sum())
    return int(torch.isnan(tensor).sum()) if tensor.is_floating_point() else 0


@contextmanager
def watched(model: nn.Module, look: Callable[[str, torch.Tensor], object]) -> Iterator[None]:
    """Call ``look(name, output)`` with every tensor that a module without modules inside returns."""
    handles = []
    for name, module in model.named_modules():
        if next(module.children(), None) is None:

            def hook(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                for tensor in _tensors(output):
                    look(name, tensor.detach())

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def origin_of_nar(model: nn.Module, forward: Callable[[], object]) -> str:
    """Where a NaR comes from, as text to append: a weight that holds one, else the first layer that returns one.

    Args:
        model: The model whose loss was NaR.
        forward: Runs the forward pass again.
    """
    for name, parameter in model.named_parameters():
        if nars(parameter):
            return f" (and in the weight {name})"
    found: list[str] = []
    with torch.no_grad(), watched(model, lambda name, x: found.append(name) if nars(x) else None):
        forward()
    if not found:
        return ""
    return f" (first in the output of {type(model.get_submodule(found[0])).__name__} {found[0]!r})"


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from _tensors(each)


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.codes if isinstance(tensor, PositTensor) else tensor.detach()
