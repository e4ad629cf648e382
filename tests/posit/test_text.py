"""Decimal text: exact, shortest, read back."""

import random
from fractions import Fraction

import numpy as np
import pytest

import posit
from posit.formats import Format
from posit.reference.exact import nearest, value
from posit.text import exact, parse_code, shortest

WIDE = [posit.posit32, posit.posit64, posit.bposit32, posit.bposit64, Format(64, 5)]


def check(code: int, fmt: Format) -> None:
    text = shortest(code, fmt)
    assert parse_code(text, fmt) == code
    v = value(code, fmt)
    if v is not None:
        assert Fraction(exact(code, fmt)) == v


@pytest.mark.parametrize("fmt", [Format(8), Format(7, 5), Format(9, 3, 4)], ids=str)
def test_every_code_reads_back(fmt: Format) -> None:
    for code in range(1 << fmt.nbits):
        check(code, fmt)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", [Format(16), Format(16, 1), Format(16, 5, 6)], ids=str)
def test_every_code_of_16_bits_reads_back(fmt: Format) -> None:
    for code in range(1 << fmt.nbits):
        check(code, fmt)


@pytest.mark.parametrize("fmt", WIDE, ids=str)
def test_wide_codes_read_back(fmt: Format) -> None:
    generator = random.Random(1)
    for code in [1, fmt.maxpos, fmt.nar, fmt.nar + 1, *(generator.getrandbits(fmt.nbits) for _ in range(60))]:
        check(code, fmt)


@pytest.mark.parametrize("fmt", [Format(8), Format(11, 1)], ids=str)
def test_no_shorter_decimal_reads_back(fmt: Format) -> None:
    """By trying every decimal with one digit fewer around the value."""
    for code in range(1, fmt.nar, 3):
        digits = shortest(code, fmt).split("e")[0].replace(".", "").strip("0")
        fewer = len(digits) - 1
        if not fewer:
            continue
        v = value(code, fmt)
        assert v is not None
        exponent = len(str(int(v))) if v >= 1 else 1 - len(str(int(1 / v)))
        for e in (exponent - 2, exponent - 1, exponent, exponent + 1):
            unit = Fraction(10) ** (e - fewer)
            for multiple in range(int(v / unit) - 1, int(v / unit) + 3):
                if 0 < multiple < 10**fewer:
                    assert nearest(multiple * unit, fmt) != code, (hex(code), multiple * unit)


def test_parsing() -> None:
    assert posit.parse("1e10000", "posit16").codes == 0x7FFF
    assert posit.parse("-1e-10000", "posit16").codes == 0xFFFF
    assert posit.parse(np.array([["1", "+.5"], ["1_000", "2."]]), "posit16").tolist() == [
        [1.0, 0.5],
        [1000.0, 2.0],
    ]
    assert posit.parse(["NaR", "nan", "-inf"], "posit8").codes.tolist() == [0x80] * 3
    # half-way between 1 and next(1), and one decimal place above it
    tie = "1.000244140625"
    assert [hex(parse_code(text, Format(16))) for text in (tie, tie + "0" * 40 + "1")] == ["0x4000", "0x4001"]


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "0x10", "1e", "--1", "1e999999", "١"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(posit.errors.TextError, match="is not a decimal number"):
        posit.parse(text, "posit16")


def test_numbers_are_not_text() -> None:
    with pytest.raises(posit.errors.TextError, match="numbers go to posit.array"):
        posit.parse(np.array([1.0]), "posit16")
