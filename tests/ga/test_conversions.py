"""Versors from and to matrices, quaternions, dual quaternions, vectors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ga import (
    CGA3,
    PGA3,
    STA,
    VGA2,
    VGA3,
    Algebra,
    AlgebraError,
    ConstraintError,
    LayoutError,
    Multivector,
    exp,
    motor_from_dual_quaternion,
    motor_from_matrix,
    motor_from_rotation_translation,
    rotor_between,
    rotor_from_matrix,
    rotor_from_quaternion,
    to_dual_quaternion,
    to_matrix,
    to_quaternion,
    to_rigid_matrix,
    versor_from_vectors,
)

D = torch.float64


def hamilton(a: Tensor, b: Tensor) -> Tensor:
    """Quaternion product, written out."""
    w, x, y, z = a.unbind(-1)
    s, u, v, t = b.unbind(-1)
    return torch.stack(
        [
            w * s - x * u - y * v - z * t,
            w * u + x * s + y * t - z * v,
            w * v - x * t + y * s + z * u,
            w * t + x * v - y * u + z * s,
        ],
        -1,
    )


@pytest.fixture
def unit(generator: torch.Generator) -> Tensor:
    q = torch.randn(12, 4, generator=generator, dtype=D)
    normalized: Tensor = q / q.norm(dim=-1, keepdim=True)
    return normalized


def rotate(q: Tensor, x: Tensor) -> Tensor:
    """The vector of q x q*."""
    pure = torch.cat([torch.zeros_like(x[..., :1]), x], -1)
    conjugate = q * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=D)
    turned: Tensor = hamilton(hamilton(q, pure), conjugate)[..., 1:]
    return turned


def test_quaternions_are_rotors(unit: Tensor, generator: torch.Generator) -> None:
    other, x = unit.flip(0), torch.randn(12, 3, generator=generator, dtype=D)
    r, s = rotor_from_quaternion(unit), rotor_from_quaternion(other)
    torch.testing.assert_close(to_quaternion(r * s), hamilton(unit, other))
    torch.testing.assert_close((r >> VGA3.vector(x)).coefficients, rotate(unit, x))
    torch.testing.assert_close((to_matrix(r) @ x[..., None])[..., 0], rotate(unit, x))
    with pytest.raises(ConstraintError, match="12 of 12 elements .* are no rotor"):
        rotor_from_quaternion(2 * unit)
    torch.testing.assert_close(to_quaternion(rotor_from_quaternion(2 * unit, project=True)), unit)


def test_dual_quaternions_and_matrices_are_motors(unit: Tensor, generator: torch.Generator) -> None:
    t, x = (torch.randn(12, 3, generator=generator, dtype=D) for _ in range(2))
    pure = torch.cat([torch.zeros(12, 1, dtype=D), t], -1)
    motor = motor_from_rotation_translation(rotor_from_quaternion(unit), t)
    moved = rotate(unit, x) + t
    torch.testing.assert_close((motor >> PGA3.point(x)).planes, PGA3.point(moved).planes)
    dual = torch.cat([unit, hamilton(pure, unit) / 2], -1)
    torch.testing.assert_close(to_dual_quaternion(motor), dual)
    torch.testing.assert_close(to_dual_quaternion(motor_from_dual_quaternion(dual)), dual)
    matrix = to_rigid_matrix(motor)
    torch.testing.assert_close((matrix[:, :3, :3] @ x[..., None])[..., 0] + matrix[:, :3, 3], moved)
    torch.testing.assert_close(to_rigid_matrix(motor_from_matrix(matrix)), matrix)
    plane = PGA3.plane(torch.ones(3, dtype=D), -(x.sum(-1)))  # through x
    assert float(((motor >> plane) ^ PGA3.point(moved)).planes.abs().max()) < 1e-12


@pytest.mark.parametrize("algebra", [VGA2, VGA3, STA, CGA3, Algebra(2, 2)], ids=str)
def test_matrices_and_rotors(algebra: Algebra, generator: torch.Generator) -> None:
    size = algebra.n * (algebra.n - 1) // 2
    rotor = exp(algebra.bivector(0.7 * torch.randn(8, size, generator=generator, dtype=D)))
    matrix = to_matrix(rotor)
    metric = torch.diag(torch.tensor(algebra.metric, dtype=D))
    torch.testing.assert_close(matrix.mT @ metric @ matrix, metric.expand_as(matrix), rtol=1e-9, atol=1e-9)
    again = rotor_from_matrix(algebra, matrix)
    sign = (again.planes * rotor.planes).sum(0).sign()
    torch.testing.assert_close((again * sign).planes, rotor.planes, rtol=1e-7, atol=1e-7)


def test_half_turns_have_rotors() -> None:
    for diagonal in ([-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [1.0, 1.0, 1.0]):
        matrix = torch.diag(torch.tensor(diagonal))
        assert torch.equal(to_matrix(rotor_from_matrix(VGA3, matrix)), matrix)


def test_reflections_make_versors(generator: torch.Generator) -> None:
    a, b = (VGA3.vector(torch.randn(5, 3, generator=generator, dtype=D)) for _ in range(2))
    rotor = versor_from_vectors(b, a)
    cosine = (a | b).planes[0] / (a.norm() * b.norm())
    torch.testing.assert_close(rotor.grade(0).planes[0], cosine)
    turned = rotor_between(a, b) >> a
    torch.testing.assert_close((turned / turned.norm()).planes, (b / b.norm()).planes)
    fast, slow = STA.vector([2.0, 1.0, 0.0, 0.0]), STA.vector([3.0, 0.0, 1.0, 0.0])
    boosted = rotor_between(fast, slow) >> fast.normalize()
    torch.testing.assert_close(boosted.planes, slow.normalize().planes)
    left, up = STA.vector([0.0, 1.0, 0.0, 0.0]), STA.vector([0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close((rotor_between(left, up) >> left).planes, up.planes)


def test_bad_input_is_refused_by_name() -> None:
    cases: dict[str, tuple[type[Exception], Callable[[], object]]] = {
        r"rotor_from_matrix needs a metric without null generators, got Cl\(3,0,1\)": (
            AlgebraError,
            lambda: rotor_from_matrix(PGA3, torch.eye(4)),
        ),
        r"rotor_from_matrix of Cl\(3,0,0\) wants shape \(\*batch, 3, 3\), got \(2, 2\)": (
            LayoutError,
            lambda: rotor_from_matrix(VGA3, torch.eye(2)),
        ),
        r"not a rotation of Cl\(3,0,0\) in the component": (
            ConstraintError,
            lambda: rotor_from_matrix(VGA3, torch.diag(torch.tensor([1.0, 1.0, -1.0]))),
        ),
        r"Cl\(3,0,0\) wants 4 quaternion coefficients last, got shape \(3,\)": (
            LayoutError,
            lambda: rotor_from_quaternion([1.0, 0.0, 0.0]),
        ),
        r"to_matrix takes a versor by type, got Cl\(3,0,0\)\[0,2\]": (
            ConstraintError,
            lambda: to_matrix(VGA3.even([1.0, 0.0, 0.0, 0.0])),
        ),
        r"to_rigid_matrix takes a motor of Cl\(3,0,1\)": (
            ConstraintError,
            lambda: to_rigid_matrix(exp(VGA3.bivector([0.0] * 3))),
        ),
        r"a versor is a product of vectors, got a factor of Cl\(3,0,0\)\[0,2\]": (
            LayoutError,
            lambda: versor_from_vectors(VGA3.even([1.0, 0.0, 0.0, 0.0])),
        ),
        r"x ~x has no square root": (ConstraintError, lambda: rotor_between(VGA3.e1, -VGA3.e1)),
        r"quaternions are even multivectors of Cl\(3,0,0\), got Cl\(3,0,0\)\[1\]": (
            LayoutError,
            lambda: to_quaternion(VGA3.vector([1.0, 0.0, 0.0])),
        ),
        r"the last row of a rigid motion is": (ConstraintError, lambda: motor_from_matrix(2 * torch.eye(4))),
    }
    for message, (kind, attempt) in cases.items():
        with pytest.raises(kind, match=message):
            attempt()
    assert isinstance(rotor_from_matrix(VGA3, torch.eye(3)), Multivector)
