"""The study of `postrain memory` in the terminal, as a page and as JSON."""

import json
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from postrain.files import prepare_output, write_atomic
from postrain.memory.grid import Row, Study, Way, as_json
from postrain.memory.verdict import BOUND, DENOMINATORS, ratio, relative_time, verdict
from postrain.report import units
from postrain.report.figures import COLOUR, STYLE, svg
from postrain.report.schema import Bytes
from postrain.report.tables import purpose

_SHORT = ("way", "depth", "KiB", "off by", "A", "B", "C", "D", "ms", "E")
_HEAD = (
    "way",
    "depth",
    "peak, KiB\npredicted / measured",
    "off by",
    "× own\ninference",
    "× own inference,\nsame micro-batches",
    "× float32\ninference",
    "× float32\ntraining",
    "ms a step",
    "× reverse's\ntime",
)
_LINES = ("--posit", "--float32", "--optimizer-state", "--activations", "--workspace", "--comm", "--tangents")
_STYLES = ("-", "--", ":")


class MemoryFiles(NamedTuple):
    """Where the results lie."""

    page: Path
    results: Path


def write(study: Study, folder: Path) -> MemoryFiles:
    """Write ``memory.json`` and ``memory.html`` into a folder; both are made before either is written."""
    text, html = json.dumps(as_json(study), indent=1), page(study)
    folder = prepare_output(folder)
    files = MemoryFiles(folder / "memory.html", folder / "memory.json")
    write_atomic(files.results, text.encode())
    write_atomic(files.page, html.encode())
    return files


def print_study(study: Study, console: Console) -> None:
    """Print the table, what was refused, and the verdict."""
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(_SHORT):
        drawn.add_column(Text(heading), justify="left" if index == 0 else "right", no_wrap=index > 0)
    for cells in table(study):
        drawn.add_row(*map(Text, (*cells[:2], cells[2].partition(" / ")[2], *cells[3:])))
    console.print(drawn)
    letters = (f"{letter}: {each.name}" for letter, each in zip("ABCD", DENOMINATORS, strict=True))
    console.print(
        f"KiB: measured peak of a training step; off by: the prediction of it. Times {'; '.join(letters)}. ms: a step; "
        "E: times reverse mode's.",
        markup=False,
        highlight=False,
    )
    for text in (*refusals(study), *verdict(study)):
        console.print(text, markup=False, highlight=False)


def table(study: Study) -> list[list[str]]:
    """A row of cells for each way at each depth that was measured."""
    return [_cells(study, row) for way in study.ways for row in study.of(way)]


def refusals(study: Study) -> list[str]:
    """What could not be measured and why, each reason once."""
    found = {row.way.label: row.refused for row in study.rows if row.refused}
    return [f"not measured: {label}: {reason}" for label, reason in found.items()]


def _cells(study: Study, row: Row) -> list[str]:
    assert row.found is not None
    memory = row.found.training
    ratios = [ratio(study, row, each) for each in DENOMINATORS]
    time = relative_time(study, row)
    return [
        row.way.label,
        str(row.depth),
        f"{units.kib(memory.predicted.total)} / {units.kib(memory.measured_peak)}",
        f"{100 * (memory.predicted.total / memory.measured_peak - 1):+.1f} %",
        *("–" if each is None else f"{each:.2f}" for each in ratios),
        units.significant(1000 * row.found.step_seconds),
        "–" if time is None else f"{time:.2f}",
    ]


def page(study: Study) -> str:
    """The page as HTML text: no script, no network; all text is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        resources.files("postrain.memory").joinpath("memory.html.j2").read_text("utf-8")
    )
    css = resources.files("postrain.report").joinpath("page.css").read_text("utf-8")
    options = study.options
    return template.render(
        css=Markup(css),  # noqa: S704 (our own file)
        ratios=Markup(_ratio_figure(study)),  # noqa: S704 (matplotlib has escaped its text)
        bars=Markup(_bar_figure(study)),  # noqa: S704
        options=options,
        verdict=verdict(study),
        refusals=refusals(study),
        head=_HEAD,
        rows=table(study),
        deepest=max(options.depths),
        facts=[*study.machine.items(), ("command", command(study))],
    )


def command(study: Study) -> str:
    """What to type to measure it again."""
    options = study.options
    return (
        f"postrain memory --model {options.model} --depth {','.join(map(str, options.depths))} --width {options.width} "
        f"--batch {options.batch} --micro-batch {options.micro_batch} --modes {','.join(options.modes)} --recipes "
        f"{','.join(options.recipes)} --optimizer {options.optimizer} --seed {options.seed}"
    )


def _ratio_figure(study: Study) -> str:
    """Training over own inference, and over float32 inference, by depth, with the line at twice."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, denominator in zip(panels, (DENOMINATORS[0], DENOMINATORS[2]), strict=True):
            for place, way in enumerate(study.ways):
                rows = study.of(way)
                values = [(row.depth, ratio(study, row, denominator)) for row in rows]
                known = [(depth, value) for depth, value in values if value is not None]
                if known:
                    _line(axes, known, way, place)
            _frame(axes, denominator.name, study)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=2.5, fontsize=9)
        return svg(figure, "ratios")


def _line(axes: Axes, points: list[tuple[int, float]], way: Way, place: int) -> None:
    colour = COLOUR[_LINES[place % len(_LINES)]]
    style = _STYLES[place // len(_LINES) % len(_STYLES)]
    depths, values = zip(*points, strict=True)
    axes.plot(depths, values, style, color=colour, marker="o", markersize=3.5, label=way.label)


def _frame(axes: Axes, name: str, study: Study) -> None:
    axes.axhline(BOUND, color=COLOUR["--ink"], linewidth=1)
    axes.annotate(
        "twice", (0.01, BOUND), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(study.options.depths, [str(depth) for depth in study.options.depths])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("depth")
    axes.set_title(f"peak of training over {name}")
    axes.grid(axis="y", color=COLOUR["--faint"], alpha=0.25, linewidth=0.6)


def _bar_figure(study: Study) -> str:
    """Bytes by purpose at the peak of inference and training, at the greatest depth."""
    deepest = max(study.options.depths)
    rows = [row for row in study.rows if row.depth == deepest and row.found is not None]
    bars = [(f"{row.way.label}: {use}", parts) for row in rows for use, parts in _parts(row)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.27 * len(bars) + 1.3), layout="constrained")
        axes = figure.subplots()
        places = [index + 0.4 * (index // 2) for index in range(len(bars))]
        left = [0.0] * len(bars)
        for field in fields(Bytes):
            widths = [parts[field.name] / 2**20 for _, parts in bars]
            if any(widths):
                colour = COLOUR["--" + field.name.replace("_", "-")]
                axes.barh(places, widths, 0.85, left, color=colour, label=purpose(field.name))
                left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(places, [label for label, _ in bars])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"MiB at the peak, measured, depth {deepest}")
        axes.grid(axis="x", color=COLOUR["--faint"], alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, handlelength=1)
        return svg(figure, "bars")


def _parts(row: Row) -> list[tuple[str, dict[str, int]]]:
    assert row.found is not None
    pairs: list[tuple[str, Any]] = [("inference", row.found.inference), ("training", row.found.training)]
    return [
        (use, {field.name: getattr(memory.measured, field.name) for field in fields(Bytes)})
        for use, memory in pairs
    ]
