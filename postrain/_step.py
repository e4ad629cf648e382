"""One step of training: forward, backward, update, in one piece or in micro-batches with exact sums between them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from posit.torch import PositTensor
from posit.torch.ops.dropout import dropout_keys
from postrain.accumulate import accumulate
from postrain.counters import Counts, StepCounter, nars, origin_of_nar
from postrain.errors import NaRError
from postrain.nn.passage import at_step
from postrain.optim import clip_grad_norm_

if TYPE_CHECKING:
    from postrain.distributed.workers import Workers


@dataclass(frozen=True)
class StepResult:
    """What a step came to."""

    number: int  #: counted from 1
    loss: float  #: before the update
    skipped: bool  #: for a NaR
    counted: Counts | None  #: in steps that count

    def counts(self) -> dict[str, int]:
        """The counts by name; none in a step that does not count, but for a NaR that was skipped."""
        if self.counted is None:
            return {"nar": 1} if self.skipped else {}
        return {
            "lost_updates": self.counted.lost_updates,
            "saturations": self.counted.saturations,
            "nar": self.counted.nar,
        }


@dataclass(frozen=True)
class Step:
    """Makes steps; see `postrain.loop.fit` for the arguments."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    micro_batch: int | None
    clip: float | None
    on_nar: str
    seed: int
    loss_scale: float = 1.0  #: a power of two; the optimizer divides gradients by it
    forward: Callable[[Tensor], Tensor] | None = (
        None  #: the model's forward pass, where that is made otherwise
    )
    workers: "Workers | None" = None  #: the ranks that train together; samples are then this rank's share

    def __call__(self, number: int, samples: Tensor, x: Tensor, y: Tensor, *, count: bool) -> StepResult:
        """The step of this number on these samples.

        Raises:
            NaRError: a NaR in the loss or a gradient, unless NaR are skipped.
        """
        self.optimizer.zero_grad()
        counter = StepCounter(self.model) if count else None
        try:
            with at_step(number), counter.activations() if counter else nullcontext():
                loss = self._gradients(number, samples, x, y)
            if counter:
                if self.workers is not None:
                    self.workers.add_up(counter.counts)
                counter.gradients()
            self._update(number)
        except NaRError as error:
            if self.on_nar == "stop":
                raise
            del error
            self.optimizer.zero_grad()
            return StepResult(number, float("nan"), True, counter.counts if counter else None)
        return StepResult(number, loss, False, counter.updates() if counter else None)

    def _gradients(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """The loss of the batch, per target; leaves the gradients in the parameters."""
        if self.workers is not None:
            return self.workers.gradients(
                lambda part: self._pass(number, samples[part], x[part], y[part]),
                number,
                len(samples),
                y.numel(),
            )
        if self.micro_batch is None:
            return self._pass(number, samples, x, y)
        total, targets = 0.0, y.numel()
        exact = any(isinstance(parameter, PositTensor) for parameter in self.model.parameters())
        with accumulate(self.model, targets) if exact else nullcontext():
            for start in range(0, len(samples), self.micro_batch):
                part = slice(start, start + self.micro_batch)
                total += self._pass(number, samples[part], x[part], y[part], 1 if exact else targets)
        return total / targets

    def _pass(self, number: int, samples: Tensor, x: Tensor, y: Tensor, divisor: int = 1) -> float:
        """One forward and backward pass, its gradient divided by `divisor` (1 for posits); the loss."""
        with dropout_keys(self.seed, number, samples.tolist()):
            loss = self.loss((self.forward or self.model)(x), y)
            if nars(loss):
                origin = origin_of_nar(self.model, lambda: self.model(x))
                raise NaRError(f"the loss{origin}", number)
            factor = self.loss_scale / divisor
            (loss if factor == 1.0 else loss * factor).backward()
        return float(loss.item())

    def _update(self, number: int) -> None:
        if self.on_nar == "skip":
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None and nars(parameter.grad):
                    raise NaRError(f"the gradient of {name}", number)
        try:
            if self.clip is not None:
                exact = isinstance(next(self.model.parameters()), PositTensor)
                clip = clip_grad_norm_ if exact else nn.utils.clip_grad_norm_
                clip(self.model.parameters(), self.clip * self.loss_scale)
            self.optimizer.step()
        except NaRError as error:
            raise NaRError(error.where, number) from error
