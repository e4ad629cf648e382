"""Ways to train: what is stored between forward and backward pass, when parameters are updated, or neither.

========== ============================================================================================================
mode       what it does
========== ============================================================================================================
reverse    stores every activation; all gradients, then the update: the baseline
accumulate the same in micro-batches, gradients summed exactly
checkpointed  stores the inputs of about sqrt(n) segments, and runs each again
fused      updates each parameter inside the backward pass, and frees its gradient
reversible a `postrain.nn.ReversibleStack` run back block by block, each updated before the next
forward    derivatives along random directions of all weights, in the forward pass; no backward pass
local      the same for the activations of each block of a `postrain.nn.LocalNetwork`, towards a loss of its own
zeroth     losses at weights moved along random directions; no derivatives
========== ============================================================================================================
"""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from postrain._step import Step, StepResult
from postrain.errors import ModeError
from postrain.modes._base import Loss, OwnUpdate, Settings
from postrain.modes.checkpointed import checkpointed
from postrain.modes.forward import Forward
from postrain.modes.fused import Fused
from postrain.modes.local import Local
from postrain.modes.reversible import Reversible, forward_in_parts
from postrain.modes.zeroth import Zeroth

if TYPE_CHECKING:
    from postrain.distributed.workers import Workers

__all__ = ["MODES", "OwnUpdate", "Settings", "Stepper", "checkpointed", "forward_in_parts", "stepper"]

_OWN: dict[str, type[OwnUpdate]] = {each.name: each for each in (Fused, Reversible, Forward, Local, Zeroth)}
MODES = ("reverse", "accumulate", "checkpointed", *_OWN)  #: by name


class Stepper(Protocol):
    """Makes training steps."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates it."""

    def __call__(self, number: int, samples: Tensor, x: Tensor, y: Tensor, *, count: bool) -> StepResult:
        """The step of this number, from 1, on these samples."""


def stepper(
    mode: str,
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    settings: Settings | None = None,
    workers: "Workers | None" = None,
) -> Stepper:
    """What makes the steps of a mode.

    Args:
        mode: A name from `MODES`.
        model: Trained in place.
        loss: Outputs and targets to the loss; with micro-batches it must be the sum over what it is given.
        optimizer: Ours for posits; for float32 one of torch's.
        settings: Micro-batches, clipping, what to do about NaR.
        workers: The ranks that train together, in modes whose gradients are exact sums; not `forward`, `local` and
            `zeroth`.

    Raises:
        ModeError: the mode is unknown, cannot train on several workers, or needs what model, optimizer or settings do
            not have.

    >>> model = nn.Linear(1, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> step = stepper("fused", model, nn.functional.mse_loss, optimizer)
    >>> step(1, torch.arange(2), torch.ones(2, 1), torch.ones(2, 1), count=False).number
    1
    >>> stepper("reversible", model, nn.functional.mse_loss, optimizer)
    Traceback (most recent call last):
        ...
    postrain.errors.ModeError: mode 'reversible' needs an nn.Sequential in which one module is ...
    """
    own = settings or Settings()
    if mode not in MODES:
        raise ModeError(f"unknown mode {mode!r}; there are {', '.join(MODES)}")
    if mode in _OWN:
        return _OWN[mode](model, loss, optimizer, own, workers)
    if mode == "accumulate" and own.micro_batch is None:
        raise ModeError("mode 'accumulate' needs micro_batch, the number of samples of a backward pass")
    forward = checkpointed(model) if mode == "checkpointed" else None
    return Step(
        model,
        loss,
        optimizer,
        own.micro_batch,
        own.clip,
        own.on_nar,
        own.seed,
        own.loss_scale,
        forward,
        workers,
    )
