"""Versors that follow jumping targets under noisy Adam steps: ``python examples/versor-drift/drift.py``.

A versor R has to move random vectors as a target does, which is seen with noise and jumps to another versor every 300
steps.  Compared are free coefficients and :class:`ga.VersorParameter` with either of its metrics: how far R ~R is from
1, and how well R follows.  Runs are spread over ``--workers`` processes.

Writes ``results.json`` and ``figure.png`` beside this file, or into ``--out``.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ga import (
    CGA3,
    PGA3,
    STA,
    VGA3,
    Algebra,
    Multivector,
    MultivectorParameter,
    VersorParameter,
    exp,
    versor_error,
)

ALGEBRAS = {
    "rotor": (VGA3, 2.0),
    "motor": (PGA3, 3.0),
    "Lorentz": (STA, 2.0),
    "conformal": (CGA3, 2.0),
}
"""Algebra, and length of the bivector (of its coefficients) whose exponential is a target."""
METHODS = ("free coefficients", "metric bivector", "metric versor")
PROBLEMS, POINTS, NOISE = 16, 16, 0.05
LOOK = 10  # the drift is measured every so many steps


Curve = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Run:
    """What is reported of one run; medians and worst cases over the problems, which run side by side."""

    versor: str
    method: str
    learning_rate: float
    drift_median: float  #: of the largest coefficient of R ~R - 1 in all steps looked at
    drift_worst: float
    loss_median: float  #: of the mean loss over all steps
    late_median: float  #: of the mean loss in the last quarter before each jump
    late_worst: float
    seconds: float


Found = tuple[Run, Curve, Curve]
"""A run, and the medians over the problems of drift and loss by step."""


def targets(algebra: Algebra, size: float, generator: torch.Generator) -> Multivector:
    """The exponentials of random bivectors of a given length."""
    b = torch.randn(PROBLEMS, algebra.n * (algebra.n - 1) // 2, generator=generator, dtype=torch.float64)
    return exp(algebra.bivector(size * b / b.norm(dim=-1, keepdim=True)))


def parameter(method: str, start: Multivector) -> MultivectorParameter | VersorParameter:
    """The parameter that a method trains, which starts at 1."""
    if method == "free coefficients":
        return MultivectorParameter(start.unconstrained())
    return VersorParameter(start, metric=method.removeprefix("metric "))


def follow(versor: str, method: str, lr: float, steps: int, jump: int, dtype: torch.dtype) -> Found:
    """One run, and drift and loss of each step and problem."""
    began = time.perf_counter()
    algebra, size = ALGEBRAS[versor]
    generator = torch.Generator().manual_seed(0)
    p = parameter(method, (targets(algebra, 0.0, torch.Generator()) * 1.0).as_rotor().to(dtype))
    optimizer = torch.optim.Adam([p], lr=lr)
    drifts, losses = [], []
    for step in range(steps):
        if step % jump == 0:
            target = targets(algebra, size, generator).to(dtype)
        x = algebra.vector(torch.randn(POINTS, PROBLEMS, algebra.n, generator=generator).to(dtype))
        seen = (target >> x).coefficients
        seen = seen + NOISE * torch.randn(seen.shape, generator=generator).to(dtype)
        loss = ((p.multivector >> x).grade(1).coefficients - seen).square().mean((0, 2))
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum())
        optimizer.step()
        if step % LOOK == LOOK - 1:
            drifts.append(versor_error(p.multivector.detach()))
        losses.append(loss.detach())
    drift, found = torch.stack(drifts), torch.stack(losses)
    late = found.unflatten(0, (-1, jump))[:, jump * 3 // 4 :].mean((0, 1))
    worst = drift.amax(0)
    run = Run(
        versor,
        method,
        lr,
        drift_median=float(worst.median()),
        drift_worst=float(worst.max()),
        loss_median=float(found.mean(0).median()),
        late_median=float(late.median()),
        late_worst=float(late.max()),
        seconds=time.perf_counter() - began,
    )
    show(run)
    return run, drift.median(1).values.numpy(), found.median(1).values.numpy()


def show(run: Run) -> None:
    """One line of the table."""
    print(
        f"{run.versor:10} {run.method:18} lr {run.learning_rate:<5} "
        f"drift {run.drift_median:8.2g} (worst {run.drift_worst:8.2g})  loss {run.loss_median:8.3g}  "
        f"late {run.late_median:8.3g} (worst {run.late_worst:8.3g})  {run.seconds:.0f} s",
        flush=True,
    )


def one_thread() -> None:
    """Each process works on one core."""
    torch.set_num_threads(1)


def draw(curves: dict[tuple[str, str], tuple[Curve, Curve]], path: Path) -> None:
    """Drift above, loss below, a column a kind of versor; medians over the problems."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(2, len(ALGEBRAS), sharex=True, sharey="row")
    for (versor, method), (drift, loss) in curves.items():
        column = list(ALGEBRAS).index(versor)
        steps = np.arange(1, len(drift) + 1) * LOOK
        axes[0, column].semilogy(steps, np.maximum(drift, 1e-9), label=method)
        axes[1, column].semilogy(steps, loss.reshape(-1, LOOK).mean(1), label=method)
        axes[0, column].set_title(f"{versor}, {ALGEBRAS[versor][0]}")
        axes[1, column].set_xlabel("step")
    axes[0, 0].set_ylabel("largest coefficient of R ~R - 1")
    axes[1, 0].set_ylabel("loss")
    axes[1, 0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything, print a table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--jump", type=int, default=300)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.1], help="the figure shows the last")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--versors", choices=list(ALGEBRAS), nargs="+", default=list(ALGEBRAS))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    jobs = [(versor, method, lr) for lr in options.lr for versor in options.versors for method in METHODS]
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, start, one_thread) as pool:
        waiting = [pool.submit(follow, *job, options.steps, options.jump, dtype) for job in jobs]
        found = [future.result() for future in waiting]
    runs = [asdict(run) for run, _, _ in found]
    curves = {(run.versor, run.method): (drift, loss) for run, drift, loss in found}
    about = {
        "steps": options.steps,
        "jump": options.jump,
        "dtype": options.dtype,
        "noise": NOISE,
        "runs": runs,
    }
    (options.out / "results.json").write_text(json.dumps(about, indent=1) + "\n")
    draw(curves, options.out / "figure.png")


if __name__ == "__main__":
    main()
