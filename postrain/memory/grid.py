"""What `postrain memory` measures: every depth in every way of training, each in a process of its own."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from postrain.errors import MeasurementError, OptionsError
from postrain.memory._account import Case, Footprint, footprint
from postrain.options import NoProgress, Progress

FAMILIES = ("mlp", "cnn", "transformer")
FLOAT32 = "float32"
STAGE = "measured processes"
_FAMILY = "postrain.memory.families:stack"


@dataclass(frozen=True, slots=True)
class GridOptions:
    """The options of `postrain memory`; the defaults here are the command line's.

    >>> GridOptions(model="rnn")
    Traceback (most recent call last):
        ...
    postrain.errors.OptionsError: unknown model 'rnn'; there are mlp, cnn, transformer, or FILE.py:factory
    """

    model: str = "mlp"  #: one of `FAMILIES`, or FILE.py:factory
    depths: tuple[int, ...] = (4, 8, 16, 32, 64)
    width: int = 128  #: features or channels of the residual stream
    batch: int = 256
    micro_batch: int = 32
    modes: tuple[str, ...] = ("reverse", "accumulate", "checkpointed", "fused", "reversible")
    recipes: tuple[str, ...] = ("posit16",)
    optimizer: str = "sgd"  #: of the recipes; with momentum
    state_format: str | None = None  #: of its moments; by default the recipe's
    momentum: float = 0.9
    tangents: tuple[int, ...] = (1, 4, 16)  #: of mode ``forward``
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in FAMILIES and not (":" in self.model and ".py" in self.model):
            raise OptionsError(
                f"unknown model {self.model!r}; there are {', '.join(FAMILIES)}, or FILE.py:factory"
            )
        for name in ("width", "batch", "micro_batch"):
            if getattr(self, name) < 1:
                raise OptionsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.depths or min(self.depths) < 1:
            raise OptionsError(f"depths must be at least 1, got {self.depths}")
        if self.micro_batch > self.batch:
            raise OptionsError(
                f"a micro-batch of {self.micro_batch} is larger than the batch of {self.batch}"
            )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train the network."""

    recipe: str
    mode: str
    optimizer: str
    form: str  #: of the network: see `postrain.memory.families.stack`
    baseline: bool = False
    micro_batch: int | None = None
    tangents: int = 1
    momentum: float = 0.9
    state_format: str | None = None

    @property
    def label(self) -> str:
        """What tables call it.

        >>> Way("posit16", "reversible", "sgd", "reversible", micro_batch=8, momentum=0.0).label
        'posit16 reversible, SGD, micro-batches of 8'
        """
        names = {"sgd": "SGD" if not self.momentum else "momentum", "adam": "Adam", "adafactor": "Adafactor"}
        recipe = "bfloat16 autocast" if self.form == "bfloat16" else self.recipe
        kept = f" in {self.state_format}" if self.state_format else ""
        parts = f", micro-batches of {self.micro_batch}" if self.micro_batch else ""
        drawn = f", K = {self.tangents}" if self.mode == "forward" else ""
        return f"{recipe} {self.mode}, {names[self.optimizer]}{kept}{drawn}{parts}"


@dataclass(frozen=True, slots=True)
class Row:
    """One way at one depth: measured, or why not."""

    way: Way
    depth: int
    found: Footprint | None
    refused: str | None = None

    @property
    def training(self) -> int:
        """Measured bytes at the peak of a training step."""
        assert self.found is not None
        return self.found.training.measured_peak

    @property
    def inference(self) -> int:
        """Measured bytes at the peak of inference with the whole batch at once."""
        assert self.found is not None
        return self.found.inference.measured_peak

    @property
    def inference_in_parts(self) -> int | None:
        """Measured bytes at the peak of inference in the same micro-batches."""
        assert self.found is not None
        return self.found.inference_in_parts.measured_peak if self.found.inference_in_parts else None


@dataclass(frozen=True, slots=True)
class Study:
    """Everything one run of `postrain memory` has measured."""

    options: GridOptions
    machine: dict[str, str]
    rows: tuple[Row, ...]

    def of(self, way: Way) -> list[Row]:
        """The measured rows of a way, by depth."""
        return [row for row in self.rows if row.way == way and row.found is not None]

    @property
    def ways(self) -> list[Way]:
        """All ways, baselines first."""
        return list(dict.fromkeys(row.way for row in self.rows))

    def float32(self, depth: int, optimizer: str = "adam") -> Row | None:
        """The IEEE float32 baseline in reverse mode at a depth."""
        for row in self.rows:
            way = row.way
            plain = way.baseline and way.form == "plain" and way.mode == "reverse"
            if plain and way.optimizer == optimizer and row.depth == depth and row.found is not None:
                return row
        return None


