"""Exponential and logarithm through the matrices of left multiplication, for six generators and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ga._derived import of_grades
from ga._planes import holds
from ga.errors import ConstraintError
from ga.inverse import left_matrix
from ga.layout import Layout

if TYPE_CHECKING:
    from ga.multivector import Multivector

_ROOTS = 6
_NEWTON = 12
_TERMS = 10


def exp_by_matrix(b: Multivector) -> tuple[Tensor, Layout]:
    """Planes and layout of exp(b): the first column of the exponential of its matrix."""
    even = _even(b)
    matrix = torch.linalg.matrix_exp(left_matrix(b, even))
    return matrix[..., 0].movedim(-1, 0), even


def log_by_matrix(r: Multivector) -> tuple[Tensor, Layout]:
    """Planes and layout of log(r): repeated square roots, then log = 2 artanh((m - 1) / (m + 1)).

    Source:
        Higham, "Functions of Matrices" (2008), chapters 6 (product form of the Denman-Beavers iteration) and
        11 (inverse scaling and squaring).
    """
    even = _even(r)
    matrix = left_matrix(r, even)
    unit = torch.eye(len(even), dtype=r.dtype, device=matrix.device)
    for _ in range(_ROOTS):
        matrix = _root(matrix, unit)
    step = torch.linalg.solve(matrix + unit, matrix - unit)
    square = step @ step
    total = unit / (2 * _TERMS - 1)
    for k in reversed(range(_TERMS - 1)):
        total = square @ total + unit / (2 * k + 1)
    column = (step @ total)[..., 0].movedim(-1, 0) * 2.0 ** (_ROOTS + 1)
    if not holds(lambda: column.isfinite()):
        raise ConstraintError(f"log of a rotor of {r.layout}: an element has no logarithm; -r may have one")
    return column[even.slices[2]], of_grades(r.layout, (2,))


def _root(matrix: Tensor, unit: Tensor) -> Tensor:
    x, m = matrix, matrix
    for _ in range(_NEWTON):
        inverse = torch.linalg.inv_ex(m).inverse
        x = x @ (unit + inverse) / 2
        m = (unit + (m + inverse) / 2) / 2
    return x


def _even(mv: Multivector) -> Layout:
    return of_grades(mv.layout, tuple(range(0, mv.algebra.n + 1, 2)))
