"""Versors: exponential and logarithm, square root, interpolation, and the checked way to a constraint type.

A rotor is even with R ~R = 1 and moves x to R x ~R; exp(-θ/2 e12) turns e1 towards e2 by θ.

Up to five generators the square of a bivector is s + q, with a number s and a q of grade 4 that commutes with
the bivector and squares to a number.  So exp(B) = cosh √(B²) + B sinh √(B²) / √(B²) and its inverse are
functions of such numbers (:mod:`ga._study`), in every signature, whether B is simple or not: this is the
invariant decomposition without the division by the difference of its roots.  Above five generators a matrix
exponential and logarithm on the even subalgebra do the same.

Source:
    Roelfs, De Keninck, "Graded symmetry groups: plane and simple", Advances in Applied Clifford Algebras 33
    (2023), arXiv 2107.03771.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ga import _study
from ga._derived import of_grades, part
from ga._matrix import exp_by_matrix, log_by_matrix
from ga._planes import epsilon, holds, pick
from ga._study import Study
from ga.algebra import Algebra, grade
from ga.constraint import Constraint, is_rotor
from ga.errors import ConstraintError, LayoutError, NotInvertibleError
from ga.layout import Layout, check_same_algebra
from ga.maps import REVERSED
from ga.plan import plan_for, symmetric_plan
from ga.product import product

if TYPE_CHECKING:
    from ga.multivector import Multivector

_CLOSED = 5  # largest number of generators with a closed form


def rotor_constraint(mv: Multivector) -> Constraint:
    """A rotor is called a motor where the algebra has null generators."""
    return Constraint.MOTOR if mv.algebra.r else Constraint.ROTOR


def exp(b: Multivector) -> Multivector:
    """Exponential of a bivector, a rotor; differentiable everywhere, also at 0.

    Raises:
        LayoutError: the layout has other grades than 2.

    >>> from ga import PGA3, VGA3
    >>> turned = exp(VGA3.bivector([-torch.pi / 4, 0.0, 0.0])) >> VGA3.e1  # a quarter turn from e1 to e2
    >>> turned.coefficients.round(decimals=6)
    tensor([-0., 1., -0.])
    >>> exp(PGA3.bivector([0.5, 0.0, 0.0, 0.0, 0.0, 0.0])).constraint  # a translation
    Constraint.MOTOR
    """
    if b.layout.blades and b.layout.grades != (2,):
        raise LayoutError(f"exp takes a bivector, got {b.layout}; project it with .grade(2)")
    kind = rotor_constraint(b)
    if b.algebra.n > _CLOSED:
        return type(b)(*exp_by_matrix(b), kind)
    square, q = _even_square(b)
    c, s = _study.cosh_and_sinhc(square)
    result = b * s.a + c.a
    if c.b is not None and s.b is not None:
        turned = _keep_grades(q * b, (2,))
        result = result + turned * s.b + q * c.b
    return type(b)(result.planes, result.layout, kind)


def log(r: Multivector) -> Multivector:
    """The bivector of smallest angle with exp(log(r)) = r; differentiable, also at 1.

    Rotors of simple bivectors have an angle up to π (of the bivector: half of the rotation angle); in general
    the sum of the two angles is below π.

    Raises:
        ConstraintError: r is not a rotor, or it has no logarithm: it is -1, or minus a boost or a
            translation, where -r has one.

    >>> from ga import STA
    >>> b = STA.bivector([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    >>> bool((log(exp(b)) - b).planes.abs().max() < 1e-6)
    True
    """
    if not is_rotor(r.constraint):
        r = as_rotor(r)
    if r.algebra.n > _CLOSED:
        return type(r)(*log_by_matrix(r))
    c, b, q, w = _parts(r)
    p = _scalar_square(q)
    ok = (c > 0) | (w > 0) if p is None else (c > 0) | ((1 + c).square() > p)
    if not holds(lambda: ok):
        raise ConstraintError(
            f"log of a rotor of {r.layout}: an element is -1, or minus a boost or a translation, and has no "
            "logarithm; -r moves everything in the same way and has one"
        )
    if p is None:
        result = b * _study.arc_ratio(c, w)
        if q.layout.blades:
            result = result + _keep_grades(q * b, (2,)) * _study.arc_ratio_derivative(c, w)
        return result
    ratio = _study.angle_over_sine(c, w, p)
    assert ratio.b is not None  # p exists, so q does
    return b * ratio.a + _keep_grades(q * b, (2,)) * ratio.b


def sqrt(r: Multivector) -> Multivector:
    """The rotor that, applied twice, is r: (1 + r) / √((1 + r)(1 + ~r)).

    Raises:
        ConstraintError: r is not a rotor, or it has no square root (as in :func:`log`).
    """
    if not is_rotor(r.constraint):
        r = as_rotor(r)
    if r.algebra.n > _CLOSED:
        return exp(log(r) * 0.5)
    c, _, q, w = _parts(r)
    p = _scalar_square(q)
    above = _study.one_plus(c, w, p) if q.layout.blades else Study(_study.one_plus(c, w, None).a)
    if not holds(lambda: (above.a > 0) & (above.determinant() > 0)):
        raise ConstraintError(
            f"sqrt of a rotor of {r.layout}: an element is -1 and has no square root; use -r"
        )
    factor = above.scale(2.0).sqrt().inverse()
    root = _times(r + 1.0, factor, q)
    return type(r)(root.planes, root.layout, r.constraint)


def interpolate(a: Multivector, b: Multivector, t: float | Tensor) -> Multivector:
    """The rotor on the way from a (t = 0) to b (t = 1) at constant speed, a exp(t log(~a b)).

    Args:
        a: Rotor.
        b: Rotor of the same algebra.
        t: Number, or tensor that broadcasts against the batch.

    Raises:
        AlgebraError: the algebras differ.
        ConstraintError: one is not a rotor, or ~a b has no logarithm.

    Source:
        Shoemake, "Animating rotation with quaternion curves" (1985), in any signature.
    """
    check_same_algebra("interpolation", a.layout, b.layout)
    a, b = (x if is_rotor(x.constraint) else as_rotor(x) for x in (a, b))
    return a * exp(log(a.reverse() * b) * t)


def decompose(b: Multivector) -> tuple[Multivector, Multivector]:
    """Two commuting simple bivectors whose sum is b, up to five generators.

    The first has the larger square.  In space-time the first is a boost, the second a rotation; in the
    projective algebra one is a rotation about an axis, the other a translation along it.

    Raises:
        LayoutError: not a bivector, or the algebra has more than five generators.
        NotInvertibleError: the two squares are equal or complex, so that the parts are not unique or not real.

    >>> from ga import PGA3
    >>> screw = PGA3.bivector([0.0, 0.0, 2.0, 1.0, 0.0, 0.0])  # about and along the third axis
    >>> decompose(screw)[1]
    Multivector(0.0 e01 + 0.0 e02 + 0.0 e03 + 1.0 e12 + 0.0 e13 + 0.0 e23, Cl(3,0,1)[2])
    """
    if b.layout.grades not in ((), (2,)) or b.algebra.n > _CLOSED:
        raise LayoutError(f"decompose takes a bivector with at most {_CLOSED} generators, got {b.layout}")
    square, q = _even_square(b)
    if square.b is None:
        return b, b * 0.0
    discriminant = square.determinant()
    if not holds(lambda: discriminant > 0):
        raise NotInvertibleError(
            f"decompose of {b.layout}: the two simple parts of an element have equal or complex squares, "
            "so they are not unique"
        )
    gap = discriminant.sqrt()
    larger = (square.a + gap) / 2
    first = (b * larger - _keep_grades(q * b, (2,)) * 0.5) / gap
    return first, b - first


def as_rotor(x: Multivector, project: bool = False) -> Multivector:
    """See :meth:`ga.Multivector.as_rotor`."""
    if x.layout.parity != 0:
        raise ConstraintError(f"a rotor is even, got {x.layout}; project onto even grades first")
    return _as_versor(x, rotor_constraint(x), project, (1.0,))


def as_versor(x: Multivector, project: bool = False) -> Multivector:
    """See :meth:`ga.Multivector.as_versor`."""
    if x.layout.parity is None:
        raise ConstraintError(f"a versor is even or odd, got {x.layout} with grades of both parities")
    return _as_versor(x, Constraint.VERSOR, project, (1.0, -1.0))


def as_motor(x: Multivector, project: bool = False) -> Multivector:
    """See :meth:`ga.Multivector.as_motor`."""
    if not x.algebra.r:
        raise ConstraintError(
            f"{x.algebra} has no null generator, hence no motors; use as_rotor for {x.layout}"
        )
    return as_rotor(x, project)


def as_null(x: Multivector) -> Multivector:
    """See :meth:`ga.Multivector.as_null`."""
    if len(x.layout.grades) != 1:
        raise ConstraintError(f"a null blade is of one grade, got {x.layout}")
    squared, size = x.norm_squared(), _size(x)
    _refuse_unless(squared.abs() <= _tolerance(x) * size, x, Constraint.NULL, "x ~x is not 0")
    return type(x)(x.planes, x.layout, Constraint.NULL)


def as_simple(x: Multivector) -> Multivector:
    """See :meth:`ga.Multivector.as_simple`."""
    if len(x.layout.grades) != 1:
        raise ConstraintError(f"a simple blade is of one grade, got {x.layout}")
    _refuse_unless(_plucker(x) <= _tolerance(x) * _size(x), x, Constraint.SIMPLE, "it is no outer product")
    return type(x)(x.planes, x.layout, Constraint.SIMPLE)


def versor_error(x: Multivector) -> Tensor:
    """Largest coefficient of x ~x - 1 or x ~x + 1, whichever is nearer, shape ``(*batch)``.

    >>> from ga import VGA3
    >>> versor_error(VGA3.even([1.0, 0.5, 0.0, 0.0]))
    tensor(0.2500)
    """
    squared = _self_product(x)
    scalar, rest = _scalar_and_rest(squared)
    error = (scalar.abs() - 1).abs()
    return torch.maximum(error, rest.abs().amax(0)) if len(rest) else error


def _as_versor(x: Multivector, kind: Constraint, project: bool, signs: tuple[float, ...]) -> Multivector:
    if x.constraint is kind:
        return x
    if project:
        x = _projected(x, kind, signs)
    squared = _self_product(x)
    scalar, rest = _scalar_and_rest(squared)
    error = torch.stack([(scalar - sign).abs() for sign in signs]).amin(0)
    if len(rest):
        error = torch.maximum(error, rest.abs().amax(0))
    _refuse_unless(error <= _tolerance(x) * _size(x).clamp(min=1), x, kind, "x ~x is not 1")
    if x.algebra.n > _CLOSED:
        leak = _grade_leak(x)
        _refuse_unless(
            leak <= _tolerance(x) * _size(x).clamp(min=1), x, kind, "it moves vectors out of grade 1"
        )
    return type(x)(x.planes, x.layout, kind)


def _projected(x: Multivector, kind: Constraint, signs: tuple[float, ...]) -> Multivector:
    """The quotient of x by the root of x ~x."""
    squared = _self_product(x)
    q = _keep_grades(squared, (4,))
    scalar, _ = _scalar_and_rest(squared)
    sign = torch.where(scalar < 0, -1.0, 1.0).to(scalar.dtype) if -1.0 in signs else torch.ones_like(scalar)
    p = _scalar_square(q) if x.algebra.n <= _CLOSED else None
    number = Study(scalar * sign, sign if q.layout.blades and x.algebra.n <= _CLOSED else None, p)
    _refuse_unless((number.a > 0) & (number.determinant() > 0), x, kind, "x ~x has no square root")
    return _times(x, number.sqrt().inverse(), q)


def _refuse_unless(condition: Tensor, x: Multivector, kind: Constraint, why: str) -> None:
    if not holds(lambda: condition):
        bad = int((~condition).sum())
        raise ConstraintError(
            f"{bad} of {condition.numel()} elements of {x.layout} are no {kind.value}: {why} to rounding; "
            "project=True projects versors"
        )


def _tolerance(x: Multivector) -> float:
    return 1000 * epsilon(x.dtype)


def _size(x: Multivector) -> Tensor:
    return x.planes.detach().square().sum(0)


def _self_product(x: Multivector) -> Multivector:
    """The product x ~x on the grades that equal their reverse: the others vanish."""
    plan = symmetric_plan(x.layout, x.layout, REVERSED)
    return type(x)(product(x.planes, x.reverse().planes, plan), plan.out)


def _scalar_and_rest(mv: Multivector) -> tuple[Tensor, Tensor]:
    if mv.layout.blades and mv.layout.blades[0] == 0:
        return mv.planes[0], mv.planes[1:]
    return mv.planes.new_zeros(mv.shape), mv.planes


def _even_square(b: Multivector) -> tuple[Study, Multivector]:
    """b² = s + q as a Study number 1·q, and q; a bivector's square has no part of grade 2."""
    plan = symmetric_plan(b.layout, b.layout, REVERSED)
    squared = type(b)(product(b.planes, b.planes, plan), plan.out)
    scalar, _ = _scalar_and_rest(squared)
    q = _keep_grades(squared, (4,))
    return Study(scalar, torch.ones_like(scalar) if q.layout.blades else None, _scalar_square(q)), q


def _parts(r: Multivector) -> tuple[Tensor, Multivector, Multivector, Tensor]:
    """Scalar, bivector and 4-vector of a rotor, and minus the scalar part of the bivector's square."""
    b, q = _keep_grades(r, (2,)), _keep_grades(r, (4,))
    scalar = _scalar_and_rest(_keep_grades(r, (0,)))[0]
    return scalar, b, q, b.norm_squared()


def _scalar_square(q: Multivector) -> Tensor | None:
    """The scalar part of q², None where the metric makes it 0."""
    return q.scalar_product(q).planes[0] if plan_for("scalar", q.layout, q.layout).out.blades else None


def _keep_grades(mv: Multivector, grades: tuple[int, ...]) -> Multivector:
    """The part of the given grades, with an empty layout if there is none."""
    layout = part(mv.layout, grades)
    return type(mv)(pick(mv.planes, mv.layout, layout), layout)


def _times(x: Multivector, number: Study, q: Multivector) -> Multivector:
    """(a + b q) x."""
    scaled = x * number.a
    return scaled if number.b is None else scaled + (q * x) * number.b


def _grade_leak(x: Multivector) -> Tensor:
    """Largest coefficient outside grade 1 of the images of the generators, shape ``(*batch)``."""
    n = x.algebra.n
    vector = of_grades(x.layout, (1,))
    units = torch.eye(n, dtype=x.dtype, device=x.planes.device).reshape(n, n, *(1,) * len(x.shape))
    moved = (
        type(x)(x.planes[:, None], x.layout)
        * type(x)(units, vector)
        * type(x)(x.reverse().planes[:, None], x.layout)
    )
    outside = [k for k, blade in enumerate(moved.layout.blades) if grade(blade) != 1]
    return moved.planes[outside].abs().amax((0, 1)) if outside else x.planes.new_zeros(x.shape)


def _plucker(x: Multivector) -> Tensor:
    """Largest coefficient of (c ⌋ x) ∧ x over all basis blades c of one grade less: 0 exactly for blades.

    The contraction is the Euclidean one, whatever the metric: being a blade does not depend on it.
    """
    euclidean, (k,) = Algebra(x.algebra.n), x.layout.grades
    mv = type(x)(x.planes, Layout(euclidean, x.layout.blades))
    worst = x.planes.new_zeros(x.shape)
    for blade in euclidean.blades:
        if grade(blade) == k - 1:
            unit = type(x)(x.planes.new_ones(1), Layout(euclidean, (blade,)))
            relation = unit.left_contraction(mv) ^ mv
            if relation.layout.blades:
                worst = torch.maximum(worst, relation.planes.detach().abs().amax(0))
    return worst
