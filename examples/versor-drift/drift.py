"""Versors that follow jumping targets under noisy Adam steps: ``python examples/versor-drift/drift.py``.

A versor R has to move random vectors as a target does, which is seen with noise and jumps to another versor every 300
steps.  Compared are free coefficients and :class:`ga.VersorParameter` with either of its metrics: how far R ~R is from
1, and how well R follows.  With ``--numbers posit32`` or ``posit16`` the versor, what is computed with it, gradients
and moments are posits.  Runs are spread over ``--workers`` processes; seeds and problems run side by side.

Writes ``results.json`` and ``figure.png`` beside this file, or into ``--out``; runs that are there already are kept.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import posit
import postrain
import postrain.optim
from ga import (
    CGA3,
    PGA3,
    STA,
    VGA3,
    Algebra,
    Layout,
    Multivector,
    MultivectorParameter,
    VersorParameter,
    exp,
    versor_error,
)
from posit.torch import PositTensor, posit_tensor

ALGEBRAS = {
    "rotor": (VGA3, 2.0),
    "motor": (PGA3, 3.0),
    "Lorentz": (STA, 2.0),
    "conformal": (CGA3, 2.0),
}
"""Algebra, and length of the bivector (of its coefficients) whose exponential is a target."""
METHODS = ("free coefficients", "metric bivector", "metric versor", "metric action")
PROBLEMS, POINTS, NOISE = 16, 16, 0.05
NUMBERS = ("float32", "float64", "posit32", "posit16")
LINES = tuple(
    (method, number) for method in METHODS for number in NUMBERS if "metric" in method or "float" in number
)
"""What can be run: free coefficients are not converted to posits."""
LIMITS = (5e-5, 5e-7)  #: of the drift, in float32 and in posit32
LOOK = 10  # the drift is measured every so many steps


@dataclass(frozen=True)
class Run:
    """What is reported of one run: medians over the problems, one for each seed; worst cases of all of them."""

    versor: str
    method: str
    learning_rate: float
    steps: int
    number: str  #: what versor, gradients and moments are held in
    drift_median: list[float]  #: of the largest coefficient of R ~R - 1 in all steps looked at
    drift_worst: float
    loss_median: list[float]  #: of the mean loss over all steps
    late_median: list[float]  #: of the mean loss in the last quarter before each jump
    late_worst: float
    seconds: float
    drift_curve: list[float]  #: medians of all problems of all seeds, every LOOK steps
    loss_curve: list[float]  #: the same of the mean loss of LOOK steps


def normal(generators: list[torch.Generator], *shape: int) -> torch.Tensor:
    """Normal numbers for all problems of all seeds, float64, shape ``(seeds * PROBLEMS, *shape)``."""
    return torch.cat([torch.randn(PROBLEMS, *shape, generator=g, dtype=torch.float64) for g in generators])


def targets(algebra: Algebra, size: float, generators: list[torch.Generator]) -> Multivector:
    """The exponentials of random bivectors of a given length."""
    b = normal(generators, algebra.n * (algebra.n - 1) // 2)
    return exp(algebra.bivector(size * b / b.norm(dim=-1, keepdim=True)))


class Moving(nn.Module):
    """Points moved by what a method trains, which starts at 1."""

    def __init__(self, method: str, start: Multivector) -> None:
        super().__init__()
        self.points = Layout.of_grades(start.algebra, 1)
        self.by: MultivectorParameter | VersorParameter
        if method == "free coefficients":
            self.by = MultivectorParameter(start.unconstrained())
        else:
            self.by = VersorParameter(start, metric=method.removeprefix("metric "))

    def forward(self, planes: Tensor) -> Tensor:
        """Planes of points to those of the moved points, without what leaves grade 1."""
        moved: Tensor = (self.by.multivector >> Multivector(planes, self.points)).grade(1).planes
        return moved

    def drift(self) -> Tensor:
        """Largest coefficient of R ~R - 1 of each problem, formed in float64 from what is held."""
        mv = self.by.multivector.detach()
        planes = mv.planes.to_float(torch.float64) if isinstance(mv.planes, PositTensor) else mv.planes
        return versor_error(Multivector(planes.double(), mv.layout, mv.constraint))


def follow(versor: str, method: str, number: str, lr: float, steps: int, jump: int, seeds: int) -> Run:
    """One run."""
    began = time.perf_counter()
    algebra, size = ALGEBRAS[versor]
    posits = number.startswith("posit")
    kind = torch.float32 if posits else getattr(torch, number)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    one = targets(algebra, 0.0, [torch.Generator()] * seeds)
    model = Moving(method, (one * 1.0).as_rotor().to(kind))
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    if posits:
        postrain.convert(model, number)
        optimizer = postrain.optim.Adam(model.named_parameters(), lr=lr)
    drifts, losses = [], []
    for step in range(steps):
        if step % jump == 0:
            target = targets(algebra, size, generators).to(kind)
        x = algebra.vector(normal(generators, POINTS, algebra.n).to(kind).transpose(0, 1))
        seen = (target >> x).planes + NOISE * normal(generators, POINTS, algebra.n).to(kind).permute(2, 1, 0)
        missing = model(x.planes) - (like(posit_tensor(seen, number), model) if posits else seen)
        loss = (missing * missing).mean((0, 1))
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum())
        optimizer.step()
        if step % LOOK == LOOK - 1:
            drifts.append(model.drift())
        found = loss.detach()
        losses.append(found.to_float() if isinstance(found, PositTensor) else found)
    drift, followed = torch.stack(drifts), torch.stack(losses)
    late = followed.unflatten(0, (-1, jump))[:, jump * 3 // 4 :].mean((0, 1))
    worst = drift.amax(0)
    run = Run(
        versor,
        method,
        lr,
        steps,
        number,
        drift_median=by_seed(worst),
        drift_worst=float(worst.max()),
        loss_median=by_seed(followed.mean(0)),
        late_median=by_seed(late),
        late_worst=float(late.max()),
        seconds=round(time.perf_counter() - began, 1),
        drift_curve=rounded(drift.median(1).values),
        loss_curve=rounded(followed.median(1).values.unflatten(0, (-1, LOOK)).mean(1)),
    )
    show(run)
    return run


def like(seen: PositTensor, model: nn.Module) -> PositTensor:
    """What is seen, with the policy of a converted model."""
    (parameter,) = model.parameters()
    assert isinstance(parameter, PositTensor)
    return PositTensor(seen.codes, seen.format, policy=parameter.policy)


def by_seed(values: torch.Tensor) -> list[float]:
    """Medians of the problems of each seed."""
    return rounded(values.unflatten(0, (-1, PROBLEMS)).median(1).values)


def rounded(values: torch.Tensor) -> list[float]:
    """As a list, four digits of each."""
    return [float(f"{value:.4g}") for value in values.tolist()]


def show(run: Run) -> None:
    """One line of the table."""
    drift, loss, late = (
        " ".join(f"{x:.3g}" for x in row) for row in (run.drift_median, run.loss_median, run.late_median)
    )
    print(
        f"{run.versor:10} {run.method:18} {run.number:8} lr {run.learning_rate:<5} "
        f"drift {drift} (worst {run.drift_worst:.2g})  loss {loss}  "
        f"late {late} (worst {run.late_worst:.3g})  {run.seconds:.0f} s",
        flush=True,
    )


def one_thread() -> None:
    """Each process works on one core."""
    torch.set_num_threads(1)
    posit.set_num_threads(1)


def draw(runs: list[Run], path: Path) -> None:
    """Drift above, loss below, a column a kind of versor; medians over the problems of all seeds."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    names = [name for name in ALGEBRAS if any(run.versor == name for run in runs)]
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    used = [line for line in LINES if any((run.method, run.number) == line for run in runs)]
    for run in sorted(runs, key=lambda run: LINES.index((run.method, run.number))):
        column, colour = names.index(run.versor), f"C{used.index((run.method, run.number))}"
        steps = np.arange(1, len(run.drift_curve) + 1) * LOOK
        style = {"label": f"{run.method}, {run.number}", "color": colour, "lw": 1.1}
        axes[0, column].semilogy(steps, np.maximum(run.drift_curve, 1e-10), **style)
        axes[1, column].semilogy(steps, run.loss_curve, **style)
        axes[0, column].set_title(f"{run.versor}, {ALGEBRAS[run.versor][0]}")
        axes[1, column].set_xlabel("step")
    for column in range(len(names)):
        for limit in LIMITS:
            axes[0, column].axhline(limit, color="#999999", lw=0.8, ls=":")
    axes[0, 0].set_ylabel("largest coefficient of R ~R - 1")
    axes[1, 0].set_ylabel("loss")
    axes[1, 0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def table(runs: list[Run]) -> str:
    """Drift and fit of all runs as Markdown."""
    lines = [
        "| versor | method | held in | drift | loss, all steps | late | s |",
        "|" + "---|" * 7,
    ]
    for versor in ALGEBRAS:
        mine = [run for run in runs if run.versor == versor]
        for run in sorted(mine, key=lambda run: LINES.index((run.method, run.number))):
            loss, late = (f"{min(x):.3g} – {max(x):.3g}" for x in (run.loss_median, run.late_median))
            drift = f"{max(run.drift_median):.2g} ({run.drift_worst:.2g})"
            lines.append(
                f"| {versor} | {run.method} | {run.number} | {drift} | {loss} | {late} ({run.late_worst:.2g}) | "
                f"{run.seconds:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run everything, print a table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--jump", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--versors", choices=list(ALGEBRAS), nargs="*", default=list(ALGEBRAS))
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS[:1] + METHODS[2:]))
    parser.add_argument("--numbers", choices=NUMBERS, nargs="+", default=["float32"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    store = options.out / "results.json"
    kept = json.loads(store.read_text())["runs"] if store.exists() else []
    runs = {(row["versor"], row["method"], row["number"]): Run(**row) for row in kept}
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, start, one_thread) as pool:
        settings = options.lr, options.steps, options.jump, options.seeds
        lines = [line for line in LINES if line[0] in options.methods and line[1] in options.numbers]
        jobs = [(versor, *line) for versor in options.versors for line in lines]
        waiting = [pool.submit(follow, *job, *settings) for job in jobs]
        for future in waiting:
            run = future.result()
            runs[run.versor, run.method, run.number] = run
            about = {
                "jump": options.jump,
                "noise": NOISE,
                "problems": PROBLEMS,
                "runs": list(map(asdict, runs.values())),
            }
            store.write_text(json.dumps(about, indent=1) + "\n")
    draw(list(runs.values()), options.out / "figure.png")
    print(table(list(runs.values())))


if __name__ == "__main__":
    main()
