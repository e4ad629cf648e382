"""Exact sums over the rows or the columns of a matrix of codes, as float64 where one holds them, else in limbs.

The proofs are those of `posit._kernels.streams`.  Short rows are taken many at a time, columns side by side in panels
of PANEL rows by at most `streams.LANES` columns.  Where all terms of a sum lie in one block or panel that is exact by
range, the float64 sum is the exact one, and needs no limbs to be rounded once.
"""

from functools import cache

import numba
import numpy as np

import posit._kernels.odd as odd
import posit._kernels.swift as swift
from posit._kernels.compiled import njit
from posit._kernels.extent import bounds, extent
from posit._kernels.intrinsics import bits_float
from posit._kernels.streams import BLOCK, LANES, add_float, sigma_of, total

__all__ = ["LANES", "LONGEST", "PANEL", "columns", "quotients", "rows"]

PANEL = 128
LONGEST = BLOCK // 4  #: of the rows that `rows` takes
_N = numba.int64


def max_levels(n, es, rs):
    """Most levels of extraction of one panel: at least 53 - 7 bits each, and one at the end."""
    largest = ((rs << es) + n) if rs else ((n - 2) << es) + 1
    return 2 * largest // 46 + 2


@njit(forceinline=True)
def log2_up(count):
    """Smallest b >= 2 with 2**b >= count."""
    b = 2
    while (1 << b) < count:
        b += 1
    return b


@njit(numba.void(numba.float64[::1], numba.float64), nogil=True, cache=True)
def quotients(values, divisor):
    """Divide in place, rounded to odd, so that encoding is the only rounding (`posit._kernels.odd`)."""
    for t in range(len(values)):
        values[t] = odd.div(values[t], divisor)


@cache
def rows(n, es, rs, storage):
    """Kernel (codes, bits, values, unsettled): the exact sums of rows of 1 to LONGEST codes.

    unsettled[i] is set, and values[i] means nothing, where the row's group is not exact by range or holds a NaR.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C", readonly=True)
    way, one = swift.constants(n, es, rs)
    spare = 8 * np.dtype(storage).itemsize - n
    nar = 1 << (8 * np.dtype(storage).itemsize - 1)
    scaling = one - 127 if way == swift.HALF else 0

    @njit(numba.void(codes_type, _N, numba.float64[::1], numba.uint8[::1]), nogil=True, cache=True)
    def kernel(codes, bits, values, unsettled):
        x, p, held = np.empty(BLOCK), np.empty(BLOCK, np.float32), np.empty(BLOCK)
        count, k = codes.shape
        flat = codes.reshape(count * k)
        group = BLOCK // k
        unscale = bits_float(np.int64(1023 - scaling) << 52)
        for start in range(0, count, group):
            size = min(group, count - start)
            part = flat[start * k : (start + size) * k]
            low, high = extent(part, spare)
            if high == 0:
                values[start : start + size] = 0.0
                continue
            exact = False
            if high != nar:
                top, bottom = bounds(low, high, spare, n, es, rs)
                exact = top + log2_up(k) - bits <= bottom
            if not exact:
                unsettled[start : start + size] = 1
                continue
            if way == swift.HALF:
                for t in range(len(part)):
                    p[t] = swift.to_float32(part[t], n, es, one)
                for t in range(len(part)):
                    x[t] = p[t]
            else:
                for t in range(len(part)):
                    x[t] = swift.to_float64(part[t], n, es, rs, way, one)
            if k < 32:
                for i in range(size):
                    held[i] = x[i * k]
                for t in range(1, k):
                    for i in range(size):
                        held[i] += x[i * k + t]
            else:
                for i in range(size):
                    held[i] = total(x[i * k : (i + 1) * k])
            for i in range(size):
                values[start + i] = held[i] * unscale

    return kernel


@cache
def columns(n, es, rs, storage):
    """Kernel (codes, start, stop, first, limbs, base, bits, nars, values): sums over rows start..stop.

    Of the columns first .. first + len(nars), at most LANES.  nars[j] is set where a NaR is met.  True: `values` are
    the exact sums of the other columns.  False: they were added to the limbs, one line for each column.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C", readonly=True)
    kind = np.dtype(storage)
    way, one = swift.constants(n, es, rs)
    spare = 8 * kind.itemsize - n
    nar = 1 << (8 * kind.itemsize - 1)
    scaling = one - 127 if way == swift.HALF else 0
    depth = max_levels(n, es, rs)

    @njit(
        numba.boolean(
            codes_type, _N, _N, _N, numba.int64[:, ::1], _N, _N, numba.uint8[::1], numba.float64[::1]
        ),
        nogil=True,
        cache=True,
    )
    def kernel(codes, start, stop, first, limbs, base, bits, nars, values):
        width = len(nars)
        panel = np.empty(PANEL * width, kind)
        p, x = np.empty(width, np.float32), np.empty(width)
        sums = np.empty((depth, width))
        unscale = bits_float(np.int64(1023 - scaling) << 52)
        for begin in range(start, stop, PANEL):
            count = min(PANEL, stop - begin)
            for i in range(count):
                panel[i * width : (i + 1) * width] = codes[begin + i, first : first + width]
            part = panel[: count * width]
            low, high = extent(part, spare)
            if high == nar:
                for i in range(count):
                    for j in range(width):
                        if (np.int64(part[i * width + j]) << (64 - n)) == np.int64(-0x8000000000000000):
                            nars[j] = 1
                            part[i * width + j] = 0
                low, high = extent(part, spare)
            if high == 0:
                continue
            top, bottom = bounds(low, high, spare, n, es, rs)
            b = log2_up(count)
            levels, reached = 1, top
            while reached + b - bits > bottom:
                levels += 1
                reached += b - bits - 1
            sums[:levels] = 0.0
            for i in range(count):
                row = part[i * width : (i + 1) * width]
                if way == swift.HALF:
                    for j in range(width):
                        p[j] = swift.to_float32(row[j], n, es, one)
                    for j in range(width):
                        x[j] = p[j]
                else:
                    for j in range(width):
                        x[j] = swift.to_float64(row[j], n, es, rs, way, one)
                for level in range(levels - 1):
                    sigma = sigma_of(top + scaling + level * (b - bits - 1), b, bits)
                    held = sums[level]
                    for j in range(width):
                        value = x[j]
                        piece = (sigma + value) - sigma
                        x[j] = value - piece
                        held[j] += piece
                last = sums[levels - 1]
                for j in range(width):
                    last[j] += x[j]
            if levels == 1 and stop - start <= PANEL:
                for j in range(width):
                    values[j] = sums[0, j] * unscale
                return True
            for level in range(levels):
                for j in range(width):
                    add_float(limbs[j], base + scaling, sums[level, j])
        return False

    return kernel
