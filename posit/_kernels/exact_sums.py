"""Sums, means and dot products of any format in integer limbs: the plain quire.

Rows of (m, k) codes.  The accumulator is that of `posit._kernels.limbs`: 32-bit digits in int64, digit 0 of
weight 2**base.
"""

from functools import cache

import numba
import numpy as np

import posit._kernels.wide as wide
from posit._kernels.codec import parts
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import mulhi64
from posit._kernels.limbs import ADDS_BEFORE_FOLD, add, fold, to_code

_ROWS = numba.types.Array(numba.int64, 2, "C", readonly=True)
_N = numba.int64
SPARE = 5  #: digits below the lowest bit, for quotients


@njit
def divide(limbs, divisor):
    """Divide the folded number by 1 <= divisor < 2**31; a remainder becomes a sticky last bit.

    The lowest `SPARE` digits were 0, so 128 bits of the quotient follow the sum's last one: the sticky bit
    lies below every rounding boundary.
    """
    fold(limbs)
    top = len(limbs) - 1
    negative = limbs[top] < 0
    if negative:
        for t in range(len(limbs)):
            limbs[t] = -limbs[t]
        fold(limbs)
    rest = np.int64(0)
    for t in range(top, -1, -1):
        value = (rest << 32) | limbs[t]
        limbs[t] = value // divisor
        rest = value - limbs[t] * divisor
    if rest != 0:
        limbs[0] |= 1
    if negative:
        for t in range(len(limbs)):
            limbs[t] = -limbs[t]


@cache
def sums():
    """Kernel (codes, divisor, limbs, base, out, n, es, rs): sums of rows over divisor.

    Each is rounded once; NaR where the row has one.
    """

    @njit(numba.void(_ROWS, _N, numba.int64[::1], _N, numba.int64[::1], _N, _N, _N), nogil=True, cache=True)
    def kernel(codes, divisor, limbs, base, out, n, es, rs):
        for i in range(codes.shape[0]):
            limbs[:] = 0
            real = True
            for t in range(codes.shape[1]):
                code = wide.signed(codes[i, t], n)
                if code == wide.nar(n):
                    real = False
                    break
                if code != 0:
                    negative, scale, significand = parts(code, n, es, rs)
                    add(limbs, negative, significand, scale - 63 - base)
                if (t + 1) % ADDS_BEFORE_FOLD == 0:
                    fold(limbs)
            if real and divisor != 1:
                divide(limbs, divisor)
            out[i] = to_code(limbs, base, n, es, rs) if real else wide.nar(n)

    return kernel


_FORMAT = numba.types.UniTuple(numba.int64, 3)


@cache
def products():
    """Kernel (a, b, addend, limbs, base, out, left, right, result): dot products of rows of a and b, plus addends.

    Each is rounded once; any n <= 64.  `left`, `right` and `result` are (n, es, rs); the addends and `out`, codes of
    the result's format, have the shape (rows of a, rows of b).
    """

    @njit(
        numba.void(_ROWS, _ROWS, _ROWS, numba.int64[::1], _N, numba.int64[:, ::1], _FORMAT, _FORMAT, _FORMAT),
        nogil=True,
        cache=True,
    )
    def kernel(a, b, addend, limbs, base, out, left, right, result):
        for i in range(a.shape[0]):
            for j in range(b.shape[0]):
                limbs[:] = 0
                start = wide.signed(addend[i, j], result[0])
                real = start != wide.nar(result[0])
                if real and start != 0:
                    negative, scale, significand = parts(start, result[0], result[1], result[2])
                    add(limbs, negative, significand, scale - 63 - base)
                for t in range(a.shape[1]):
                    x, y = wide.signed(a[i, t], left[0]), wide.signed(b[j, t], right[0])
                    if not real or x == wide.nar(left[0]) or y == wide.nar(right[0]):
                        real = False
                        break
                    if x != 0 and y != 0:
                        negative_x, scale_x, significand_x = parts(x, left[0], left[1], left[2])
                        negative_y, scale_y, significand_y = parts(y, right[0], right[1], right[2])
                        place = scale_x + scale_y - 126 - base
                        negative = negative_x != negative_y
                        add(limbs, negative, significand_x * significand_y, place)
                        add(limbs, negative, mulhi64(significand_x, significand_y), place + 64)
                    if (t + 1) % (ADDS_BEFORE_FOLD // 4) == 0:
                        fold(limbs)
                out[i, j] = (
                    to_code(limbs, base, result[0], result[1], result[2]) if real else wide.nar(result[0])
                )

    return kernel


@cache
def running_products():
    """Kernel (codes, out, n, es, rs): products of rows from first to last.

    Rounded after each factor; 1 for an empty row.
    """

    @njit(numba.void(_ROWS, numba.int64[::1], _N, _N, _N), nogil=True, cache=True)
    def kernel(codes, out, n, es, rs):
        for i in range(codes.shape[0]):
            total = np.int64(1) << (n - 2)
            for t in range(codes.shape[1]):
                total = wide.mul(total, codes[i, t], n, es, rs)
            out[i] = total

    return kernel
