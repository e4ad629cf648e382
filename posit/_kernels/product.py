"""Kernels of the exact matrix product: decode with statistics, and the certificate.

They are made for formats (the integers are constants in the machine code), release the GIL and take a range of
rows or columns, so that the caller can split them over threads.  Codes come as flat signed integers of the
storage's width; of each only the low n bits count.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, swift
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, bits_float32, float32_bits, float_bits

INFLATE = 1.0 + 2.0**-18  #: covers the rounding of computed norms and bounds for k < 2**31
_F = numba.float64[::1]
_I = numba.int64
_U8 = numba.uint8[::1]
_I32 = np.int32
_INFINITY = np.int64(0x7FF0000000000000)
_INFINITY32 = np.int32(0x7F800000)


def flat_codes(width):
    """Numba's type of flat codes of so many bytes."""
    return numba.types.Array(numba.from_dtype(np.dtype(f"i{width}")), 1, "C", readonly=True)


@njit(inline="always")
def lowest_bit(x):
    """Bits of the weight of the lowest set bit of a normal float64; those of +infinity for 0.

    Bits of positive floats order as the floats do.
    """
    bits = float_bits(x) & np.int64(0x7FFFFFFFFFFFFFFF)
    fraction = bits & np.int64(0xFFFFFFFFFFFFF)
    weight = float_bits(bits_float(bits) - bits_float(bits & (bits - 1)))
    weight = bits if fraction == 0 else weight
    return _INFINITY if bits == 0 else weight


@njit(inline="always")
def _lowest_bit32(x):
    """As `lowest_bit`, of a float32."""
    bits = _I32(float32_bits(x) & _I32(0x7FFFFFFF))
    rest = bits_float32(_I32(bits & _I32(bits - _I32(1))))
    weight = float32_bits(np.float32(bits_float32(bits) - rest))
    weight = bits if _I32(bits & _I32(0x7FFFFF)) == _I32(0) else weight
    return _INFINITY32 if bits == _I32(0) else weight


@njit
def _clear_nars(coded, line, nar, n, by_row):
    """Let NaR decode to 0, and mark its line (nar[0]) or column."""
    nar_code, all_bits = np.int64(1) << (n - 1), (np.int64(1) << n) - 1
    for c in range(len(line)):
        if (np.int64(coded[c]) & all_bits) == nar_code:
            line[c] = 0.0
            nar[0 if by_row else c] = 1


@njit(fastmath={"reassoc", "nsz"})
def _row_statistics(line):
    """Sum of squares, and bits of the lowest set bit."""
    total = 0.0
    low = _INFINITY
    for c in range(len(line)):
        total += line[c] * line[c]
        low = min(low, lowest_bit(line[c]))
    return total, low


@njit(fastmath={"reassoc", "nsz"})
def _row_statistics32(line):
    """The same of float32; the sum is rounded len(line) times at most, in float32."""
    total = np.float32(0.0)
    low = _INFINITY32
    for c in range(len(line)):
        total += line[c] * line[c]
        low = _I32(min(low, _lowest_bit32(line[c])))
    return total, low


@njit(inline="always")
def _decode_in_lanes(
    codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row, n, es, one
):
    """`decode_lines` in float32 lanes, twice as many, until the value is written.

    A float32 sum of m squares errs by less than m * 2**-23 of it, which is added; it may overflow, and then no proof
    succeeds and every sum is settled in other ways.
    """
    nar_code, all_bits = _I32((1 << (n - 1)) - (1 << n)), _I32((1 << n) - 1)
    scale = bits_float(np.int64(1150 - one) << 52)
    length = last - first
    short = np.empty(length, np.float32)
    squares, lows = np.zeros(length, np.float32), np.full(length, _INFINITY32)
    terms = length if by_row else rows
    inflate = scale * scale * (1.0 + (terms + 1) * 1.1920928955078125e-07)
    for r in range(rows):
        line = out[r * columns + first : r * columns + last]
        coded = codes[at + r * stride + first : at + r * stride + last]
        nars = _I32(0)
        for c in range(length):
            code = _I32(coded[c])
            nars |= _I32(1) if _I32(_I32(code ^ nar_code) & all_bits) == _I32(0) else _I32(0)
            short[c] = swift.to_float32(code, n, es, one)
        if nars != 0:
            _clear_nars(coded, short, nar[r:] if by_row else nar[first:], n, by_row)
        for c in range(length):
            line[c] = np.float64(short[c]) * scale
        if by_row:
            total, low = _row_statistics32(short)
            square[r] += np.float64(total) * inflate
            lowest[r] = min(lowest[r], float_bits(np.float64(bits_float32(low)) * scale))
        else:
            for c in range(length):
                squares[c] += short[c] * short[c]
                lows[c] = _I32(min(lows[c], _lowest_bit32(short[c])))
    if not by_row:
        for c in range(length):
            square[first + c] += np.float64(squares[c]) * inflate
            low = float_bits(np.float64(bits_float32(lows[c])) * scale)
            lowest[first + c] = min(lowest[first + c], low)


