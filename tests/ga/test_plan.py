"""Plans: sparsity, supports, paths, keys, adjoints."""

import pytest

from ga import (
    CGA3,
    PGA2,
    PGA3,
    STA,
    VGA3,
    Algebra,
    AlgebraError,
    Layout,
    LayoutError,
    ProductError,
    plan_for,
    plan_from_key,
)
from ga.plan import KINDS, product_layout, sandwich_layout


def of(algebra: Algebra, *grades: int) -> Layout:
    return Layout.of_grades(algebra, grades)


def even(algebra: Algebra) -> Layout:
    return of(algebra, *range(0, algebra.n + 1, 2))


@pytest.mark.parametrize(
    ("algebra", "terms"), [(VGA3, 64), (PGA2, 48), (PGA3, 192), (STA, 256), (CGA3, 1024)], ids=str
)
def test_full_product_has_only_nonzero_terms(algebra: Algebra, terms: int) -> None:
    full = Layout.full(algebra)
    assert len(plan_for("geometric", full, full).terms) == terms


@pytest.mark.parametrize(
    ("algebra", "even_even", "vector_vector", "bivector_vector", "even_vector"),
    [(PGA3, 48, 15, 21, 28), (VGA3, 16, 9, 9, 12), (CGA3, 256, 25, 50, 80)],
    ids=str,
)
def test_typed_products_have_only_nonzero_terms(
    algebra: Algebra, even_even: int, vector_vector: int, bivector_vector: int, even_vector: int
) -> None:
    vector, bivector = of(algebra, 1), of(algebra, 2)

    def count(x: Layout, y: Layout) -> int:
        return len(plan_for("geometric", x, y).terms)

    assert count(even(algebra), even(algebra)) == even_even
    assert count(vector, vector) == vector_vector
    assert count(bivector, vector) == bivector_vector
    assert count(even(algebra), vector) == even_vector


def test_support_is_exact_where_a_null_generator_annihilates() -> None:
    null = Layout.of_blades(PGA3, ["e0", "e01"])
    assert product_layout("geometric", null, null).blades == ()
    assert product_layout("geometric", null, Layout.of_blades(PGA3, ["e1"])).names == ("e0", "e01")


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_key_parses_back_in_every_role(kind: str, algebra: Algebra) -> None:
    plan = plan_for(kind, even(algebra), Layout.full(algebra))
    for role in (plan, plan.adjoint_first, plan.adjoint_second, plan.adjoint_first.adjoint_second):
        assert plan_from_key(role.key) is role


def test_adjoints_are_the_same_trilinear_form() -> None:
    plan = plan_for("geometric", even(PGA3), of(PGA3, 1))
    terms = {(t.i, t.j, t.k, t.sign, t.path) for t in plan.terms}
    assert {(t.k, t.j, t.i, t.sign, t.path) for t in plan.adjoint_first.terms} == terms
    assert {(t.i, t.k, t.j, t.sign, t.path) for t in plan.adjoint_second.terms} == terms
    assert plan.adjoint_first.adjoint_first is plan
    assert plan.adjoint_second.adjoint_second is plan


def test_groups_hold_every_term_once() -> None:
    plan = plan_for("geometric", Layout.full(PGA3), even(PGA3))
    assert [t for group in plan.by_output for t in group] == list(plan.terms)
    assert sorted(t for group in plan.by_path for t in group) == sorted(plan.terms)
    assert all(t.path == path for path, group in enumerate(plan.by_path) for t in group)


def test_paths_are_only_those_that_reach_the_output() -> None:
    plan = plan_for("geometric", even(VGA3), of(VGA3, 1), of(VGA3, 3))
    assert plan.paths == ((2, 1, 3),)
    assert len(plan.terms) == 3


@pytest.mark.parametrize(
    ("algebra", "y", "expected"),
    [
        (VGA3, 1, (1,)),
        (VGA3, 2, (2,)),
        (PGA3, 1, (1,)),
        (PGA3, 3, (3,)),
        (STA, 2, (2,)),
        (CGA3, 1, (1, 5)),
    ],
    ids=str,
)
def test_sandwich_by_an_even_element_keeps_grades(
    algebra: Algebra, y: int, expected: tuple[int, ...]
) -> None:
    assert sandwich_layout(even(algebra), of(algebra, y)).grades == expected


def test_unreachable_output_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"geometric product of .*\[1\] and .*\[1\] reaches .*never e1"):
        plan_for("geometric", of(VGA3, 1), of(VGA3, 1), of(VGA3, 0, 1))


def test_mixed_algebras_are_refused_by_name() -> None:
    with pytest.raises(AlgebraError, match=r"outer product of Cl\(3,0,0\)\[1\] and Cl\(3,0,1\)\[1\] mixes"):
        plan_for("outer", of(VGA3, 1), of(PGA3, 1))


def test_unknown_product_is_refused() -> None:
    with pytest.raises(ProductError, match="unknown product 'dot'; known are geometric, outer"):
        plan_for("dot", of(VGA3, 1), of(VGA3, 1))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "geometric",
        "dot 3,0,0 16 16 69 xyz",
        "geometric 3,0,0 16 16 69 xxy",
        "geometric 3,0,0 zz 16 69 xyz",
        "geometric 3,0,0 16 16 fff69 xyz",
        "geometric 9,0,0 16 16 69 xyz",
        "geometric 3,0 16 16 69 16 xyz",
    ],
)
def test_text_that_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ProductError, match="is not the key of a plan"):
        plan_from_key(key)
