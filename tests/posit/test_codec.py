"""Encoding and decoding: small worlds completely, array functions against the scalar oracle."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import posit
from posit import codec, conversion
from posit.formats import Format
from posit.reference.exact import boundary, nearest, value
from tests.posit import loops

SMALL = loops.every_format(3, 10)
FAST = [Format(8), Format(16), Format(14, 3, 4), Format(16, 5, 6)]

TENTH, SMALL_ONE = Fraction(1, 10), Fraction(1, 10**40)
VECTORS = [
    ("posit8", 3.14159265, 0x4D), ("posit16", 3.14159265, 0x4C91), ("posit32", np.pi, 0x4C90FDAA),
    ("posit8", TENTH, 0x25), ("posit16", TENTH, 0x24CD), ("posit32", TENTH, 0x24CCCCCD),
    ("bposit16", 1.0, 0x4000), ("bposit32", 1.0, 0x40000000), ("bposit64", 1.0, 0x4000000000000000),
    ("bposit16", -1.0, 0xC000), ("bposit32", -1.0, 0xC0000000), ("bposit64", -1.0, 0xC000000000000000),
    ("bposit16", 2.0, 0x4100), ("bposit32", 2.0, 0x41000000), ("bposit64", 2.0, 0x4100000000000000),
    ("bposit16", TENTH, 0x3C9A), ("bposit32", TENTH, 0x3C99999A), ("bposit64", TENTH, 0x3C9999999999999A),
    ("bposit16", np.pi, 0x4192), ("bposit32", np.pi, 0x41921FB5), ("bposit64", np.pi, 0x41921FB54442D180),
    ("bposit16", 2.0**32, 0x6000), ("bposit32", 2.0**32, 0x60000000),
    ("bposit64", 2.0**32, 0x6000000000000000),
    ("bposit16", 2.0**-33, 0x1F80), ("bposit32", 2.0**-33, 0x1F800000),
    ("bposit64", 2.0**-33, 0x1F80000000000000),
    ("bposit16", 10**10, 0x6095), ("bposit32", 10**10, 0x609502F9), ("bposit64", 10**10, 0x609502F900000000),
    ("bposit16", SMALL_ONE, 0x03B1), ("bposit32", SMALL_ONE, 0x03B16C26),
    ("bposit64", SMALL_ONE, 0x03B16C262777579C),
    ("bposit16", 2.0**160, 0x7E00), ("bposit32", 2.0**160, 0x7E000000),
    ("bposit64", 2.0**160, 0x7E00000000000000),
    ("bposit16", 10**80, 0x7FFF), ("bposit32", 10**80, 0x7FFFFFFF), ("bposit64", 10**80, 0x7FFFFFFFFFFFFFFF),
]  # fmt: skip


@pytest.mark.parametrize("nbits", range(3, 11))
def test_every_code_of_every_small_format_decodes_exactly(nbits: int) -> None:
    for fmt in (fmt for fmt in SMALL if fmt.nbits == nbits):
        loops.check_decoding(fmt)


@pytest.mark.parametrize("nbits", range(3, 11))
def test_every_boundary_of_every_small_format_rounds_to_even(nbits: int) -> None:
    for fmt in (fmt for fmt in SMALL if fmt.nbits == nbits):
        loops.check_encoding(fmt)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", loops.every_format(11, 16), ids=str)
def test_every_code_and_boundary_up_to_16_bits(fmt: Format) -> None:
    loops.check_decoding(fmt)
    loops.check_encoding(fmt)


@pytest.mark.parametrize(("name", "x", "code"), VECTORS)
def test_published_check_vectors(name: str, x: float | Fraction, code: int) -> None:
    assert int(posit.array(x, name).codes) == code
    if Fraction(float(x)) == x or not name.endswith("64"):  # float64 holds x, or more of it than the format
        assert int(posit.array(np.array([float(x)]), name).codes[0]) == code


@pytest.mark.parametrize("fmt", FAST, ids=str)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_array_kernels_round_at_boundaries_as_the_oracle(fmt: Format, real: type) -> None:
    codes = np.unique(
        np.concatenate([np.arange(1, 40), np.arange(1, fmt.maxpos, 97), fmt.maxpos - np.arange(1, 40)])
    )
    ties = np.array([float(boundary(int(code), fmt)) for code in codes])
    with np.errstate(over="ignore", under="ignore"):
        middle: Any = ties.astype(real)
    usable = np.isfinite(middle) & (middle > 0)
    middle = middle[usable]
    given = np.concatenate([np.nextafter(middle, real(0)), middle, np.nextafter(middle, real(np.inf))])
    given = np.concatenate([given, -given])
    given = given[np.isfinite(given)]
    wanted = [nearest(Fraction(float(x)), fmt) for x in given]
    assert codec.encode(given, fmt).tolist() == wanted


@pytest.mark.parametrize("fmt", FAST, ids=str)
def test_array_kernels_decode_every_code(fmt: Format) -> None:
    codes = np.arange(1 << fmt.nbits).astype(fmt.storage)
    exact = loops.decode_float64(codes.astype(np.int64), *loops.parameters(fmt))
    np.testing.assert_array_equal(codec.decode(codes, fmt), exact)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(codec.decode(codes, fmt, np.float32), exact.astype(np.float32))
    np.testing.assert_array_equal(codec.decode(codec.to_signed(codes, fmt), fmt), exact)


def test_encoding_ignores_flushing_of_subnormals() -> None:
    tiny = np.array([1e-45, -1e-45, 1e-40], np.float32)
    assert codec.encode(tiny, Format(16)).tolist() == [1, 0xFFFF, 1]


def test_encode_and_decode_write_into_given_arrays() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    codes, back = np.zeros((3, 4), np.uint16), np.zeros((3, 4), np.float32)
    assert codec.encode(x, Format(16), out=codes) is codes
    assert codec.decode(codes, Format(16), np.float32, out=back) is back
    np.testing.assert_array_equal(back, x)
    with pytest.raises(posit.errors.ShapeError, match=r"of shape \(3, 4\) and dtype float64; got"):
        codec.decode(codes, Format(16), out=back)


def test_strided_and_empty_arrays() -> None:
    x = np.arange(24.0).reshape(4, 6)
    codes = codec.encode(x[::2, ::-2].T, Format(16))
    np.testing.assert_array_equal(codec.decode(codes, Format(16)), x[::2, ::-2].T)
    assert codec.encode(np.empty((0, 3)), Format(16)).shape == (0, 3)
    assert conversion.from_floats(np.empty((2, 0)), Format(64)).shape == (2, 0)


@pytest.mark.parametrize("fmt", [Format(64), Format(40, 3), Format(64, 5), Format(64, 5, 6)], ids=str)
def test_wide_formats_to_and_from_floats(fmt: Format) -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 1 << fmt.nbits, 300, dtype=np.uint64)
    values = [value(int(code), fmt) for code in codes]
    for dtype in (np.float64, np.float32, np.float16):
        got = conversion.to_floats(codes, fmt, dtype)
        for x, v in zip(got, values, strict=True):
            assert np.isnan(x) if v is None else x == _nearest_float(v, dtype), (dtype, v)
    given = rng.integers(0, 1 << 64, 300, dtype=np.uint64).view(np.float64)
    given = np.concatenate([given[np.isfinite(given)], [5e-324, -2.2e-308, 1.7e308, 1.0]])
    assert conversion.from_floats(given, fmt).tolist() == [nearest(Fraction(float(x)), fmt) for x in given]


def _nearest_float(v: Fraction, dtype: type) -> float:
    """Round a rational to a float type by comparing with exact neighbours."""
    info = np.finfo(dtype)
    precision, low, high = info.nmant + 1, int(info.minexp), int(info.maxexp)
    if v == 0:
        return 0.0
    sign, x = (-1 if v < 0 else 1), abs(v)
    scale = x.numerator.bit_length() - x.denominator.bit_length()
    scale -= x < Fraction(2) ** scale
    unit = Fraction(2) ** (max(scale, low) - precision + 1)
    rounded = round(x / unit) * unit
    return sign * (float("inf") if rounded >= Fraction(2) ** high else float(rounded))


def test_bfloat16_is_rounded_once() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    # 1 + 2**-8 + 2**-27 lies above a tie of bfloat16; through float32 it would become the tie and round to
    # even
    x = posit.array(1 + 2.0**-8 + 2.0**-27, "posit32")
    assert float(x) == 1 + 2.0**-8 + 2.0**-27
    assert float(x.astype(bfloat16)) == 1 + 2.0**-7
    assert float(np.float64(float(x)).astype(np.float32).astype(bfloat16)) == 1.0
    back = posit.array(np.array([1.5, np.inf], bfloat16), "posit16")
    assert back.codes.tolist() == [0x4400, 0x8000]


def test_integers_follow_the_standard() -> None:
    fmt = Format(16)
    given = np.array([0, 1, -1, 2**62, -(2**63), 12345678], np.int64)
    codes = conversion.from_integers(given, fmt)
    wanted = [nearest(int(x), fmt) for x in given]
    wanted[4] = fmt.nar  # the integers' NaR
    assert codes.tolist() == wanted
    assert conversion.from_integers(np.array([2**64 - 1], np.uint64), Format(64)).tolist() == [
        nearest(2**64 - 1, Format(64))
    ]
    x = posit.array([2.5, 3.5, -2.5, 300, -0.4, np.nan], "posit16")
    assert x.astype(np.int32).tolist() == [2, 4, -2, 300, 0, -(2**31)]
    assert x.astype(np.int8).tolist() == [2, 4, -2, -128, 0, -128]
    assert x.astype(np.uint8).tolist() == [2, 4, 128, 128, 0, 128]
    with pytest.raises(posit.errors.CodeError, match="int64"):
        x.astype(np.uint64)


@pytest.mark.parametrize(
    ("source", "target"),
    [("posit16", "posit32"), ("posit32", "posit16"), ("posit64", "bposit32"), ("bposit64", "posit<64,0>")],
)
def test_formats_convert_with_one_rounding(source: str, target: str) -> None:
    form, other = Format.parse(source), Format.parse(target)
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 1 << form.nbits, 400, dtype=np.uint64).astype(form.storage)
    codes[:4] = 0, form.nar, form.maxpos, 1
    got = conversion.recode(codes, form, other)
    for code, new in zip(codes, got, strict=True):
        v = value(int(code), form)
        assert int(new) == (other.nar if v is None else nearest(v, other))
