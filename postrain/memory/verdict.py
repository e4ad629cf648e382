"""What the measurements of `postrain memory` say about "training within twice inference", in sentences made from them.

The claim: training memory is independent of depth and bounded to approximately twice the inference footprint.
"""

from collections.abc import Callable
from dataclasses import dataclass

from postrain.memory.grid import Row, Study, Way, slope
from postrain.report import units

BOUND = 2.0
_FLAT = 0.02  #: of the smallest inference: growth over all depths below which an excess counts as constant


@dataclass(frozen=True, slots=True)
class Denominator:
    """What a training step's bytes are divided by."""

    name: str
    of: Callable[[Study, Row], int | None]


def _float32(study: Study, row: Row) -> int | None:
    found = study.float32(row.depth)
    return found.inference if found else None


def _reverse(study: Study, row: Row) -> int | None:
    found = study.float32(row.depth)
    return found.training if found else None


DENOMINATORS = (
    Denominator("own inference", lambda study, row: row.inference),
    Denominator("own inference in the same micro-batches", lambda study, row: row.inference_in_parts),
    Denominator("IEEE float32 inference", _float32),
    Denominator("IEEE float32 training (reverse, Adam)", _reverse),
)


def ratio(study: Study, row: Row, denominator: Denominator) -> float | None:
    """Measured bytes of a training step over a denominator, where that was measured."""
    below = denominator.of(study, row)
    return row.training / below if below else None


def relative_time(study: Study, row: Row) -> float | None:
    """Seconds of a step over those of the same recipe's `reverse` at the same depth, where both were measured."""
    assert row.found is not None
    for other in study.rows:
        same = other.depth == row.depth and other.way.recipe == row.way.recipe
        if same and other.found and other.way.mode == "reverse" and other.way.form == "plain":
            return row.found.step_seconds / other.found.step_seconds
    return None


def verdict(study: Study) -> list[str]:
    """A sentence or two for each way, baselines last; nothing in them but what the study measured."""
    own = [way for way in study.ways if not way.baseline]
    said = [_judged(study, way) for way in (*own, *(way for way in study.ways if way.baseline))]
    return [_errors(study), *(sentence for sentence in said if sentence)]


def _errors(study: Study) -> str:
    found = [
        abs(memory.predicted.total / memory.measured_peak - 1)
        for row in study.rows
        if row.found is not None
        for memory in (row.found.inference, row.found.training)
    ]
    within = sum(error <= 0.02 for error in found)
    return (
        f"Predictions of {len(found)} peaks: {within} within 2 % of the measurement, the worst "
        f"{100 * max(found):.1f} % off."
    )


def _judged(study: Study, way: Way) -> str:
    rows = study.of(way)
    if not rows:
        return ""
    parts = [text for text in (_bound(study, rows, each) for each in DENOMINATORS) if text]
    times = [time for time in (relative_time(study, row) for row in rows) if time is not None]
    if times and way.mode != "reverse":
        parts.append(f"a step takes {_range(times)} the time of reverse mode")
    return f"{way.label}: {'; '.join(parts)}. {_growth(rows)}"


def _bound(study: Study, rows: list[Row], denominator: Denominator) -> str:
    found = {row.depth: ratio(study, row, denominator) for row in rows}
    known = {depth: value for depth, value in found.items() if value is not None}
    if not known:
        return ""
    within = [depth for depth, value in known.items() if value <= BOUND]
    if len(within) == len(known):
        held = "at most twice at every depth"
    elif within:
        held = f"at most twice at depth {', '.join(map(str, within))} only"
    else:
        held = "more than twice at every depth"
    return f"{_range(list(known.values()))} {denominator.name} ({held})"


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f} ×" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f} ×"


def _growth(rows: list[Row]) -> str:
    rate = slope(rows)
    if rate is None:
        return "One depth says nothing about growth."
    span = max(row.depth for row in rows) - min(row.depth for row in rows)
    if abs(rate) * span <= _FLAT * min(row.inference for row in rows):
        return "What it holds beyond inference does not depend on depth (within 2 %)."
    return f"Beyond inference it holds {units.kib(round(rate))} KiB more for each layer."