@njit(inline="always")
def decode_lines(
    codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row, n, es, rs, way, one
):
    """Decode lines and measure them, as the kernel of `decode` says."""
    if way == swift.HALF:
        _decode_in_lanes(
            codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row, n, es, one
        )
        return
    nar_code, all_bits = np.int64(1) << (n - 1), (np.int64(1) << n) - 1
    for r in range(rows):
        line = out[r * columns + first : r * columns + last]
        coded = codes[at + r * stride + first : at + r * stride + last]
        nars = np.int64(0)
        for c in range(len(coded)):
            nars |= np.int64(1) if (np.int64(coded[c]) & all_bits) == nar_code else np.int64(0)
            line[c] = swift.to_float64(coded[c], n, es, rs, way, one)
        if nars != 0:
            _clear_nars(coded, line, nar[r:] if by_row else nar[first:], n, by_row)
        if by_row:
            total, low = _row_statistics(line)
            square[r] += total
            lowest[r] = min(lowest[r], low)
        else:
            own_square, own_lowest = square[first:last], lowest[first:last]
            for c in range(len(line)):
                own_square[c] += line[c] * line[c]
                own_lowest[c] = min(own_lowest[c], lowest_bit(line[c]))


@cache
def decode(n, es, rs, width):
    """Kernel (codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row): decode and measure.

    The `rows` lines of `columns` codes begin at codes[at + r * stride]; columns first .. last of each go to
    out[r * columns + c].  Per line (by_row) or column, `square` gets the sum of squares added, `lowest` (bits of
    floats) the smallest set bit; NaR decodes to 0 and sets `nar`.
    """
    way, one = swift.constants(n, es, rs)

    @njit(
        numba.void(flat_codes(width), _I, _I, _I, _F, _I, _I, _I, _F, numba.int64[::1], _U8, numba.boolean),
        nogil=True,
        cache=True,
    )
    def kernel(codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row):
        decode_lines(
            codes, at, stride, rows, out, columns, first, last, square, lowest, nar, by_row, n, es, rs, way, one
        )  # fmt: skip

    return kernel


def prefix_shift(n, es, rs):
    """Low bits of a float64 that no code and no rounding boundary of a format reaches."""
    return 52 - (max(0, n - 3 - es) + 1)


