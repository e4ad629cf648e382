"""What every mode of training learns, and what it holds in memory: ``python examples/memory-modes/modes.py``.

Small networks on the 8x8 digits, the same batches for every mode.  Each mode may try three learning rates, in float32
with seed 0; the one with the best accuracy on a validation part of the training data after all steps is taken, for
posits too (for ``fused`` and ``reversible`` that of ``reverse``).  Test accuracy is read after equal steps and after
equal time: the CPU time that ``reverse`` in posit16 took for all steps.  Evaluation is not counted.  Memory is measured
by the ledger, at the peak of one step.

Writes ``results.json`` and ``figure.png`` beside this file, or into ``--out``; runs that are there already are kept.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import posit
from posit.torch import PositTensor
from postrain._train import batches, make_optimizer, rounded
from postrain.convert import convert
from postrain.data import load
from postrain.errors import NaRError
from postrain.memory import Case
from postrain.memory.families import stack
from postrain.memory.measure import measured
from postrain.memory.networks import Workload, mlp
from postrain.memory.steps import build
from postrain.modes import Settings, stepper
from postrain.nn import LocalNetwork
from postrain.recipe import Recipe

HIDDEN, WIDTH, BATCH, MOMENTUM = 2, 32, 64, 0.9  # hidden layers of the perceptron
SIZES = [64, *[WIDTH] * HIDDEN, 10]
PERCEPTRON = ("postrain.memory.networks:mlp", {"sizes": SIZES})
FAMILY: dict[str, Any] = {"family": "mlp", "depth": 4, "width": WIDTH}
STACK = ("postrain.memory.families:stack", FAMILY)
STORED: tuple[str, dict[str, Any]] = (
    f"{__name__}:stored",
    {},
)  # the same network; its activations are stored
RESIDUAL = ("postrain.memory.families:stack", {**FAMILY, "form": "plain"})
LOCAL: tuple[str, dict[str, Any]] = (f"{__name__}:local", {})
EVERY = 50  # steps between two points of a curve


def local(batch: int, seed: int) -> Workload:
    """The perceptron's hidden layers, each with a head of its own."""
    work = mlp(SIZES, batch, seed)
    blocks = [nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in itertools.pairwise(SIZES[:-1])]
    heads = [nn.Sequential(nn.Linear(WIDTH, SIZES[-1])) for _ in blocks]
    return Workload(LocalNetwork(blocks, heads), work.loss, work.inputs, work.targets)


def stored(batch: int, seed: int) -> Workload:
    """The reversible stack, every activation stored."""
    work = stack(**FAMILY, batch=batch, seed=seed)
    model: Any = work.model
    model.stack.store = True
    return work


@dataclass(frozen=True)
class Contestant:
    """A mode, its arithmetic, the network that it trains and the learning rates that it may try."""

    mode: str
    recipe: str
    network: tuple[str, dict[str, Any]]
    rates: tuple[float, float, float]
    tangents: int = 1

    @property
    def name(self) -> str:
        """How it is called in tables."""
        kind = {id(PERCEPTRON): "perceptron", id(LOCAL): "local"}.get(id(self.network), "residual")
        tangents = f" K={self.tangents}" if self.mode == "forward" else ""
        return f"{self.mode}{tangents}, {self.recipe}, {kind}"

    @property
    def tuned(self) -> "Contestant":
        """Where its learning rate is chosen: in float32, in the same mode or in ``reverse``, whose bits it has."""
        if self.recipe == "float32":
            return self
        mode = "reverse" if self.mode in ("fused", "reversible") else self.mode
        residual = self.network in (STACK, STORED)
        return replace(self, mode=mode, recipe="float32", network=RESIDUAL if residual else self.network)

    def case(self, seed: int) -> Case:
        """Its network and a step, as the accountant takes them."""
        factory, arguments = self.network
        return Case(factory, arguments, self.recipe, BATCH, MOMENTUM, seed, self.mode, tangents=self.tangents)


BACKWARD, LOCALLY, ONE = (0.05, 0.1, 0.2), (0.0035, 0.007, 0.014), (0.0004, 0.0008, 0.0015)
TANGENTS = {1: ONE, 4: (0.0006, 0.0012, 0.0025), 16: (0.002, 0.004, 0.008)}
FLOAT32 = (
    Contestant("reverse", "float32", PERCEPTRON, BACKWARD),
    Contestant("reverse", "float32", RESIDUAL, BACKWARD),
    Contestant("local", "float32", LOCAL, LOCALLY),
    *(Contestant("forward", "float32", PERCEPTRON, rates, count) for count, rates in TANGENTS.items()),
    Contestant("zeroth", "float32", PERCEPTRON, ONE),
)
POSIT16 = (
    Contestant("reverse", "posit16", PERCEPTRON, BACKWARD),
    Contestant("fused", "posit16", PERCEPTRON, BACKWARD),
    Contestant("reverse", "posit16", STORED, BACKWARD),
    Contestant("reversible", "posit16", STACK, BACKWARD),
    Contestant("local", "posit16", LOCAL, LOCALLY),
    *(Contestant("forward", "posit16", PERCEPTRON, rates, count) for count, rates in TANGENTS.items()),
    Contestant("zeroth", "posit16", PERCEPTRON, ONE),
)
CONTESTANTS = FLOAT32 + POSIT16


