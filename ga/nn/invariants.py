"""The quadratic forms that a metric gives each grade: what activations, norms and attention are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from ga._derived import constant
from ga.algebra import grade
from ga.layout import Layout
from ga.plan import reverses


@constant
def blade_squares(layout: Layout) -> tuple[int, ...]:
    """The scalar ~b b of each blade: 1, -1, or 0 with a null factor.

    >>> from ga import PGA2
    >>> blade_squares(Layout.full(PGA2))
    (1, 0, 1, 1, 0, 0, 1, 0)
    """
    squares = (layout.algebra.product(b, b)[1] * (-1 if reverses(grade(b)) else 1) for b in layout.blades)
    return tuple(squares)


def squares_of(layout: Layout) -> Tensor:
    """:func:`blade_squares` as a float tensor: a buffer of layers."""
    return torch.tensor(blade_squares(layout), dtype=torch.get_default_dtype())


def grade_forms(planes: Tensor, layout: Layout, squares: Tensor) -> Tensor:
    """The scalar part of ~x x of each grade of x, shape ``(grades, *batch)``."""
    each = planes.square() * squares.to(planes.dtype).reshape(-1, *(1,) * (planes.dim() - 1))
    return torch.stack([each[where].sum(0) for where in layout.slices.values()])


def by_blade(values: Tensor, layout: Layout) -> Tensor:
    """Values by grade, shape ``(grades, *batch)``, repeated for every blade of the grade."""
    counts = [where.stop - where.start for where in layout.slices.values()]
    parts = [v.expand(n, *v.shape) for v, n in zip(values.unbind(0), counts, strict=True)]
    return torch.cat(parts)
