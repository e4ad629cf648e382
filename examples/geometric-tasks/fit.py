"""Geometric-algebra networks on their field's tasks: ``python examples/geometric-tasks/fit.py o5-regression``.

Tasks are ``o5-regression``, ``o5-hulls``, ``n-body``, ``scattering`` and ``molecules`` (which reads a file from
``--data-dir``), all in float32.  Beside each network of ``ga.nn`` layers one is trained that knows nothing of the
symmetry, on the same data, with the same steps.  Every run is kept in ``results.json`` (or in ``--out``), from which
``--draw`` makes the figure and the table.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ga import STA, Algebra
from ga.tasks.hulls import convex_hulls
from ga.tasks.molecules import MoleculeNet, load_molecules
from ga.tasks.n_body import BodiesNet, charged_n_body
from ga.tasks.networks import InvariantNet, perceptron
from ga.tasks.regression import o5_regression
from ga.tasks.scattering import electron_muon_scattering

HERE = Path(__file__).parent
Data = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of a network, and what it should give."""


class Plain(nn.Module):
    """A perceptron on all numbers, one behind the other."""

    def __init__(self, inputs: int, outputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = perceptron([inputs, width, width, width, outputs], generator)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs of shape ``(n, ...)`` to shape ``(n, outputs)``, or ``(n,)`` for one output."""
        found: Tensor = self.layers(torch.cat([x.flatten(1) for x in inputs], 1))
        return found.squeeze(-1)


class PlainBodies(Plain):
    """A perceptron that is given charges, positions and velocities, and adds to x + v."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Charges, positions, velocities to later positions."""
        _, x, v = inputs
        return x + v + super().forward(*inputs).reshape(x.shape)


@dataclass(frozen=True)
class Task:
    """What is learned, from what, and how long."""

    make: Callable[[int, torch.Generator, Path | None], Data]
    networks: dict[str, Callable[[torch.Generator], nn.Module]]
    train: int
    test: int
    steps: int
    batch: int
    lr: float
    standardize: bool = (
        True  #: of the values: mean 0 and standard deviation 1 in training; errors are of the values
    )
    absolute: bool = False  #: report (and minimize) the mean absolute error


def plain_data(draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]) -> Callable[..., Data]:
    """Data of a task whose input is one tensor."""

    def make(n: int, generator: torch.Generator, data_dir: Path | None) -> Data:
        x, y = draw(n, generator)
        return (x,), y

    return make


def bodies(n: int, generator: torch.Generator, data_dir: Path | None) -> Data:
    """Charges, positions, velocities; later positions."""
    found = charged_n_body(n, generator)
    return (found.charges, found.positions, found.velocities), found.targets


def molecules(n: int, generator: torch.Generator, data_dir: Path | None) -> Data:
    """Positions and elements of molecules in random order; their polarizability."""
    if data_dir is None:
        raise SystemExit("molecules come from a file: name the folder of qm9_10k.npz with --data-dir")
    found = load_molecules(data_dir)
    found = found[torch.randperm(len(found), generator=generator)[:n]]
    return (found.positions, found.elements), found.polarizability


def counts(positions: int) -> Callable[[torch.Generator], nn.Module]:
    """A perceptron on how many atoms of each element there are: what a molecule's polarizability mostly is."""

    class Counts(nn.Module):
        def __init__(self, generator: torch.Generator) -> None:
            super().__init__()
            self.layers = perceptron([5, positions, positions, 1], generator)

        def forward(self, x: Tensor, elements: Tensor) -> Tensor:
            kinds = torch.stack([(elements == t).sum(1) for t in range(5)], 1).float() / 10
            found: Tensor = self.layers(kinds).squeeze(-1)
            return found

    return Counts


TASKS = {
    "o5-regression": Task(
        plain_data(o5_regression),
        {
            "geometric": lambda g: InvariantNet(Algebra(5), 2, 8, blocks=1, width=128, generator=g),
            "plain": lambda g: Plain(10, 1, 256, g),
        },
        train=10_000,
        test=8192,
        steps=4000,
        batch=128,
        lr=3e-3,
    ),
    "o5-hulls": Task(
        plain_data(convex_hulls),
        {
            "geometric": lambda g: InvariantNet(Algebra(5), 16, 24, blocks=3, width=128, generator=g),
            "plain": lambda g: Plain(80, 1, 256, g),
        },
        train=16_384,
        test=4096,
        steps=4000,
        batch=128,
        lr=2e-3,
    ),
    "scattering": Task(
        plain_data(electron_muon_scattering),
        {
            "geometric": lambda g: InvariantNet(STA, 4, 16, blocks=2, width=128, generator=g),
            "plain": lambda g: Plain(16, 1, 256, g),
        },
        train=10_000,
        test=8192,
        steps=2000,
        batch=128,
        lr=3e-3,
    ),
    "n-body": Task(
        bodies,
        {
            "geometric": lambda g: BodiesNet(hidden=24, layers=3, width=64, generator=g),
            "plain": lambda g: PlainBodies(35, 15, 256, g),
        },
        train=3000,
        test=2000,
        steps=4000,
        batch=100,
        lr=2e-3,
        standardize=False,
    ),
    "molecules": Task(
        molecules,
        {
            "geometric": lambda g: MoleculeNet(hidden=12, layers=2, width=48, generator=g),
            "counts": counts(64),
        },
        train=8000,
        test=1000,
        steps=1000,
        batch=32,
        lr=2e-3,
        absolute=True,
    ),
}


