"""Kernels of the product that is added to an array of quires: measure, slice, add, and the plain quire."""

import numba
import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits
from posit._kernels.product import lowest_bit
from posit._kernels.quire import add_at, add_code_product, float_digits, fold, product_digits

LIMIT = 2.0**53  #: below it, in units of the lowest bit, float64 makes no rounding

_I = numba.int64
_F1 = numba.float64[::1]
_F2 = numba.float64[:, ::1]
_READ = numba.types.Array(numba.float64, 1, "C", readonly=True)
_READ2 = numba.types.Array(numba.float64, 2, "C", readonly=True)
_INDICES = numba.types.Array(numba.int64, 1, "C", readonly=True)
_CODES = numba.types.Array(numba.int64, 2, "C", readonly=True)
_PLANES = numba.types.Array(numba.int64, 3, "A")
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_INFINITY = np.int64(0x7FF0000000000000)


@njit(numba.void(_F2, _F1, _F1, _F1, numba.uint8[::1]), nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def measure(values, square, largest, lowest, nar):
    """Sum of squares, largest magnitude and lowest set bit of every row; NaN becomes 0 and marks its row in `nar`."""
    for r in range(values.shape[0]):
        row = values[r]
        low, high, nars, total = _INFINITY, np.int64(0), np.int64(0), 0.0
        for c in range(len(row)):
            bits = float_bits(row[c]) & _MAGNITUDE
            is_nan = bits > _INFINITY
            nars += np.int64(1) if is_nan else np.int64(0)
            high = max(high, np.int64(0) if is_nan else bits)
            low = min(low, _INFINITY if is_nan else lowest_bit(row[c]))
            total += 0.0 if is_nan else row[c] * row[c]
        if nars != 0:
            nar[r] = 1
            for c in range(len(row)):
                row[c] = 0.0 if np.isnan(row[c]) else row[c]
        square[r], largest[r], lowest[r] = total, bits_float(high), bits_float(low)


@njit(forceinline=True)
def truncated(x, scale):
    """X without its bits below 2**scale: rounded towards zero."""
    bits = float_bits(x)
    below = scale - ((bits >> 52) & 0x7FF) + 1075  # bits of the significand to clear
    kept = bits & (np.int64(-1) << min(max(below, np.int64(0)), np.int64(52)))
    return bits_float(np.int64(0) if below > 52 else kept)


@njit(numba.void(_READ2, _INDICES, _INDICES, _I, _I, _F2), nogil=True, cache=True)
def cut_slices(values, rows, tops, width, number, out):
    """Slice `number` of some rows: their bits from 2**(top - (number + 1) width) to below 2**(top - number width)."""
    for r in range(len(rows)):
        row, part = values[rows[r]], out[r]
        low = tops[rows[r]] - (number + 1) * width
        high = low + width
        for c in range(len(row)):
            part[c] = truncated(row[c], low) - truncated(row[c], high)


@njit(
    numba.void(_READ2, _INDICES, _INDICES, _READ, _READ, numba.boolean, _PLANES, _I), nogil=True, cache=True
)
def add_matrix(c, rows, columns, span_a, span_b, narrow, planes, lsb):
    """Add c[r, s] to element (rows[r], columns[s]), where the pair's range is (narrow) or is not within float64's."""
    length = planes.shape[0] - 1
    for r in range(len(rows)):
        line, span = planes[:, rows[r], :], span_a[rows[r]]
        for s in range(len(columns)):
            j = columns[s]
            if (span * span_b[j] < LIMIT) == narrow and c[r, s] != 0.0:
                index, first, second, third = float_digits(False, c[r, s], lsb)
                add_at(line, j, length, index, first, second, third)


@njit(numba.void(_INDICES, _READ2, _READ2, _READ, _READ, _PLANES, _I), nogil=True, cache=True)
def add_dots(rows, a, b, span_a, span_b, planes, lsb):
    """Add the dot products of some rows of a and all of b whose range is not float64's, product by product."""
    length = planes.shape[0] - 1
    digits = np.empty((length + 1, 1), np.int64)
    for i in rows:
        for j in range(b.shape[0]):
            if span_a[i] * span_b[j] < LIMIT:
                continue
            digits[:] = 0
            for t in range(a.shape[1]):
                if a[i, t] != 0.0 and b[j, t] != 0.0:
                    index, first, second, third = product_digits(False, a[i, t], b[j, t], lsb)
                    add_at(digits, 0, length, index, first, second, third)
            fold(0, 1, digits)
            for t in range(length):
                planes[t, i, j] += digits[t, 0]


@njit(numba.void(_I, _I, _CODES, _CODES, _PLANES, _I, _I, _I, _I), nogil=True, cache=True)
def add_code_dots(start, stop, a, b, planes, lsb, n, es, rs):
    """Add the dot products of all rows of a and of b, codes of any format; NaR where an operand is."""
    length = planes.shape[0] - 1
    digits = np.empty((length + 1, 1), np.int64)
    nar = np.int64(-1) << (n - 1)
    for i in range(start, stop):
        for j in range(b.shape[0]):
            digits[:] = 0
            for t in range(a.shape[1]):
                x, y = a[i, t], b[j, t]
                if x == nar or y == nar:
                    planes[length, i, j] = 1
                    break
                if x != 0 and y != 0:
                    add_code_product(digits, 0, length, False, x, y, lsb, n, es, rs)
            fold(0, 1, digits)
            for t in range(length):
                planes[t, i, j] += digits[t, 0]
