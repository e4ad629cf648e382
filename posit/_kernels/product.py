"""Kernels of the exact matrix product: decode with statistics, certify, repair.

`decode_*` and `certify` are made for a format (its integers are constants in the machine code); `repair` is generic.
All release the GIL and take a range of rows or columns, so that the caller can split them over threads.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier
from posit._kernels.codec import code_mask
from posit._kernels.intrinsics import bits_float, float_bits
from posit._kernels.limbs import ADDS_BEFORE_FOLD, add, fold, to_code

_F1 = numba.float64[::1]
_F2 = numba.float64[:, ::1]
_ANY = numba.types.Array(numba.float64, 2, "A")
_U8 = numba.uint8[::1]


@numba.njit(inline="always")
def lowest_bit(x):
    """Weight of the lowest set bit of a nonzero normal float64; +infinity for 0."""
    bits = float_bits(x) & np.int64(0x7FFFFFFFFFFFFFFF)
    fraction = bits & np.int64(0xFFFFFFFFFFFFF)
    weight = bits_float(bits) - bits_float(bits & (bits - 1))
    weight = bits_float(bits) if fraction == 0 else weight
    return np.inf if bits == 0 else weight


@numba.njit
def _zero_nars(row, r, nar_row, nar_column):
    for c in range(len(row)):
        if np.isnan(row[c]):
            row[c] = 0.0
            nar_row[r] = 1
            nar_column[c] = 1


@cache
def decode(n, es, rs, storage):
    """Kernel (codes, out, offset, square, lowest, nar_row, nar_column, by_row): decode and measure.

    `square` gets the sum of squares and `lowest` the smallest set bit of each row (by_row) or column; NaR decodes
    to 0 and marks its row and column.  The values go to out[:, offset:]; further columns are left alone.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C", readonly=True)
    small, _, _ = carrier.constants(n, es, rs)
    nar, all_bits = 1 << (n - 1), (1 << n) - 1

    @numba.njit(
        numba.void(codes_type, _F2, numba.int64, _F1, _F1, _U8, _U8, numba.boolean),
        nogil=True,
        cache=True,
        fastmath={"reassoc", "nsz"},
    )
    def kernel(codes, out, offset, square, lowest, nar_row, nar_column, by_row):
        rows, columns = codes.shape
        for r in range(rows):
            row = out[r, offset : offset + columns]
            nars = np.int64(0)
            for c in range(columns):
                nars += np.int64(1) if (np.int64(codes[r, c]) & all_bits) == nar else np.int64(0)
                row[c] = carrier.decode(codes[r, c], n, es, rs, small)
            if nars != 0:
                _zero_nars(row, r, nar_row, nar_column)
            if by_row:
                total = 0.0
                low = np.int64(0x7FF0000000000000)  # bits of infinity; positive floats order as their bits
                for c in range(columns):
                    total += row[c] * row[c]
                    low = min(low, float_bits(lowest_bit(row[c])))
                square[r] += total
                lowest[r] = min(lowest[r], bits_float(low))
            else:
                for c in range(columns):
                    square[c] += row[c] * row[c]
                    lowest[c] = min(lowest[c], lowest_bit(row[c]))

    return kernel


