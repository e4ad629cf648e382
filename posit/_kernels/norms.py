"""Rows of normalization layers and their derivatives: float64 with a proven bound, rounded where that decides.

u is 2**-53.  A sum of k terms in any order is within k u (1 + 2**-20) of the sum of magnitudes, and here no term passes
through more than K = BLOCK + k / BLOCK + 2 additions, so that K stands for k.  Second-order terms are covered by the
factor _MORE.  `stats` has, for each row, a mean, the bound of its error, 1 / sqrt(variance + eps), and the bound of its
relative error, _UNKNOWN where the sums do not tell; then the variance and the bound of its error.

Codes are rounded from both ends of an interval that holds the true number; where they differ, `unsure` becomes 1.  NaN
stands for NaR.  The bound is 0 only where float64 is exact.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float
from posit._kernels.compiled import njit

BLOCK = 256  #: terms added before their sum goes to the next level
_U = 2.0**-53
_MORE = 1.0 + 2.0**-8
_UNKNOWN = 1e30

_N = numba.int64
_ROWS = numba.float64[:, ::1]
_READ = numba.types.Array(numba.float64, 2, "C", readonly=True)
_LINE = numba.types.Array(numba.float64, 1, "C", readonly=True)
_MARKS = numba.uint8[:, ::1]
_SUMS = {"reassoc", "nsz"}


@njit(forceinline=True)
def _operations(count):
    """K + 8: additions of a term, and the operations that made it and follow."""
    return np.float64(min(count, np.int64(BLOCK)) + count // BLOCK + 10)


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _sum_and_size(x):
    total, size = 0.0, 0.0
    for first in range(0, len(x), BLOCK):
        part = x[first : first + BLOCK]
        a, b = 0.0, 0.0
        for j in range(len(part)):
            a += part[j]
            b += abs(part[j])
        total += a
        size += b
    return total, size


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _squares(x, mean):
    total = 0.0
    for first in range(0, len(x), BLOCK):
        part = x[first : first + BLOCK]
        a = 0.0
        for j in range(len(part)):
            d = part[j] - mean
            a += d * d
        total += a
    return total


@njit(nogil=True, cache=True, fastmath=_SUMS)
def _products(x, mean, h):
    """Sum of h (x - mean), and of its terms' magnitudes."""
    total, size = 0.0, 0.0
    for first in range(0, len(x), BLOCK):
        part, factor = x[first : first + BLOCK], h[first : first + BLOCK]
        a, b = 0.0, 0.0
        for j in range(len(part)):
            p = factor[j] * (part[j] - mean)
            a += p
            b += abs(p)
        total += a
        size += b
    return total, size


@njit(nogil=True, cache=True)
def _is_constant(x):
    """Whether all elements are equal."""
    differ = np.int64(0)
    first = x[0]
    for j in range(len(x)):
        differ += np.int64(0) if x[j] == first else np.int64(1)
    return differ == 0


@njit(numba.void(_READ, numba.float64, numba.boolean, _ROWS), nogil=True, cache=True)
def statistics(x, eps, centered, stats):
    """Fill stats (rows, 6) for rows of exact values; without `centered` the mean is 0.

    With m' the float64 mean, within e of m, sum (x - m')^2 / k is the variance and (m - m')^2, at most e^2, more.
    """
    count = x.shape[1]
    k = _operations(count)
    for r in range(len(x)):
        row = x[r]
        mean, error = 0.0, 0.0
        if centered:
            if _is_constant(row):
                mean = row[0]
            else:
                total, size = _sum_and_size(row)
                mean = total / count
                error = k * _U * _MORE * (size / count)
        variance = _squares(row, mean) / count
        whole = variance + eps
        stats[r, 4], stats[r, 5] = variance, k * _U * _MORE * variance + error * error
        stats[r, 0], stats[r, 1] = mean, error
        if whole > 0.0:
            relative = k * _U * _MORE + error * error / whole
            stats[r, 2] = 1.0 / np.sqrt(whole)
            stats[r, 3] = 0.6 * relative + 4.0 * _U if relative < 2.0**-12 else _UNKNOWN
        else:  # no variance and no eps, or NaN
            stats[r, 2], stats[r, 3] = np.nan, 0.0


