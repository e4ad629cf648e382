"""Multivector: algebraic laws, operators, views, messages."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ga import CGA3, PGA3, STA, VGA2, VGA3, Algebra, AlgebraError, Layout, LayoutError, Multivector
from ga.testing import random_orthogonal, transform

ALGEBRAS = [VGA2, VGA3, PGA3, STA, Algebra(1, 1, 1)]


@st.composite
def multivectors(draw: st.DrawFn, count: int) -> list[Multivector]:
    """Multivectors of one algebra, on drawn grades, with small integer coefficients: products are exact."""
    algebra = draw(st.sampled_from(ALGEBRAS))
    drawn = []
    for _ in range(count):
        layout = Layout.of_grades(algebra, draw(st.sets(st.integers(0, algebra.n), min_size=1)))
        values = draw(st.lists(st.integers(-4, 4), min_size=len(layout), max_size=len(layout)))
        drawn.append(Multivector(torch.tensor(values, dtype=torch.float64), layout))
    return drawn


def dense(mv: Multivector) -> dict[int, float]:
    """Nonzero coefficients by blade, whatever the layout."""
    return {b: c for b, c in zip(mv.layout.blades, mv.planes.tolist(), strict=True) if c}


@settings(deadline=None, max_examples=60)
@given(multivectors(3))
def test_products_are_associative(mvs: list[Multivector]) -> None:
    a, b, c = mvs
    assert dense((a * b) * c) == dense(a * (b * c))
    assert dense((a ^ b) ^ c) == dense(a ^ (b ^ c))
    assert dense((a & b) & c) == dense(a & (b & c))


@settings(deadline=None, max_examples=60)
@given(multivectors(3))
def test_products_distribute_over_sums(mvs: list[Multivector]) -> None:
    a, b, c = mvs
    assert dense(a * (b + c)) == dense(a * b + a * c)
    assert dense((a - b) | c) == dense((a | c) - (b | c))


@settings(deadline=None, max_examples=60)
@given(multivectors(2))
def test_reverse_turns_products_round(mvs: list[Multivector]) -> None:
    a, b = mvs
    assert dense(~(a * b)) == dense(~b * ~a)
    assert dense(~(a ^ b)) == dense(~b ^ ~a)
    assert dense(~~a) == dense(a)
    assert dense((a * b).involute()) == dense(a.involute() * b.involute())


@settings(deadline=None, max_examples=60)
@given(multivectors(2))
def test_sandwich_is_two_products(mvs: list[Multivector]) -> None:
    a, b = mvs
    assert dense(a >> b) == dense(a * b * ~a)


@settings(deadline=None, max_examples=60)
@given(multivectors(3))
def test_contractions_are_adjoint_to_the_outer_product(mvs: list[Multivector]) -> None:
    a, b, c = mvs
    left = (a ^ b).scalar_product(c)
    assert dense(left) == dense(a.scalar_product(b.left_contraction(c)))
    assert dense(c.scalar_product(b ^ a)) == dense(c.right_contraction(b).scalar_product(a))


def test_a_product_commutes_with_orthogonal_maps(generator: torch.Generator) -> None:
    for algebra in (VGA3, PGA3, STA, CGA3):
        x, y = (
            algebra.multivector(torch.randn(5, algebra.size, generator=generator, dtype=torch.float64))
            for _ in range(2)
        )
        matrix = random_orthogonal(algebra, generator)
        moved = transform(x, matrix) * transform(y, matrix)
        torch.testing.assert_close(moved.planes, transform(x * y, matrix).planes)


def test_coefficients_are_blades_last_and_planes_are_contiguous() -> None:
    given_last = torch.arange(24.0).reshape(2, 3, 4)
    mv = VGA3.multivector(given_last, grades=(0, 2))
    assert mv.planes.shape == (4, 2, 3)
    assert mv.planes.is_contiguous()
    assert torch.equal(mv.coefficients, given_last)
    assert mv.coefficients.data_ptr() == mv.planes.data_ptr()


@pytest.mark.parametrize(
    ("coefficients", "dtype"),
    [
        ([1, 2], torch.float32),
        (np.ones(2), torch.float64),
        (torch.ones(2, dtype=torch.float16), torch.float16),
    ],
    ids=["list", "array", "tensor"],
)
def test_coefficients_are_taken_from_lists_arrays_tensors(coefficients: Any, dtype: torch.dtype) -> None:
    assert VGA2.multivector(coefficients, grades=1).dtype == dtype


def test_scalars_and_tensors_scale_and_add() -> None:
    mv = VGA2.multivector([[1.0, 2.0], [3.0, 4.0]], grades=1)
    factor = torch.tensor([2.0, 10.0])
    assert (mv * factor).coefficients.tolist() == [[2.0, 4.0], [30.0, 40.0]]
    assert (factor * mv).coefficients.tolist() == (mv * factor).coefficients.tolist()
    assert (2 * mv / 2 - mv).planes.abs().max() == 0
    assert (1 - mv).coefficients.tolist() == [[1.0, -1.0, -2.0], [1.0, -3.0, -4.0]]
    assert (mv + factor).coefficients.tolist() == [[2.0, 1.0, 2.0], [10.0, 3.0, 4.0]]


def test_sums_join_layouts_and_broadcast() -> None:
    a = VGA2.multivector([1.0, 2.0], grades=(0, 2))
    b = VGA2.multivector([[3.0, 4.0, 5.0]] * 2, grades=(1, 2))
    assert str((a + b).layout) == "Cl(2,0,0)[0,1,2]"
    assert (a - b).coefficients.tolist() == [[1.0, -3.0, -4.0, -3.0]] * 2


def test_regressive_product_meets_planes_in_a_line() -> None:
    # in PGA3 vectors are planes: the join of two points, dual, meets where planes intersect
    point = PGA3.multivector([0.0, 0.0, 0.0, 1.0], grades=3)  # e123, the origin
    far = PGA3.multivector([1.0, 0.0, 0.0, 1.0], grades=3)
    line = point & far
    assert line.grades == (2,)
    assert dense(line ^ (point & point)) == {}
    assert (line & point).planes.abs().max() == 0


def test_gradients_reach_the_coefficients() -> None:
    c = torch.ones(3, requires_grad=True)
    mv = VGA3.multivector(c, grades=1)
    torch.autograd.backward((mv | mv).planes.sum())
    assert c.grad is not None
    assert c.grad.tolist() == [2.0, 2.0, 2.0]


def test_repr_shows_one_or_summarises_many() -> None:
    assert repr(VGA2.multivector([1.0, -2.0], grades=1)) == "Multivector(1.0 e1 - 2.0 e2, Cl(2,0,0)[1])"
    assert "batch (5,)" in repr(VGA2.multivector(torch.ones(5, 2), grades=1))
    empty = VGA2.multivector([1.0], grades=2) ^ VGA2.multivector([1.0], grades=2)
    assert repr(empty) == "Multivector(0, Cl(2,0,0){})"


def test_wrong_number_of_coefficients_is_refused() -> None:
    with pytest.raises(
        LayoutError, match=r"Cl\(3,0,0\)\[1\] wants 3 coefficients .* e1, e2, e3; got shape \(4,\)"
    ):
        VGA3.multivector([1.0, 2.0, 3.0, 4.0], grades=1)
    with pytest.raises(
        LayoutError, match=r"has 3 blades, got planes of shape \(2, 3\); the blade is the first"
    ):
        Multivector(torch.ones(2, 3), Layout.of_grades(VGA3, 1))


def test_mixed_algebras_are_refused_with_the_operation() -> None:
    a, b = VGA3.multivector([1.0] * 3, grades=1), PGA3.multivector([1.0] * 4, grades=1)
    for operation, name in (
        (a.__mul__, "geometric product"),
        (a.__add__, "addition"),
        (a.__rshift__, "sandwich"),
    ):
        with pytest.raises(AlgebraError, match=rf"{name} of Cl\(3,0,0\)\[1\] and Cl\(3,0,1\)\[1\] mixes"):
            operation(b)


def test_grades_that_are_not_there_are_refused() -> None:
    mv = VGA3.multivector([1.0] * 3, grades=1)
    with pytest.raises(LayoutError, match=r"grades of Cl\(3,0,0\) are 0 to 3, got \[4\]"):
        mv.grade(4)
    with pytest.raises(LayoutError, match=r"Cl\(3,0,0\)\[1\] stores the grades \(1,\), not \[2\]"):
        mv.grade(2)


def test_batches_align_at_the_end_also_with_one_layout() -> None:
    a = VGA2.multivector(torch.ones(2, 2, 2), grades=1)
    b = VGA2.multivector([[1.0, 2.0], [3.0, 4.0]], grades=1)
    assert (a + b).coefficients.tolist() == [[[2.0, 3.0], [4.0, 5.0]]] * 2
    with pytest.raises(
        LayoutError, match=r"batch shapes \(2,\), \(3,\) in the addition of Cl\(2,0,0\)\[1\] and"
    ):
        b + VGA2.multivector(torch.ones(3, 2), grades=1)


@pytest.mark.parametrize("other", [{}, None, object()])
def test_other_types_are_refused(other: Any) -> None:
    mv = VGA3.multivector([1.0] * 3, grades=1)
    with pytest.raises(TypeError, match="unsupported operand"):
        mv * other
    with pytest.raises(TypeError, match="unsupported operand"):
        mv ^ other
