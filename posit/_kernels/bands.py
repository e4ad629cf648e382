"""Kernels of exact sums in a few float64 limbs: measure and cut operands, add to limbs, carry, read."""

import numba
import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits
from posit._kernels.product import lowest_bit
from posit._kernels.quire_products import truncated

WIDTH = 40  #: bits of a limb; what is added to it is at most half of the next limb's unit
TOP = 51  #: the sum stays within 2**TOP units of the last limb

_I = numba.int64
_INTS = numba.int64[::1]
_ROWS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_READ2 = numba.types.Array(numba.float64, 2, "C", readonly=True)
_F2 = numba.types.Array(numba.float64, 2, "A")
_F3 = numba.types.Array(numba.float64, 3, "A")
_F1 = numba.float64[::1]
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


@njit(numba.void(_READ2, numba.boolean, _INTS, _INTS), nogil=True, cache=True)
def measure(values, by_row, largest, lowest):
    """Bits of the largest magnitude and of the lowest set bit of every row or column, added to what is there.

    A NaN counts as a magnitude above infinity's.
    """
    for r in range(values.shape[0]):
        row = values[r]
        if by_row:
            high, low = largest[r], lowest[r]
            for c in range(len(row)):
                high = max(high, float_bits(row[c]) & _MAGNITUDE)
                low = min(low, lowest_bit(row[c]))
            largest[r], lowest[r] = high, low
        else:
            for c in range(len(row)):
                largest[c] = max(largest[c], float_bits(row[c]) & _MAGNITUDE)
                lowest[c] = min(lowest[c], lowest_bit(row[c]))


@njit(numba.void(_READ2, numba.boolean, _INTS, _I, _F2), nogil=True, cache=True)
def cut(values, by_row, lows, width, out):
    """Of every row or column the bits from 2**low up to below 2**(low + width)."""
    for r in range(values.shape[0]):
        row, part = values[r], out[r]
        if by_row:
            low = lows[r]
            for c in range(len(row)):
                part[c] = truncated(row[c], low) - truncated(row[c], low + width)
        else:
            for c in range(len(row)):
                part[c] = truncated(row[c], lows[c]) - truncated(row[c], lows[c] + width)


@njit
def _magic(scale):
    """Added and taken away again, it rounds to a multiple of 2**scale."""
    return 1.5 * bits_float((scale + 52 + 1023) << 52)


@njit(numba.void(_F2, _F3, _ROWS, _I), nogil=True, cache=True)
def add_rows(c, limbs, rows, base):
    """Add row i of c, whose content is lost, to row rows[i] of the limbs."""
    for i in range(c.shape[0]):
        row = c[i]
        for t in range(limbs.shape[0] - 1, 0, -1):
            limb, magic = limbs[t, rows[i]], _magic(base + WIDTH * t)
            for j in range(len(row)):
                part = (row[j] + magic) - magic
                limb[j] += part
                row[j] -= part
        limb = limbs[0, rows[i]]
        for j in range(len(row)):
            limb[j] += row[j]


@njit(numba.void(_F3, _I), nogil=True, cache=True)
def carry(limbs, base):
    """Let every limb but the last be at most half a unit of the next one."""
    for t in range(limbs.shape[0] - 1):
        magic = _magic(base + WIDTH * (t + 1))
        for i in range(limbs.shape[1]):
            low, high = limbs[t, i], limbs[t + 1, i]
            for j in range(len(low)):
                part = (low[j] + magic) - magic
                high[j] += part
                low[j] -= part


@njit(numba.void(_F2, _I, _I, numba.types.Array(numba.int64, 2, "A")), nogil=True, cache=True)
def to_limbs(limbs, low, width, out):
    """Cut sums into integers times 2**low, 2**(low + width), …; lower ones are at most half of the next unit."""
    for j in range(limbs.shape[1]):
        for t in range(out.shape[0]):
            out[t, j] = 0
        for s in range(limbs.shape[0]):
            x = limbs[s, j]
            for t in range(out.shape[0] - 1, 0, -1):
                scale = low + width * t
                y = x * bits_float((1023 - scale) << 52)
                whole = np.rint(y)
                out[t, j] += np.int64(whole)
                x -= whole * bits_float((1023 + scale) << 52)
            if out.shape[0] > 0:
                out[0, j] += np.int64(x * bits_float((1023 - low) << 52))


@njit(numba.void(_F2, _F1, _F1), nogil=True, cache=True)
def read(limbs, total, error):
    """The sums in float64, and bounds of their errors: 0 where a sum is exact."""
    for j in range(len(total)):
        total[j], error[j] = 0.0, 0.0
    for t in range(limbs.shape[0] - 1, -1, -1):
        limb = limbs[t]
        for j in range(len(total)):
            a, b = total[j], limb[j]
            s = a + b
            z = s - a
            error[j] += abs((a - (s - z)) + (b - z))
            total[j] = s
    inflate = 1.0 + 2.0**-40
    for j in range(len(total)):
        error[j] *= inflate
