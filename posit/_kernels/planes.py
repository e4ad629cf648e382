"""Signed sums of products of planes: float64 sums with proven bounds, and the exact sums of what a bound leaves open.

An operand is an array (planes, outer, summed, lanes), its axes after the first of full length or 1.  Plane k of a
result at (a, t) is the sum, over r and over the terms (i, j, l, sign) of k, of

    sign * x[i, a, r, t] * y[j, a, r, t] * w[l, a, r, t]    (or without w)

Terms are data: term m is ``terms[m]``, and those of plane k are ``starts[k]`` to ``starts[k + 1]``.  So one machine
code serves every table of terms and every format.  Lanes are taken BLOCK at a time, the planes of a block in the cache.

Exact by range: if the sum of magnitudes, as computed, is below 2**53 times the product of the lowest set bits of the
factors, every product and every partial sum was a float64 number: all are multiples of that unit, the first that was
not would be at least 2**53 units, and rounding is monotone, so the computed sum of magnitudes would be too.
"""

import numba
import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, fma64
from posit._kernels.limbs import fold, to_code
from posit._kernels.product import lowest_bit
from posit._kernels.streams import add_float

BLOCK = 128
_INFINITY = np.int64(0x7FF0000000000000)
_TERMS_BEFORE_FOLD = 1 << 26  # a term adds at most three numbers
_X = numba.types.Array(numba.float64, 4, "C", readonly=True)
_I = numba.int64


@njit
def _load(x, a, r, first, count, rows, low):
    """Lanes of every plane to `rows`; `low` becomes the least of itself and the lowest bits of a lane."""
    if x.shape[1] == 1:
        a = 0
    if x.shape[2] == 1:
        r = 0
    for i in range(x.shape[0]):
        row = rows[i, :count]
        if x.shape[3] == 1:
            row[:] = x[i, a, r, 0]
        else:
            row[:] = x[i, a, r, first : first + count]
        for t in range(count):
            low[t] = min(low[t], lowest_bit(row[t]))


@njit
def _add_two(p, q, sign, value, size):
    if sign > 0:
        for t in range(len(value)):
            term = p[t] * q[t]
            value[t] += term
            size[t] += abs(term)
    else:
        for t in range(len(value)):
            term = p[t] * q[t]
            value[t] -= term
            size[t] += abs(term)


@njit
def _add_three(p, q, f, sign, value, size):
    if sign > 0:
        for t in range(len(value)):
            term = p[t] * q[t] * f[t]
            value[t] += term
            size[t] += abs(term)
    else:
        for t in range(len(value)):
            term = p[t] * q[t] * f[t]
            value[t] -= term
            size[t] += abs(term)


@njit
def _finish(value, size, low, gamma, values, errors):
    """Sums and bounds of a plane; the bound is 0 where the sum is exact."""
    for t in range(len(value)):
        exact = size[t] < 9007199254740992.0 * low[t]
        values[t] = value[t]
        errors[t] = 0.0 if exact else gamma * size[t]