def ways(options: GridOptions) -> list[Way]:
    """Baselines, then what was asked for.

    >>> [way.label for way in ways(GridOptions(modes=("fused",)))][-1]
    'posit16 fused, momentum'
    """
    size = options.micro_batch
    plain = Way(FLOAT32, "reverse", "adam", "plain", baseline=True)
    found = [
        plain,
        replace(plain, optimizer="sgd"),
        replace(plain, optimizer="sgd", mode="checkpointed"),
        replace(plain, optimizer="sgd", mode="accumulate", micro_batch=size),
    ]
    if options.model in FAMILIES:
        found.append(replace(plain, form="bfloat16"))
    for recipe in options.recipes:
        for mode in options.modes:
            found += _asked(options, recipe, mode)
    return list(dict.fromkeys(found))


def _asked(options: GridOptions, recipe: str, mode: str) -> Iterator[Way]:
    forms = {"reversible": "reversible", "forward": "chain", "local": "local"}
    parts = options.micro_batch if mode in ("accumulate", "reversible") else None
    way = Way(
        recipe,
        mode,
        options.optimizer,
        forms.get(mode, "plain"),
        micro_batch=parts,
        momentum=options.momentum if options.optimizer == "sgd" else 0.9,
        state_format=options.state_format,
    )
    for count in options.tangents if mode == "forward" else (1,):
        yield replace(way, tangents=count)


def measure(options: GridOptions, progress: Progress | None = None) -> Study:
    """Measure every way at every depth, each in a process of its own.

    What a mode refuses to train becomes a row with the reason.

    Raises:
        MeasurementError: not one way could be measured.
    """
    progress = progress or NoProgress()
    asked = ways(options)
    progress.start(STAGE, len(asked) * len(options.depths))
    rows = []
    for depth in options.depths:
        for way in asked:
            rows.append(_measured(options, way, depth))
            progress.advance(STAGE, way=f"{way.label}, depth {depth}")
    if all(row.found is None for row in rows):
        raise MeasurementError(f"nothing could be measured; the last reason was: {rows[-1].refused}")
    return Study(options, _machine(), tuple(rows))


def case(options: GridOptions, way: Way, depth: int) -> Case:
    """The case of a way at a depth."""
    arguments: dict[str, Any] = {"depth": depth, "width": options.width}
    factory = options.model
    if options.model in FAMILIES:
        factory, arguments = _FAMILY, {"family": options.model, **arguments, "form": way.form}
    return Case(
        factory,
        arguments,
        way.recipe,
        options.batch,
        momentum=way.momentum,
        seed=options.seed,
        mode=way.mode,
        optimizer=way.optimizer,
        state_format=way.state_format,
        micro_batch=way.micro_batch,
        tangents=way.tangents,
    )


def _measured(options: GridOptions, way: Way, depth: int) -> Row:
    if way.form in ("chain", "local") and options.model != "mlp":
        return Row(way, depth, None, f"mode {way.mode!r} is measured for perceptrons only")
    try:
        return Row(way, depth, footprint(case(options, way, depth)))
    except MeasurementError as error:
        return Row(way, depth, None, str(error))


def _machine() -> dict[str, str]:
    from postrain.bench.numbers_machine import machine

    facts = {name: str(value) for name, value in machine().items()}
    return {**facts, "threads": os.environ.get("OMP_NUM_THREADS", "all cores")}


def as_json(study: Study) -> dict[str, Any]:
    """The whole study as numbers, text, lists and dicts."""
    return {
        "options": asdict(study.options),
        "machine": study.machine,
        "rows": [
            {
                "label": row.way.label,
                "way": asdict(row.way),
                "depth": row.depth,
                "refused": row.refused,
                "found": asdict(row.found) if row.found else None,
            }
            for row in study.rows
        ],
    }


def slope(rows: Sequence[Row]) -> float | None:
    """Bytes by which training grows more than own inference for each layer more; None for a single depth.

    Least squares over the measured depths.
    """
    if len({row.depth for row in rows}) < 2:
        return None
    depths = [row.depth for row in rows]
    excess = [row.training - (row.inference_in_parts or row.inference) for row in rows]
    mean_x, mean_y = sum(depths) / len(depths), sum(excess) / len(excess)
    spread = sum((x - mean_x) ** 2 for x in depths)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(depths, excess, strict=True)) / spread