@njit(forceinline=True)
def _ends(x, mean, error, root, relative, factor, added, n, es, rs):
    d = x - mean
    y = factor * d * root + added
    bound = abs(factor * root) * (error + abs(d) * (relative + 6.0 * _U)) * _MORE
    bound += abs(y) * (4.0 * _U) if bound > 0.0 else 0.0
    return from_float(y - bound, n, es, rs), from_float(y + bound, n, es, rs)


@cache
def scaled(n, es, rs, storage):
    """Kernel (x, stats, gamma, beta, step, out, unsure): gamma (x - mean) / sqrt(variance + eps) + beta, rounded once.

    Element (r, j) has gamma[r % len(gamma), j // step]; likewise beta.  How many are unsure is returned.
    """
    kind = numba.from_dtype(storage)

    @njit(
        _N(_READ, _READ, _READ, _READ, _N, kind[:, ::1], _MARKS),
        nogil=True,
        cache=True,
    )
    def kernel(x, stats, gamma, beta, step, out, unsure):
        opened = np.int64(0)
        for r in range(len(x)):
            row, codes, marks = x[r], out[r], unsure[r]
            factors, addends = gamma[r % len(gamma)], beta[r % len(gamma)]
            mean, error, root, relative = stats[r, 0], stats[r, 1], stats[r, 2], stats[r, 3]
            if step == 1:
                for j in range(len(row)):
                    low, high = _ends(row[j], mean, error, root, relative, factors[j], addends[j], n, es, rs)
                    codes[j] = low
                    marks[j] = np.int64(0) if low == high else np.int64(1)
                    opened += np.int64(0) if low == high else np.int64(1)
            else:
                for part in range(len(factors)):
                    factor, added = factors[part], addends[part]
                    for j in range(part * step, part * step + step):
                        low, high = _ends(row[j], mean, error, root, relative, factor, added, n, es, rs)
                        codes[j] = low
                        marks[j] = np.int64(0) if low == high else np.int64(1)
                        opened += np.int64(0) if low == high else np.int64(1)
        return opened

    return kernel


@cache
def derivative(n, es, rs, storage):
    """Kernel (x, grad, stats, gamma, step, centered, own, out, unsure): the gradient of x, rounded once.

    With h = gamma grad, d = x - mean and r = 1 / sqrt(variance + eps) it is r (h - mean(h) - d r^2 mean(h d)); without
    `centered` there is no mean(h), and without `own` statistics, which come from elsewhere, neither mean.
    """
    kind = numba.from_dtype(storage)

    @njit(
        _N(_READ, _READ, _READ, _READ, _N, numba.boolean, numba.boolean, kind[:, ::1], _MARKS),
        nogil=True,
        cache=True,
    )
    def kernel(x, grad, stats, gamma, step, centered, own, out, unsure):
        opened = np.int64(0)
        count = x.shape[1]
        k = _operations(count)
        h = np.empty(count)
        for r in range(len(x)):
            row, codes, marks, factors = x[r], out[r], unsure[r], gamma[r % len(gamma)]
            mean, error, root, relative = stats[r, 0], stats[r, 1], stats[r, 2], stats[r, 3]
            if step == 1:
                for j in range(count):
                    h[j] = grad[r, j] * factors[j]
            else:
                for part in range(len(factors)):
                    for j in range(part * step, part * step + step):
                        h[j] = grad[r, j] * factors[part]
            shift, shift_error, slope, slope_error = 0.0, 0.0, 0.0, 0.0
            if own:
                total, size = _products(row, mean, h)
                square = root * root
                slope = square * (total / count)
                slope_error = square * k * _U * (size / count)
                if centered:
                    total, size = _sum_and_size(h)
                    shift = total / count
                    shift_error = k * _U * (size / count)
                    slope_error += square * error * (size / count)
                slope_error += abs(slope) * (2.0 * relative + 12.0 * _U)
            fixed = shift_error + abs(slope) * error + 4.0 * _U * abs(shift)
            for j in range(count):
                d = row[j] - mean
                y = root * (h[j] - shift - d * slope)
                bound = root * _MORE * (fixed + 4.0 * _U * abs(h[j]) + abs(d) * slope_error)
                bound += abs(y) * (relative + 6.0 * _U) if bound > 0.0 else 0.0
                low, high = from_float(y - bound, n, es, rs), from_float(y + bound, n, es, rs)
                codes[j] = low
                marks[j] = np.int64(0) if low == high else np.int64(1)
                opened += np.int64(0) if low == high else np.int64(1)
        return opened

    return kernel
