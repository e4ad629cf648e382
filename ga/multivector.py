"""Multivector: a tensor of planes and the layout that says which blade each plane is."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ga import constraint as constraints
from ga._derived import of_grades, sources, union
from ga._methods import Methods
from ga._shapes import broadcast
from ga.constraint import Constraint
from ga.errors import LayoutError
from ga.layout import Layout, check_same_algebra
from ga.plan import plan_for, sandwich_layout
from ga.product import product, sandwich

Scalar = int | float | Tensor | np.ndarray | np.generic
"""A number, or a tensor or array of numbers whose shape broadcasts against the batch shape."""


class Multivector(Methods):
    """A batch of multivectors: planes, blade first, and their layout.

    Operators: ``*`` geometric, ``^`` outer, ``|`` inner (|r - s|, scalars included), ``&`` regressive
    products, ``~`` reverse, ``x >> y`` sandwich x y ~x, ``/`` product with the inverse, ``**`` integer powers,
    ``+`` and ``-`` with the union of the layouts.  Numbers, tensors and arrays are scalars: ``mv * t``
    multiplies each element of the batch.  Batch shapes broadcast as in torch.

    A multivector is not a tensor, but a node of torch's pytrees with its coefficients (blades last) as leaf:
    functions under ``torch.func`` (vmap, grad, jvp, vjp) and ``torch.compile`` take and return multivectors.
    A weight of a module is a :class:`ga.MultivectorParameter`.

    Args:
        planes: Shape ``(len(layout), *batch)``.
        layout: The blades, in order.
        constraint: What the coefficients are known to obey; not checked here, see :meth:`as_rotor` and the
            like.

    Raises:
        LayoutError: the number of planes is not that of the layout.

    >>> from ga import VGA3
    >>> a, b = (VGA3.multivector(c, grades=1) for c in ([1.0, 2.0, 0.0], [0.0, 1.0, 1.0]))
    >>> a * b
    Multivector(2.0 e + 1.0 e12 + 1.0 e13 + 2.0 e23, Cl(3,0,0)[0,2])
    >>> (a ^ b).grades, (a | b).coefficients
    ((2,), tensor([2.]))
    """

    __slots__ = ("_leaf", "_planes", "constraint", "layout")
    __array_ufunc__ = None  # NumPy leaves array * multivector to the multivector

    def __init__(self, planes: Tensor, layout: Layout, constraint: Constraint | None = None) -> None:
        if planes.dim() == 0 or planes.shape[0] != len(layout):
            raise LayoutError(
                f"{layout} has {len(layout)} blades, got planes of shape {tuple(planes.shape)}; "
                "the blade is the first dimension of planes (from_coefficients takes it last)"
            )
        self._planes = planes
        self._leaf = None
        self.layout = layout
        self.constraint = constraint

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
    def shape(self) -> torch.Size:
        """Batch shape, without the blades."""
        return self.planes.shape[1:]

    def sandwich(self, other: Multivector) -> Multivector:
        """The sandwich x y ~x, two products; the layout is :func:`ga.plan.sandwich_layout`.

        If x is a versor by type, or a vector, each grade of y is kept and no other is computed; what y obeys
        (a rotor, a blade) the result obeys.

        >>> from ga import VGA3
        >>> half = 0.5**0.5
        >>> quarter_turn = VGA3.multivector([half, -half, 0.0, 0.0], grades=(0, 2))  # in the plane e12
        >>> turned = quarter_turn >> VGA3.multivector([1.0, 0.0, 0.0], grades=1)
        >>> turned.coefficients.round(decimals=6)
        tensor([-0., 1., 0.])
        """
        check_same_algebra("sandwich", self.layout, other.layout)
        unit = constraints.is_versor(self.constraint)
        inner = plan_for("geometric", self.layout, other.layout)
        out = sandwich_layout(self.layout, other.layout, unit or self.layout.grades == (1,))
        outer = plan_for("geometric", inner.out, self.layout, out)
        kept = other.constraint if unit else None
        return Multivector(sandwich(self.planes, other.planes, inner, outer), out, kept)

    def __mul__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._product("geometric", other)
        return self._scaled(other) if _is_scalar(other) else NotImplemented

    def __rmul__(self, other: Scalar) -> Multivector:
        return self._scaled(other) if _is_scalar(other) else NotImplemented

    def __truediv__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self * other.inverse()
        if not _is_scalar(other):
            return NotImplemented
        return Multivector(
            self.planes / self._factor(other), self.layout, constraints.of_multiple(self.constraint)
        )

    def __rtruediv__(self, other: Scalar) -> Multivector:
        return self.inverse() * other if _is_scalar(other) else NotImplemented

    def __pow__(self, exponent: int) -> Multivector:
        if type(exponent) is not int:
            return NotImplemented
        base = self.inverse() if exponent < 0 else self
        power = self._scalar(1.0)
        for t in range(abs(exponent)):
            power = power * base if t else base
        return power

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
        return Multivector(-self.planes, self.layout, self.constraint)

    def __add__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._sum("addition", other)
        return self._sum("addition", self._scalar(other)) if _is_scalar(other) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Multivector | Scalar) -> Multivector:
        if _is_multivector(other):
            return self._sum("subtraction", -other)
        return self._sum("subtraction", -self._scalar(other)) if _is_scalar(other) else NotImplemented

    def __rsub__(self, other: Scalar) -> Multivector:
        return -self + other

    def __getitem__(self, index: Any) -> Multivector:
        """Index the batch; the blades are kept.

        >>> from ga import VGA2
        >>> VGA2.multivector([[1.0, 2.0], [3.0, 4.0]], grades=1)[1]
        Multivector(3.0 e1 + 4.0 e2, Cl(2,0,0)[1])
        """
        index = index if isinstance(index, tuple) else (index,)
        return Multivector(self.planes[(slice(None), *index)], self.layout, self.constraint)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"len() of one multivector of {self.layout}; it has no batch dimension")
        return int(self.shape[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> Multivector:
        return Multivector(deepcopy(self.planes, memo), self.layout, self.constraint)

    def __repr__(self) -> str:
        kind = f", {self.constraint.value}" if self.constraint else ""
        if self.shape:
            return f"Multivector({self.layout}{kind}, batch {tuple(self.shape)}, {self.dtype})"
        if not isinstance(self.planes, Tensor) or torch._C._functorch.is_functorch_wrapped_tensor(
            self.planes
        ):
            return f"Multivector({self.layout}{kind}, inside torch.func)"
        values = (float(f"{value:.6g}") for value in self.planes.detach().tolist())
        text = " + ".join(f"{value} {name}" for value, name in zip(values, self.layout.names, strict=True))
        return f"Multivector({text.replace('+ -', '- ') or '0'}, {self.layout}{kind})"

    def _product(self, kind: str, other: Multivector) -> Multivector:
        plan = plan_for(kind, self.layout, other.layout)
        kept = constraints.of_product(kind, self.constraint, other.constraint)
        return Multivector(product(self.planes, other.planes, plan), plan.out, kept)

    def _scaled(self, factor: Scalar) -> Multivector:
        factor = self._factor(factor)
        return Multivector(self.planes * factor, self.layout, constraints.of_multiple(self.constraint))

    def _factor(self, value: Scalar) -> int | float | Tensor:
        """A number or tensor; arrays become tensors on the device of the planes."""
        if isinstance(value, (np.ndarray, np.generic)):
            return torch.as_tensor(value, device=self.planes.device)
        return value

    def _scalar(self, value: Scalar) -> Multivector:
        """A number as a multivector of grade 0 that broadcasts against this one."""
        layout = of_grades(self.layout, (0,))
        value = self._factor(value)
        if isinstance(value, Tensor):
            return Multivector(value.unsqueeze(0), layout)
        return Multivector(self.planes.new_full((1, *self.shape), value), layout)

    def _sum(self, operation: str, other: Multivector) -> Multivector:
        layout = union(operation, self.layout, other.layout)
        try:
            batch = broadcast(self.shape, other.shape)
        except ValueError as error:
            raise LayoutError(
                f"batch shapes {tuple(self.shape)}, {tuple(other.shape)} in the {operation} of {self.layout} "
                f"and {other.layout} do not broadcast; blades are no part of them"
            ) from error
        if self.layout == other.layout:
            return Multivector(_padded(self.planes, batch) + _padded(other.planes, batch), self.layout)
        ours, theirs = sources(self.layout, layout), sources(other.layout, layout)
        pairs = [(_plane(self, a, batch), _plane(other, b, batch)) for a, b in zip(ours, theirs, strict=True)]
        return Multivector(torch.cat([_add(pair) for pair in pairs]), layout)


def _is_multivector(value: object) -> TypeGuard[Multivector]:
    return isinstance(value, Multivector)


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, (int, float, Tensor, np.ndarray, np.generic))


def _plane(mv: Multivector, place: int | None, batch: Sequence[int]) -> Tensor | None:
    """One plane, shape ``(1, *batch)``, or None if there is no place."""
    if place is None:
        return None
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


def _flatten(mv: Multivector) -> tuple[list[Any], tuple[Layout, Constraint | None]]:
    """The coefficients, blades last: the very tensor that a transform has put in, if it has.

    Transforms flatten their arguments when their level is already entered, where every operation on a tensor
    from outside returns a tensor of that level; here it has to stay outside.
    """
    if mv._leaf is not None:
        return [mv._leaf], (mv.layout, mv.constraint)
    leaf = mv.planes.movedim(0, -1)
    functorch = torch._C._functorch
    if not torch.compiler.is_compiling() and functorch.maybe_get_level(leaf) > functorch.maybe_get_level(
        mv.planes
    ):
        leaf = functorch.get_unwrapped(leaf)
    return [leaf], (mv.layout, mv.constraint)


def _unflatten(leaves: Any, context: tuple[Layout, Constraint | None]) -> Multivector:
    """A multivector around any leaf: pytrees also hold dimensions, None and other marks in place of data."""
    (leaf,) = leaves
    mv = Multivector.__new__(Multivector)
    mv.layout, mv.constraint = context
    if isinstance(leaf, Tensor) and (leaf.dim() == 0 or leaf.shape[-1] != len(mv.layout)):
        raise LayoutError(
            f"{mv.layout} got a leaf of shape {tuple(leaf.shape)} from a torch transform; "
            "the blades are its last dimension and cannot be mapped over"
        )
    mv._leaf, mv._planes = leaf, None
    return mv


pytree.register_pytree_node(Multivector, _flatten, _unflatten, serialized_type_name="ga.Multivector")
