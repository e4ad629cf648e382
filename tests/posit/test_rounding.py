"""Certified rounding and the fused linear combination, against rationals."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posit import Format, posit8, posit16, posit32
from posit.codec import encode_rational, to_signed, to_unsigned
from posit.errors import FormatError, NonFiniteError
from posit.formats import bposit32
from posit.fused import axpy
from posit.reference import exact
from posit.rounding import certified, nearest_real

FORMATS = [posit8, posit16, posit32, Format(12, 1)]
COEFFICIENTS = [1.0, -1.0, 0.9, -0.1, 1.0000000000000002, 2.0**-30, 1e-100, 0.0, 3.0]


@pytest.mark.parametrize("fmt", [*FORMATS, bposit32], ids=str)
@given(
    data=st.data(),
    alpha=st.sampled_from(COEFFICIENTS) | st.floats(-1e30, 1e30).filter(lambda a: not 0 < abs(a) < 1e-100),
)
def test_axpy_rounds_the_exact_value_once(fmt: Format, data: st.DataObject, alpha: float) -> None:
    codes = st.integers(0, fmt.code_mask)
    x = data.draw(codes)
    y = data.draw(
        codes
        | st.just(_cancelling(alpha, x, fmt))
        | st.just((_cancelling(alpha, x, fmt) + 1) & fmt.code_mask)
    )
    got = axpy(alpha, np.array([x], fmt.storage), np.array([y], fmt.storage), fmt)
    left, right = exact.value(x, fmt), exact.value(y, fmt)
    if left is None or right is None:
        assert got[0] == fmt.nar
    else:
        assert int(got[0]) == exact.nearest(Fraction(alpha) * left + right, fmt)


def _cancelling(alpha: float, x: int, fmt: Format) -> int:
    """The code nearest to -alpha * x."""
    value = exact.value(x, fmt)
    return fmt.nar if value is None else exact.nearest(-Fraction(alpha) * value, fmt)


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_axpy_on_arrays_equals_rationals(fmt: Format) -> None:
    """Long enough for the vectorised loop, with cancellation and far-apart scales."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, fmt.code_mask, 3000).astype(fmt.storage)
    y = np.array([_cancelling(0.9, int(code), fmt) for code in x], fmt.storage) + rng.integers(
        -1, 2, 3000
    ).astype(fmt.storage)
    for other in (y, rng.permutation(x)):
        got = axpy(0.9, x, other, fmt)
        for code, addend, result in zip(x.tolist(), other.tolist(), got.tolist(), strict=True):
            left, right = exact.value(code, fmt), exact.value(addend, fmt)
            wanted = (
                fmt.nar if left is None or right is None else exact.nearest(Fraction(0.9) * left + right, fmt)
            )
            assert result == wanted, (hex(code), hex(addend))


def test_axpy_may_write_into_an_operand_and_keeps_signed_codes_signed() -> None:
    fmt = Format(12)
    x = to_signed(np.array([0x400, 0xC00, fmt.nar], np.uint16), fmt)
    axpy(-0.5, x, x, fmt, out=x)
    assert to_unsigned(x, fmt).tolist() == [exact.nearest(Fraction(1, 2), fmt), 0xC80, fmt.nar]


def test_axpy_refuses_what_it_cannot_do_exactly() -> None:
    code = np.array([0x4000], np.uint16)
    with pytest.raises(NonFiniteError, match="a coefficient must be 0 or"):
        axpy(float("inf"), code, code, posit16)
    with pytest.raises(NonFiniteError, match="a coefficient must be 0 or"):
        axpy(1e-200, code, code, posit16)
    with pytest.raises(FormatError, match="does not fit the float64 carrier"):
        axpy(1.0, code.astype(np.uint64), code.astype(np.uint64), Format(64))


@pytest.mark.parametrize("fmt", [*FORMATS, bposit32, Format(64), Format(33, 5)], ids=str)
@given(
    x=st.fractions() | st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
    power=st.integers(-300, 300),
)
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
    assert certified(approximation, error, posit16, settle, np.int16).tolist()[0] == [
        0x4000,
        0xC001 - 0x10000,
    ]


def test_nearest_real_retries_until_the_rounding_is_proven() -> None:
    mpmath = pytest.importorskip("mpmath")
    boundary = exact.boundary(0x4000, posit16)
    asked: list[int] = []

    def just_above(bits: int) -> Any:
        asked.append(bits)
        with mpmath.workprec(bits):
            return mpmath.mpf(boundary.numerator) / boundary.denominator * (1 + mpmath.mpf(2) ** -300)

    def to_working_precision(bits: int) -> object:
        with mpmath.workprec(bits):
            return +just_above(400)

    assert nearest_real(to_working_precision, posit16) == 0x4001
    assert len(asked) > 1
