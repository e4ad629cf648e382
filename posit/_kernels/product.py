"""Kernels of the exact matrix product: decoding, with what a proof needs to know of rows and columns.

They are made for formats (the integers are constants in the machine code), release the GIL and take a range of
rows or columns, so that the caller can split them over threads.  Codes come as flat signed integers of the
storage's width; of each only the low n bits count.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import swift
from posit._kernels.compiled import njit
from posit._kernels.extent import extent, finest, less_one, magnitude
from posit._kernels.intrinsics import bits_float, float_bits

INFLATE = 1.0 + 2.0**-18  #: covers the rounding of computed norms and bounds for k < 2**31
_F = numba.float64[::1]
_I = numba.int64
_U8 = numba.uint8[::1]
_INFINITY = np.int64(0x7FF0000000000000)
TOGETHER = 128  #: codes of short rows that are measured together, and results that are proved together
_MOST = 1024  #: the same, at most, where fewer would leave vector registers half empty


def flat_codes(width):
    """Numba's type of flat codes of so many bytes."""
    return numba.types.Array(numba.from_dtype(np.dtype(f"i{width}")), 1, "C", readonly=True)


@njit(forceinline=True)
def lowest_bit(x):
    """Bits of the weight of the lowest set bit of a normal float64; those of +infinity for 0.

    Bits of positive floats order as the floats do.
    """
    bits = float_bits(x) & np.int64(0x7FFFFFFFFFFFFFFF)
    fraction = bits & np.int64(0xFFFFFFFFFFFFF)
    weight = float_bits(bits_float(bits) - bits_float(bits & (bits - 1)))
    weight = bits if fraction == 0 else weight
    return _INFINITY if bits == 0 else weight


@njit(fastmath={"reassoc", "nsz"})
def _sum_of_squares(line):
    """In the type of the line, so rounded len(line) times at most."""
    total = line.dtype.type(0)
    for c in range(len(line)):
        total += line[c] * line[c]
    return total


@njit(fastmath={"reassoc", "nsz"})
def _add_squares(line, sums):
    for c in range(len(line)):
        sums[c] += line[c] * line[c]


@njit
def _least(coded, lows, spare):
    """Let lows[c] be the smallest `less_one` of magnitudes so far; returns the largest magnitude."""
    high = magnitude(coded[0], spare)
    for c in range(len(coded)):
        size = magnitude(coded[c], spare)
        high = max(high, size)
        lows[c] = min(lows[c], less_one(size))
    return high


@njit
def _unit_bits(low, spare, n, es, rs):
    """Bits of a weight of which all codes are multiples whose least magnitude is low + 1; +infinity for no code."""
    code = (np.int64(low) + 1) >> spare
    if code >= np.int64(1) << (n - 1):
        return _INFINITY
    return (finest(code, n, es, rs) + 1023) << 52


