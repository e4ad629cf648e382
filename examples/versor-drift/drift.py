"""Versors that follow jumping targets under noisy Adam steps: ``python examples/versor-drift/drift.py``.

A versor R has to move random vectors as a target does, which is seen with noise and jumps to another versor every 300
steps.  Compared are free coefficients and :class:`ga.VersorParameter` with either of its metrics: how far R ~R is from
1, and how well R follows.  Runs are spread over ``--workers`` processes; seeds and problems run side by side.

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
METHODS = ("free coefficients", "metric bivector", "metric versor", "metric action")
PROBLEMS, POINTS, NOISE = 16, 16, 0.05
COLOURS = ("#d55e00", "#cc79a7", "#0072b2", "#009e73")
LOOK = 10  # the drift is measured every so many steps


@dataclass(frozen=True)
class Run:
    """What is reported of one run: medians over the problems, one for each seed; worst cases of all of them."""

    versor: str
    method: str
    learning_rate: float
    steps: int
    dtype: str
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


def parameter(method: str, start: Multivector) -> MultivectorParameter | VersorParameter:
    """The parameter that a method trains, which starts at 1."""
    if method == "free coefficients":
        return MultivectorParameter(start.unconstrained())
    return VersorParameter(start, metric=method.removeprefix("metric "))


def follow(versor: str, method: str, lr: float, steps: int, jump: int, dtype: str, seeds: int) -> Run:
    """One run."""
    began = time.perf_counter()
    algebra, size = ALGEBRAS[versor]
    kind = getattr(torch, dtype)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    one = targets(algebra, 0.0, [torch.Generator()] * seeds)
    p = parameter(method, (one * 1.0).as_rotor().to(kind))
    optimizer = torch.optim.Adam([p], lr=lr)
    drifts, losses = [], []
    for step in range(steps):
        if step % jump == 0:
            target = targets(algebra, size, generators).to(kind)
        x = algebra.vector(normal(generators, POINTS, algebra.n).to(kind).transpose(0, 1))
        seen = (target >> x).coefficients
        seen = seen + NOISE * normal(generators, POINTS, algebra.n).to(kind).transpose(0, 1)
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
        steps,
        dtype,
        drift_median=by_seed(worst),
        drift_worst=float(worst.max()),
        loss_median=by_seed(found.mean(0)),
        late_median=by_seed(late),
        late_worst=float(late.max()),
        seconds=round(time.perf_counter() - began, 1),
        drift_curve=rounded(drift.median(1).values),
        loss_curve=rounded(found.median(1).values.unflatten(0, (-1, LOOK)).mean(1)),
    )
    show(run)
    return run


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
        f"{run.versor:10} {run.method:18} lr {run.learning_rate:<5} drift {drift} (worst {run.drift_worst:.2g})  "
        f"loss {loss}  late {late} (worst {run.late_worst:.3g})  {run.seconds:.0f} s",
        flush=True,
    )


def one_thread() -> None:
    """Each process works on one core."""
    torch.set_num_threads(1)


def draw(runs: list[Run], path: Path) -> None:
    """Drift above, loss below, a column a kind of versor; medians over the problems of all seeds."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    names = [name for name in ALGEBRAS if any(run.versor == name for run in runs)]
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for run in sorted(runs, key=lambda run: METHODS.index(run.method)):
        column, colour = names.index(run.versor), COLOURS[METHODS.index(run.method)]
        steps = np.arange(1, len(run.drift_curve) + 1) * LOOK
        style = {"label": run.method, "color": colour, "lw": 1.2}
        axes[0, column].semilogy(steps, np.maximum(run.drift_curve, 1e-9), **style)
        axes[1, column].semilogy(steps, run.loss_curve, **style)
        axes[0, column].set_title(f"{run.versor}, {ALGEBRAS[run.versor][0]}")
        axes[1, column].set_xlabel("step")
    axes[0, 0].set_ylabel("largest coefficient of R ~R - 1")
    axes[1, 0].set_ylabel("loss")
    axes[1, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything, print a table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--jump", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--versors", choices=list(ALGEBRAS), nargs="+", default=list(ALGEBRAS))
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    store = options.out / "results.json"
    kept = json.loads(store.read_text())["runs"] if store.exists() else []
    runs = {(row["versor"], row["method"]): Run(**row) for row in kept}
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, start, one_thread) as pool:
        settings = options.lr, options.steps, options.jump, options.dtype, options.seeds
        jobs = [(versor, method) for versor in options.versors for method in options.methods]
        waiting = [pool.submit(follow, *job, *settings) for job in jobs]
        for future in waiting:
            run = future.result()
            runs[run.versor, run.method] = run
            about = {
                "jump": options.jump,
                "noise": NOISE,
                "problems": PROBLEMS,
                "runs": list(map(asdict, runs.values())),
            }
            store.write_text(json.dumps(about, indent=1) + "\n")
    draw(list(runs.values()), options.out / "figure.png")


if __name__ == "__main__":
    main()
