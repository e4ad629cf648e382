"""The measured numbers in the terminal and as JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from postrain.bench.numbers import Numbers, Row
from postrain.files import write_atomic

_HEAD = ("operation", "thr.", "ours best (median)", "peer", "best (median)", "measured", "target", "met")
_MEASURES = {"time": "time ", "speed": "speed ", "bandwidth": "GB/s ", "seconds": ""}
_WIDTH = 150  # where no terminal says how much fits


def write_json(numbers: Numbers, path: Path) -> None:
    """Write every row, the machine and the options.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, (json.dumps(asdict(numbers), indent=1, ensure_ascii=False) + "\n").encode())


def print_numbers(numbers: Numbers, console: Console) -> None:
    """Print where it ran, the table and what the columns mean."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    for title, facts in (("Machine", numbers.machine), ("Kernels", numbers.kernels)):
        _say(console, f"{title}: " + "; ".join(f"{name} {fact}" for name, fact in facts.items()))
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(_HEAD):
        drawn.add_column(Text(heading), justify="left" if index in (0, 3) else "right")
    before = None
    for row in numbers.rows:
        style = {True: "green", False: "bold red", None: ""}[row.met]
        label = (row.operation, row.threads)
        drawn.add_row(*map(Text, (*_ours(row, label == before), *_theirs(row))), style=style)
        before = label
    console.print(drawn)
    _say(
        console,
        f"Nanoseconds an element over {numbers.elements} normally distributed numbers (seed {numbers.seed}), best "
        f"and median of {numbers.repeats} turns. Of the best: time, ours over the peer's; speed, the peer's time "
        "over ours; GB/s, bytes moved a second as a share of the peer's. Every result was proved equal to its "
        "reference before it was timed; peers without threads work on slices.",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", markup=False, highlight=False)


def _ours(row: Row, repeated: bool) -> tuple[str, str, str]:
    if repeated:
        return "", "", ""
    return row.operation, str(row.threads or ""), _time(row.best, row.median, row.unit)


def _theirs(row: Row) -> tuple[str, str, str, str, str]:
    peer = (
        row.peer if row.gigabytes_per_second is None else f"{row.peer}, {row.gigabytes_per_second:.1f} GB/s"
    )
    met = {True: "yes", False: "no", None: ""}[row.met]
    times = ""
    if row.peer_best is not None and row.peer_median is not None:
        times = _time(row.peer_best, row.peer_median, row.unit)
    target = "" if row.target is None else f"{_bound(row)} {_value(row.target, row.measure)}"
    value = "" if row.value is None else f"{_MEASURES[row.measure]}{_value(row.value, row.measure)}"
    return ": ".join(filter(None, (peer, row.note))), times, value, target, met


def _time(best: float, middle: float, unit: str) -> str:
    return f"{best:.2f} ({middle:.2f}) {unit}"


def _bound(row: Row) -> str:
    return {"time": "≤", "seconds": "<"}.get(row.measure, "≥")


def _value(value: float, measure: str) -> str:
    shown = {"seconds": f"{value:.2f} s", "bandwidth": f"{100 * value:.0f} %"}
    return shown.get(measure, f"{value:.2f}×")