@dataclass(frozen=True)
class Run:
    """One training.  Accuracies are fractions; `by_time` is read at the first step that ends after the time given."""

    contestant: str
    rate: float
    seed: int
    validation: float  #: after all steps
    by_steps: float  #: test accuracy after all steps
    by_time: float | None  #: test accuracy after equal time; None where no time was given
    steps_by_time: int | None
    seconds: float  #: CPU time of all steps
    curve: list[tuple[int, float, float]]  #: step, CPU seconds, test accuracy
    failure: str = ""  #: why it ended early


class Data:
    """The digits: training, validation (every fifth of the training images) and test part."""

    def __init__(self) -> None:
        digits = load("digits")
        x, y = torch.from_numpy(digits.x_train), torch.from_numpy(digits.y_train)
        x = x.reshape(len(x), -1)
        held = torch.arange(len(x)) % 5 == 0
        self.train, self.validation = (x[~held], y[~held]), (x[held], y[held])
        self.test = (
            torch.from_numpy(digits.x_test).reshape(len(digits.x_test), -1),
            torch.from_numpy(digits.y_test),
        )


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor], recipe: Recipe) -> float:
    """Fraction of a part that is named right."""
    with torch.no_grad():
        scores = model(rounded(part[0], recipe))
    real = scores.to_float() if isinstance(scores, PositTensor) else scores
    return float((real.argmax(1) == part[1]).double().mean())


def train(one: Contestant, lr: float, seed: int, data: Data, steps: int, budget: float | None) -> Run:
    """Train until all steps are made and the time is over, whichever comes later."""
    recipe = Recipe(one.recipe)
    model = convert(build(one.case(seed)).model, recipe)
    optimizer = make_optimizer(model, recipe, lr, MOMENTUM)
    step = stepper(one.mode, model, cross_entropy, optimizer, Settings(seed=seed, tangents=one.tangents))
    x, y = rounded(data.train[0], recipe), data.train[1]
    found: dict[str, Any] = {"validation": 0.0, "by_steps": 0.1, "by_time": None, "steps_by_time": None}
    curve: list[Any] = []
    order: Iterator[torch.Tensor] = iter(())
    seconds, number, failure = 0.0, 0, ""
    try:
        while number < steps or (budget is not None and seconds < budget):
            if (batch := next(order, None)) is None:
                order = batches(len(y), BATCH, seed, number, False)
                continue
            if len(batch) < BATCH:
                continue
            number += 1
            inputs, labels = torch.index_select(x, 0, batch), y[batch]
            began = process_time()
            step(number, batch, inputs, labels, count=False)
            seconds += process_time() - began
            if budget is not None and found["by_time"] is None and seconds >= budget:
                found |= {"by_time": accuracy(model, data.test, recipe), "steps_by_time": number}
            if number == steps:
                found |= {
                    "validation": accuracy(model, data.validation, recipe),
                    "by_steps": accuracy(model, data.test, recipe),
                    "seconds": seconds,
                }
            if number <= steps and number % EVERY == 0:
                curve.append((number, round(seconds, 4), accuracy(model, data.test, recipe)))
    except NaRError as error:
        failure = str(error)
    return Run(one.name, lr, seed, curve=curve, failure=failure, **{"seconds": seconds} | found)


