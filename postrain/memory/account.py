"""Measure a network's memory in a fresh process, beside the prediction."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from postrain.errors import MeasurementError
from postrain.report.schema import Bytes, Memory

_TIMEOUT = 600  # seconds; a first run compiles the kernels

#: One arena, small thresholds: freed memory goes back to the system, so that the process' peak has a meaning.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, written so that another process can build it again.

    The inputs are synthetic, of the right shapes and types: no data set is loaded.  Bytes depend on values in
    one place only, what a product keeps for the sums that float64 left open (`postrain.memory.formulas`).

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
    momentum: float = field(default=0.9)
    seed: int = field(default=0)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one network in one arithmetic.

    Inference has no optimizer, no gradients and no targets.  A training step is forward, backward, and an SGD
    step whose momentum exists already; gradients do not exist before it.  `postrain.memory.steps` says what
    each purpose is.
    """

    case: Case
    parameters: int  #: how many numbers are trained
    inference: Memory
    training: Memory
    process_inference: (
        int | None
    )  #: growth of the resident memory from before the model to the peak; None where
    process_training: (
        int | None
    )  #: the predicted peak is below 64 MiB, or Linux does not let the peak be reset
    seconds: float  #: that the whole measurement took in its process, imports not counted

    @property
    def predicted_ratio(self) -> float:
        """Predicted bytes of a training step over those of inference, same batch."""
        return self.training.predicted.total / self.inference.predicted.total

    @property
    def measured_ratio(self) -> float:
        """Measured peak of a training step over that of inference, same batch."""
        return self.training.measured_peak / self.inference.measured_peak


def account(case: Case) -> Footprint:
    """Predict the memory of a case, and measure it in a fresh process.

    Raises:
        MeasurementError: the process failed; the message ends with what it said last.

    >>> footprint = account(Case("postrain.memory.networks:mlp", {"sizes": [8, 4, 2]}, "float32", batch=3))
    >>> footprint.training.measured.weights, footprint.training.measured.gradients
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
            f"the process that measures {case.factory} in {case.recipe} ended with code {done.returncode}; "
            f"it said last: {said[-1]}"
        )
    found = json.loads(done.stdout)
    inference, training = (_memory(found.pop(name)) for name in ("inference", "training"))
    return Footprint(case=case, inference=inference, training=training, **found)


def _memory(found: dict[str, Any]) -> Memory:
    return Memory(Bytes(**found["predicted"]), Bytes(**found["measured"]), found["measured_peak"])
