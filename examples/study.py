"""One network trained in several recipes: `python examples/study.py examples/fashion-lenet5 --data-dir FOLDER`.

The folder holds a ``study.toml``: a configuration of `postrain train`, and runs that change fields of it.  Each run is
a process of its own, on one thread; started again, the study goes on where it was stopped.  It leaves ``results.json``,
from which ``figure.png`` and the table in the folder's README are made (``--table`` prints it).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tomllib
from itertools import cycle
from pathlib import Path
from statistics import mean
from typing import Any

COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999"]


def train(folder: Path, study: dict[str, Any], run: dict[str, Any], seed: int, data_dir: Path | None) -> Path:
    """Make a run, or finish it; the folder of its logs."""
    out = folder / "runs" / f"{run['name'].replace(' ', '-')}-{seed}"
    settings = [*study.get("set", []), *run.get("set", []), f"train.seed={seed}", "train.threads=1"]
    command = [sys.executable, "-m", "postrain", "train", str(folder / study["config"]), "--out", str(out)]
    command += [text for setting in settings for text in ("--set", setting)]
    command += ["--data-dir", str(data_dir)] if data_dir else []
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(command, check=True, env=environment)
    return out


def read(out: Path) -> dict[str, list[float]]:
    """Evaluations of a run: step, loss, accuracy, column by column."""
    with (out / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in ("step", "loss", "accuracy")}


def table(results: dict[str, dict[str, Any]], at: float | None) -> str:
    """Accuracy and loss at a step (by default the last), of all seeds and their mean, as Markdown."""
    lines = ["| recipe | seeds | accuracy % | mean | loss | mean |", "|---|---|---|---|---|---|"]
    for name, seeds in results.items():
        places = {seed: run["step"].index(at) if at else -1 for seed, run in seeds.items()}
        right = [100 * run["accuracy"][places[seed]] for seed, run in seeds.items()]
        loss = [run["loss"][places[seed]] for seed, run in seeds.items()]
        each = (", ".join(f"{value:.2f}" for value in right), f"{mean(right):.2f}")
        lost = (", ".join(f"{value:.4f}" for value in loss), f"{mean(loss):.4f}")
        lines.append(f"| {name} | {', '.join(seeds)} | {' | '.join((*each, *lost))} |")
    return "\n".join(lines)


def draw_curves(results: dict[str, dict[str, Any]], measure: str, title: str, path: Path) -> None:
    """Curves over steps, one colour a recipe."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for (name, seeds), colour in zip(results.items(), cycle(COLOURS), strict=False):
        for number, run in enumerate(seeds.values()):
            y = [100 * value for value in run[measure]] if measure == "accuracy" else run[measure]
            axes.plot(run["step"], y, color=colour, lw=1.3, marker="o", ms=3, label=None if number else name)
    axes.set(
        title=title, xlabel="step", ylabel="test accuracy (%)" if measure == "accuracy" else "validation loss"
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_dots(results: dict[str, dict[str, Any]], at: float, title: str, path: Path) -> None:
    """Accuracies at a step: a line for each recipe, a dot for each seed; on the right those that learn, larger."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.6))
    found = [
        [100 * run["accuracy"][run["step"].index(at)] for run in seeds.values()] for seeds in results.values()
    ]
    for place, accuracies in enumerate(found):
        for axes in (left, right):
            axes.plot(accuracies, [place] * len(accuracies), "o", color="#0072b2", ms=6, alpha=0.7)
            axes.plot([mean(accuracies)], [place], "|", color="#000000", ms=14)
    learning = [value for accuracies in found for value in accuracies if value > max(map(max, found)) - 10]
    right.set(xlim=(min(learning) - 0.5, max(learning) + 0.5), xlabel="the same, from those that learn")
    left.set(xlim=(0, 100), xlabel=f"test accuracy after {at:g} steps (%)")
    left.set_yticks(range(len(results)), list(results))
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(f"{title} (a dot a seed, a stroke their mean)")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train what is not there yet, then write results and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--table", action="store_true", help="train nothing: draw and print what is there")
    options = parser.parse_args()
    study = tomllib.loads((options.folder / "study.toml").read_text())
    store = options.folder / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(store.read_text()) if store.exists() else {}
    for seed in sorted({seed for run in study["run"] for seed in run["seeds"]}):
        for run in study["run"]:
            name = run["name"]
            asked = not options.table and (not options.only or name in options.only)
            if asked and seed in run["seeds"] and str(seed) not in results.get(name, {}):
                out = train(options.folder, study, run, seed, options.data_dir)
                results.setdefault(name, {})[str(seed)] = read(out)
                store.write_text(json.dumps(results, indent=1))
    ordered = {run["name"]: results[run["name"]] for run in study["run"] if run["name"] in results}
    at, figure = study.get("at"), options.folder / "figure.png"
    if at:
        draw_dots(ordered, at, study["title"], figure)
    else:
        draw_curves(ordered, study["measure"], study["title"], figure)
    print(table(ordered, at))


if __name__ == "__main__":
    main()
