"""Every product of every pair of basis blades beside clifford: products are bilinear, so that is all."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from ga import Algebra, Layout, plan_for
from ga.plan import KEEP, blade_product
from ga.product import product

clifford = pytest.importorskip("clifford")

SMALL = [Algebra(p, q, r) for p in range(5) for q in range(5 - p) for r in range(5 - p - q) if p + q + r > 0]
SIGNATURES = [*SMALL, Algebra(4, 1), Algebra(3, 1, 1)]
TABLES = {"geometric": "gmt", "outer": "omt", "left": "lcmt"}


@cache
def witness(algebra: Algebra) -> Any:
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


def by_filter(kind: str, algebra: Algebra) -> Any:
    """Clifford's geometric table with a grade filter, written another way than ours."""
    table = witness(algebra).gmt.todense().copy()
    grades = witness(algebra)._basis_blade_order.grades
    for i, r in enumerate(grades):
        for k, t in enumerate(grades):
            for j, s in enumerate(grades):
                if not {"right": t == r - s, "inner": t == abs(r - s), "scalar": t == 0}[kind]:
                    table[i, k, j] = 0
    return table


@pytest.mark.parametrize("algebra", SIGNATURES, ids=str)
def test_blades_come_in_clifford_order(algebra: Algebra) -> None:
    assert witness(algebra).sig.tolist() == list(algebra.metric)
    assert witness(algebra)._basis_blade_order.index_to_bitmap.tolist() == list(algebra.blades)


@pytest.mark.parametrize("algebra", SIGNATURES, ids=str)
@pytest.mark.parametrize("kind", TABLES)
def test_table_is_that_of_clifford(kind: str, algebra: Algebra) -> None:
    theirs = getattr(witness(algebra), TABLES[kind]).todense()
    np.testing.assert_array_equal(our_table(kind, algebra), theirs)


@pytest.mark.parametrize("algebra", SMALL, ids=str)
@pytest.mark.parametrize("kind", ["right", "inner", "scalar"])
def test_filtered_table_is_that_of_clifford(kind: str, algebra: Algebra) -> None:
    np.testing.assert_array_equal(our_table(kind, algebra), by_filter(kind, algebra))


@pytest.mark.parametrize("algebra", SMALL, ids=str)
def test_inner_product_is_clifford_s_but_for_scalars(algebra: Algebra) -> None:
    ours, theirs = our_table("inner", algebra), witness(algebra).imt.todense()
    np.testing.assert_array_equal(ours[1:, :, 1:], theirs[1:, :, 1:])
    assert ours[0, 0, 0] == 1  # clifford's inner product (Hestenes) is zero on scalars, ours multiplies


@pytest.mark.parametrize("algebra", SMALL, ids=str)
def test_regressive_product_is_clifford_s_outer_product_of_complements(algebra: Algebra) -> None:
    outer = witness(algebra).omt.todense()
    comp = outer[
        :, -1, :
    ]  # a ^ comp(a) is the pseudoscalar: a signed permutation, its inverse is its transpose
    theirs = np.einsum("ia,akb,jb,ck->icj", comp, outer, comp, comp)
    np.testing.assert_array_equal(our_table("regressive", algebra), theirs)


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
