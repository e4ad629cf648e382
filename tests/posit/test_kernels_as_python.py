"""Kernels as Python functions, with NUMBA_DISABLE_JIT: small samples of each against the exact oracle.

`make nojit` runs these.  Compiled kernels have tests of their own, with more numbers than Python could serve.
"""

import math
import os
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

import posit
from posit import Format, arithmetic, codec, conversion, fused
from posit._elementary import evaluate
from posit._kernels import arithmetic as kernels
from posit._kernels import carrier, lanes
from posit._planes import Factor, Terms, sum_products
from posit.reference import exact
from tests.exhaustive.wide_inputs import corner_pairs, pairs
from tests.exhaustive.wide_pairs import check
from tests.posit.real_oracle import expected

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") != "1", reason="for make nojit: kernels as Python"
)

#: One format for each way that kernels compute: 32-bit lanes, float64 to odd, integers of 32 and of 64 bits.
IN_LANES, IN_FLOAT64, IN_INTEGERS, LONG = Format(16), Format(32, 5, 6), Format(32, 5), Format(64)
FORMATS = [IN_LANES, IN_FLOAT64, IN_INTEGERS, LONG]


def test_the_formats_take_all_ways() -> None:
    ways = [
        (lanes.serves(*_parameters(fmt)), kernels.fits_float64(*_parameters(fmt)), fmt.nbits > 32)
        for fmt in FORMATS
    ]
    assert ways == [(True, True, False), (False, True, False), (False, False, False), (False, False, True)]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_arithmetic(fmt: Format) -> None:
    for codes in (pairs(240, 9, fmt), corner_pairs(fmt, 1)):
        assert check(codes, fmt) == (4 * codes[0].size, [])


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_fused_multiply_add_and_roots(fmt: Format) -> None:
    a, b = (codes.astype(fmt.storage) for codes in pairs(120, 10, fmt))
    c = np.roll(a, 7)
    c[::3] = arithmetic.mul(a[::3], b[::3], fmt)  # the product itself, and its negative: cancellation
    c[::6] = arithmetic.negate(c[::6], fmt)
    got = arithmetic.fma(a, b, c, fmt).tolist()
    assert got == [exact.dot([x], [y], fmt, z) for x, y, z in zip(*_ints(a, b, c), strict=True)]
    for code, root in zip(*_ints(a, arithmetic.sqrt(a, fmt)), strict=True):
        x, y = exact.value(code, fmt), exact.value(root, fmt)
        assert (y is None) == (x is None or x < 0)
        if x is not None and x > 0:
            assert exact.boundary(root - 1, fmt) ** 2 <= x <= exact.boundary(root, fmt) ** 2


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_conversions(fmt: Format) -> None:
    codes = pairs(120, 11, fmt)[0].astype(fmt.storage)
    values = [exact.value(code, fmt) for code in codes.tolist()]
    for dtype in (np.float32, np.float64):
        real: npt.NDArray[np.floating] = np.random.default_rng(0).standard_normal(120).astype(dtype)
        real *= np.exp2(np.arange(-60, 60)).astype(dtype)
        real[:4] = 0.0, -0.0, np.nan, -np.inf
        wanted = [exact.nearest(Fraction(float(x)), fmt) if np.isfinite(x) else fmt.nar for x in real]
        assert conversion.from_floats(real, fmt).tolist() == wanted
    if fmt.nbits <= 32:
        back = [np.nan if value is None else float(value) for value in values]
        np.testing.assert_array_equal(codec.decode(codes, fmt), back)
    for target in (IN_LANES, LONG):
        wanted = [target.nar if value is None else exact.nearest(value, target) for value in values]
        assert conversion.recode(codes, fmt, target).tolist() == wanted
    integers = np.array([0, 1, -1, 12345678901, -(2**62) - 1], np.int64)
    rounded = [exact.nearest(int(x), fmt) for x in integers]
    assert conversion.from_integers(integers, fmt).tolist() == rounded
    assert posit.from_codes(np.array(rounded[:3], fmt.storage), fmt).astype(np.int64).tolist() == [0, 1, -1]


