"""Sums of products of few factors in pairs of float64, which see whether they were exact.

A number is hi + lo, |lo| <= ulp(hi).  Factors are posits v of at most 32 bits, or 1 + v or 1 - v, exact as pairs
(TwoSum).  A product of pairs is exact where neither the products with low parts nor their additions left an error
(TwoProduct by fused multiply-add); otherwise its relative error is below 2**-98: terms of size 2**-106 at most are
dropped or rounded, fewer than 2**5 of them (Joldes, Muller and Popescu, Tight and rigorous error bounds for basic
building blocks of double-word arithmetic, 2017, prove less than 2**-103 for a single product).
"""

import numba
import numpy as np

import posit._kernels.odd as odd
from posit._kernels.codec import from_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import fma64

_N = numba.int64
_BOUND = 2.0**-94  #: relative to the sum of absolute products, for at most 4 terms of at most 6 factors


@njit(forceinline=True)
def two_sum(a, b):
    """The sum and its rounding error."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


@njit(forceinline=True)
def times(hi, lo, x, y):
    """(hi + lo) * (x + y) as a pair, and 0.0 where it is exact."""
    top = hi * x
    low = fma64(hi, x, -top)
    first, second = hi * y, lo * x
    lost = abs(fma64(hi, y, -first)) + abs(fma64(lo, x, -second)) + abs(lo * y)
    low, cut = two_sum(low, first)
    lost += abs(cut)
    low, cut = two_sum(low, second)
    lost += abs(cut)
    top, low = two_sum(top, low)
    return top, low, lost


@njit(
    numba.void(
        numba.types.Array(numba.float64, 2, "C", readonly=True),
        numba.types.Array(_N, 3, "C", readonly=True),
        _N,
        _N,
        _N,
        _N[::1],
        numba.uint8[::1],
    ),
    nogil=True,
    cache=True,
)
def sums_of_products(values, terms, n, es, rs, out, marks):
    """Code (signed) of each sum of products, rounded once; marks[e] where this does not decide it.

    values[k, e] is leaf k of element e.  terms[t, f] = (k, a, b) is a factor a + b * values[k], b = 1 or -1; k = -1
    says that the term has no more factors.
    """
    for e in range(values.shape[1]):
        hi, lo, size, inexact = 0.0, 0.0, 0.0, 0.0
        for t in range(terms.shape[0]):
            top, low = 1.0, 0.0
            for f in range(terms.shape[1]):
                if terms[t, f, 0] < 0:
                    break
                leaf = np.float64(terms[t, f, 2]) * values[terms[t, f, 0], e]
                x, y = two_sum(np.float64(terms[t, f, 1]), leaf)
                top, low, lost = times(top, low, x, y)
                inexact += lost
            size += abs(top)
            hi, error = two_sum(hi, top)
            lo, cut = two_sum(lo, low)
            inexact += abs(cut)
            lo, cut = two_sum(lo, error)
            inexact += abs(cut)
        hi, lo = two_sum(hi, lo)
        bound = size * _BOUND if inexact != 0.0 else 0.0
        code = from_float(odd.add(hi, lo - bound), n, es, rs)
        out[e] = code
        marks[e] = code != from_float(odd.add(hi, lo + bound), n, es, rs)
