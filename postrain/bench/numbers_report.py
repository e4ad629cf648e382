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


def write_json(numbers: Numbers, path: Path) -> None:
    """Write every row, the machine and the options.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, (json.dumps(asdict(numbers), indent=1, ensure_ascii=False) + "\n").encode())


def print_numbers(numbers: Numbers, console: Console) -> None:
    """Print where it ran, the table and what the columns mean."""
    for title, facts in (("Machine", numbers.machine), ("Kernels", numbers.kernels)):
        _say(console, f"{title}: " + "; ".join(f"{name} {fact}" for name, fact in facts.items()))
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(_HEAD):
        drawn.add_column(Text(heading), justify="left" if index in (0, 3) else "right")
    for row in numbers.rows:
        style = {True: "green", False: "bold red", None: ""}[row.met]
        drawn.add_row(*map(Text, _cells(row)), style=style)
    console.print(drawn)
    _say(
        console,
        f"Nanoseconds an element over {numbers.elements} normally distributed numbers (seed {numbers.seed}), best "
        f"and median of {numbers.repeats} turns; ratios are of the best. Every result was proved equal to its "
        "reference before it was timed; peers without threads work on slices.",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", markup=False, highlight=False)


def _cells(row: Row) -> tuple[str, ...]:
    peer = (
        row.peer if row.gigabytes_per_second is None else f"{row.peer}, {row.gigabytes_per_second:.1f} GB/s"
    )
    met = {True: "yes", False: "no", None: ""}[row.met]
    if row.peer_best is None or row.peer_median is None:
        theirs = row.note
    else:
        theirs = _time(row.peer_best, row.peer_median, row.unit)
        peer = f"{peer} ({row.note})" if row.note else peer
    threads = "" if row.threads is None else str(row.threads)
    target = "" if row.target is None else f"{_bound(row)} {_value(row.target, row.measure)}"
    value = "" if row.value is None else _value(row.value, row.measure)
    return row.operation, threads, _time(row.best, row.median, row.unit), peer, theirs, value, target, met


def _time(best: float, middle: float, unit: str) -> str:
    return f"{best:.2f} ({middle:.2f}) {unit}"


def _bound(row: Row) -> str:
    return {"time": "≤", "seconds": "<"}.get(row.measure, "≥")


def _value(value: float, measure: str) -> str:
    shown = {
        "time": f"{value:.2f}× its time",
        "speed": f"{value:.2f}× as fast",
        "bandwidth": f"{100 * value:.0f} % of GB/s",
        "seconds": f"{value:.2f} s",
    }
    return shown[measure]
