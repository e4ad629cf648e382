"""Hilbert systems: posits with exact residuals beside float32 and float64 (table and figure of docs/linear-algebra.md).

H x = 1 with H_ij = 1 / (i + j - 1) is the classical ill-conditioned system.  Each format first rounds H to itself, so
each has a system of its own to solve; its *solver error* is the distance from the exact rational solution of that
system.  The *data error* is the distance of that exact solution from the one of the true H: no solver can win it back.

    python examples/hilbert.py --sizes 12 --figure docs/images/hilbert.png
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import torch

import posit
from posit.linalg import solve

Vector = list[Fraction]
Matrix = list[Vector]
FORMATS = ("posit16", "posit32", "float32", "float64")


def hilbert(n: int) -> Matrix:
    """The exact Hilbert matrix."""
    return [[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)]


def solve_exactly(a: Matrix, b: Matrix) -> Matrix:
    """The rational solution of A X = B by Gauss-Jordan elimination."""
    rows = [[*left, *right] for left, right in zip(a, b, strict=True)]
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[len(a) :] for row in rows]


def exact_solution(a: Matrix) -> Vector:
    """The rational solution of A x = 1."""
    return [row[0] for row in solve_exactly(a, [[Fraction(1)]] * len(a))]


def condition(n: int) -> float:
    """Condition number of the exact H in the infinity norm."""
    identity = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    return float(_norm(hilbert(n)) * _norm(solve_exactly(hilbert(n), identity)))


def _norm(a: Matrix) -> Fraction:
    return max(sum((abs(x) for x in row), Fraction(0)) for row in a)


def in_posits(h: Matrix, name: str) -> tuple[Matrix, Vector]:
    """The matrix as the format has it, and the solution that `posit.linalg.solve` finds."""
    a = posit.array(h, name)
    x = solve(a, posit.ones(len(h), name))
    return [[element.as_fraction() for element in row] for row in a], [element.as_fraction() for element in x]


def in_floats(h: Matrix, name: str) -> tuple[Matrix, Vector]:
    """The same with LAPACK in that precision, by way of torch: NumPy's solve computes float32 systems in float64."""
    a = torch.tensor([[float(x) for x in row] for row in h], dtype=getattr(torch, name))
    x = torch.linalg.solve(a, torch.ones(len(h), dtype=a.dtype))
    return [[Fraction(v) for v in row] for row in a.tolist()], [Fraction(v) for v in x.tolist()]


def error(x: Vector, truth: Vector) -> float:
    """Largest difference relative to the largest element."""
    return float(max(abs(p - q) for p, q in zip(x, truth, strict=True)) / max(abs(q) for q in truth))


def measure(n: int) -> dict[str, tuple[float, float]]:
    """Solver error and data error of each format."""
    h = hilbert(n)
    truth = exact_solution(h)
    results = {}
    for name in FORMATS:
        run: Callable[[Matrix, str], tuple[Matrix, Vector]] = in_posits if "posit" in name else in_floats
        a, x = run(h, name)
        own = exact_solution(a)
        results[name] = error(x, own), error(own, truth)
    return results


def draw(sizes: Sequence[int], results: list[dict[str, tuple[float, float]]], path: Path) -> None:
    """The figure: solver error (left) and data error (right) against the size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    styles = dict(zip(FORMATS, ("C0s-", "C1o-", "C3v--", "C4^--"), strict=True))
    for which, (axis, title) in enumerate(
        zip(
            axes,
            ("Error of the solver, on its own rounded matrix", "Error of rounding the matrix"),
            strict=True,
        )
    ):
        for name in FORMATS:
            axis.semilogy(
                sizes, [max(r[name][which], 1e-18) for r in results], styles[name], label=name, ms=4
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("size of the Hilbert matrix")
        axis.axhline(1, color="0.7", lw=0.8, zorder=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("largest error / largest element")
    axes[0].legend(loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table, and save the figure where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=12, help="largest size (default 12)")
    parser.add_argument("--figure", type=Path, help="where to save the figure (PNG)")
    options = parser.parse_args()
    sizes = range(2, options.sizes + 1)
    heads = ["n", "condition", *FORMATS, *(f"{name} data" for name in FORMATS)]
    show(heads)
    show(["---"] * len(heads))
    results = []
    for n in sizes:
        results.append(measure(n))
        errors = [results[-1][name][which] for which in (0, 1) for name in FORMATS]
        show([str(n), f"{condition(n):.0e}", *(f"{e:.0e}" for e in errors)])
    if options.figure:
        draw(sizes, results, options.figure)


def show(cells: list[str]) -> None:
    """One row of a Markdown table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
