"""Versors from vectors, matrices, quaternions and dual quaternions, and back.

Quaternions are ``(w, x, y, z)``, with i = -e23, j = e13, k = -e12, so that a unit quaternion and its rotor
turn vectors alike.  Dual quaternions are ``(w, x, y, z, w', x', y', z')`` for q + ε q', with ε = -e0123; a unit
one stands for the motor of the rotation q followed by the translation t, q' = t q / 2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ga._planes import holds, pick
from ga.algebra import PGA3, VGA3, Algebra, grade
from ga.constraint import Constraint
from ga.errors import AlgebraError, ConstraintError, LayoutError
from ga.layout import Layout, check_same_algebra
from ga.multivector import Multivector
from ga.objects import as_floats
from ga.versor import as_rotor

_QUATERNION = ("e", "e23", "e13", "e12")
_SIGNS = (1.0, -1.0, 1.0, -1.0)
_DUAL = ("e0123", "e01", "e02", "e03")


def versor_from_vectors(*vectors: Multivector) -> Multivector:
    """The product of normalized vectors, a unit versor: each is a reflection, the last acts first.

    Raises:
        NotInvertibleError: a vector is null.
        LayoutError: a factor is no vector, or there is none.

    >>> versor_from_vectors(VGA3.vector([2.0, 0.0, 0.0]), VGA3.vector([0.0, 3.0, 0.0])).constraint
    Constraint.ROTOR
    """
    if not vectors:
        raise LayoutError("versor_from_vectors wants at least one vector")
    total: Multivector | None = None
    for vector in vectors:
        if vector.grades != (1,):
            raise LayoutError(f"a versor is a product of vectors, got a factor of {vector.layout}")
        total = vector.normalize() if total is None else total * vector.normalize()
    assert total is not None  # there is a vector
    definite = all(square >= 0 for square in total.algebra.metric)  # else an even product may have x ~x = -1
    kind = Constraint.VERSOR
    if definite and len(vectors) % 2 == 0:
        kind = Constraint.MOTOR if total.algebra.r else Constraint.ROTOR
    return Multivector(total.planes, total.layout, kind)


def rotor_between(a: Multivector, b: Multivector) -> Multivector:
    """The rotor that turns the direction of vector a into that of b, in their plane.

    Raises:
        NotInvertibleError: a vector is null.
        ConstraintError: the directions are opposite, or one is timelike and the other spacelike.
        LayoutError: one is no vector.

    >>> (rotor_between(VGA3.e1, VGA3.e2) >> VGA3.e1).coefficients.round(decimals=6)
    tensor([-0., 1.])
    """
    check_same_algebra("rotor between vectors", a.layout, b.layout)
    for vector in (a, b):
        if vector.grades != (1,):
            raise LayoutError(f"rotor_between takes two vectors, got {vector.layout}")
    a, b = a.normalize(), b.normalize()
    squared = (a * a).planes[0]
    return as_rotor(b * a * squared + 1.0, project=True)


def to_matrix(versor: Multivector) -> Tensor:
    """The map of vectors x ↦ R x ~R as a matrix, shape ``(*batch, n, n)``; column t is the image of generator t.

    In Cl(d, 0, 1) vectors are planes; for the matrix that moves points use :func:`to_rigid_matrix`.

    Raises:
        ConstraintError: not a versor by type.
    """
    if versor.constraint not in (Constraint.ROTOR, Constraint.MOTOR, Constraint.VERSOR):
        raise ConstraintError(
            f"to_matrix takes a versor by type, got {versor.layout}; use as_versor or as_rotor"
        )
    n, vector = versor.algebra.n, Layout.of_grades(versor.algebra, 1)
    units = torch.eye(n, dtype=versor.dtype, device=versor.device).reshape(n, n, *(1,) * len(versor.shape))
    lifted = Multivector(versor.planes[:, None], versor.layout, versor.constraint)
    moved = lifted >> Multivector(units, vector)
    return pick(moved.planes, moved.layout, vector).movedim((0, 1), (-2, -1))


def rotor_from_matrix(algebra: Algebra, matrix: Any) -> Multivector:
    """A rotor R with R x ~R = matrix x for all vectors; the other one is -R.

    R ∝ Σ_A M(e_A) e_A⁻¹ over all blades, if R has a scalar part; it is computed for M after each half turn of
    basis blades, and the largest is taken, so that no rotation is near a singular case.

    Args:
        algebra: Algebra without null generators.
        matrix: Shape ``(*batch, n, n)``, orthogonal for the metric, in the component of the identity; column t
            is the image of generator t.

    Raises:
        AlgebraError: a generator is null.
        LayoutError: the shape is another.
        ConstraintError: the matrix is not a rotation of the metric.

    Source:
        Lounesto, "Clifford Algebras and Spinors" (2001), section 16.4, for the sum over blades.
    """
    if algebra.r:
        raise AlgebraError(f"rotor_from_matrix needs a metric without null generators, got {algebra}")
    m, n = as_floats(matrix), algebra.n
    if m.dim() < 2 or m.shape[-2:] != (n, n):
        raise LayoutError(
            f"rotor_from_matrix of {algebra} wants shape (*batch, {n}, {n}), got {tuple(m.shape)}"
        )
    entries = torch.cat([_minors(m, n, k).flatten(-2) for k in range(n + 1)], -1)
    sums = torch.einsum("...i,jik->j...k", entries, _sum_over_blades(algebra).to(m))
    strength = sums.square().sum(-1)
    best = strength.argmax(0)
    chosen = sums.gather(0, best[None, ..., None].expand(1, *best.shape, sums.shape[-1]))[0]
    chosen = torch.where(chosen[..., :1] < 0, -chosen, chosen)
    even = algebra.even(chosen)
    if not holds(lambda: even.norm_squared() > 0):
        raise ConstraintError(f"the matrix is not a rotation of {algebra} in the component of the identity")
    rotor = as_rotor(even, project=True)
    error = (to_matrix(rotor) - m).abs().amax((-2, -1))
    allowed = torch.finfo(m.dtype).eps ** 0.5 * m.abs().amax((-2, -1)).clamp(min=1)
    if not holds(lambda: error <= allowed):
        raise ConstraintError(
            f"the matrix is not a rotation of {algebra} in the component of the identity: "
            f"the nearest rotor's matrix differs by {float(error.max()):.3g}"
        )
    return rotor


def rotor_from_quaternion(quaternion: Any, project: bool = False) -> Multivector:
    """The rotor of VGA3 of a unit quaternion (w, x, y, z), shape ``(*batch, 4)``.

    Args:
        quaternion: The coefficients.
        project: Normalize first; without, any other norm than 1 is refused.

    Raises:
        LayoutError: there are not four coefficients.
        ConstraintError: it is not a unit quaternion.
    """
    planes = _quaternion_planes(quaternion, 4, _QUATERNION, VGA3)
    return as_rotor(planes, project)


def to_quaternion(rotor: Multivector) -> Tensor:
    """The quaternion (w, x, y, z) of an even multivector of VGA3, shape ``(*batch, 4)``."""
    return torch.stack(_read(rotor, VGA3, _QUATERNION, _SIGNS), -1)


def motor_from_dual_quaternion(dual_quaternion: Any, project: bool = False) -> Multivector:
    """The motor of PGA3 of a unit dual quaternion, shape ``(*batch, 8)``.

    Raises:
        LayoutError: there are not eight coefficients.
        ConstraintError: it is not a unit dual quaternion.
    """
    return as_rotor(_quaternion_planes(dual_quaternion, 8, _QUATERNION + _DUAL, PGA3), project)


def to_dual_quaternion(motor: Multivector) -> Tensor:
    """The dual quaternion of an even multivector of PGA3, shape ``(*batch, 8)``."""
    return torch.stack(_read(motor, PGA3, _QUATERNION + _DUAL, _SIGNS + _DUAL_SIGNS), -1)


def motor_from_rotation_translation(rotor: Multivector, translation: Any) -> Multivector:
    """The motor of PGA3 that turns by a rotor of VGA3, then moves by a translation of shape ``(*batch, 3)``.

    >>> from ga import exp
    >>> quarter = exp(VGA3.bivector([-torch.pi / 4, 0.0, 0.0]))
    >>> motor = motor_from_rotation_translation(quarter, [0.0, 0.0, 5.0])
    >>> (motor >> PGA3.point([1.0, 0.0, 0.0])).coefficients.round(decimals=6)  # the point (0, 1, 5)
    tensor([-5., 1., 0., 1.])
    """
    check_same_algebra("motor from rotor", Layout.of_grades(VGA3, 0), rotor.layout)
    t = as_floats(translation)
    if t.dim() == 0 or t.shape[-1] != 3:
        raise LayoutError(f"a translation in {PGA3} has 3 coordinates last, got {tuple(t.shape)}")
    half = Multivector((_TRANSLATION / 2) * t.movedim(-1, 0), Layout.of_blades(PGA3, _DUAL[1:])) + 1.0
    lifted = Layout(PGA3, tuple(blade << 1 for blade in rotor.layout.blades))
    kind = Constraint.MOTOR if rotor.constraint is Constraint.ROTOR else None
    return Multivector(half.planes, half.layout, Constraint.MOTOR) * Multivector(rotor.planes, lifted, kind)


def to_rigid_matrix(motor: Multivector) -> Tensor:
    """The homogeneous matrix that moves points as a motor of PGA3 does, shape ``(*batch, 4, 4)``.

    Raises:
        ConstraintError: not a motor by type.
    """
    if motor.constraint is not Constraint.MOTOR or motor.algebra != PGA3:
        raise ConstraintError(
            f"to_rigid_matrix takes a motor of {PGA3} by type, got {motor.layout}; use as_motor"
        )
    # planes (d, normal) move by to_matrix(motor), so points (1, x), on which they vanish, by its inverse transposed
    points = to_matrix(~motor).transpose(-1, -2)
    order = [1, 2, 3, 0]
    return points[..., order, :][..., :, order]


def motor_from_matrix(matrix: Any) -> Multivector:
    """A motor of PGA3 from the homogeneous matrix of a rigid motion, shape ``(*batch, 4, 4)``.

    Raises:
        LayoutError: the shape is another.
        ConstraintError: the upper left block is no rotation, or the last row is not (0, 0, 0, 1).
    """
    m = as_floats(matrix)
    if m.dim() < 2 or m.shape[-2:] != (4, 4):
        raise LayoutError(
            f"a rigid motion in {PGA3} is a matrix of shape (*batch, 4, 4), got {tuple(m.shape)}"
        )
    last = m[..., 3, :] - m.new_tensor([0.0, 0.0, 0.0, 1.0])
    if not holds(lambda: last.abs() <= 1e-6):
        raise ConstraintError(
            "the last row of a rigid motion is (0, 0, 0, 1); divide by its last entry first"
        )
    return motor_from_rotation_translation(rotor_from_matrix(VGA3, m[..., :3, :3]), m[..., :3, 3])


_TRANSLATION = -1.0  # a translation by t is 1 + (t1 e01 + t2 e02 + t3 e03) * this / 2
_DUAL_SIGNS = (-1.0, -1.0, -1.0, -1.0)


def _quaternion_planes(values: Any, size: int, names: tuple[str, ...], algebra: Algebra) -> Multivector:
    q = as_floats(values)
    if q.dim() == 0 or q.shape[-1] != size:
        raise LayoutError(f"{algebra} wants {size} quaternion coefficients last, got shape {tuple(q.shape)}")
    signs = (_SIGNS + _DUAL_SIGNS)[:size]
    planes = {
        algebra.blade(name): sign * plane
        for name, sign, plane in zip(names, signs, q.unbind(-1), strict=True)
    }
    layout = Layout.of_blades(algebra, names)
    return Multivector(torch.stack([planes[blade] for blade in layout.blades]), layout)


def _read(
    mv: Multivector, algebra: Algebra, names: tuple[str, ...], signs: tuple[float, ...]
) -> list[Tensor]:
    if mv.algebra != algebra or mv.layout.parity == 1:
        raise LayoutError(f"quaternions are even multivectors of {algebra}, got {mv.layout}")
    planes = pick(mv.planes, mv.layout, Layout.of_blades(algebra, names))
    order = Layout.of_blades(algebra, names).names
    return [sign * planes[order.index(name)] for name, sign in zip(names, signs, strict=True)]


def _minors(m: Tensor, n: int, k: int) -> Tensor:
    """The map on blades of grade k, determinants of k by k blocks: shape ``(*batch, C, C)``."""
    if k == 0:
        return m.new_ones((*m.shape[:-2], 1, 1))
    factors = [[t for t in range(n) if b >> t & 1] for b in Algebra(n).blades if grade(b) == k]
    rows = torch.tensor(factors, device=m.device)
    blocks = m[..., rows[:, None, :, None], rows[None, :, None, :]]
    minors: Tensor = torch.linalg.det(blocks)
    return minors


@cache
def _sum_over_blades(algebra: Algebra) -> Tensor:
    """Coefficients of Σ_A M(e_A) E_J e_A⁻¹ E_J⁻¹ E_J⁻¹..., shape ``(J, entries of M on blades, even blades)``.

    For each even blade J: the sum for the rotor after the half turn by J, times the inverse of J.
    """
    even = [b for b in algebra.blades if grade(b) % 2 == 0]
    place = {blade: k for k, blade in enumerate(even)}
    rows = []
    for turn in even:
        row = []
        for k in range(algebra.n + 1):
            blades = [b for b in algebra.blades if grade(b) == k]
            row += [_entry(algebra, turn, image, of, place) for image in blades for of in blades]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _entry(algebra: Algebra, turn: int, image: int, of: int, place: dict[int, int]) -> Tensor:
    """Image · (turn of⁻¹ turn⁻¹) · turn⁻¹, as coefficients on the even blades."""
    coefficients = torch.zeros(len(place), dtype=torch.float64)
    _, square = algebra.product(of, of)
    _, before = algebra.product(turn, of)
    _, after = algebra.product(of, turn)
    _, turn_square = algebra.product(turn, turn)
    middle, first = algebra.product(image, of)
    blade, second = algebra.product(middle, turn)
    coefficients[place[blade]] = square * before * after * turn_square * first * second
    return coefficients