@njit
def _clear_nars(coded, values, nar, width, n, by_row):
    """Let NaR decode to 0, and mark its row or column; `coded` are whole rows of `width`."""
    nar_code, all_bits = np.int64(1) << (n - 1), (np.int64(1) << n) - 1
    for c in range(len(coded)):
        if (np.int64(coded[c]) & all_bits) == nar_code:
            values[c] = 0
            nar[c // width if by_row else c % width] = 1


@njit
def measured_together(columns):
    """Most codes of lines of so many columns that `decode_lines` measures together."""
    return max(_MOST, columns)


@njit
def group_size(width, wanted):
    """How many short rows to take at a time: about `wanted` elements, and a multiple of 32, which fill vectors."""
    step = max(1, 32 // (width & -width))
    if step * width > _MOST:
        return max(1, wanted // width)
    return max(step, wanted // width // step * step)


@njit(forceinline=True)
def decode_lines(
    codes, at, stride, rows, out, columns, square, lowest, nar, by_row, n, es, rs, way, one, lows
):  # fmt: skip
    """Decode lines and measure them, as the kernel of `decode` says.

    `lows` is room for `measured_together(columns)` codes, of their unsigned type.  Short rows that follow each other
    in memory are taken several at a time: columns are measured side by side, rows together.  Squares of float32
    values are summed in float32: a sum of m errs by less than m * 2**-23 of it, which is added; it may overflow, and
    then no proof succeeds and every sum is settled in other ways.
    """
    spare = 8 * lows.itemsize - n
    most = np.uint64(1) << np.uint64(8 * lows.itemsize - 1)  # the magnitude of NaR
    group = group_size(columns, TOGETHER if by_row else 2 * TOGETHER) if stride == columns else 1
    group = min(group, rows)
    lows[0] = 0
    for c in range(group * columns - 1, -1, -1):
        lows[c] = less_one(lows[0])
    scale = bits_float(np.int64(1150 - one) << 52)
    inflate = scale * scale * (1.0 + (max(rows, group * columns) + 1) * 1.1920928955078125e-07)
    short = np.empty(group * columns, np.float32)
    squares, squares32 = np.zeros(group * columns), np.zeros(group * columns, np.float32)
    for r in range(0, rows, group):
        count = min(group, rows - r)
        length = count * columns
        line = out[r * columns : r * columns + length]
        coded = codes[at + r * stride : at + r * stride + length]
        low, high = extent(coded, spare) if by_row else (lows[0], _least(coded, lows, spare))
        if way == swift.HALF:
            values = short[:length]
            for c in range(length):
                values[c] = swift.to_float32(coded[c], n, es, one)
            if high == most:
                _clear_nars(coded, values, nar[r if by_row else 0 :], columns, n, by_row)
            for c in range(length):
                line[c] = np.float64(values[c]) * scale
            if by_row:
                total = np.float64(_sum_of_squares(values)) * inflate
            else:
                _add_squares(values, squares32)
        else:
            for c in range(length):
                line[c] = swift.to_float64(coded[c], n, es, rs, way, one)
            if high == most:
                _clear_nars(coded, line, nar[r if by_row else 0 :], columns, n, by_row)
            if by_row:
                total = _sum_of_squares(line)
            else:
                _add_squares(line, squares)
        if by_row:
            unit = _unit_bits(low, spare, n, es, rs)
            for i in range(r, r + count):
                square[i] += total
                lowest[i] = min(lowest[i], unit)
    if not by_row:
        for start in range(0, group * columns, columns):
            for c in range(columns):
                square[c] += squares[start + c] + np.float64(squares32[start + c]) * inflate
                lows[c] = min(lows[c], lows[start + c])
        for c in range(columns):
            lowest[c] = min(lowest[c], _unit_bits(lows[c], spare, n, es, rs))


@cache
def decode(n, es, rs, width):
    """Kernel (codes, at, stride, rows, out, columns, square, lowest, nar, by_row): decode and measure.

    The `rows` lines of `columns` codes begin at codes[at + r * stride] and go to out[r * columns + c].
    Per line (by_row) or column, `square` gets the sum of squares added, at least; `lowest` (bits of floats) becomes
    the weight of the last fraction bit that the format has at the smallest magnitude, of which all values are
    multiples (`posit._kernels.extent`); NaR decodes to 0 and sets `nar`.
    """
    way, one = swift.constants(n, es, rs)
    kind = np.dtype(f"u{width}")

    @njit(
        numba.void(flat_codes(width), _I, _I, _I, _F, _I, _F, numba.int64[::1], _U8, numba.boolean),
        nogil=True,
        cache=True,
    )
    def kernel(codes, at, stride, rows, out, columns, square, lowest, nar, by_row):
        decode_lines(
            codes, at, stride, rows, out, columns, square, lowest, nar, by_row, n, es, rs, way, one,
            np.empty(measured_together(columns), kind),
        )  # fmt: skip

    return kernel
