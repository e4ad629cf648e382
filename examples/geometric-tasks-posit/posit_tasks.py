"""Three tasks of geometric algebra trained in posit16 and in float32: the same networks, initial weights and batches.

``python examples/geometric-tasks-posit/posit_tasks.py``: the signed volume of three points under O(3), a function of
two vectors under O(5), and where charged particles will be.  In posit16 weights, activations, gradients and moments
are posits, every product of multivectors an exact sum rounded once.

Writes ``results.json`` beside this file, or into ``--out``, after each run; runs of others that are there are kept.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import postrain.optim
from ga import VGA3, Algebra, Layout, Multivector
from ga.nn import FullyConnectedGeometricProduct, GeometricProductLayer, GradeLinear, GradeNorm, NormGate
from ga.tasks.n_body import charged_n_body
from ga.tasks.regression import o5_regression
from ga.tasks.signed_volume import SignedVolumeNet, signed_volume
from posit.torch import PositTensor, posit_tensor
from postrain.convert import convert

Data = tuple[Tensor, Tensor]  #: inputs and targets


class InvariantNet(nn.Module):
    """Two vectors of Cl(5,0,0) to a number: products of linear maps, their scalars, and a perceptron."""

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.vector = Layout.of_grades(Algebra(5), 1)
        self.embed = GradeLinear(self.vector, 2, hidden, generator=generator)
        self.product = FullyConnectedGeometricProduct(
            self.vector, hidden, hidden, out_grades=0, generator=generator
        )
        self.head = nn.Sequential(
            nn.Linear(hidden, 2 * hidden),
            nn.SiLU(),
            nn.Linear(2 * hidden, 2 * hidden),
            nn.SiLU(),
            nn.Linear(2 * hidden, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (n, 2, 5) to numbers (n,)."""
        scalars = self.product(self.embed(Multivector(x.movedim(-1, 0), self.vector))).planes[0]
        found: Tensor = self.head(scalars).squeeze(-1)
        return found


class Interaction(nn.Module):
    """What particles do to each other, beyond going straight on: multivectors of pairs, summed over one of the two."""

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = Layout.of_grades(VGA3, (0, 1, 2))
        self.embed = GradeLinear(self.layout, 3, hidden, generator=generator)
        self.blocks = nn.Sequential(*(_pair_block(self.layout, hidden, generator) for _ in range(2)))
        self.out = GradeLinear(self.layout, hidden, 1, generator=generator)

    def forward(self, pairs: Tensor) -> Tensor:
        """Planes of pairs last, (n, particles, particles, 3 channels, 7), to vectors (n, particles, 3)."""
        x = self.blocks(self.embed(Multivector(pairs.movedim(-1, 0), self.layout)))
        summed = Multivector(x.planes.sum(3), self.layout)
        vectors: Tensor = self.out(summed).planes[self.layout.slices[1], ..., 0].movedim(0, -1)
        return vectors


def _pair_block(layout: Layout, hidden: int, generator: torch.Generator) -> nn.Module:
    return nn.Sequential(
        GradeLinear(layout, hidden, hidden, generator=generator),
        GradeNorm(layout, hidden),
        GeometricProductLayer(layout, hidden, out_grades=layout.grades, generator=generator),
        NormGate(layout, hidden),
    )


def particles(n: int, generator: torch.Generator) -> Data:
    """Pairs as planes, and what is missing to positions when all go straight on; time 1."""
    bodies = charged_n_body(n, generator)
    c, x, v = bodies.charges, bodies.positions, bodies.velocities
    size = x.shape[1]
    pairs = torch.zeros(n, size, size, 3, 7)
    pairs[..., 0, 0], pairs[..., 1, 0] = c[:, :, None] * c[:, None, :], 1.0
    pairs[..., 0, 1:4] = x[:, :, None] - x[:, None, :]
    pairs[..., 1, 1:4], pairs[..., 2, 1:4] = v[:, :, None], v[:, None, :]
    return pairs, bodies.targets - x - v


@dataclass(frozen=True)
class Task:
    """A network and its data."""

    name: str
    build: Callable[[torch.Generator], nn.Module]
    sample: Callable[[int, torch.Generator], Data]
    samples: int
    steps: int
    batch: int
    lr: float


TASKS = (
    Task(
        "O(3) signed volume", lambda g: SignedVolumeNet(16, generator=g), signed_volume, 4096, 600, 64, 3e-3
    ),
    Task("O(5) regression", lambda g: InvariantNet(16, g), o5_regression, 4096, 1000, 64, 3e-3),
    Task("n-body", lambda g: Interaction(16, g), particles, 2000, 600, 32, 3e-3),
)


RECIPES = ("float32", "posit16")


@dataclass(frozen=True)
class Run:
    """A test error."""

    task: str
    recipe: str
    seed: int
    steps: int
    samples: int
    test_error: float  #: mean squared error
    predicting_zero: float  #: that of predicting 0
    seconds: float


def train(task: Task, recipe: str, seed: int, steps: int) -> Run:
    """Train once; everything random follows from the seed."""
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    x, y = task.sample(task.samples, generator)
    x_test, y_test = task.sample(1000, generator)
    torch.manual_seed(seed)  # of the perceptron's initial weights
    model, posits = task.build(generator), recipe != "float32"
    optimizer: Any = torch.optim.Adam(model.parameters(), lr=task.lr)
    if posits:
        convert(model, recipe)
        optimizer = postrain.optim.Adam(model.named_parameters(), lr=task.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (task.batch,), generator=generator)
        target = posit_tensor(y[rows], recipe) if posits else y[rows]
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(model(x[rows]), _like(target, model)))
        optimizer.step()
        schedule.step()
    error = tested(model, x_test, y_test)
    zero = float(y_test.double().square().mean())
    run = Run(task.name, recipe, seed, steps, task.samples, error, zero, time.perf_counter() - began)
    print(run, flush=True)
    return run


def _like(target: Tensor, model: nn.Module) -> Tensor:
    """Targets with the policy of a converted model."""
    if isinstance(target, PositTensor):
        parameter: Any = next(model.parameters())
        return PositTensor(target.codes, target.format, policy=parameter.policy)
    return target


@torch.no_grad()
def tested(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean squared error."""
    found = model(x)
    real = found.to_float(torch.float64) if isinstance(found, PositTensor) else found.double()
    return float((real - y.double()).square().mean())


def main() -> None:
    """Run everything, print medians, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shorter", type=int, default=1, help="divide the number of steps by this")
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    store = options.out / "results.json"
    runs = [Run(**row) for row in json.loads(store.read_text())] if store.exists() else []
    for task in TASKS:
        for seed, recipe in product(range(options.seeds if task.name in options.tasks else 0), RECIPES):
            run = train(task, recipe, seed, task.steps // options.shorter)
            same = (task.name, recipe, seed)
            runs = [r for r in runs if (r.task, r.recipe, r.seed) != same] + [run]
            store.write_text(json.dumps([asdict(r) for r in runs], indent=1) + "\n")
    for task in TASKS:
        for recipe in RECIPES:
            errors = [run.test_error for run in runs if (run.task, run.recipe) == (task.name, recipe)]
            if errors:
                print(f"{task.name:20} {recipe:8} median test error {statistics.median(errors):.4g}")


if __name__ == "__main__":
    main()