@njit(
    numba.void(
        _X, _X, _X, numba.boolean, numba.int64[:, ::1], numba.int64[::1], numba.float64,
        numba.float64[:, :, ::1], numba.float64[:, :, ::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def sums(x, y, w, three, terms, starts, gamma, values, errors):
    """The sums in float64, and gamma times the sums of magnitudes or 0 where a sum is exact; w counts if `three`."""
    planes, outer, lanes = values.shape
    summed = max(x.shape[2], y.shape[2])
    if three:
        summed = max(summed, w.shape[2])
    xs, ys = np.empty((x.shape[0], BLOCK)), np.empty((y.shape[0], BLOCK))
    ws = np.empty((w.shape[0], BLOCK))
    low = np.empty((3, BLOCK), np.int64)
    unit = np.empty(BLOCK)
    value, size = np.empty((planes, BLOCK)), np.empty((planes, BLOCK))
    for a in range(outer):
        for first in range(0, lanes, BLOCK):
            count = min(BLOCK, lanes - first)
            low[:] = _INFINITY
            value[:] = 0.0
            size[:] = 0.0
            for r in range(summed):
                _load(x, a, r, first, count, xs, low[0])
                _load(y, a, r, first, count, ys, low[1])
                if three:
                    _load(w, a, r, first, count, ws, low[2])
                for k in range(planes):
                    total, magnitude = value[k, :count], size[k, :count]
                    for m in range(starts[k], starts[k + 1]):
                        i, j, sign = terms[m, 0], terms[m, 1], terms[m, 3]
                        if three:
                            f = ws[terms[m, 2], :count]
                            _add_three(xs[i, :count], ys[j, :count], f, sign, total, magnitude)
                        else:
                            _add_two(xs[i, :count], ys[j, :count], sign, total, magnitude)
            for t in range(count):
                unit[t] = bits_float(low[0, t]) * bits_float(low[1, t])
            if three:
                for t in range(count):
                    unit[t] *= bits_float(low[2, t])
            for k in range(planes):
                _finish(
                    value[k, :count], size[k, :count], unit[:count], gamma,
                    values[k, a, first : first + count], errors[k, a, first : first + count],
                )  # fmt: skip


@njit
def _at(x, i, a, r, t):
    return x[i, a if x.shape[1] > 1 else 0, r if x.shape[2] > 1 else 0, t if x.shape[3] > 1 else 0]


@njit
def _sum_exactly(x, y, w, three, terms, starts, k, a, t, limbs, base):
    """Write the sum of one element to limbs, unfolded; digit 0 has weight 2**base.

    A product is the sum of its float64 and of what that lost, which is a float64 too.  A third factor makes three
    numbers: what the first two lost has at most 10 bits, 32 being the widest format, so its product with the third is
    exact.
    """
    summed = max(x.shape[2], y.shape[2])
    if three:
        summed = max(summed, w.shape[2])
    limbs[:] = 0
    added = np.int64(0)
    for r in range(summed):
        for m in range(starts[k], starts[k + 1]):
            p = _at(x, terms[m, 0], a, r, t) * np.float64(terms[m, 3])
            q = _at(y, terms[m, 1], a, r, t)
            high = p * q
            lost = fma64(p, q, -high)
            if three:
                f = _at(w, terms[m, 2], a, r, t)
                top = high * f
                add_float(limbs, base, top)
                add_float(limbs, base, fma64(high, f, -top))
                add_float(limbs, base, lost * f)
            else:
                add_float(limbs, base, high)
                add_float(limbs, base, lost)
            added += 1
            if added == _TERMS_BEFORE_FOLD:
                fold(limbs)
                added = np.int64(0)


@njit(
    numba.void(
        _X, _X, _X, numba.boolean, numba.int64[:, ::1], numba.int64[::1], numba.int64[::1], _I, _I,
        numba.int64[::1], _I, _I, _I, _I, numba.int64[::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def settle(x, y, w, three, terms, starts, places, outer, lanes, limbs, base, n, es, rs, codes):
    """The exact sums at flat places of (planes, outer, lanes), each rounded once; digit 0 of limbs is of 2**base."""
    for s in range(len(places)):
        k, rest = places[s] // (outer * lanes), places[s] % (outer * lanes)
        a, t = rest // lanes, rest % lanes
        _sum_exactly(x, y, w, three, terms, starts, k, a, t, limbs, base)
        codes[s] = to_code(limbs, base, n, es, rs)


@njit(
    numba.void(
        _X, _X, _X, numba.boolean, numba.int64[:, ::1], numba.int64[::1], numba.float64[:, :, ::1],
        numba.float64[:, :, ::1], numba.int64[:, :, :, :], _I,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def add_to_quires(x, y, w, three, terms, starts, values, errors, planes, lsb):
    """Add the sums to quires, (digits and mark, planes, outer, lanes), their digit 0 of weight 2**lsb.

    `values` and `errors` are what `sums` found: a value whose bound is 0 is added as it is.  The limbs reach 64 bits
    below the quires' last bit, where a significand of float64 may have zeros.
    """
    digits = planes.shape[0] - 1
    limbs = np.empty(digits + 4, np.int64)
    base = lsb - 64
    for k in range(values.shape[0]):
        for a in range(values.shape[1]):
            for t in range(values.shape[2]):
                value = values[k, a, t]
                if value != value:
                    planes[digits, k, a, t] = 1
                    continue
                if errors[k, a, t] != 0.0:
                    _sum_exactly(x, y, w, three, terms, starts, k, a, t, limbs, base)
                elif value != 0.0:
                    limbs[:] = 0
                    add_float(limbs, base, value)
                else:
                    continue
                fold(limbs)
                for d in range(digits):
                    planes[d, k, a, t] += limbs[d + 2]
                beyond = limbs[digits + 2] + (limbs[digits + 3] << 32)  # 0, or -1 below 0
                planes[digits - 1, k, a, t] += beyond << 32
