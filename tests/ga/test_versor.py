"""Exponential, logarithm, square root, interpolation, decomposition, in every kind of signature."""

import math

import pytest
import torch
from torch import Tensor

from ga import (
    CGA3,
    PGA2,
    PGA3,
    STA,
    VGA2,
    VGA3,
    Algebra,
    AlgebraError,
    Constraint,
    ConstraintError,
    Layout,
    LayoutError,
    Multivector,
    NotInvertibleError,
    decompose,
    exp,
    interpolate,
    log,
    sqrt,
)
from ga._matrix import exp_by_matrix
from ga._planes import pick

# torch compiles its own decompositions for forward mode with the torch.jit.script that it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

D = torch.float64
OTHERS = [(4, 0, 0), (2, 2, 0), (1, 1, 1), (3, 1, 1), (2, 0, 3), (5, 0, 0), (0, 0, 4), (3, 3, 0), (4, 1, 1)]
ALGEBRAS = [
    VGA2,
    VGA3,
    PGA2,
    PGA3,
    STA,
    CGA3,
    *(Algebra(p, q, r) for p, q, r in OTHERS),
]


def bivectors(algebra: Algebra, scale: float, generator: torch.Generator, batch: int = 5) -> Multivector:
    size = algebra.n * (algebra.n - 1) // 2
    return algebra.bivector(scale * torch.randn(batch, size, generator=generator, dtype=D))


def principal(b: Multivector, limit: float) -> Multivector:
    """Shrunk so that the sum of all angles stays below the limit."""
    return b * (limit / b.planes.abs().sum(0).clamp(min=limit))


def largest(mv: Multivector) -> float:
    return float(mv.planes.abs().max()) if mv.layout.blades else 0.0