@dataclass
class Run:
    """What came of a run; errors are mean squared (of molecules: mean absolute) in the units of the task."""

    task: str
    network: str
    seed: int
    parameters: int
    train: int
    steps: int
    batch: int
    learning_rate: float
    variance: (
        float  #: of the test values: the squared error of their mean (of molecules: the absolute error of it)
    )
    test_error: float = float("nan")
    train_error: float = float("nan")
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)  #: steps and test errors on the way


def fit(name: str, network: str, seed: int, steps: int, data: Data, train: int) -> Run:
    """Train one network on the first samples of the data, test it on the others."""
    task = TASKS[name]
    inputs, values = data
    error: Callable[[Tensor, Tensor], Tensor] = (
        nn.functional.l1_loss if task.absolute else nn.functional.mse_loss
    )
    middle = values[:train].mean() if task.standardize else torch.tensor(0.0)
    scale = values[:train].std() if task.standardize else torch.tensor(1.0)
    model = task.networks[network](torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=task.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.lr, steps, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    guess = values[train:].mean() if task.standardize else inputs[1][train:]  # of bodies: they stay
    spread = float(error(guess.expand_as(values[train:]), values[train:]))
    size = sum(p.numel() for p in model.parameters())
    run = Run(name, network, seed, size, train, steps, task.batch, task.lr, spread)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        chosen = torch.randint(train, (task.batch,), generator=order)
        loss = error(model(*(x[chosen] for x in inputs)), (values[chosen] - middle) / scale)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(steps // 12, 1) == 0 or step == steps:
            run.test_error = evaluate(model, inputs, values, slice(train, None), middle, scale, task.absolute)
            run.curve.append((step, run.test_error))
            print(f"{name} {network} seed {seed} step {step}: {run.test_error:.6g}", flush=True)
    run.train_error = evaluate(model, inputs, values, slice(min(train, 4096)), middle, scale, task.absolute)
    run.seconds = time.perf_counter() - began
    return run


@torch.no_grad()
def evaluate(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    values: Tensor,
    where: slice,
    middle: Tensor,
    scale: Tensor,
    absolute: bool,
) -> float:
    """Mean error of the values themselves."""
    pieces = zip(*(x[where].split(250) for x in inputs), strict=True)
    found = torch.cat([model(*piece) for piece in pieces]) * scale + middle
    apart = (found - values[where]).abs()
    return float(apart.mean() if absolute else apart.square().mean())


def table(runs: list[Run]) -> str:
    """All runs as Markdown, a row for each task and network, errors of all seeds."""
    lines = [
        "| task | network | weights | test error of each seed | training error | of the mean | s |",
        "|" + "---|" * 7,
    ]
    for task in TASKS:
        for network in TASKS[task].networks:
            mine = sorted((r for r in runs if (r.task, r.network) == (task, network)), key=lambda r: r.seed)
            if mine:
                errors, fits = (
                    ", ".join(f"{e:.3g}" for e in row)
                    for row in zip(*((r.test_error, r.train_error) for r in mine), strict=True)
                )
                seconds = max(r.seconds for r in mine)
                size, spread = mine[0].parameters, mine[0].variance
                lines.append(
                    f"| {task} | {network} | {size} | {errors} | {fits} | {spread:.3g} | {seconds:.0f} |"
                )
    return "\n".join(lines)


def draw(runs: list[Run], path: Path) -> None:
    """Test errors on the way, a panel for each task, a line for each run."""
    from matplotlib.figure import Figure

    names = [name for name in TASKS if any(r.task == name for r in runs)]
    figure = Figure(figsize=(3.1 * len(names), 3.4), dpi=130, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        mine = [r for r in runs if r.task == name]
        for network, colour in zip(TASKS[name].networks, ("#0072b2", "#d55e00"), strict=True):
            for number, r in enumerate(r for r in mine if r.network == network):
                label = network if number == 0 else None
                axes.plot(*zip(*r.curve, strict=True), color=colour, lw=1.4, marker="o", ms=3, label=label)
        axes.axhline(
            mine[0].variance,
            color="#999999",
            lw=1,
            ls=":",
            label="bodies stay" if name == "n-body" else "mean",
        )
        axes.set(title=name, yscale="log", xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("test error")
    figure.savefig(path)


def main() -> None:
    """Train what is asked for, add it to the results, draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="tasks to train")
    parser.add_argument(
        "--network", nargs="*", help="geometric, plain (of molecules: counts); both if left out"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, help="other than the task's own")
    parser.add_argument("--train", type=int, help="training samples, other than the task's own")
    parser.add_argument("--data-dir", type=Path, help="folder of qm9_10k.npz, for molecules")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="draw the figure and print the table")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    store = options.out / "results.json"
    runs = [Run(**row) for row in json.loads(store.read_text())] if store.exists() else []
    for name in options.tasks:
        task = TASKS[name]
        train = options.train or task.train
        data = task.make(train + task.test, torch.Generator().manual_seed(1000), options.data_dir)
        for seed in options.seeds:
            for network in options.network or task.networks:
                run = fit(name, network, seed, options.steps or task.steps, data, train)
                same = (name, network, seed)
                runs = [r for r in runs if (r.task, r.network, r.seed) != same] + [run]
                store.write_text(json.dumps([asdict(r) for r in runs], indent=1) + "\n")
    if options.draw:
        draw(runs, options.out / "figure.png")
        print(table(runs))


if __name__ == "__main__":
    main()