@njit(inline="always")
def certify_row(
    row, flags, addend, norm, norms, lowest, lowests, gamma,
    coded, mask, n, es, rs, small, smallest, largest, shift, added,
):  # fmt: skip
    """Round one row of float64 sums; return how many are proven by range and how many are open (then NaN).

    row[j] has an error of at most gamma * (norm * norms[j] + |addend[j]|).  Where that magnitude is below 2**53
    times the lowest bit of all terms, every partial sum was exact, in any order.  Elsewhere both ends of the error
    interval must round to the same code.  They do where they share the sign, the exponent and the leading fraction
    bits, with something set below (`shift` bits): then no code and no boundary lies between them.  Only the others
    are encoded.
    """
    exact = np.int64(0)
    suspects = np.int64(0)
    below = (np.int64(1) << shift) - 1
    for j in range(len(row)):
        value = row[j]
        magnitude = norm * norms[j]
        unit = lowest * lowests[j]
        if added:
            term = addend[j]
            value += term
            magnitude += abs(term)
            unit = min(unit, bits_float(lowest_bit(term)))
            row[j] = value
        by_range = magnitude < 9007199254740992.0 * unit
        bound = gamma * magnitude + abs(value) * 4.440892098500626e-16
        low, high = float_bits(value - bound), float_bits(value + bound)
        # no `and`, no `or`: branches would keep the loop out of vector registers
        crossed = np.int64(1) if ((low ^ high) >> shift) != 0 else np.int64(0)
        crossed |= np.int64(1) if (low & below) == 0 else np.int64(0)
        crossed |= np.int64(1) if (high & below) == 0 else np.int64(0)
        inside = np.int64(1) if by_range else np.int64(0)
        exact += inside
        suspect = crossed & (inside ^ 1)
        suspects += suspect
        flags[j] = suspect
    for j in range(len(row)):
        coded[j] = carrier.encode(row[j], n, es, rs, small, smallest, largest) & mask
    undecided = np.int64(0)
    if suspects:
        for j in range(len(row)):
            if flags[j]:
                value = row[j]
                magnitude = norm * norms[j] + (abs(addend[j]) if added else 0.0)
                bound = gamma * magnitude + abs(value) * 4.440892098500626e-16
                low_code = carrier.encode_one(value - bound, n, es, rs, small, smallest, largest)
                high_code = carrier.encode_one(value + bound, n, es, rs, small, smallest, largest)
                # a NaN is an addend that is NaR; an infinite bound proves nothing
                proven = np.isnan(value) or (low_code == high_code and bound < np.inf)
                undecided += np.int64(0) if proven else np.int64(1)
                row[j] = 0.0 if proven else np.nan
    return exact, undecided


@njit(inline="always")
def round_row(row, coded, mask, n, es, rs, small, smallest, largest):
    """Round one row of exact float64 sums."""
    for j in range(len(row)):
        coded[j] = carrier.encode(row[j], n, es, rs, small, smallest, largest) & mask


@cache
def certify(n, es, rs, width, added):
    """Kernel (start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
    codes, at, stride, mask, counts): round rows start .. stop of `c` to `codes` and prove it.

    Row i goes to codes[at + i * stride :]; its addends, float64 with NaN for NaR, begin at addend[i * step] (`added`).
    What is left open becomes NaN in `c`; counts gets the numbers by range, by interval, and left open.
    """  # noqa: D205 - the arguments do not fit one line
    small, smallest, largest = carrier.constants(n, es, rs)
    shift = prefix_shift(n, es, rs)
    nar_code = -1 << (n - 1)
    codes_type = numba.from_dtype(np.dtype(f"i{width}"))[::1]

    @njit(
        numba.void(
            *(_I, _I, _I, _F, _F, _I, _F, _F, _F, _F),
            *(numba.float64, _U8, _U8, codes_type, _I, _I, _I, numba.int64[::1]),
        ),
        nogil=True,
        cache=True,
    )
    def kernel(
        start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
        codes, at, stride, mask, counts,
    ):  # fmt: skip
        flags = np.zeros(columns, np.uint8)
        widest = 0.0
        any_nar = False
        for j in range(columns):
            widest = max(widest, norm_b[j] / lowest_b[j])
            any_nar = any_nar or nar_b[j] != 0
        for i in range(start, stop):
            row = c[i * columns : (i + 1) * columns]
            coded = codes[at + i * stride : at + i * stride + columns]
            if not added and norm_a[i] * INFLATE * widest < 9007199254740992.0 * lowest_a[i]:
                round_row(row, coded, mask, n, es, rs, small, smallest, largest)
                counts[0] += columns
            else:
                exact, undecided = certify_row(
                    row, flags, addend[i * step : i * step + columns], norm_a[i], norm_b, lowest_a[i], lowest_b,
                    gamma, coded, mask, n, es, rs, small, smallest, largest, shift, added,
                )  # fmt: skip
                counts[0] += exact
                counts[1] += columns - exact - undecided
                counts[2] += undecided
            if nar_a[i] or any_nar:
                for j in range(columns):
                    if nar_a[i] or nar_b[j]:
                        if np.isnan(row[j]):
                            counts[2] -= 1
                            counts[1] += 1
                        row[j] = 0.0
                        coded[j] = nar_code & mask

    return kernel
