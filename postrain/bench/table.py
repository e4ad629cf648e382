"""Measured rows in the terminal and as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from postrain.bench.contest import Row
from postrain.files import write_atomic

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_HEAD = ("operation", "thr.", "ours best (median)", "peer", "best (median)", "measured", "target", "met")
_MEASURES = {"bandwidth": "GB/s ", "seconds": "", "each": "", "share": "open "}  # the others: their own names
_WIDTH = 150  # where no terminal says how much fits


def write_json(measured: "DataclassInstance", path: Path) -> None:
    """Write every row, the machine and the options.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(
        path, (json.dumps(asdict(measured), indent=1, ensure_ascii=False, default=str) + "\n").encode()
    )


def print_rows(facts: dict[str, dict[str, str]], rows: list[Row], legend: str, console: Console) -> None:
    """Print where it ran, the table and what the columns mean."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    for title, named in facts.items():
        _say(console, f"{title}: " + "; ".join(f"{name} {fact}" for name, fact in named.items()))
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(_HEAD):
        drawn.add_column(Text(heading), justify="left" if index in (0, 3) else "right")
    before = None
    for row in rows:
        style = {True: "green", False: "bold red", None: ""}[row.met]
        label = (row.operation, row.threads)
        drawn.add_row(*map(Text, (*_ours(row, label == before), *_theirs(row))), style=style)
        before = label
    console.print(drawn)
    _say(console, legend)


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
    target = "" if row.target is None else f"{_bound(row)} {_value(row.target, row)}"
    value = (
        ""
        if row.value is None
        else f"{_MEASURES.get(row.measure, f'{row.measure} ')}{_value(row.value, row)}"
    )
    return ": ".join(filter(None, (peer, row.note))), times, value, target, met


def _time(best: float, middle: float, unit: str) -> str:
    return f"{best:.{_digits(best)}f} ({middle:.{_digits(middle)}f}) {unit}"


def _digits(value: float) -> int:
    """Places after the point: three significant ones for small numbers."""
    return 4 if value < 0.1 else 2


def _bound(row: Row) -> str:
    return {"speed": "≥", "bandwidth": "≥", "seconds": "<"}.get(row.measure, "≤")


def _value(value: float, row: Row) -> str:
    shown = {
        "seconds": f"{value:.2f} s",
        "bandwidth": f"{100 * value:.0f} %",
        "each": f"{value:.2f} {row.unit}",
        "share": f"{value:.3f} %",
    }
    return shown.get(row.measure, f"{value:.2f}×")
