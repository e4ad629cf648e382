"""The report's figures as inline SVG, drawn with matplotlib.

Colours are drawn as placeholders and then replaced by CSS variables, so that the page decides them, for
light and dark alike. Text stays text. The same results give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from postrain.report import units
from postrain.report.check import pairs
from postrain.report.schema import Bytes, Memory, Model, Results
from postrain.report.tables import purpose, score

_PLACEHOLDERS = {  #: colour that matplotlib draws with, and the CSS variable that takes its place
    "#0000a0": "--ink",
    "#0000a1": "--faint",
    "#0000a2": "--float32",
    "#0000a3": "--posit",
    "#0000b0": "--weights",
    "#0000b1": "--gradients",
    "#0000b2": "--optimizer-state",
    "#0000b3": "--activations",
    "#0000b4": "--workspace",
    "#0000b5": "--inputs",
    "#0000b6": "--unattributed",
    "#0000b7": "--residual-stream",
    "#0000b8": "--tangents",
    "#0000b9": "--quires",
    "#0000a4": "--comm",
}
COLOUR = {variable: colour for colour, variable in _PLACEHOLDERS.items()}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "text.color": COLOUR["--ink"],
    "axes.labelcolor": COLOUR["--ink"],
    "axes.edgecolor": COLOUR["--faint"],
    "xtick.color": COLOUR["--faint"],
    "ytick.color": COLOUR["--faint"],
    "xtick.labelcolor": COLOUR["--ink"],
    "ytick.labelcolor": COLOUR["--ink"],
}


def loss_figure(results: Results) -> str:
    """Loss curves, a panel per network: training loss of every step, test loss after every epoch."""
    networks = list(pairs(results.models).values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, pair in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
            _draw_losses(axes, pair)
        return svg(figure, "loss")


def memory_figure(results: Results) -> str:
    """Memory bars, a panel per network: predicted and measured, inference and training step, by purpose."""
    networks = list(pairs(results.models).values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.0 * len(networks) + 0.5), layout="constrained")
        panels = figure.subplots(len(networks), 1, squeeze=False)[:, 0]
        for axes, pair in zip(panels, networks, strict=True):
            _draw_memory(axes, pair)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), handlelength=1, columnspacing=1.2
        )
        return svg(figure, "memory")


def _draw_losses(axes: Axes, pair: Sequence[Model]) -> None:
    for model, variable in zip(pair, ("--float32", "--posit"), strict=True):
        colour = COLOUR[variable]
        steps = range(1, len(model.step_losses) + 1)
        axes.plot(steps, model.step_losses, color=colour, linewidth=0.8, alpha=0.45)
        ends = [
            len(model.step_losses) * (index + 1) / len(model.epochs) for index in range(len(model.epochs))
        ]
        marker = "o" if variable == "--float32" else "x"
        final = score(model, model.final.score)
        axes.plot(
            ends,
            [epoch.test_loss for epoch in model.epochs],
            color=colour,
            linewidth=1.6,
            marker=marker,
            markersize=6 if marker == "o" else 5,
            markerfacecolor="none",
            label=f"{model.arithmetic}: {model.score_name} {final}",
        )
    axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel(pair[0].loss_name)
    axes.set_title(f"{pair[0].network}, {pair[0].task}")
    axes.grid(axis="y", color=COLOUR["--faint"], alpha=0.25, linewidth=0.6)
    axes.legend(loc="upper right")


def _draw_memory(axes: Axes, pair: Sequence[Model]) -> None:
    bars = [bar for model in pair for bar in _bars(model)]
    places = [index + 0.5 * (index // 4) + 0.25 * (index // 2) for index in range(len(bars))]
    left = [0.0] * len(bars)
    for name in (*(field.name for field in fields(Bytes)), "unattributed"):
        widths = [parts[name] / 1024 for _, parts in bars]
        if not any(widths):
            continue
        colour = COLOUR["--" + name.replace("_", "-")]
        axes.barh(places, widths, 0.8, left, color=colour, label=purpose(name))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, end, (_, parts) in zip(places, left, bars, strict=True):
        axes.annotate(
            f"{units.kib(sum(parts.values()))}", (end, place), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(places, [label for label, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(left))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("KiB at the peak")
    axes.set_title(f"{pair[0].network}, batch {pair[0].batch}")
    axes.grid(axis="x", color=COLOUR["--faint"], alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _bars(model: Model) -> list[tuple[str, dict[str, int]]]:
    """The four bars of a model, from the top: label and bytes by purpose."""
    bars = []
    for use, memory in (("inference", model.inference), ("training", model.training)):
        bars.append((f"{model.arithmetic} {use}, predicted", {**_parts(memory.predicted), "unattributed": 0}))
        bars.append((f"{model.arithmetic} {use}, measured", _measured_parts(memory)))
    return bars


def _parts(account: Bytes) -> dict[str, int]:
    return {field.name: getattr(account, field.name) for field in fields(account)}


def _measured_parts(memory: Memory) -> dict[str, int]:
    return {**_parts(memory.measured), "unattributed": max(memory.unattributed, 0)}


def svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element that scales with the page; its ids begin with `name`."""
    target = io.StringIO()
    settings: Any = {"svg.hashsalt": name}
    with mpl.rc_context(settings), warnings.catch_warnings():
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(r"#0000[ab]\d", lambda match: f"var({_PLACEHOLDERS[match.group()]})", text)
