"""The quadratic forms that a metric gives each grade: what activations, norms and attention are made of.

Number formats that sum exactly may form each function here with one rounding (:mod:`ga._overridable`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ga._derived import constant
from ga._overridable import overridable
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


@overridable
def grade_forms(planes: Tensor, layout: Layout, squares: Tensor) -> Tensor:
    """The scalar part of ~x x of each grade of x, shape ``(grades, *batch)``."""
    each = planes.square() * squares.to(planes.dtype).reshape(-1, *(1,) * (planes.dim() - 1))
    return torch.stack([each[where].sum(0) for where in layout.slices.values()])


@constant
def blade_counts(layout: Layout) -> tuple[int, ...]:
    """Number of stored blades of each grade.

    >>> from ga import PGA2
    >>> blade_counts(Layout.full(PGA2))
    (1, 3, 3, 1)
    """
    return tuple(where.stop - where.start for where in layout.slices.values())


def by_blade(values: Tensor, layout: Layout) -> Tensor:
    """Values by grade, shape ``(grades, *batch)``, repeated for every blade of the grade."""
    return _repeated(values, blade_counts(layout))


def _repeated(values: Tensor, counts: tuple[int, ...]) -> Tensor:
    parts = [v.expand(n, *v.shape) for v, n in zip(values.unbind(0), counts, strict=True)]
    return torch.cat(parts)


@overridable
def scaled_planes(planes: Tensor, values: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Planes times values, the first ``counts[0]`` planes times ``values[0]``, and so on.

    Args:
        planes: Shape ``(blades, *batch)``.
        values: Shape ``(len(counts), *S)``, S broadcasting to the batch.
        counts: How many planes each value multiplies; in all as many as there are.

    >>> scaled_planes(torch.ones(3), torch.tensor([2.0, 5.0]), (1, 2))
    tensor([2., 5., 5.])
    """
    return planes * (values if len(counts) == 1 else _repeated(values, counts))


@overridable
def per_channel(parameter: Tensor, like: Tensor) -> Tensor:
    """A parameter of grades and channels as a factor of values ``(grades, *batch, channels)``, which it broadcasts to.

    >>> per_channel(torch.ones(2, 3), torch.ones(2, 5, 5, 3)).shape
    torch.Size([2, 1, 1, 3])
    """
    return parameter.reshape(parameter.shape[0], *(1,) * (like.dim() - 2), parameter.shape[1])


@overridable
def smooth_root(forms: Tensor, eps: float) -> Tensor:
    r"""The root of the size of quadratic forms, :math:`(q^2 + \epsilon)^{1/4}`, smooth at 0.

    >>> smooth_root(torch.tensor([9.0, -9.0]), 0.0)
    tensor([3., 3.])
    """
    roots: Tensor = (forms.square() + eps) ** 0.25
    return roots