@cache
def certify(n, es, rs, storage):
    """Kernel (start, stop, c, norm_a, norm_b, span_a, span_b, gamma, nar_a, nar_b, codes, counts): round and prove.

    Element (i, j) of `c` is a float64 sum with |c - exact| <= gamma * norm_a[i] * norm_b[j].  Where
    span_a[i] * span_b[j] < 2**53 every partial sum was exact.  Where both ends of the interval round to the same
    code, that code is proven; elsewhere c becomes NaN, and counts[2] is the number of these.  counts[0] and [1]
    are the numbers proven by range and by interval.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C")
    mask = code_mask(n, storage)
    small, smallest, largest = carrier.constants(n, es, rs)

    @numba.njit(
        numba.void(
            numba.int64,
            numba.int64,
            _F2,
            _F1,
            _F1,
            _F1,
            _F1,
            numba.float64,
            _U8,
            _U8,
            codes_type,
            numba.int64[::1],
        ),
        nogil=True,
        cache=True,
    )
    def kernel(start, stop, c, norm_a, norm_b, span_a, span_b, gamma, nar_a, nar_b, codes, counts):
        limit = 9007199254740992.0
        widest = 0.0
        for j in range(len(span_b)):
            widest = max(widest, span_b[j])
        for i in range(start, stop):
            row = c[i]
            coded = codes[i]
            if span_a[i] * widest < limit:  # the whole row is exact
                for j in range(len(row)):
                    coded[j] = carrier.encode(row[j], n, es, rs, small, smallest, largest) & mask
                counts[0] += len(row)
            else:
                exact = np.int64(0)
                undecided = np.int64(0)
                bound_i = gamma * norm_a[i]
                for j in range(len(row)):
                    value = row[j]
                    by_range = span_a[i] * span_b[j] < limit
                    bound = 0.0 if by_range else bound_i * norm_b[j] + abs(value) * 4.440892098500626e-16
                    low = carrier.encode(value - bound, n, es, rs, small, smallest, largest)
                    high = carrier.encode(value + bound, n, es, rs, small, smallest, largest)
                    coded[j] = low & mask
                    row[j] = value if low == high else np.nan
                    exact += 1 if by_range else 0
                    undecided += 0 if low == high else 1
                counts[0] += exact
                counts[2] += undecided
                counts[1] += len(row) - exact - undecided
            if nar_a[i]:
                for j in range(len(row)):
                    row[j] = 0.0
                    coded[j] = (np.int64(-1) << (n - 1)) & mask
        for j in range(c.shape[1]):
            if nar_b[j]:
                for i in range(start, stop):
                    c[i, j] = 0.0
                    codes[i, j] = (np.int64(-1) << (n - 1)) & mask

    return kernel


@numba.njit(numba.void(_ANY, numba.uint64[:, ::1]), nogil=True, cache=True)
def support(x, words):
    """Set bit k of row i in `words` where x[i, k] is not zero."""
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            if x[i, k] != 0.0:
                words[i, k >> 6] |= np.uint64(1) << np.uint64(k & 63)


@numba.njit
def _add_float_product(limbs, base, x, y):
    """Add x * y exactly; both have at most 32 significant bits."""
    bits_x = float_bits(x)
    bits_y = float_bits(y)
    fraction = np.int64(0xFFFFFFFFFFFFF)
    hidden = np.int64(1) << 52
    left = np.uint64(((bits_x & fraction) | hidden) >> 21)
    right = np.uint64(((bits_y & fraction) | hidden) >> 21)
    scale = ((bits_x >> 52) & 0x7FF) + ((bits_y >> 52) & 0x7FF) - 2 * 1023
    add(limbs, (bits_x ^ bits_y) < 0, left * right, scale - 62 - base)


@cache
def repair(n, es, rs, storage):
    """Kernel (start, stop, c, a, b, words_a, words_b, limbs, base, codes, counts): settle what `certify` left open.

    `a` is (rows, k), `b` is (columns, k), both of any strides.  Disjoint supports give an exact 0 (counts[2]); all
    else goes through the quire (counts[3]).
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C")
    mask = code_mask(n, storage)

    @numba.njit(
        numba.void(
            numba.int64,
            numba.int64,
            _F2,
            _ANY,
            _ANY,
            numba.uint64[:, ::1],
            numba.uint64[:, ::1],
            numba.int64[::1],
            numba.int64,
            codes_type,
            numba.int64[::1],
        ),
        nogil=True,
        cache=True,
    )
    def kernel(start, stop, c, a, b, words_a, words_b, limbs, base, codes, counts):
        for i in range(start, stop):
            for j in range(c.shape[1]):
                if not np.isnan(c[i, j]):
                    continue
                limbs[:] = 0
                terms = 0
                for w in range(words_a.shape[1]):
                    common = words_a[i, w] & words_b[j, w]
                    k = w << 6
                    while common != np.uint64(0):
                        if common & np.uint64(1):
                            _add_float_product(limbs, base, a[i, k], b[j, k])
                            terms += 1
                            if terms % ADDS_BEFORE_FOLD == 0:
                                fold(limbs)
                        common >>= np.uint64(1)
                        k += 1
                counts[3 if terms else 2] += 1
                codes[i, j] = to_code(limbs, base, n, es, rs) & mask

    return kernel