def series(b: Multivector) -> Multivector:
    """The definition: Σ b^k / k!, of b / 2^6, squared six times."""
    total = power = (b * 0.0) * (b * 0.0) + 1.0
    for k in range(1, 24):
        power = power * b * (2.0**-6 / k)
        total = total + power
    for _ in range(6):
        total = total * total
    return total


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_exp_is_its_series(algebra: Algebra, generator: torch.Generator) -> None:
    for scale in (1e-9, 0.1, 1.0):
        b = bivectors(algebra, scale, generator)
        rotor, expected = exp(b), series(b)
        error = largest(rotor.unconstrained() - expected) / largest(expected)
        assert error < 1e-13
        assert rotor.as_rotor() is rotor
        assert largest(rotor.unconstrained().as_rotor() - rotor) == 0  # accepted as a rotor


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA, CGA3], ids=str)
def test_exp_by_matrix_agrees(algebra: Algebra, generator: torch.Generator) -> None:
    b = bivectors(algebra, 1.0, generator)
    planes, even = exp_by_matrix(b)
    torch.testing.assert_close(pick(exp(b).planes, exp(b).layout, even), planes, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_log_inverts_exp(algebra: Algebra, generator: torch.Generator) -> None:
    scales = torch.tensor([1e-12, 1e-4, 1.0, 100.0, 0.0], dtype=D)
    b = principal(bivectors(algebra, 1.0, generator) * scales, 3.0)
    error = (log(exp(b)) - b).planes.abs().amax(0)
    assert bool((error <= 1e-12 * b.planes.abs().amax(0).clamp(min=1e-3)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_inverts_exp_in_special_cases(dtype: torch.dtype) -> None:
    cases = {
        "null rotation": (STA, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        "boost": (STA, [3.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        "boost and rotation": (STA, [2.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        "isoclinic": (Algebra(4), [0.7, 0.0, 0.0, 0.0, 0.0, 0.7]),
        "nearly isoclinic": (Algebra(4), [0.7, 0.0, 0.0, 0.0, 0.0, 0.7 + 1e-9]),
        "screw": (PGA3, [0.0, 0.0, 9.0, 1.5, 0.0, 0.0]),
        "translation": (PGA3, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
        "dilation and rotation": (CGA3, [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5]),
        "nearly a half turn of -1": (VGA3, [math.pi - 1e-3, 0.0, 0.0]),
        "zero": (CGA3, [0.0] * 10),
    }
    for name, (algebra, values) in cases.items():
        b = algebra.bivector(torch.tensor(values, dtype=dtype))
        error = largest(log(exp(b)) - b)
        assert error <= 40 * torch.finfo(dtype).eps * max(1.0, largest(b)), name


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA, CGA3, Algebra(2, 2), Algebra(3, 1, 1)], ids=str)
def test_gradients(algebra: Algebra, generator: torch.Generator) -> None:
    def both(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotor = exp(algebra.bivector(c))
        return rotor.coefficients, log(rotor).coefficients, sqrt(rotor).coefficients

    size = algebra.n * (algebra.n - 1) // 2
    for c in (0.4 * torch.randn(1, size, generator=generator, dtype=D), torch.zeros(1, size, dtype=D)):
        assert torch.autograd.gradcheck(both, (c.requires_grad_(),), check_forward_ad=True, fast_mode=True)


def test_gradients_of_the_inverse(generator: torch.Generator) -> None:
    for algebra in (VGA2, VGA3, PGA3, CGA3, Algebra(6)):
        c = torch.randn(1, algebra.size // (8 if algebra.n > 4 else 1), generator=generator, dtype=D)
        layout = Layout(algebra, algebra.blades[: c.shape[-1]])
        assert torch.autograd.gradcheck(
            lambda c, layout=layout: Multivector.from_coefficients(c, layout).inverse().planes.sum(),
            (c.requires_grad_(),),
        )


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_sqrt_squares_back_and_halves_the_logarithm(algebra: Algebra, generator: torch.Generator) -> None:
    b = principal(bivectors(algebra, 1.0, generator), 3.0)
    root = sqrt(exp(b))
    assert root.constraint is exp(b).constraint
    assert largest(root * root - exp(b)) < 1e-12
    assert largest(root - exp(b * 0.5)) < 1e-12


def test_interpolation_goes_from_one_to_the_other(generator: torch.Generator) -> None:
    for algebra in (VGA3, PGA3, STA, CGA3):
        a, b = (exp(bivectors(algebra, 0.3, generator)) for _ in range(2))
        assert largest(interpolate(a, b, 0.0) - a) < 1e-13
        assert largest(interpolate(a, b, 1.0) - b) < 1e-13
        third, rest = interpolate(a, b, 1 / 3), interpolate(a, b, torch.tensor(2 / 3, dtype=D))
        assert largest(~a * third * ~a * third - ~a * rest) < 1e-12  # twice a third of the way
        assert third.constraint in (Constraint.ROTOR, Constraint.MOTOR)
    with pytest.raises(AlgebraError, match=r"interpolation of Cl\(3,0,0\)\[0,2\] and Cl\(1,3,0\)"):
        interpolate(exp(VGA3.bivector([0.0] * 3)), exp(STA.bivector([0.0] * 6)), 0.5)


@pytest.mark.parametrize("algebra", [PGA3, STA, CGA3, Algebra(4), Algebra(3, 1, 1)], ids=str)
def test_decomposition_is_simple_and_commutes(algebra: Algebra, generator: torch.Generator) -> None:
    b = bivectors(algebra, 1.0, generator)
    first, second = decompose(b)
    assert largest(first + second - b) < 1e-12
    assert largest(first * second - second * first) < 1e-11
    for part in (first, second):
        assert largest(part ^ part) < 1e-11 * max(1.0, largest(part) ** 2)
    assert bool(((first | first).planes[0] >= (second | second).planes[0] - 1e-12).all())
    rotor = exp(first) * exp(second)
    assert largest(rotor - exp(b)) < 1e-11 * largest(rotor)


def test_decomposition_refuses_equal_squares() -> None:
    with pytest.raises(NotInvertibleError, match=r"decompose of Cl\(4,0,0\)\[2\]: .* equal or complex"):
        decompose(Algebra(4).bivector([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    with pytest.raises(LayoutError, match="decompose takes a bivector with at most 5 generators"):
        decompose(Algebra(6).bivector([0.0] * 15))


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(LayoutError, match=r"exp takes a bivector, got Cl\(3,0,0\)\[0,2\]"):
        exp(VGA3.even([1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(ConstraintError, match=r"1 of 2 elements of Cl\(3,0,0\)\[0,2\] are no rotor: x ~x is"):
        log(VGA3.even([[1.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]))
    with pytest.raises(ConstraintError, match=r"a rotor is even, got Cl\(3,0,0\)\[1\]"):
        log(VGA3.vector([1.0, 0.0, 0.0]))
    for algebra in (VGA3, PGA3, STA, CGA3):
        minus = algebra.even(torch.eye(algebra.size // 2)[0] * -1.0).as_rotor()
        with pytest.raises(ConstraintError, match=r"log of a rotor of .*is -1, or minus a boost"):
            log(minus)
        with pytest.raises(ConstraintError, match=r"sqrt of a rotor of .*is -1 and has no square root"):
            sqrt(minus)
    with pytest.raises(ConstraintError, match="minus a boost or a translation"):
        log(-exp(PGA3.bivector([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])))
