"""On this machine the float64 approximations err by less than a quarter of their certified bounds."""

from fractions import Fraction

import numpy as np
import pytest

from posit import Format, bposit32, posit32
from posit._elementary.approximate import DEFAULT_BOUND
from posit._elementary.registry import FUNCTIONS
from posit._elementary.several import SEVERAL
from posit.codec import decode
from posit.reference import exact
from tests.posit.real_oracle import FAR, REAL, UNDEFINED, mp, number
from tests.posit.several_oracle import SEVERAL as ORACLES
from tests.posit.test_functions import corners, nearest_to_multiples_of_half_pi
from tests.posit.test_functions_of_several import drawn_pairs


def samples(fmt: Format) -> list[int]:
    """Random codes, codes of values in ±40, and corners."""
    random = np.random.default_rng(11)
    usual = [exact.nearest(Fraction(x), fmt) for x in random.normal(0, 8, 70)]
    return [*usual, *random.integers(0, 1 << fmt.nbits, 60).tolist(), *corners(fmt)]


@pytest.mark.parametrize("fmt", [posit32, bposit32, Format(32, 5)], ids=str)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_quarter_of_the_bound_is_enough(name: str, fmt: Format) -> None:
    codes = samples(fmt) + (nearest_to_multiples_of_half_pi(fmt) if name in ("sin", "cos", "tan") else [])
    inputs = np.array(codes, np.uint32)
    with np.errstate(all="ignore"):
        result = FUNCTIONS[name].approximate(decode(inputs, fmt).astype(np.float64))
    values, bound = result if isinstance(result, tuple) else (result, np.full(inputs.size, DEFAULT_BOUND))
    for code, got, limit in zip(codes, values.tolist(), bound.tolist(), strict=True):
        x = exact.value(code, fmt)
        if x is None or (name in UNDEFINED and UNDEFINED[name](x)):
            assert np.isnan(got), hex(code)
        elif abs(x) < FAR and limit < 0.5:
            true = REAL[name](number(x))
            if true == 0 or got == 0:
                assert true == got, hex(code)
            elif 2.0**-1000 < abs(true) < 2.0**1000:
                assert abs(mp.mpf(got) / true - 1) < limit / 4, (hex(code), got)


@pytest.mark.parametrize("fmt", [posit32, Format(32, 5)], ids=str)
@pytest.mark.parametrize("name", ORACLES)
def test_the_same_holds_for_two_arguments(name: str, fmt: Format) -> None:
    a, b = drawn_pairs(fmt, 60, 12)
    x, y = (decode(np.array(codes, np.uint32), fmt).astype(np.float64) for codes in (a, b))
    with np.errstate(all="ignore"):
        values, bound = SEVERAL[name].approximate(x, y)
    limits = np.broadcast_to(np.asarray(bound), values.shape)
    for left, right, got, limit in zip(a, b, values.tolist(), limits.tolist(), strict=True):
        p, q = exact.value(left, fmt), exact.value(right, fmt)
        true = None if p is None or q is None else ORACLES[name](p, q)
        if true is None or true == 0:
            assert np.isnan(got) if true is None else got == 0, (hex(left), hex(right))
        elif 2.0**-1000 < abs(true) < 2.0**1000:
            assert abs(mp.mpf(got) / true - 1) < limit / 4, (hex(left), hex(right), got)
