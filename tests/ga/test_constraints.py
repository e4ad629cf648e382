"""Constraint types: who gets them, what keeps them, who is refused; norms and inverses."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ga import (
    CGA3,
    PGA3,
    STA,
    VGA2,
    VGA3,
    Algebra,
    Constraint,
    ConstraintError,
    Layout,
    LayoutError,
    Multivector,
    NotInvertibleError,
    exp,
    join,
    meet,
    plan_for,
    versor_error,
    versor_from_vectors,
)
from ga.plan import sandwich_layout

D = torch.float64
BIVECTORS = [VGA3, PGA3, STA, CGA3, Algebra(4), Algebra(6)]


def rotor(algebra: Algebra, generator: torch.Generator, batch: int = 6) -> Multivector:
    size = algebra.n * (algebra.n - 1) // 2
    return exp(algebra.bivector(0.4 * torch.randn(batch, size, generator=generator, dtype=D)))


def full(algebra: Algebra, generator: torch.Generator, *grades: int) -> Multivector:
    layout = Layout.of_grades(algebra, grades or range(algebra.n + 1))
    return Multivector(torch.randn(len(layout), 6, generator=generator, dtype=D), layout)


@pytest.mark.parametrize("algebra", BIVECTORS, ids=str)
def test_rotors_stay_rotors_and_keep_grades_and_norms(algebra: Algebra, generator: torch.Generator) -> None:
    r, s = rotor(algebra, generator), rotor(algebra, generator)
    kind = Constraint.MOTOR if algebra.r else Constraint.ROTOR
    assert [x.constraint for x in (r, r * s, ~r, -r, r[0], r.inverse(), r.clone(), r >> s)] == [kind] * 8
    assert [x.constraint for x in (r + s, 2 * r, r / 2, r.grade(2), r ^ s, r.unconstrained())] == [None] * 6
    assert float(versor_error(r * s).max()) < 1e-12
    for k in range(algebra.n + 1):
        x = full(algebra, generator, k)
        moved, plain = r >> x, r.unconstrained() * x * ~r
        assert moved.grades == (k,)
        torch.testing.assert_close(moved.norm_squared(), x.norm_squared(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(plain.grade(k).planes, moved.planes, rtol=1e-9, atol=1e-9)


def test_a_versor_needs_fewer_terms() -> None:
    even, vector = Layout.of_grades(CGA3, (0, 2, 4)), Layout.of_grades(CGA3, 1)
    assert sandwich_layout(even, vector).grades == (1, 5)
    assert sandwich_layout(even, vector, True).grades == (1,)
    inner = plan_for("geometric", even, vector).out
    assert len(plan_for("geometric", inner, even, vector).terms) == 80  # 5 * 16, not 96


def test_vectors_keep_grades_without_a_type(generator: torch.Generator) -> None:
    for algebra in (VGA3, STA, CGA3):
        v, x = full(algebra, generator, 1), full(algebra, generator, 2)
        assert (v >> x).grades == (2,)
        expected = v * x * ~v
        torch.testing.assert_close((v >> x).planes, expected.grade(2).planes)


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA, CGA3, Algebra(4), Algebra(3, 1, 1)], ids=str)
def test_projection_gives_a_rotor(algebra: Algebra, generator: torch.Generator) -> None:
    noisy = rotor(algebra, generator) + 0.05 * full(algebra, generator, *range(0, algebra.n + 1, 2))
    with pytest.raises(ConstraintError, match=r"6 of 6 elements of .* are no rotor|no motor"):
        noisy.as_rotor()
    projected = noisy.as_rotor(project=True)
    assert float(versor_error(projected).max()) < 1e-13
    assert float((projected - noisy).planes.abs().max()) < 0.5
    assert projected.as_rotor() is projected


def test_other_types_are_checked(generator: torch.Generator) -> None:
    point = CGA3.point([1.0, 2.0, 3.0]).as_null()
    assert point.constraint is Constraint.NULL
    assert (2 * point).constraint is Constraint.NULL
    assert (rotor(CGA3, generator).to(torch.float32) >> point).constraint is Constraint.NULL
    blade = (VGA3.e1 ^ (VGA3.e2 + VGA3.e3)).as_simple()
    assert (blade ^ VGA3.e1.as_simple()).constraint is Constraint.SIMPLE
    assert (blade & VGA3.e12.as_simple()).constraint is Constraint.SIMPLE
    assert blade.dual().constraint is Constraint.SIMPLE
    null_blade = (Algebra(0, 0, 4).e1 ^ Algebra(0, 0, 4).e2).as_simple()  # being a blade needs no metric
    assert null_blade.constraint is Constraint.SIMPLE
    reflection = versor_from_vectors(STA.vector([0.0, 3.0, 4.0, 0.0]))
    assert reflection.constraint is Constraint.VERSOR
    assert STA.e2.as_versor().constraint is Constraint.VERSOR
    assert (STA.e2.as_versor() * STA.e1.as_versor()).constraint is Constraint.VERSOR
    assert versor_from_vectors(PGA3.e1, PGA3.e2).constraint is Constraint.MOTOR


def test_wrong_types_are_refused_by_name() -> None:
    four = Algebra(4)
    cases: dict[str, Callable[[], object]] = {
        r"elements of Cl\(4,0,0\)\[2\] are no simple blade: it is no outer product": lambda: four.bivector(
            [1.0, 0, 0, 0, 0, 1.0]
        ).as_simple(),
        r"Cl\(3,0,0\)\[1\] are no null: x ~x is not 0": lambda: VGA3.vector([1.0, 2.0, 3.0]).as_null(),
        r"a null blade is of one grade, got Cl\(3,0,0\)\[0,2\]": lambda: VGA3.even([1.0, 0, 0, 0]).as_null(),
        r"a simple blade is of one grade": lambda: VGA3.even([1.0, 0, 0, 0]).as_simple(),
        r"a versor is even or odd, got Cl\(2,0,0\)\[0,1,2\]": lambda: VGA2.multivector([1.0] * 4).as_versor(),
        r"Cl\(3,0,0\) has no null generator, hence no motors": lambda: VGA3.even([1.0, 0, 0, 0]).as_motor(),
        r"x ~x has no square root": lambda: STA.even([0.0, 1.0, 0, 0, 0, 0, 0, 0]).as_rotor(project=True),
        r"are no rotor: it moves vectors out of grade 1": lambda: (Algebra(6).e123456 * 0.6 + 0.8).as_rotor(),
    }
    for message, attempt in cases.items():
        with pytest.raises(ConstraintError, match=message):
            attempt()


@pytest.mark.parametrize(
    "algebra",
    [
        Algebra(1),
        Algebra(1, 1),
        Algebra(0, 2),
        Algebra(2, 0, 1),
        PGA3,
        Algebra(2, 2),
        CGA3,
        Algebra(3, 1, 1),
        Algebra(3, 3),
    ],
    ids=str,
)
def test_inverse(algebra: Algebra, generator: torch.Generator) -> None:
    grades = [tuple(range(algebra.n + 1)), tuple(range(0, algebra.n + 1, 2)), (0, 1), (1,)]
    for chosen in grades:
        x = full(algebra, generator, *chosen) + (3.0 if 0 in chosen else 0.0)
        y = x.inverse()
        for product in (x * y, y * x):
            assert float((product - 1.0).planes.abs().max()) < 1e-8


def test_vectors_and_rotors_have_short_inverses(generator: torch.Generator) -> None:
    assert full(CGA3, generator, 1).inverse().layout == Layout.of_grades(CGA3, 1)
    assert full(VGA3, generator, 0, 2).inverse().layout == Layout.of_grades(VGA3, (0, 2))
    r = rotor(CGA3, generator)
    assert torch.equal(r.inverse().planes, (~r).planes)
    assert float((1 / VGA3.e1 - VGA3.e1).planes) == 0
    assert float((VGA3.e12**-2 + 1.0).planes) == 0


def test_what_has_no_inverse_is_refused() -> None:
    for x in (
        VGA3.vector([0.0] * 3),
        STA.vector([1.0, 1.0, 0.0, 0.0]),
        VGA3.e1 + 1.0,
        PGA3.e0 * 2,
        CGA3.e1 + 1.0,
    ):
        with pytest.raises(NotInvertibleError, match=r"inverse of Cl\(.*an element has determinant 0"):
            x.inverse()
    with pytest.raises(NotInvertibleError, match=r"normalize of Cl\(1,3,0\)\[1\]: an element has norm 0"):
        STA.vector([1.0, 1.0, 0.0, 0.0]).normalize()
    with pytest.raises(NotInvertibleError, match=r"pseudoscalar of Cl\(3,0,1\) squares to 0"):
        PGA3.e1.polarity()


def test_norm_has_derivative_zero_at_zero() -> None:
    c = torch.zeros(3, requires_grad=True)
    torch.autograd.backward(VGA3.vector(c).norm())
    assert c.grad is not None
    assert c.grad.tolist() == [0.0, 0.0, 0.0]


def test_meet_and_join_of_points_lines_and_planes() -> None:
    a, b, c = ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    for algebra in (PGA3, CGA3):
        on_it = join(algebra.line(a, b), algebra.point([5.0, 0.0, 0.0]))
        off_it = join(algebra.line(a, b), algebra.point([5.0, 1.0, 0.0]))
        assert float(on_it.planes.abs().max()) == 0
        assert float(off_it.planes.abs().max()) > 0
    plane = join(PGA3.line(a, b), PGA3.point(c))
    assert float((plane ^ PGA3.point([3.0, 4.0, 0.0])).planes.abs().max()) == 0
    crossing = meet(PGA3.line([2.0, 3.0, -1.0], [2.0, 3.0, 1.0]), plane)
    coordinates = (crossing / crossing.undual().planes[0]).planes
    torch.testing.assert_close(coordinates, PGA3.point([2.0, 3.0, 0.0]).planes)
    assert float((CGA3.sphere([1.0, 2.0, 3.0], 2.0) | CGA3.point([3.0, 2.0, 3.0])).planes) == 0
    assert float((CGA3.plane([0.0, 0.0, 1.0], -3.0) | CGA3.point([7.0, 8.0, 3.0])).planes) == 0


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([VGA2, VGA3, PGA3, STA]), st.integers(0, 10**6))
def test_laws_of_maps(algebra: Algebra, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-4, 5, (2, algebra.size), generator=generator).double()
    a, b = (algebra.multivector(row) for row in values)
    assert torch.equal(a.dual().undual().planes, a.planes)
    assert torch.equal((a ^ b).dual().planes, (a.dual() & b.dual()).planes)
    assert torch.equal((a * b).conjugate().planes, (b.conjugate() * a.conjugate()).planes)
    assert float((a.commutator(b) + a.anticommutator(b) - a * b).planes.abs().max()) == 0
    assert float((a.commutator(b) * 2.0 - (a * b - b * a)).planes.abs().max()) == 0
    assert torch.equal(a.norm_squared(), a.scalar_product(~a).planes[0])


def test_objects_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match=r"Cl\(3,0,0\) has no point; points, lines and planes need"):
        VGA3.point([1.0, 2.0, 3.0])
    with pytest.raises(LayoutError, match=r"a point of Cl\(3,0,1\) has 3 coordinates .* got \(2,\)"):
        PGA3.point([1.0, 2.0])