class Book:
    """All runs so far, on disk after each."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.runs = [Run(**each) for each in kept.get("runs", [])]
        self.memory: dict[str, Any] = kept.get("memory", {})
        self.budget: float | None = kept.get("budget_seconds")

    def run(self, one: Contestant, lr: float, seed: int, data: Data) -> Run:
        """That run, now or before."""
        for each in self.runs:
            if (each.contestant, each.rate, each.seed) == (one.name, lr, seed):
                return each
        made = train(one, lr, seed, data, self.steps, self.budget)
        self.runs.append(made)
        self.save()
        by_time = "" if made.by_time is None else f" {100 * made.by_time:6.2f} ({made.steps_by_time} steps)"
        print(
            f"{one.name:34} rate {lr:<7} seed {seed}: {100 * made.by_steps:6.2f}{by_time} {made.seconds:7.2f} s"
            f" {made.failure}",
            flush=True,
        )
        return made

    def account(self, one: Contestant) -> None:
        """Bytes at the peak of a step and of inference on the same batch, by the ledger."""
        if one.name not in self.memory:
            case = one.case(0)
            made = build(case).model
            self.memory[one.name] = {
                "parameters": sum(each.numel() for each in made.parameters()),
                "training": measured(lambda: build(case), case).total,
                "inference": measured(lambda: build(case), replace(case, mode="inference")).total,
            }
            self.save()

    def save(self) -> None:
        """Write the file."""
        about = {
            "steps": self.steps,
            "batch": BATCH,
            "momentum": MOMENTUM,
            "budget_seconds": self.budget,
            "memory": self.memory,
            "runs": [asdict(each) for each in self.runs],
        }
        self.path.write_text(json.dumps(about) + "\n")


def rate(one: Contestant, runs: list[Run]) -> float:
    """The learning rate that was best on the validation part."""
    own = [each for each in runs if (each.contestant, each.seed) == (one.tuned.name, 0)]
    return max(own, key=lambda each: each.validation).rate


def chosen(one: Contestant, runs: list[Run]) -> list[Run]:
    """The runs with that rate; none where some of its rates have not been tried yet."""
    tried = {each.rate for each in runs if (each.contestant, each.seed) == (one.tuned.name, 0)}
    if not tried.issuperset(one.tuned.rates):
        return []
    best = rate(one, runs)
    return [each for each in runs if (each.contestant, each.rate) == (one.name, best)]


def table(book: Book) -> str:
    """Means and standard deviations over the seeds, in Markdown."""
    lines = [
        "| mode, arithmetic, network | rate | seeds | equal steps, % | equal time, % | its steps | ms a step "
        "| peak, bytes | over own inference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in CONTESTANTS:
        if not (runs := chosen(one, book.runs)):
            continue
        held = book.memory.get(one.name)
        timed = [each for each in runs if each.by_time is not None]
        lines.append(
            f"| {one.name} | {runs[0].rate:g} | {len(runs)} | {spread([each.by_steps for each in runs])} | "
            f"{spread([each.by_time or 0.0 for each in timed])} | "
            f"{statistics.median(each.steps_by_time or 0 for each in timed) if timed else 0:.0f} | "
            f"{1e3 * statistics.median(each.seconds for each in runs) / book.steps:.2f} | "
            + (f"{held['training']:,} | {held['training'] / held['inference']:.2f} |" if held else "| |")
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, per cent; of one value, no deviation."""
    if len(values) < 2:
        return f"{100 * values[0]:.1f}" if values else ""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def draw(book: Book, path: Path) -> None:
    """Test accuracy over steps and over time, means of the seeds, posit16; and the peaks beside the accuracy."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    shown = [one for one in CONTESTANTS if one.recipe == "posit16"]
    for place, one in enumerate(shown):
        runs = chosen(one, book.runs)
        length = min((len(each.curve) for each in runs), default=0)
        if not length:
            continue
        curves = torch.tensor([each.curve[:length] for each in runs], dtype=torch.float64).mean(0)
        style = {"color": f"C{place}", "ls": "--" if one.network is STACK else "-", "lw": 1.2}
        name = one.name.replace(", posit16", "")
        axes[0].plot(curves[:, 0], 100 * curves[:, 2], label=name, **style)
        axes[1].plot(curves[:, 1], 100 * curves[:, 2], **style)
        if one.name in book.memory:
            held = book.memory[one.name]
            mean = 100 * statistics.mean(each.by_steps for each in runs)
            axes[2].plot(held["training"] / held["inference"], mean, "o", color=f"C{place}")
    for axis, label in zip(
        axes, ("step", "CPU seconds", "peak of a step over that of inference"), strict=True
    ):
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    axes[2].set_ylabel("after equal steps, %")
    axes[2].axvline(2, color="grey", lw=0.8)
    axes[1].axvline(book.budget or 0, color="grey", lw=0.8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything, write the files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument(
        "--report", action="store_true", help="train nothing; table and figure of what is there"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    posit.set_num_threads(1)
    book, data = Book(options.out / "results.json", options.steps), Data()
    if book.budget is None and not options.report:
        first = POSIT16[0]
        train(first, 0.1, 0, data, EVERY, None)  # kernels are compiled
        book.budget = train(first, 0.1, 0, data, options.steps, None).seconds
    tuned = [] if options.report else [(one, lr) for one in FLOAT32 for lr in one.rates]
    for one, lr in tuned:
        book.run(one, lr, 0, data)
    for seed in range(0 if options.report else options.seeds):
        for one in CONTESTANTS:
            book.run(one, rate(one, book.runs), seed, data)
    for one in CONTESTANTS:
        if chosen(one, book.runs):
            book.account(one)
    (options.out / "table.md").write_text(table(book) + "\n")
    print(table(book))
    draw(book, options.out / "figure.png")


if __name__ == "__main__":
    main()
