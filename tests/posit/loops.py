"""Loops over whole worlds of codes, compiled once for all formats: n, es and rs are arguments here."""

from fractions import Fraction

import numba
import numpy as np

import posit._kernels.codec as codec
import posit._kernels.wide_conversion as wide_conversion
from posit.formats import Format
from posit.reference.exact import boundary, value

Codes = np.ndarray
WIDE = 1 << 16


def parameters(fmt: Format) -> tuple[int, int, int]:
    """n, es, rs as the kernels take them."""
    return fmt.nbits, fmt.es, fmt.max_regime or 0


@numba.njit
def encode_float64(values, n, es, rs):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), np.int64)
    for t in range(len(values)):
        out[t] = codec.from_float(values[t], n, es, rs)
    return out


@numba.njit
def encode_integers(values, n, es, rs):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), np.int64)
    for t in range(len(values)):
        out[t] = wide_conversion.from_float(values[t], n, es, rs)
    return out


@numba.njit
def decode_float64(codes, n, es, rs):  # type: ignore[no-untyped-def]
    out = np.empty(len(codes))
    for t in range(len(codes)):
        out[t] = codec.to_float(codes[t], n, es, rs)
    return out


@numba.njit
def decode_integers(codes, n, es, rs):  # type: ignore[no-untyped-def]
    out = np.empty(len(codes))
    for t in range(len(codes)):
        out[t] = wide_conversion.to_float(codes[t], False, n, es, rs)
    return out


def every_format(low: int, high: int) -> list[Format]:
    """Every posit format of low to high bits, and every bounded one with a regime of up to 6 bits."""
    made: dict[Format, None] = {}
    for nbits in range(low, high + 1):
        for es in range(6):
            for bound in (None, *range(2, 7)):
                made[Format(nbits, es, bound)] = None
    return list(made)


def boundaries(fmt: Format) -> list[tuple[float, int]]:
    """(x, code): below, on and above every rounding boundary of positive codes, each a float64."""
    cases = []
    for code in range(1, fmt.maxpos):
        tie = boundary(code, fmt)
        middle = float(tie)
        assert Fraction(middle) == tie
        cases.append((float(np.nextafter(middle, 0)), code))
        cases.append((middle, code + code % 2))
        cases.append((float(np.nextafter(middle, np.inf)), code + 1))
    return cases


def check_decoding(fmt: Format) -> None:
    """Every code decodes to its exact value, both ways."""
    codes = np.arange(1 << fmt.nbits)
    wanted = np.array([np.nan if (v := value(code, fmt)) is None else float(v) for code in range(len(codes))])
    for decode in (decode_float64, decode_integers):
        np.testing.assert_array_equal(decode(codes, *parameters(fmt)), wanted, err_msg=str(fmt))


def check_encoding(fmt: Format) -> None:
    """Every value encodes to its code, every boundary rounds to the right side; both ways, both signs."""
    cases = boundaries(fmt)
    cases += [(float(v), code) for code in range(1, fmt.nar) if (v := value(code, fmt)) is not None]
    smallest, largest = float(fmt.minpos_value), float(fmt.maxpos_value)
    cases += [(5e-324, 1), (smallest / 2, 1), (largest * 2, fmt.maxpos), (1.7e308, fmt.maxpos), (0.0, 0)]
    given = np.array([x for x, _ in cases])
    wanted = np.array([code for _, code in cases])
    for encode in (encode_float64, encode_integers):
        np.testing.assert_array_equal(encode(given, *parameters(fmt)), wanted, err_msg=str(fmt))
        np.testing.assert_array_equal(encode(-given, *parameters(fmt)), -wanted, err_msg=str(fmt))
        special = encode(np.array([np.nan, np.inf, -np.inf, -0.0]), *parameters(fmt))
        assert special.tolist() == [-fmt.nar] * 3 + [0]