@pytest.mark.parametrize("fmt", [IN_LANES, Format(12, 1)], ids=str)
def test_float64_goes_through_lanes(fmt: Format) -> None:
    constants = carrier.constants(*_parameters(fmt))
    for code in range(1, fmt.maxpos, 311):
        tie = float(exact.boundary(code, fmt))
        for x in (np.nextafter(tie, 0), tie, np.nextafter(tie, np.inf), -tie, 2.0**300, -(2.0**-300)):
            got = int(carrier.encode(np.float64(x), *_parameters(fmt), *constants)) & fmt.code_mask
            assert got == exact.nearest(Fraction(float(x)), fmt), (hex(code), x)


@pytest.mark.parametrize("fmt", [IN_LANES, IN_FLOAT64], ids=str)
def test_fused_updates(fmt: Format) -> None:
    x, y = (codes.astype(fmt.storage) for codes in pairs(100, 12, fmt))
    alpha, wanted = 0.9, []
    for a, b in zip(*_ints(x, y), strict=True):
        left, right = exact.value(a, fmt), exact.value(b, fmt)
        real = None if left is None or right is None else Fraction(alpha) * left + right
        wanted.append(fmt.nar if real is None else exact.nearest(real, fmt))
    assert fused.axpy(alpha, x, y, fmt).tolist() == wanted


@pytest.mark.parametrize("name", ["exp", "log", "sin", "erf"])
def test_elementary_functions(name: str) -> None:
    codes = np.concatenate([pairs(30, 13, IN_FLOAT64)[0], np.array([0, IN_FLOAT64.nar], np.uint64)])
    got = evaluate(name, codes.astype(IN_FLOAT64.storage), IN_FLOAT64).tolist()
    assert got == [expected(name, int(code), IN_FLOAT64) for code in codes]


@pytest.mark.parametrize("fmt", [IN_LANES, IN_FLOAT64], ids=str)
def test_products_of_matrices(fmt: Format) -> None:
    a, b = (codes[:15].astype(fmt.storage) for codes in corner_pairs(fmt, 1))
    a, b = (
        np.roll(a, 4).reshape(3, 5),
        np.arange(15, dtype=fmt.storage).reshape(5, 3) + fmt.storage.type(fmt.nar >> 2),
    )
    got = (posit.from_codes(a, fmt) @ posit.from_codes(b, fmt)).codes.tolist()
    assert got == [[exact.dot(row, column, fmt) for column in b.T.tolist()] for row in a.tolist()]


def _parameters(fmt: Format) -> tuple[int, int, int]:
    return fmt.nbits, fmt.es, fmt.max_regime or 0


def _ints(*codes: npt.NDArray[np.integer]) -> list[list[int]]:
    return [array.tolist() for array in codes]


@pytest.mark.parametrize("fmt", [IN_LANES, Format(32)], ids=str)
def test_sums_of_products_of_planes(fmt: Format) -> None:
    """Of two and of three factors; x0 y1 - x1 y0 with x = y cancels, which float64 does not know in 32 bits."""
    codes = pairs(240, 12, fmt)[0][:12].reshape(2, 1, 2, 3)
    x = Factor(codes, fmt)
    for terms, factors in (
        ([(1, (0, 1)), (-1, (1, 0))], (x, x)),
        ([(1, (0, 1, 0)), (-1, (1, 1, 1))], (x, x, x)),
    ):
        found = sum_products(factors, Terms([terms]), fmt, (1, 2, 3)).codes
        for t in range(3):
            values = [[exact.value(int(codes[i, 0, r, t]), fmt) for r in range(2)] for i in range(2)]
            total = sum(
                (
                    sign * math.prod(values[i][r] or 0 for i in places)
                    for sign, places in terms
                    for r in range(2)
                ),
                Fraction(0),
            )
            wanted = fmt.nar if None in values[0] + values[1] else exact.nearest(total, fmt)
            assert int(found[0, 0, t]) & fmt.code_mask == wanted
