"""What modes share: options, inputs, and steps that update parameters before the backward pass has ended."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from postrain._step import StepResult
from postrain.convert import RoundInputs
from postrain.counters import Counts, nars, origin_of_nar
from postrain.errors import ModeError, NaRError
from postrain.modes._layered import Layered, Stages
from postrain.nn.passage import at_step
from postrain.optim import PositOptimizer
from postrain.optim._parts import require_parts

if TYPE_CHECKING:
    from postrain.distributed.workers import Workers

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a mode makes its steps.

    Raises:
        ModeError: a number is out of range.
    """

    micro_batch: int | None = None  #: samples that are worked on together
    clip: float | None = None  #: largest norm of the gradient
    on_nar: str = "stop"  #: or ``"skip"``
    seed: int = 0  #: of dropout and of random directions
    loss_scale: float = 1.0  #: a power of two; the optimizer divides gradients by it
    tangents: int = 1  #: random directions a step, of modes that draw them
    epsilon: float = 2.0**-7  #: how far mode `zeroth` moves the weights

    def __post_init__(self) -> None:
        if self.tangents < 1 or not self.epsilon > 0:
            raise ModeError(
                f"tangents must be at least 1 and epsilon positive, got {self.tangents} and {self.epsilon}"
            )


@dataclass
class OwnUpdate:
    """A step of training that takes the optimizer's step in parts, as soon as gradients are there.

    Gradients do not exist together, so they cannot be clipped to a common norm, and a step cannot be left out.

    Raises:
        ModeError: `clip` or ``on_nar="skip"`` is asked for, or the optimizer has no rule for a step in parts, or there
            are workers and the mode does not give the same bits on any number of them.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    settings: Settings
    workers: "Workers | None" = None  #: the ranks that train together; samples are then this rank's share

    name = "fused"
    on_workers = False  #: whether the mode's bits do not depend on how samples are divided among workers

    def __post_init__(self) -> None:
        if self.workers is not None and not self.on_workers:
            raise ModeError(
                f"mode {self.name!r} estimates gradients from float64 sums over samples, which depend on how these are "
                "divided among workers; on several use 'reverse', 'accumulate', 'checkpointed', 'fused' or 'reversible'"
            )
        if self.settings.clip is not None:
            raise ModeError(
                f"mode {self.name!r} updates parameters before all gradients are there, so their norm cannot be "
                "clipped; leave out clip, or use mode 'reverse', 'accumulate' or 'checkpointed'"
            )
        if self.settings.on_nar != "stop":
            raise ModeError(
                f"mode {self.name!r} updates parameters before all gradients are there, so a step with a NaR cannot "
                "be left out; use on_nar = \"stop\", or mode 'reverse', 'accumulate' or 'checkpointed'"
            )
        require_parts(self.optimizer)
        self.check()

    def __call__(self, number: int, samples: Tensor, x: Tensor, y: Tensor, *, count: bool) -> StepResult:
        """The step of this number on these samples; see `postrain._step.Step`.

        Raises:
            NaRError: a NaR in the loss or a gradient.  Parameters may be updated in part then.
        """
        self.optimizer.zero_grad()
        with at_step(number), self._counting(count) as counts:
            loss = self.run(number, samples, x, y)
            self.optimizer.step()  # ends the step
        return StepResult(number, loss, False, counts[0] if counts else None)

    @contextmanager
    def layered(self, number: int, targets: int, stages: Stages) -> Iterator[Layered]:
        """A step in exact sums; its parameters are updated layer by layer, what is left at the end of the context.

        What goes wrong in the context on one worker is raised on all of them.
        """
        step = Layered(self.model, self.optimizer, targets, stages, number, self.workers)
        try:
            yield step
        except Exception as error:
            step.end(error)
            raise
        step.end()

    @abstractmethod
    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Update all parameters in parts; the loss per target before that."""

    def check(self) -> None:
        """Refuse a model that the mode cannot train."""

    def require_number(self, loss: Tensor, number: int, forward: Callable[[], object]) -> None:
        """Refuse a loss that is NaR, naming where it came from."""
        if nars(loss):
            raise NaRError(f"the loss{origin_of_nar(self.model, forward)}", number)

    def at_output(self, outputs: Tensor, y: Tensor, number: int) -> tuple[float, Tensor]:
        """The loss, and its gradient with respect to the model's outputs; the only graph is that of the loss."""
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.loss(leaf, y)
        if nars(loss):
            raise NaRError("the loss", number)
        (gradient,) = torch.autograd.grad(loss, [leaf])
        return float(loss.item()), gradient

    @contextmanager
    def _counting(self, count: bool) -> Iterator[list[Counts]]:
        found: list[Counts] = []
        optimizer = self.optimizer
        if not count or not isinstance(optimizer, PositOptimizer):
            yield found
            return
        before, optimizer.count = optimizer.count, True
        try:
            yield found
        finally:
            optimizer.count = before
        counted = optimizer.last_step_counts
        if counted is not None:
            found.append(Counts(counted.lost, counted.saturated, 0))


def entered(model: nn.Module, x: Tensor) -> Tensor:
    """Inputs as a converted model hands them to its modules, where these are called one by one."""
    for hook in model._forward_pre_hooks.values():
        if isinstance(hook, RoundInputs):
            x = hook.moved(x)
    return x


def units(model: nn.Module, mode: str) -> list[nn.Module]:
    """The modules of nested nn.Sequential, in the order in which they are called.

    Raises:
        ModeError: the model is no nn.Sequential.
    """
    if not isinstance(model, nn.Sequential):
        raise ModeError(
            f"mode {mode!r} runs a model module by module and needs an nn.Sequential, got {type(model).__name__}; "
            "write the model as one (nested ones are taken apart)"
        )
    found: list[nn.Module] = []
    for module in model:
        plain = type(module) is nn.Sequential and not module._forward_hooks and not module._forward_pre_hooks
        found += units(module, mode) if plain else [module]
    return found
