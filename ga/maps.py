"""Maps of one multivector to another: signs by grade, duals, norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ga import _derived
from ga._derived import of_grades, sign_changes
from ga._planes import holds, signed
from ga.constraint import Constraint
from ga.errors import NotInvertibleError
from ga.plan import plan_for
from ga.product import product

if TYPE_CHECKING:
    from ga.multivector import Multivector


REVERSED = (2, 3, 6, 7)
"""Grades whose sign reversion changes: (-1)^(k(k-1)/2)."""
CONJUGATED = (1, 2, 5, 6)
"""Grades whose sign Clifford conjugation changes: (-1)^(k(k+1)/2)."""
ODD = (1, 3, 5, 7)
"""Grades whose sign the grade involution changes."""


def with_signs(mv: Multivector, grades: tuple[int, ...]) -> Multivector:
    """Change the sign of the given grades; constraints are kept."""
    return type(mv)(signed(mv.planes, sign_changes(mv.layout, grades)), mv.layout, mv.constraint)


def complement(mv: Multivector, left: bool) -> Multivector:
    """Right complement, a ∧ c(a) = I for a basis blade a, or left complement, c(a) ∧ a = I."""
    layout, places, signs = _derived.complement(mv.layout, left)
    planes = mv.planes[list(places)] if places else mv.planes
    kept = mv.constraint if mv.constraint is Constraint.SIMPLE else None
    return type(mv)(signed(planes, signs), layout, kept)


def polarity(mv: Multivector, undo: bool) -> Multivector:
    """Multiply by the inverse of the pseudoscalar from the right, or by the pseudoscalar."""
    algebra = mv.algebra
    _, square = algebra.product(algebra.pseudoscalar, algebra.pseudoscalar)
    if square == 0:
        raise NotInvertibleError(
            f"the pseudoscalar of {algebra} squares to 0, so polarity of {mv.layout} has no inverse; "
            "dual() and undual() need no metric"
        )
    whole = type(mv)(mv.planes.new_full((1,), 1.0 if undo else square), of_grades(mv.layout, (algebra.n,)))
    turned = mv * whole
    return type(mv)(
        turned.planes, turned.layout, mv.constraint if mv.constraint is Constraint.SIMPLE else None
    )


def norm_squared(mv: Multivector) -> Tensor:
    """The scalar part of x ~x, shape ``(*batch)``."""
    plan = plan_for("scalar", mv.layout, mv.layout)
    if not plan.out.blades:
        return mv.planes.new_zeros(mv.shape)
    squared = product(mv.planes, signed(mv.planes, sign_changes(mv.layout, REVERSED)), plan)
    return squared[0]


def norm(mv: Multivector) -> Tensor:
    """√|⟨x ~x⟩|, with derivative 0 where it is 0."""
    squared = norm_squared(mv).abs()
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def normalize(mv: Multivector) -> Multivector:
    """Divide by the norm."""
    size = norm(mv)
    if not holds(lambda: size > 0):
        raise NotInvertibleError(
            f"normalize of {mv.layout}: an element has norm 0 (it is zero or null) and cannot have norm 1"
        )
    kept = mv.constraint if mv.constraint is Constraint.SIMPLE else None
    return type(mv)(mv.planes / size, mv.layout, kept)
