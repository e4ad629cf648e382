"""Every product of every pair of basis blades beside clifford: products are bilinear, so that is all."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from ga import Algebra, Layout, plan_for
from ga.plan import KEEP, blade_product
from ga.product import product

clifford = pytest.importorskip("clifford")

SIGNATURES = [
    Algebra(p, q, r) for n in range(1, 6) for p in range(n + 1) for q in range(n + 1 - p) for r in [n - p - q]
]
CUSTOM = Algebra.from_metric([1, -1, 0, 1])
TABLES = {"geometric": "gmt", "outer": "omt", "left": "lcmt"}
FILTERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "right": lambda r, s, t: t == r - s,
    "inner": lambda r, s, t: t == abs(r - s),
    "scalar": lambda r, s, t: t == 0,
}


@cache
def witness(algebra: Algebra) -> Any:
    if algebra == CUSTOM:
        return clifford.Layout(sig=np.array(algebra.metric))
    return clifford.Cl(algebra.p, algebra.q, algebra.r)[0]


@cache
def our_table(kind: str, algebra: Algebra) -> Any:
    """Shape (left, result, right), as clifford's tables, from the plan of the full layouts."""
    full = Layout.full(algebra)
    plan = plan_for(kind, full, full)
    place = {blade: t for t, blade in enumerate(algebra.blades)}
    table = np.zeros((algebra.size,) * 3)
    for i, j, k, sign, _ in plan.terms:
        table[i, place[plan.out.blades[k]], j] += sign
    return table


@cache
def theirs(name: str, algebra: Algebra) -> Any:
    return np.asarray(getattr(witness(algebra), name).todense())


def by_filter(kind: str, algebra: Algebra) -> Any:
    """Clifford's geometric table with a grade filter, or with both orders, written another way than ours."""
    table = theirs("gmt", algebra)
    if kind in ("commutator", "anticommutator"):
        swapped = table.transpose(2, 1, 0)
        return (table - swapped) / 2 if kind == "commutator" else (table + swapped) / 2
    grades = np.array(witness(algebra)._basis_blade_order.grades)
    keep = FILTERS[kind](grades[:, None, None], grades[None, None, :], grades[None, :, None])
    return np.where(keep, table, 0)


@pytest.mark.parametrize("algebra", [*SIGNATURES, CUSTOM], ids=str)
def test_every_product_of_every_pair_of_blades_is_that_of_clifford(algebra: Algebra) -> None:
    assert witness(algebra).sig.tolist() == list(algebra.metric)
    assert witness(algebra)._basis_blade_order.index_to_bitmap.tolist() == list(algebra.blades)
    for kind, name in TABLES.items():
        np.testing.assert_array_equal(our_table(kind, algebra), theirs(name, algebra), kind)
    for kind in (*FILTERS, "commutator", "anticommutator"):
        np.testing.assert_array_equal(our_table(kind, algebra), by_filter(kind, algebra), kind)
    ours, hestenes = our_table("inner", algebra), theirs("imt", algebra)
    np.testing.assert_array_equal(ours[1:, :, 1:], hestenes[1:, :, 1:])
    assert ours[0, 0, 0] == 1  # clifford's inner product (Hestenes) is zero on scalars, ours multiplies
    outer = theirs("omt", algebra)
    comp = outer[:, -1, :]  # a ^ comp(a) is the pseudoscalar: a signed permutation, inverted by its transpose
    lifted = np.tensordot(np.tensordot(comp, outer, (1, 0)), comp, (2, 1))  # comp(a) ^ comp(b)
    np.testing.assert_array_equal(our_table("regressive", algebra), np.einsum("akb,ck->acb", lifted, comp))


@pytest.mark.exhaustive  # clifford compiles its own functions for 20 seconds an algebra
@pytest.mark.parametrize("algebra", [Algebra(3, 0, 1), Algebra(4, 1), Algebra(1, 3)], ids=str)
def test_maps_are_those_of_clifford(algebra: Algebra, generator: torch.Generator) -> None:
    values = torch.randn(algebra.size, generator=generator, dtype=torch.float64)
    ours, their = algebra.multivector(values), clifford.MultiVector(witness(algebra), values.numpy())
    for name, expected in (
        ("reverse", ~their),
        ("involute", their.gradeInvol()),
        ("conjugate", their.conjugate()),
        ("dual", witness(algebra).right_complement_func(their.value)),
        ("undual", witness(algebra).left_complement_func(their.value)),
    ):
        got = getattr(ours, name)().coefficients.numpy()
        np.testing.assert_array_equal(got, getattr(expected, "value", expected), name)
    if not algebra.r:
        np.testing.assert_array_equal(ours.polarity().coefficients.numpy(), their.dual().value)
        np.testing.assert_allclose(ours.inverse().coefficients.numpy(), their.inv().value, atol=1e-10)
    np.testing.assert_allclose(float(ours.norm_squared()), float(their.mag2()))


@pytest.mark.parametrize("algebra", [Algebra(2, 0, 1), Algebra(1, 3), Algebra(3, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", [*KEEP, "regressive"])
def test_operator_multiplies_every_pair_of_blades(kind: str, algebra: Algebra) -> None:
    full = Layout.full(algebra)
    plan = plan_for(kind, full, full)
    left = torch.eye(len(full))[:, :, None]  # planes (blades, left blade, 1)
    right = torch.eye(len(full))[:, None, :]
    got = product(left, right, plan)
    expected = torch.zeros(got.shape)
    for i, a in enumerate(full.blades):
        for j, b in enumerate(full.blades):
            blade, sign = blade_product(kind, algebra, a, b)
            if sign:
                expected[plan.out.blades.index(blade), i, j] = sign
    assert torch.equal(got, expected)
