"""Exact linear algebra on posit arrays: every element formed exactly and rounded once.

How, and what it costs: `posit._matmul`, docs/exact-products.md and docs/linear-algebra.md.
"""

from posit._conv import conv2d
from posit._einsum import einsum
from posit._explain import Explanation, explain
from posit._products import dot, matmul, tensordot
from posit._reductions import mean, sum  # noqa: A004 - NumPy's name
from posit._solve import Solution, lstsq, solve
from posit._vectors import axpy, norm2

__all__ = [
    "Explanation",
    "Solution",
    "axpy",
    "conv2d",
    "dot",
    "einsum",
    "explain",
    "lstsq",
    "matmul",
    "mean",
    "norm2",
    "solve",
    "sum",
    "tensordot",
]
