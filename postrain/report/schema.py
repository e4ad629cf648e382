"""What a run of `postrain compare` has measured: the one source of every figure that a report shows.

Plain frozen dataclasses of numbers, text, lists and dicts, so that `results.json` holds exactly this and
reads back equal (`postrain.report.results_json`). Nothing has a default: what was not measured cannot be
shown. All sizes are bytes, all times seconds, all fractions of one.
"""

from dataclasses import dataclass, fields

VERSION = 2  #: of this schema; raised when a field changes its meaning or goes

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input gradient", "weight gradient"  #: kinds of sums
PERMUTED, ONE_THREAD = "permuted batches", "one thread"  #: how a training is repeated


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for, and when."""

    data: str
    format: str
    epochs: int
    seed: int
    started: str  #: ISO 8601, UTC
    seconds: float  #: of the whole run


@dataclass(frozen=True, slots=True)
class Environment:
    """What it ran on."""

    versions: dict[str, str]  #: by distribution: postrain, python, numpy, numba, torch
    system: str
    processor: str
    cores: int
    threads: int  #: used in training


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes by purpose at one moment, each byte once."""

    weights: int
    gradients: int
    optimizer_state: int
    activations: int
    workspace: int
    inputs: int
    residual_stream: int = 0  #: of reversible networks, in fixed point
    tangents: int = 0  #: random directions of weights or activations
    quires: int = 0  #: exact sums of gradients
    comm: int = 0  #: buffers of the exchange between workers

    @property
    def total(self) -> int:
        """The sum of all purposes.

        >>> Bytes(1, 2, 3, 4, 5, 6).total
        21
        """
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory at its peak, predicted without allocating and measured in a fresh process."""

    predicted: Bytes
    measured: Bytes  #: the purposes at the moment of the peak
    measured_peak: int  #: by a meter that does not know the purposes

    @property
    def unattributed(self) -> int:
        """Measured bytes whose purpose is not known."""
        return self.measured_peak - self.measured.total


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state after one pass over the training data."""

    train_loss: float
    test_loss: float
    score: float  #: on the test data, in the unit of the model's `score_name`
    seconds: float  #: training only


@dataclass(frozen=True, slots=True)
class Model:
    """One network trained in one arithmetic."""

    model: str  #: short name, the same for both arithmetics: ``mlp``, ``ga``
    arithmetic: str  #: ``float32`` or the name of a posit format
    task: str  #: e.g. ``digits``, ``signed volume``
    network: str  #: e.g. ``MLP 64-128-64-10``
    parameters: int  #: how many numbers are trained
    recipe: dict[str, str]  #: optimizer, learning rate, batch size, what is stored in which format, …
    loss_name: str  #: e.g. ``cross-entropy``
    score_name: str  #: ``test accuracy`` (a fraction, shown in per cent) or ``test error``
    initial_score: float  #: before training
    step_losses: list[float]  #: training loss of each step
    epochs: list[Epoch]
    batch: int  #: samples in the batch whose memory is given
    inference: Memory
    training: Memory
    weights_file: str  #: name of the safetensors file in the output folder
    weights_sha256: str  #: of the trained weights' bytes

    @property
    def final(self) -> Epoch:
        """The state after training."""
        return self.epochs[-1]

    @property
    def seconds_per_epoch(self) -> float:
        """Mean over all epochs but the first, which may compile; of the first if there is no other."""
        counted = self.epochs[1:] or self.epochs
        return sum(epoch.seconds for epoch in counted) / len(counted)

    @property
    def predicted_ratio(self) -> float:
        """Predicted bytes of a training step over those of the same model's inference, same batch."""
        return self.training.predicted.total / self.inference.predicted.total

    @property
    def measured_ratio(self) -> float:
        """Measured peak of a training step over that of the same model's inference, same batch."""
        return self.training.measured_peak / self.inference.measured_peak


@dataclass(frozen=True, slots=True)
class ExactnessRow:
    """Sums of one kind in one layer, recomputed with exact rationals and rounded once."""

    model: str  #: as in `Model`
    layer: str
    kind: str  #: `FORWARD`, `INPUT_GRADIENT`, `WEIGHT_GRADIENT`, or a layer's own
    elements: int  #: how many sums the captured steps formed
    checked: int  #: of a seeded sample
    equal: int  #: to the bit
    fallback_elements: int  #: sums that the certificate left open
    fallback_checked: int  #: all of them, up to the cap; counted apart from the sample
    fallback_equal: int
    float32_checked: int  #: the same checker on sums accumulated in float32
    float32_equal: int


@dataclass(frozen=True, slots=True)
class Exactness:
    """The proof that sums were exact, on codes captured inside training steps of this run."""

    format: str
    steps: list[int]  #: whose operands were captured, counted from 1
    seed: int  #: of the sample
    fallback_cap: int  #: most fallback elements checked per row
    rows: list[ExactnessRow]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A training done again in another way, from the same initial weights."""

    model: str  #: as in `Model`
    arithmetic: str
    variation: str  #: `PERMUTED` or `ONE_THREAD`
    threads: int  #: used in the repeat
    sha256: str  #: of the final weights' bytes
    repeat_sha256: str
    max_abs_difference: float  #: over all final weights

    @property
    def equal(self) -> bool:
        """Whether the final weights agree to the bit."""
        return self.sha256 == self.repeat_sha256


@dataclass(frozen=True, slots=True)
class Equivariance:
    """How far a geometric model's output is from turning with its input."""

    model: str
    arithmetic: str
    before: float  #: training
    after: float
    transformations: int  #: how many orthogonal maps were tried


@dataclass(frozen=True, slots=True)
class Grades:
    """The grades of one trained weight."""

    model: str
    arithmetic: str
    parameter: str
    declared: list[int]
    found: list[int]  #: grades with a nonzero coefficient or with storage, after training


@dataclass(frozen=True, slots=True)
class Geometry:
    """What must hold for a geometric model besides learning."""

    definition: str  #: of the equivariance error, in one sentence
    equivariance: list[Equivariance]
    grades: list[Grades]


@dataclass(frozen=True, slots=True)
class StepTime:
    """One training step timed in both arithmetics, in this run."""

    network: str
    batch: int
    arithmetic: str
    seconds: float  #: median
    float32_seconds: float  #: median

    @property
    def ratio(self) -> float:
        """How many float32 steps one step takes."""
        return self.seconds / self.float32_seconds


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run has measured."""

    schema: int  #: `VERSION`
    run: Run
    environment: Environment
    models: list[Model]  #: each network in float32 first, then in the posit format
    exactness: Exactness
    repeats: list[Repeat]
    geometry: Geometry
    step_times: list[StepTime]  #: may be empty where no step was timed
