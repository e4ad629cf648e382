"""Certified rounding and the fused linear combination, against rationals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posit import Format, posit8, posit16, posit32
from posit.codec import encode_rational, to_signed, to_unsigned
from posit.errors import FormatError, NonFiniteError
from posit.formats import bposit32
from posit.fused import combine
from posit.reference import exact
from posit.rounding import certified, nearest_real

FORMATS = [posit8, posit16, posit32, Format(12, 1)]
COEFFICIENTS = [1.0, -1.0, 0.9, -0.1, 1.0000000000000002, 2.0**-30, 1e-100, 0.0, 3.0]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@given(data=st.data(), alpha=st.sampled_from(COEFFICIENTS), beta=st.sampled_from(COEFFICIENTS))
def test_combine_rounds_the_exact_value_once(fmt: Format, data: st.DataObject, alpha: float, beta: float) -> None:
    codes = st.integers(0, fmt.code_mask)
    x = data.draw(codes)
    y = data.draw(codes | st.sampled_from([((1 << fmt.nbits) - x) & fmt.code_mask, (-x + 1) & fmt.code_mask]))
    got = combine(alpha, np.array([x], fmt.storage), beta, np.array([y], fmt.storage), fmt)
    left, right = exact.value(x, fmt), exact.value(y, fmt)
    if left is None or right is None:
        assert got[0] == fmt.nar
    else:
        assert int(got[0]) == exact.nearest(Fraction(alpha) * left + Fraction(beta) * right, fmt)


def test_combine_may_write_into_an_operand_and_keeps_signed_codes_signed() -> None:
    fmt = Format(12)
    x = to_signed(np.array([0x400, 0xC00, fmt.nar], np.uint16), fmt)
    combine(1.0, x, -0.5, x, fmt, out=x)
    assert to_unsigned(x, fmt).tolist() == [exact.nearest(Fraction(1, 2), fmt), 0xC80, fmt.nar]


def test_combine_refuses_what_it_cannot_do_exactly() -> None:
    code = np.array([0x4000], np.uint16)
    with pytest.raises(NonFiniteError, match="a coefficient must be 0 or"):
        combine(float("inf"), code, 1.0, code, posit16)
    with pytest.raises(NonFiniteError, match="a coefficient must be 0 or"):
        combine(1e-200, code, 1.0, code, posit16)
    with pytest.raises(FormatError, match="does not fit the float64 carrier"):
        combine(1.0, code.astype(np.uint64), 1.0, code.astype(np.uint64), Format(64))


@pytest.mark.parametrize("fmt", [*FORMATS, bposit32, Format(64), Format(33, 5)], ids=str)
@given(x=st.fractions() | st.floats(allow_nan=False, allow_infinity=False).map(Fraction), power=st.integers(-300, 300))
@example(x=Fraction(0), power=0)
def test_encode_rational_equals_the_oracle(fmt: Format, x: Fraction, power: int) -> None:
    scaled = x * Fraction(2) ** power
    assert encode_rational(scaled, fmt) == exact.nearest(scaled, fmt)


@pytest.mark.parametrize("fmt", [posit8, posit16, Format(64)], ids=str)
def test_encode_rational_at_boundaries(fmt: Format) -> None:
    for code in [1, 2, 3, fmt.nar >> 1, (fmt.nar >> 1) + 1, fmt.maxpos - 1]:
        boundary = exact.boundary(code, fmt)
        for offset in (-1, 0, 1):
            x = boundary + Fraction(offset, 2**700)
            assert encode_rational(x, fmt) == exact.nearest(x, fmt)
            assert encode_rational(-x, fmt) == exact.nearest(-x, fmt)


def test_certified_asks_for_just_the_undecided_elements() -> None:
    asked: list[int] = []
    boundary = float(exact.boundary(0x4000, posit16))

    def settle(index: int) -> int:
        asked.append(index)
        return 0xC001

    approximation = np.array([[1.0, boundary], [np.nan, 3.0]])
    error = np.array([[1e-9, 1e-9], [0.0, 0.0]])
    assert certified(approximation, error, posit16, settle).tolist() == [[0x4000, 0xC001], [0x8000, 0x4C00]]
    assert asked == [1]
    assert certified(approximation, error, posit16, settle, np.int16).tolist()[0] == [0x4000, 0xC001 - 0x10000]


def test_nearest_real_retries_until_the_rounding_is_proven() -> None:
    mpmath = pytest.importorskip("mpmath")
    boundary = exact.boundary(0x4000, posit16)
    asked: list[int] = []

    def just_above(bits: int) -> object:
        asked.append(bits)
        with mpmath.workprec(bits):
            return mpmath.mpf(boundary.numerator) / boundary.denominator * (1 + mpmath.mpf(2) ** -300)

    def to_working_precision(bits: int) -> object:
        with mpmath.workprec(bits):
            return +just_above(400)

    assert nearest_real(to_working_precision, posit16) == 0x4001
    assert len(asked) > 1
