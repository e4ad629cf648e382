"""On this machine the float64 approximations err by less than a quarter of their certified bounds."""

from fractions import Fraction

import numpy as np
import pytest

from posit import Format, bposit32, posit32
from posit._elementary.approximate import DEFAULT_BOUND
from posit._elementary.registry import FUNCTIONS
from posit.codec import decode
from posit.reference import exact
from tests.posit.real_oracle import FAR, REAL, UNDEFINED, mp, number
from tests.posit.test_functions import corners, nearest_to_multiples_of_half_pi


def samples(fmt: Format) -> list[int]:
    """Random codes, codes of values in ±40, and corners."""
    random = np.random.default_rng(11)
    usual = [exact.nearest(Fraction(x), fmt) for x in random.normal(0, 8, 150)]
    return [*usual, *random.integers(0, 1 << fmt.nbits, 100).tolist(), *corners(fmt)]


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
