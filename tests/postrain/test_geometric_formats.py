"""Geometric products of posits in several formats: each coefficient is exact and rounded once to the policy's."""

from fractions import Fraction

import torch

import postrain.geometric  # noqa: F401  (rules for geometric products)
from ga.algebra import VGA3
from ga.layout import Layout
from ga.plan import plan_for
from posit import Format, posit8, posit16
from posit.reference import exact
from posit.torch import Policy, PositTensor, phase, posit_tensor

MIXED = Policy(posit8, Format(12), posit16)


def random(fmt: Format, seed: int) -> PositTensor:
    values = torch.randn(3, 7, generator=torch.Generator().manual_seed(seed))
    return PositTensor(posit_tensor(values, fmt).codes, fmt, policy=MIXED)


def test_a_product_of_two_formats_takes_that_of_the_phase() -> None:
    vector, bivector = (Layout.of_grades(VGA3, k) for k in (1, 2))
    plan = plan_for("geometric", vector, vector, bivector)
    x, y = random(posit8, 0), random(posit16, 1)
    forward = torch.ops.ga.product(x, y, plan.key)
    with torch.no_grad(), phase(backward=True):
        backward = torch.ops.ga.product(x, y, plan.key)
    assert (forward.format, backward.format, forward.policy) == (posit8, Format(12), MIXED)
    a, b = (each.to_float(torch.float64).tolist() for each in (x, y))
    for plane, terms in enumerate(plan.by_output):
        for i in range(7):
            total = sum(
                (t.sign * Fraction(a[t.i][i]) * Fraction(b[t.j][i]) for t in terms), start=Fraction(0)
            )
            for result in (forward, backward):
                code = int(result.codes[plane, i]) & result.format.code_mask
                assert code == exact.nearest(total, result.format)
