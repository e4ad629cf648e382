"""Inverses: closed forms up to five generators, a linear solve above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ga._derived import of_grades
from ga._planes import holds, pick
from ga.constraint import is_rotor
from ga.errors import NotInvertibleError
from ga.layout import Layout
from ga.maps import CONJUGATED, REVERSED, with_signs
from ga.plan import plan_for, symmetric_plan
from ga.product import product

if TYPE_CHECKING:
    from ga.multivector import Multivector


def inverse(x: Multivector) -> Multivector:
    r"""The multivector with x x⁻¹ = 1.

    In every closed form the denominator is a scalar for any x, by an identity that holds in every signature:

    * any n, if x ~x is a scalar by its layout (vectors, say): ~x / (x ~x);
    * n ≤ 2: x̄ / (x x̄), with the Clifford conjugate x̄;
    * n = 3: x̄ N̂ / (N N̂) with N = x x̄, and the grade involution N̂;
    * n = 4: x̄ m(N) / (N m(N)), where m changes the sign of grades 3 and 4;
    * n = 5: x̄ N̂ m(P) / (P m(P)) with P = N N̂, where m changes the sign of grades 1 and 4;
    * n ≥ 6: the solution of the linear system x y = 1.

    Source:
        Hitzer, Sangwine, "Multivector and multivector matrix inverses in real Clifford algebras", Applied
        Mathematics and Computation 311 (2017).
    """
    if is_rotor(x.constraint):
        return x.reverse()
    if x.algebra.n > 5 and not _is_scalar(symmetric_plan(x.layout, x.layout, REVERSED).out):
        return _solved(x)
    adjugate, determinant = _adjugate(x)
    if not holds(lambda: (determinant != 0) & determinant.isfinite()):
        raise NotInvertibleError(
            f"inverse of {x.layout}: an element has determinant 0 and no inverse"
            " (a null vector, a divisor of zero, or zero itself)"
        )
    result = type(x)(adjugate.planes / determinant, adjugate.layout)
    return type(x)(result.planes, result.layout, x.constraint)


def _adjugate(x: Multivector) -> tuple[Multivector, Tensor]:
    """A multivector a and a scalar d, shape ``(*batch)``, with x a = d."""
    n = x.algebra.n
    if _is_scalar(symmetric_plan(x.layout, x.layout, REVERSED).out):
        back = x.reverse()
        return back, _scalar(_symmetric(x, back, REVERSED))
    bar = x.conjugate()
    norm = _symmetric(x, bar, CONJUGATED)
    if n <= 2:
        return bar, _scalar(norm)
    if n == 3:
        hat = norm.involute()
        return bar * hat, _scalar(norm.scalar_product(hat))
    if n == 4:
        turned = with_signs(norm, (3, 4))
        return bar * turned, _scalar(norm.scalar_product(turned))
    hat = norm.involute()
    double = _symmetric(norm, hat, (2, 3, 5))
    turned = with_signs(double, (1, 4))
    return bar * hat * turned, _scalar(double.scalar_product(turned))


def _symmetric(x: Multivector, y: Multivector, odd: tuple[int, ...]) -> Multivector:
    """The product x y without the grades that are known to vanish."""
    plan = symmetric_plan(x.layout, y.layout, odd)
    return type(x)(product(x.planes, y.planes, plan), plan.out)


def _is_scalar(layout: Layout) -> bool:
    return layout.grades in ((), (0,))


def _scalar(mv: Multivector) -> Tensor:
    """The scalar plane; zero if there is none."""
    return mv.planes[0] if mv.layout.blades else mv.planes.new_zeros(mv.shape)


def left_matrix(x: Multivector, space: Layout) -> Tensor:
    """Matrix of y ↦ x y on the blades of ``space``, shape ``(*batch, blades, blades)``; column j is x e_j."""
    size = len(space)
    units = torch.eye(size, dtype=x.dtype, device=x.planes.device).reshape(size, size, *(1,) * len(x.shape))
    plan = plan_for("geometric", x.layout, space)
    columns = pick(product(x.planes[:, None], units, plan), plan.out, space)
    return columns.movedim((0, 1), (-2, -1))


def _solved(x: Multivector) -> Multivector:
    even = x.layout.parity == 0
    space = of_grades(x.layout, tuple(range(0, x.algebra.n + 1, 2 if even else 1)))
    matrix = left_matrix(x, space)
    unit = torch.zeros(len(space), 1, dtype=x.dtype, device=x.planes.device)
    unit[0] = 1
    solution, info = torch.linalg.solve_ex(matrix, unit.expand(*x.shape, len(space), 1))
    if not holds(lambda: info == 0):
        raise NotInvertibleError(f"inverse of {x.layout}: an element has determinant 0 and no inverse")
    return type(x)(solution.squeeze(-1).movedim(-1, 0), space, x.constraint)
