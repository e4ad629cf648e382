"""Multivector: a tensor of planes and the layout that says which blade each plane is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ga._shapes import broadcast
from ga.algebra import Algebra, grade
from ga.errors import LayoutError
from ga.layout import Layout, check_same_algebra
from ga.plan import plan_for, reverses, sandwich_layout
from ga.product import product

Scalar = int | float | Tensor
"""A number, or a tensor of numbers whose shape broadcasts against the batch shape."""


class Multivector:
    """A batch of multivectors: planes, blade first, and their layout.

    Operators: ``*`` geometric, ``^`` outer, ``|`` inner (|r - s|, scalars included), ``&`` regressive
        products,
    ``~`` reverse, ``x >> y`` sandwich x y ~x, ``+`` and ``-`` with the union of the layouts.  Numbers and
    tensors are scalars: ``mv * t`` multiplies each element of the batch.  Batch shapes broadcast as in torch.

    Args:
        planes: Shape ``(len(layout), *batch)``.
        layout: The blades, in order.

    Raises:
        LayoutError: the number of planes is not that of the layout.

    >>> from ga import VGA3
    >>> a, b = (VGA3.multivector(c, grades=1) for c in ([1.0, 2.0, 0.0], [0.0, 1.0, 1.0]))
    >>> a * b
    Multivector(2.0 e + 1.0 e12 + 1.0 e13 + 2.0 e23, Cl(3,0,0)[0,2])
    >>> (a ^ b).grades, (a | b).coefficients
    ((2,), tensor([2.]))
    """

    __slots__ = ("layout", "planes")

    def __init__(self, planes: Tensor, layout: Layout) -> None:
        if planes.dim() == 0 or planes.shape[0] != len(layout):
            raise LayoutError(
                f"{layout} has {len(layout)} blades, got planes of shape {tuple(planes.shape)}; "
                "the blade is the first dimension of planes (from_coefficients takes it last)"
            )
        self.planes = planes
        self.layout = layout

    @classmethod
    def from_coefficients(cls, coefficients: Any, layout: Layout) -> Multivector:
        """Multivector from coefficients with the blades last; see :meth:`ga.Algebra.multivector`.

        Tensors keep their dtype; Python and NumPy integers become torch's default dtype.
        """
        if not isinstance(coefficients, Tensor):
            coefficients = torch.as_tensor(coefficients)
            if not coefficients.is_floating_point():
                coefficients = coefficients.to(torch.get_default_dtype())
        if coefficients.dim() == 0 or coefficients.shape[-1] != len(layout):
            raise LayoutError(
                f"{layout} wants {len(layout)} coefficients in the last dimension, "
                f"for {', '.join(layout.names)}; got shape {tuple(coefficients.shape)}; "
                "name the stored grades with grades=..."
            )
        return cls(coefficients.movedim(-1, 0).contiguous(), layout)

    @property
    def coefficients(self) -> Tensor:
        """The coefficients with the blades last, shape ``(*batch, blades)``: a view of the planes."""
        return self.planes.movedim(0, -1)

    @property
    def algebra(self) -> Algebra:
        """The algebra."""
        return self.layout.algebra

    @property
    def grades(self) -> tuple[int, ...]:
        """Grades that are stored."""
        return self.layout.grades

    @property
    def shape(self) -> torch.Size:
        """Batch shape, without the blades."""
        return self.planes.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the coefficients."""
        return self.planes.dtype

    def grade(self, *grades: int) -> Multivector:
        """Projection onto the given grades.

        Raises:
            LayoutError: a grade is out of range or not stored.

        >>> from ga import VGA2
        >>> VGA2.multivector([1.0, 2.0, 3.0, 4.0]).grade(1)
        Multivector(2.0 e1 + 3.0 e2, Cl(2,0,0)[1])
        """
        wanted = self.layout.restrict(grades)
        slices = self.layout.slices
        parts = [self.planes[slices[k]] for k in wanted.grades]
        return Multivector(parts[0] if len(parts) == 1 else torch.cat(parts), wanted)

    def reverse(self) -> Multivector:
        """The reverse: the factors of every blade in opposite order, (-1)^(k(k-1)/2) on grade k.

        >>> from ga import VGA2
        >>> ~VGA2.multivector([1.0, 2.0], grades=(0, 2))
        Multivector(1.0 e - 2.0 e12, Cl(2,0,0)[0,2])
        """
        return self._with_signs(reverses)

    def involute(self) -> Multivector:
        """The grade involution: odd grades change sign."""
        return self._with_signs(lambda k: k % 2 == 1)

    def left_contraction(self, other: Multivector) -> Multivector:
        """Left contraction, the part of grade s - r of (grade r) times (grade s)."""
        return self._product("left", other)

    def right_contraction(self, other: Multivector) -> Multivector:
        """Right contraction, the part of grade r - s of (grade r) times (grade s)."""
        return self._product("right", other)

    def scalar_product(self, other: Multivector) -> Multivector:
        """The scalar part of the geometric product; without blades if no pair of grades can give a scalar."""
        return self._product("scalar", other)

    def sandwich(self, other: Multivector) -> Multivector:
        """The sandwich x y ~x, two products; the layout is :func:`ga.plan.sandwich_layout`.

        >>> from ga import VGA3
        >>> half = 0.5**0.5
        >>> quarter_turn = VGA3.multivector([half, -half, 0.0, 0.0], grades=(0, 2))  # in the plane e12
        >>> turned = quarter_turn >> VGA3.multivector([1.0, 0.0, 0.0], grades=1)
        >>> turned.coefficients.round(decimals=6)
        tensor([-0., 1., 0.])
        """
        check_same_algebra("sandwich", self.layout, other.layout)
        inner = self._product("geometric", other)
        out = sandwich_layout(self.layout, other.layout)
        return Multivector(
            product(inner.planes, (~self).planes, plan_for("geometric", inner.layout, self.layout, out)), out
        )

    def __mul__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._product("geometric", other)
        return self._scaled(other) if _is_scalar(other) else NotImplemented

    def __rmul__(self, other: Scalar) -> Multivector:
        return self._scaled(other) if _is_scalar(other) else NotImplemented

    def __truediv__(self, other: Scalar) -> Multivector:
        return Multivector(self.planes / other, self.layout) if _is_scalar(other) else NotImplemented

    def __xor__(self, other: Multivector) -> Multivector:
        return self._product("outer", other) if _is_multivector(other) else NotImplemented

    def __or__(self, other: Multivector) -> Multivector:
        return self._product("inner", other) if _is_multivector(other) else NotImplemented

    def __and__(self, other: Multivector) -> Multivector:
        return self._product("regressive", other) if _is_multivector(other) else NotImplemented

    def __rshift__(self, other: Multivector) -> Multivector:
        return self.sandwich(other) if _is_multivector(other) else NotImplemented

    def __invert__(self) -> Multivector:
        return self.reverse()

    def __neg__(self) -> Multivector:
        return Multivector(-self.planes, self.layout)

    def __add__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._sum("addition", other)
        return self._sum("addition", self._scalar(other)) if _is_scalar(other) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._sum("subtraction", -other)
        return self._sum("subtraction", self._scalar(-other)) if _is_scalar(other) else NotImplemented

    def __rsub__(self, other: Scalar) -> Multivector:
        return -self + other

    def __getitem__(self, index: Any) -> Multivector:
        """Index the batch; the blades are kept.

        >>> from ga import VGA2
        >>> VGA2.multivector([[1.0, 2.0], [3.0, 4.0]], grades=1)[1]
        Multivector(3.0 e1 + 4.0 e2, Cl(2,0,0)[1])
        """
        index = index if isinstance(index, tuple) else (index,)
        return Multivector(self.planes[(slice(None), *index)], self.layout)

    def __repr__(self) -> str:
        if self.shape:
            return f"Multivector({self.layout}, batch {tuple(self.shape)}, {self.dtype})"
        values: list[float] = self.planes.detach().tolist()
        text = " + ".join(f"{value} {name}" for value, name in zip(values, self.layout.names, strict=True))
        return f"Multivector({text.replace('+ -', '- ') or '0'}, {self.layout})"

    def _product(self, kind: str, other: Multivector) -> Multivector:
        plan = plan_for(kind, self.layout, other.layout)
        return Multivector(product(self.planes, other.planes, plan), plan.out)

    def _with_signs(self, negative: Callable[[int], bool]) -> Multivector:
        """Change the sign of the grades for which ``negative`` holds, one run of planes at a time."""
        runs = [
            (flip, len(list(run))) for flip, run in groupby(self.layout.blades, lambda b: negative(grade(b)))
        ]
        parts = torch.split(self.planes, [count for _, count in runs]) if runs else ()
        signed = [-part if flip else part for (flip, _), part in zip(runs, parts, strict=True)]
        return Multivector(
            torch.cat(signed) if len(signed) > 1 else (signed or [self.planes])[0], self.layout
        )

    def _scaled(self, factor: Scalar) -> Multivector:
        return Multivector(self.planes * factor, self.layout)

    def _scalar(self, value: Scalar) -> Multivector:
        """A number as a multivector of grade 0 that broadcasts against this one."""
        layout = Layout.of_grades(self.algebra, 0)
        if isinstance(value, Tensor):
            return Multivector(value.unsqueeze(0), layout)
        return Multivector(self.planes.new_full((1, *self.shape), value), layout)

    def _sum(self, operation: str, other: Multivector) -> Multivector:
        check_same_algebra(operation, self.layout, other.layout)
        try:
            batch = broadcast(self.shape, other.shape)
        except ValueError as error:
            raise LayoutError(
                f"batch shapes {tuple(self.shape)}, {tuple(other.shape)} in the {operation} of {self.layout} "
                f"and {other.layout} do not broadcast; blades are no part of them"
            ) from error
        if self.layout == other.layout:
            return Multivector(_padded(self.planes, batch) + _padded(other.planes, batch), self.layout)
        union = self.layout.union(other.layout)
        pairs = [(_plane(self, blade, batch), _plane(other, blade, batch)) for blade in union.blades]
        return Multivector(torch.cat([_add(pair) for pair in pairs]), union)


def _is_multivector(value: object) -> TypeGuard[Multivector]:
    return isinstance(value, Multivector)


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, Scalar)


def _plane(mv: Multivector, blade: int, batch: Sequence[int]) -> Tensor | None:
    """The plane of one blade, shape ``(1, *batch)``, or None if it is not stored."""
    if blade not in mv.layout.blades:
        return None
    place = mv.layout.blades.index(blade)
    plane = mv.planes[place : place + 1]
    return _padded(plane, batch).expand(1, *batch)


def _padded(planes: Tensor, batch: Sequence[int]) -> Tensor:
    """Planes with ones put behind the blade, so that they broadcast to ``(blades, *batch)``."""
    missing = len(batch) + 1 - planes.dim()
    return planes.reshape(len(planes), *(1,) * missing, *planes.shape[1:]) if missing else planes


def _add(pair: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Sum of the planes of a pair that exist."""
    a, b = pair
    if a is None or b is None:
        only = b if a is None else a
        assert only is not None  # a blade of the union is stored by one of the two
        return only
    return a + b
