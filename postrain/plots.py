"""Figures of a training run: its loss, and where its numbers lie on the format's accuracy curve."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from posit.plot import curve_of
from posit.torch import PositTensor
from postrain.counters import watched
from postrain.files import write_atomic

_COLOURS = {"weights": "#0072b2", "activations": "#009e73", "gradients": "#d55e00"}  # Okabe and Ito's palette
_BINS = 120


def magnitudes(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> dict[str, npt.NDArray[np.float64]]:
    """log10 of the magnitudes of weights, activations and gradients (of parameters) in one step; zeros left out.

    The model's parameters stay as they are; their gradients are cleared.
    """
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in _COLOURS}
    with watched(model, lambda _, output: found["activations"].append(_logarithms(output))):
        outputs = model(x)
    loss(outputs, y).backward()
    for parameter in model.parameters():
        found["weights"].append(_logarithms(parameter))
        if parameter.grad is not None:
            found["gradients"].append(_logarithms(parameter.grad))
        parameter.grad = None
    return {name: np.concatenate(each) if each else np.empty(0) for name, each in found.items()}


def _logarithms(x: Tensor) -> npt.NDArray[np.float64]:
    values = x.values() if isinstance(x, PositTensor) else x.detach().double().numpy()
    logarithms: npt.NDArray[np.float64] = np.log10(np.abs(values[np.isfinite(values) & (values != 0)]))
    return logarithms


def plot_distributions(
    found: Mapping[str, npt.NDArray[np.float64]], formats: Mapping[str, str], path: Path
) -> None:
    """Histograms of magnitudes over the decimal accuracy of the formats that hold them.

    Args:
        found: From `magnitudes`.
        formats: Format of each of its names.
        path: A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    digits = axes.twinx()
    low, high = _range(list(found.values()))
    bins = np.linspace(low, high, _BINS + 1).tolist()
    for name, values in found.items():
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, bins, weights=weights, alpha=0.45, color=_COLOURS[name], label=name)
    for fmt in dict.fromkeys(formats.values()):
        curve = [(x, y) for x, y in curve_of(fmt) if low <= x <= high]
        digits.step(
            *zip(*curve, strict=True), where="mid", color="black", linewidth=1.2, label=f"digits of {fmt}"
        )
    axes.set_xlabel("magnitude, log10 |x|")
    axes.set_ylabel("share of the elements other than 0")
    digits.set_ylabel("decimal digits of the format")
    digits.set_ylim(0, None)
    lines = [part for each in (axes, digits) for part in zip(*each.get_legend_handles_labels(), strict=True)]
    axes.legend([line for line, _ in lines], [label for _, label in lines], loc="upper left")
    _save(figure, path)


def _range(values: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    filled = [each for each in values if len(each)]
    if not filled:
        return -10.0, 10.0
    return min(-8.0, *(each.min() for each in filled)) - 0.5, max(2.0, *(each.max() for each in filled)) + 0.5


def plot_loss(
    steps: Sequence[Mapping[str, float | None]], evaluations: Sequence[Mapping[str, float | None]], path: Path
) -> None:
    """The loss of every step, its running mean, and the loss on the test data.

    Args:
        steps: Rows of `steps.csv`.
        evaluations: Rows of `evaluations.csv`.
        path: A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    points = [(row["step"], row["loss"]) for row in steps if row["loss"] is not None]
    x, y = (np.array(column, float) for column in zip(*points, strict=True)) if points else (np.empty(0),) * 2
    axes.plot(x, y, color="#56b4e9", alpha=0.4, linewidth=0.8, label="training, each step")
    width = max(len(y) // 50, 1)
    if len(y) >= width > 1:
        means = np.convolve(y, np.full(width, 1 / width), "valid")
        axes.plot(x[width - 1 :], means, color="#0072b2", label=f"training, mean of {width} steps")
    tests = [(row["step"], row["loss"]) for row in evaluations if row.get("loss") is not None]
    if tests:
        axes.plot(*zip(*tests, strict=True), "o-", color="#d55e00", markersize=4, label="test")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomic(path, picture.getvalue())
