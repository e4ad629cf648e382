"""Gradients that are exact sums over passes and workers, and update their layer as soon as they are complete."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from posit.torch import GradientSum, PositTensor
from posit.torch.accumulation import into
from postrain.accumulate import add_loss, loss_sum, mean_loss, open_sums
from postrain.errors import AccumulationError
from postrain.optim._parts import step_part

if TYPE_CHECKING:
    from postrain.distributed.workers import Workers

Stages = Sequence[Sequence[Tensor]]


class Layered:
    """One step: a sum for each parameter, which takes little room at rest and none once its layer is updated.

    On several workers the layers come together one after the other, in the order of `stages` on each of them: first the
    bits in use, then the limbs, then each worker rounds and updates.  A layer that is complete earlier waits.  A worker
    without samples takes part with sums of 0.

    Args:
        model: A converted model.
        optimizer: What updates it.
        targets: Of this worker's samples.
        stages: All parameters that are trained, layer by layer in the order in which their gradients are complete.
        number: Of the step, for messages.
        workers: The ranks that train together.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        targets: int,
        stages: Stages,
        number: int,
        workers: "Workers | None",
    ) -> None:
        self._optimizer, self._losses = optimizer, loss_sum(model)
        opened = open_sums(model)
        self._names = {id(each.parameter): opened.names[id(each.parameter)] for each in opened.sums}
        self._sums = {id(each.parameter): each for each in opened.sums}
        self._updated: set[int] = set()
        self.divisor = targets if workers is None else workers.total(targets)
        self._reducer = None
        if workers is not None:
            held = [[self._sums[id(each)] for each in stage] for stage in stages]
            names = {id(each): self._names[key] for key, each in self._sums.items()}
            self._reducer = workers.layers(
                [*held, [self._losses]], names | {id(self._losses): "the loss"}, number, self._update
            )

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Forward passes in this context add to the sums when they run backward."""
        with into(self._sums.values()):
            yield

    def add_loss(self, loss: float) -> None:
        """Add the loss of a pass."""
        add_loss(self._losses, loss)

    def ready(self, parameters: Sequence[Tensor]) -> None:
        """The gradients of these parameters are complete on this worker.

        Raises:
            AccumulationError: one has got an already rounded gradient besides.
        """
        for each in parameters:
            if id(each) not in self._sums:
                continue
            self.refuse_rounded(each, each.grad)
            if self._reducer is not None:
                self._reducer.ready(each)
            elif id(each) not in self._updated:
                self._update([self._sums[id(each)]])

    def refuse_rounded(self, parameter: Tensor, grad: Tensor | None) -> None:
        """Refuse a gradient that did not go to the exact sums.

        Raises:
            AccumulationError: naming the parameter.
        """
        if grad is not None:
            raise AccumulationError(
                f"the gradient of {self._names[id(parameter)]} was rounded for each micro-batch or worker: an operator "
                "that uses it does not add to exact sums; use it in the layers of torch.nn only, or leave out "
                "micro_batch, on one worker"
            )

    def _update(self, stage: Sequence[GradientSum]) -> None:
        """Round what came together, one parameter after the other, and step it."""
        for each in stage:
            if each is self._losses:
                continue
            self._updated.add(id(each.parameter))
            if each.terms:
                each.parameter.grad = each.gradient(self.divisor)
                step_part(self._optimizer, [each.parameter])
            each.give_up()

    @property
    def loss(self) -> float:
        """Of the whole batch, per target, when the step has ended."""
        return mean_loss(self._losses, self.divisor)

    def end(self, error: BaseException | None = None) -> None:
        """End the step: bring together and update what is left.

        Args:
            error: What this worker failed with: then all raise.

        Raises:
            NaRError: a NaR on any worker, on all of them.
            WorkerError: a worker failed or was lost.
        """
        if self._reducer is not None:
            self._reducer.finish(error=error)
        elif error is None:
            self._update([each for key, each in self._sums.items() if key not in self._updated])


def layers_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters that are trained, module by module, the last module first.

    >>> [len(each) for each in layers_of(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, bias=False)))]
    [1, 2]
    """
    seen: set[int] = set()
    found = []
    for module in model.modules():
        own = [
            each for each in module.parameters(recurse=False) if each.requires_grad and id(each) not in seen
        ]
        seen |= {id(each) for each in own}
        if own:
            found.append(own)
    return found[::-1]


def in_posits(model: nn.Module) -> bool:
    """Whether a model is converted."""
    return isinstance(next(model.parameters(), None), PositTensor)
