"""Rows of softmax and log-softmax and their derivatives: float64 with a proven bound, rounded where that decides.

u is 2**-53.  Every kernel writes codes rounded from both ends of an interval that holds the true number; where they
differ, `unsure` becomes 1.  NaN stands for NaR.  Sums of k terms, in any order, are within (k - 1) u (1 + k u) of the
sum of magnitudes.

`exp_negative` is within 8 u: the reduction by multiples of log 2 is exact but for 2**-54, the polynomial (Taylor, of
degree 13 on |r| <= log(2) / 2) is within 2**-57, its evaluation within 3 u.
"""

import math
from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits

_U = 2.0**-53
_LOWEST = -690.0  #: exp below is less than 2**-995: beyond minpos of every format that float64 carries
_TINY = 2.0**-1000
_SHIFT = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer
_SHIFT_BITS = 0x4338000000000000
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238  # 21 low bits are 0
_LN2_LOW = 1.9082149292705877e-10
_INFINITY = 0x7FF0000000000000
_MAGNITUDE = 0x7FFFFFFFFFFFFFFF
_C = tuple(1.0 / math.factorial(k) for k in range(14))
(_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13) = _C[2:]

_ROWS = numba.float64[:, ::1]
_MASKS = numba.types.Array(numba.uint8, 2, "C", readonly=True)
_PLACES = numba.types.Array(numba.int64, 1, "C", readonly=True)
_MARKS = numba.uint8[:, ::1]


@njit(forceinline=True)
def exp_negative(d):
    """exp(d) for -690 <= d <= 0."""
    turned = d * _LOG2_E + _SHIFT
    k = turned - _SHIFT
    r = (d - k * _LN2_HIGH) - k * _LN2_LOW
    p = _C12 + r * _C13
    p = _C11 + r * p
    p = _C10 + r * p
    p = _C9 + r * p
    p = _C8 + r * p
    p = _C7 + r * p
    p = _C6 + r * p
    p = _C5 + r * p
    p = _C4 + r * p
    p = _C3 + r * p
    p = _C2 + r * p
    p = 1.0 + (r + r * r * p)
    return p * bits_float((float_bits(turned) - np.int64(_SHIFT_BITS) + np.int64(1023)) << 52)


@njit(forceinline=True)
def _ordered(x):
    """An int64 that compares as the float64 does; NaN is the largest."""
    bits = float_bits(x)
    return bits ^ ((bits >> 63) & np.int64(_MAGNITUDE))


@njit(forceinline=True)
def _unordered(key):
    return bits_float(key ^ ((key >> 63) & np.int64(_MAGNITUDE)))


