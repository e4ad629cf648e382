"""What a training step or an inference holds when it holds most, predicted and measured."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from postrain.errors import MeasurementError
from postrain.report.schema import Bytes, Memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from postrain.memory._ledger import Buffer
    from postrain.memory.networks import Workload

_TIMEOUT = 600  # seconds; a first run compiles the kernels

#: One arena, small thresholds: freed memory goes back to the system, so that the process' peak has a meaning.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}

INFERENCE = "inference"  #: the mode that is none of training


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, written so that another process can build it again.

    The inputs are synthetic, of the right shapes and types: no data set is loaded.  Bytes depend on values in
    two places only: what a product keeps for the sums that float64 left open (`postrain.memory.formulas`), and how
    many digits exact sums of gradients need while they rest.

    >>> Case("postrain.memory.networks:mlp", {"sizes": [64, 10]}, "posit16", batch=8).recipe
    'posit16'
    """

    factory: (
        str  #: ``module:function``, called with the arguments, ``batch`` and ``seed``; returns a `Workload`
    )
    arguments: dict[str, Any]  #: that JSON can hold
    recipe: (
        str  #: ``float32`` or the name of a posit format, for weights, activations, gradients and momentum
    )
    batch: int
    momentum: float = 0.9
    seed: int = 0
    mode: str = "reverse"  #: one of `postrain.modes.MODES`
    optimizer: str = "sgd"  #: or ``adam``, ``adafactor``
    state_format: str | None = None  #: of moments; by default the recipe's
    micro_batch: int | None = None
    tangents: int = 1  #: of modes that draw directions


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one network in one arithmetic, trained in one mode.

    Inference has no optimizer, no gradients and no targets.  A training step is forward, backward, and an
    optimizer's step whose state exists already; gradients do not exist before it.  `postrain.memory.steps` says what
    each purpose is.
    """

    case: Case
    parameters: int  #: how many numbers are trained
    inference: Memory
    inference_in_parts: Memory | None  #: in micro-batches of the case's size
    training: Memory
    process_inference: (
        int | None
    )  #: growth of the resident memory from before the model to the peak; None where
    process_training: (
        int | None
    )  #: the predicted peak is below 64 MiB, or Linux does not let the peak be reset
    step_seconds: float  #: the fastest of some training steps
    seconds: float  #: that the whole measurement took in its process, imports not counted

    @property
    def predicted_ratio(self) -> float:
        """Predicted bytes of a training step over those of inference, same batch."""
        return self.training.predicted.total / self.inference.predicted.total

    @property
    def measured_ratio(self) -> float:
        """Measured peak of a training step over that of inference, same batch."""
        return self.training.measured_peak / self.inference.measured_peak


@dataclass(frozen=True, slots=True)
class Account:
    """Bytes by purpose at the moment when a training step, or an inference, holds most."""

    predicted: Bytes
    measured: Bytes | None  #: by the ledger, in this process; None where it was not run
    buffers: tuple["Buffer", ...]  #: of the prediction, in the order in which they are made

    @property
    def difference(self) -> float | None:
        """The prediction's error as a fraction of the measurement."""
        if self.measured is None:
            return None
        return (self.predicted.total - self.measured.total) / self.measured.total


def account(
    model: "nn.Module",
    example: "Tensor | tuple[Tensor, Tensor]",
    *,
    mode: str = "reverse",
    recipe: str = "posit16",
    optimizer: str = "sgd",
    momentum: float = 0.9,
    state_format: str | None = None,
    micro_batch: int | None = None,
    loss: "Callable[[Tensor, Tensor], Tensor] | None" = None,
    measure: bool = True,
) -> Account:
    """Account for one training step of a model.

    The prediction walks through the step on tensors without bytes: it allocates nothing and reads no weight, so with
    ``measure=False`` the model may be on torch's meta device and larger than the machine.  The measurement runs the
    step twice on a copy of the model; it counts the buffers of NumPy, torch and posit in this process (not what torch's
    own operators allocate and free inside).

    Args:
        model: In float32; it is neither converted nor trained.
        example: A batch of inputs and targets; inputs alone for ``mode="inference"``.
        mode: ``"inference"``, or one of `postrain.modes.MODES`.
        recipe: ``"float32"``, or a posit format for weights, activations, gradients and the optimizer's state.
        optimizer: ``"sgd"`` (with `momentum`), ``"adam"`` or ``"adafactor"``.
        momentum: Of ``"sgd"``; 0 for none.
        state_format: Format of moments; by default the recipe's.
        micro_batch: Samples that are worked on together, in modes that have micro-batches.
        loss: Outputs and targets to the loss; by default cross-entropy.
        measure: Whether to run the step, too.

    Raises:
        MeasurementError: the model cannot be walked through without values, or the options do not fit.
        ModeError: the mode cannot train this model; the message says what to change.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    >>> found = account(model, (torch.rand(8, 64), torch.zeros(8, dtype=torch.int64)))
    >>> found.predicted.weights, found.predicted.optimizer_state
    (4820, 4820)
    >>> abs(found.difference) < 0.04
    True
    """
    from postrain.memory.measure import measured
    from postrain.memory.networks import Workload
    from postrain.memory.predict import faked, walked
    from postrain.memory.steps import default_loss, require_options

    inputs, targets = _example(example, mode)
    case = Case("", {}, recipe, len(inputs), momentum, 0, mode, optimizer, state_format, micro_batch)
    require_options(case)
    work = Workload(model, loss or default_loss(micro_batch), inputs, targets)
    ledger = walked(lambda: faked(work), case)
    found: Bytes | None = None
    if measure:
        found = measured(lambda: _copied(work), case)
    return Account(ledger.peak(), found, ledger.buffers())


def _example(example: Any, mode: str) -> tuple[Any, Any]:
    from torch import Tensor

    if isinstance(example, Tensor):
        if mode != INFERENCE:
            raise MeasurementError(
                f"mode {mode!r} needs inputs and targets, got inputs only; give a pair, or mode={INFERENCE!r}"
            )
        return example, example
    inputs, targets = example
    return inputs, targets


def _copied(work: "Workload") -> "Workload":
    from postrain.memory.networks import Workload

    return Workload(copy.deepcopy(work.model), work.loss, work.inputs.clone(), work.targets.clone())


def footprint(case: Case) -> Footprint:
    """Predict the memory of a case, and measure it in a fresh process.

    Raises:
        MeasurementError: the process failed; the message ends with what it said last.

    >>> found = footprint(Case("postrain.memory.networks:mlp", {"sizes": [8, 4, 2]}, "float32", batch=3))
    >>> found.training.measured.weights, found.training.measured.gradients
    (184, 184)
    """
    done = subprocess.run(
        [sys.executable, "-m", "postrain.memory.child"],
        input=json.dumps(asdict(case)),
        env={**os.environ, **_ALLOCATOR},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise MeasurementError(
            f"the process that measures {case.factory} in {case.recipe}, mode {case.mode}, ended with code "
            f"{done.returncode}; it said last: {said[-1]}"
        )
    found = json.loads(done.stdout)
    inference, in_parts, training = (
        _memory(found.pop(name)) for name in ("inference", "inference_in_parts", "training")
    )
    assert inference is not None
    assert training is not None
    return Footprint(case=case, inference=inference, inference_in_parts=in_parts, training=training, **found)


def _memory(found: dict[str, Any] | None) -> Memory | None:
    if found is None:
        return None
    return Memory(Bytes(**found["predicted"]), Bytes(**found["measured"]), found["measured_peak"])