@njit(forceinline=True)
def _total(x):
    """The sum of a vector, in four strands."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = len(x) // 4 * 4
    for j in range(0, whole, 4):
        a += x[j]
        b += x[j + 1]
        c += x[j + 2]
        d += x[j + 3]
    for j in range(whole, len(x)):
        a += x[j]
    return (a + b) + (c + d)


@cache
def softmax(n, es, rs, storage, has_mask):
    """Kernel (x, masks, places, out, unsure): softmax of each row of x, which is overwritten.

    With a mask, element j of row r counts where masks[places[r], j] is not 0; elsewhere the result is 0, and so is
    all of a row in which nothing counts.

    With d the distance of an element to its row's largest, D the row's largest distance: exp(-d) is within (D + 8) u,
    the sum of k of them within (D + 8 + k) u at most log(k) <= 22 u of D in the mean; the quotient costs 2 u more.
    """

    @njit(
        numba.void(_ROWS, _MASKS, _PLACES, numba.from_dtype(storage)[:, ::1], _MARKS),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def kernel(x, masks, places, out, unsure):
        width = x.shape[1]
        for r in range(len(x)):
            row, codes, marks = x[r], out[r], unsure[r]
            high = np.int64(-_INFINITY - 1)
            low = np.int64(_MAGNITUDE)
            if has_mask:
                mask = masks[places[r]]
                for j in range(width):
                    key = _ordered(row[j])
                    high = max(high, key if mask[j] else np.int64(-_INFINITY - 1))
                    low = min(low, key if mask[j] else np.int64(_MAGNITUDE))
            else:
                for j in range(width):
                    key = _ordered(row[j])
                    high = max(high, key)
                    low = min(low, key)
            top = _unordered(high)
            spread = min(top - _unordered(low), -_LOWEST) if high >= low else 0.0  # nothing counts
            nar = high > np.int64(_INFINITY)
            for j in range(width):
                distance = max(row[j] - top, _LOWEST)
                row[j] = exp_negative(min(distance, 0.0))
            if has_mask:
                for j in range(width):
                    row[j] = row[j] if mask[j] else 0.0
            factor = 1.0 / _total(row)
            factor = np.nan if nar else factor
            bound = (spread + width + 48.0) * _U
            if has_mask:
                for j in range(width):
                    value = max(row[j] * factor, _TINY)
                    value = np.nan if nar else value
                    value = value if mask[j] else 0.0
                    slack = value * bound
                    code = from_float(value - slack, n, es, rs)
                    codes[j] = code
                    marks[j] = code != from_float(value + slack, n, es, rs)
            else:
                for j in range(width):
                    value = max(row[j] * factor, _TINY)
                    value = np.nan if nar else value
                    slack = value * bound
                    code = from_float(value - slack, n, es, rs)
                    codes[j] = code
                    marks[j] = code != from_float(value + slack, n, es, rs)

    return kernel


@cache
def log_softmax(n, es, rs, storage):
    """Kernel (x, scratch, out, unsure): log-softmax of each row of x; scratch is as long as a row.

    With the largest element m and T the sum of exp(x_i - m) over all but one largest element, the result is
    x_j - m - log1p(T): for that element -log1p(T) alone, so its relative error stays small however confident the row
    is.  T is within (D + 8 + k) u as in `softmax`, log1p(T) that plus 32 u for the C library's; both parts have one
    sign, so nothing cancels.  exp underflows to 2**-995 instead of 0, because a posit never rounds to 0.
    """

    @njit(
        numba.void(_ROWS, numba.float64[::1], numba.from_dtype(storage)[:, ::1], _MARKS),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def kernel(x, scratch, out, unsure):
        width = x.shape[1]
        for r in range(len(x)):
            row, codes, marks = x[r], out[r], unsure[r]
            high = np.int64(-_INFINITY - 1)
            low = np.int64(_MAGNITUDE)
            for j in range(width):
                key = _ordered(row[j])
                high = max(high, key)
                low = min(low, key)
            top = _unordered(high)
            spread = min(top - _unordered(low), -_LOWEST)
            for j in range(width):
                scratch[j] = exp_negative(min(max(row[j] - top, _LOWEST), 0.0))
            largest = 0
            while largest < width - 1 and row[largest] < top:
                largest += 1
            scratch[largest] = 0.0
            log = math.log1p(_total(scratch))
            log = np.nan if high > np.int64(_INFINITY) else log
            bound = (spread + width + 48.0) * _U
            for j in range(width):
                value = (row[j] - top) - log
                slack = log * bound - value * (4.0 * _U)
                code = from_float(value - slack, n, es, rs)
                codes[j] = code
                marks[j] = code != from_float(value + slack, n, es, rs)

    return kernel


@cache
def softmax_backward(n, es, rs, storage):
    """Kernel (g, y, out, unsure): y_j (g_j - sum_i g_i y_i) in each row; g is overwritten.

    Where y is 0, at masked elements, g is not read and the result is 0.
    """

    @njit(
        numba.void(_ROWS, _ROWS, numba.from_dtype(storage)[:, ::1], _MARKS),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def kernel(g, y, out, unsure):
        width = g.shape[1]
        for r in range(len(g)):
            grad, prob, codes, marks = g[r], y[r], out[r], unsure[r]
            a, b, size_a, size_b = 0.0, 0.0, 0.0, 0.0
            whole = width // 2 * 2
            terms = 0
            for j in range(width):
                grad[j] = grad[j] if prob[j] != 0.0 else 0.0
                terms += prob[j] != 0.0
            for j in range(0, whole, 2):
                first = grad[j] * prob[j]
                second = grad[j + 1] * prob[j + 1]
                a += first
                b += second
                size_a += abs(first)
                size_b += abs(second)
            if whole < width:
                first = grad[whole] * prob[whole]
                a += first
                size_a += abs(first)
            dot = a + b
            error = (size_a + size_b) * ((width + 4.0) * _U)
            alone = terms == 1 and _total(prob) == 1.0  # the one element that counts: g - g
            error = 0.0 if alone else error
            for j in range(width):
                difference = grad[j] - dot
                value = prob[j] * difference
                slack = prob[j] * (error + abs(difference) * (6.0 * _U))
                value = value if prob[j] != 0.0 else 0.0
                slack = slack if prob[j] != 0.0 else 0.0
                code = from_float(value - slack, n, es, rs)
                codes[j] = code
                marks[j] = code != from_float(value + slack, n, es, rs)

    return kernel


@cache
def log_softmax_backward(n, es, rs, storage):
    """Kernel (g, y, values, slacks, out, unsure): g_j - exp(y_j) sum_i g_i in each row.

    Near y = 0 as (g_j - sum) - sum expm1(y_j), which cancels exactly where only one g is not 0: as at the target of
    a cross-entropy.  `values` and `slacks` are as long as a row.
    """
    line = numba.float64[::1]

    @njit(
        numba.void(_ROWS, _ROWS, line, line, numba.from_dtype(storage)[:, ::1], _MARKS),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def kernel(g, y, values, slacks, out, unsure):
        width = g.shape[1]
        for r in range(len(g)):
            grad, log, codes, marks = g[r], y[r], out[r], unsure[r]
            size = 0.0
            terms = 0
            for j in range(width):
                size += abs(grad[j])
                terms += grad[j] != 0.0
            total = _total(grad)
            error = 0.0 if terms <= 1 else size * ((width + 4.0) * _U)
            several = 0.0 if terms <= 1 else 1.0
            for j in range(width):
                values[j] = exp_negative(min(max(log[j], _LOWEST), 0.0))
            for j in range(width):
                power = values[j] if log[j] == log[j] else np.nan
                share = total * power
                value = grad[j] - share
                values[j] = value
                slacks[j] = (abs(share) * 40.0 + abs(value) * 4.0) * _U + error * power
            for j in range(width):
                if log[j] > -0.5:
                    rest = grad[j] - total
                    share = total * math.expm1(log[j])
                    value = rest - share
                    values[j] = value
                    slacks[j] = (abs(share) * 40.0 + abs(value) * 4.0 + abs(rest) * several) * _U + error
            for j in range(width):
                code = from_float(values[j] - slacks[j], n, es, rs)
                codes[j] = code
                marks[j] = code != from_float(values[j] + slacks[j], n, es, rs)

    return kernel
