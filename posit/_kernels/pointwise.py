"""Kernels of elementwise operators in PyTorch: gather, gate, multiply by a slope, and float64 rounded to odd."""

from functools import cache

import numba
import numpy as np

import posit._kernels.odd as odd
from posit._kernels import carrier
from posit._kernels.arithmetic import odd_binary
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits

_REALS = numba.types.Array(numba.float64, 1, "C", readonly=True)
RELATIVE = 2.0**-42  #: bound of an inexact slope's relative error
_REACH = 2.0 * RELATIVE
_BLOCK = 1024
MOST = 2.0**1000  #: beyond maxpos of every format that float64 carries
_LEAST = 2.0**-1000  # below minpos of every format that float64 carries, and still a normal number


def _codes(storage):
    return numba.types.Array(numba.from_dtype(np.dtype(storage)), 1, "C", readonly=True)


@cache
def gather(storage, to):
    """Kernel (codes, table, out): out[t] = table[low bits of codes[t]]; the table has 2**k entries."""
    result = numba.from_dtype(np.dtype(to))

    @njit(numba.void(_codes(storage), _codes(to), result[::1]), nogil=True, cache=True)
    def kernel(codes, table, out):
        mask = np.int64(len(table) - 1)
        for t in range(len(codes)):
            out[t] = table[np.int64(codes[t]) & mask]

    return kernel


@cache
def gate(grad_storage, storage):
    """Kernel (grad, codes, low, high, nar, out): grad where low <= code <= high or the code is `nar`, else 0."""
    result = numba.from_dtype(np.dtype(grad_storage))
    c = numba.from_dtype(np.dtype(storage))

    @njit(numba.void(_codes(grad_storage), _codes(storage), c, c, c, result[::1]), nogil=True, cache=True)
    def kernel(grad, codes, low, high, nar, out):
        for t in range(len(out)):
            code = codes[t]
            inside = (code >= low) & (code <= high) | (code == nar)
            out[t] = grad[t] if inside else 0

    return kernel


@cache
def choose(storage):
    """Kernel (mask, a, b, out): a where the mask holds, else b."""
    c = numba.from_dtype(np.dtype(storage))
    truths = numba.types.Array(numba.boolean, 1, "C", readonly=True)

    @njit(numba.void(truths, _codes(storage), _codes(storage), c[::1]), nogil=True, cache=True)
    def kernel(mask, a, b, out):
        for t in range(len(out)):
            out[t] = a[t] if mask[t] else b[t]

    return kernel


@njit(forceinline=True)
def _in_range(product, a, b):
    """A product of a * b; where it left float64's range, a number beyond every maxpos or below every minpos."""
    vanished = (abs(product) < _LEAST) & (a != 0.0) & (b != 0.0)
    least = _LEAST if (a > 0.0) == (b > 0.0) else -_LEAST
    product = least if vanished else product
    product = MOST if product > MOST else product
    return -MOST if product < -MOST else product


@cache
def scaled(n, es, rs, storage, m, es_m, rs_m, storage_m, index_storage):
    """Kernel (grad, codes, slopes, bounds, out, unsure): grad * slopes[low bits of the code], rounded once.

    A slope whose last bit is 0 is exact; the true number of one whose last bit is 1 is within `RELATIVE` of it.  The
    product is rounded to odd, and where the codes of both ends of what it may be differ, unsure[t] becomes 1.  Without
    `index_storage`, element t has the slope ``slopes[t]`` with the bound ``bounds[t]``, below 1/4.

    Each step goes through a block's array of its own: a loop that gathers, or reads what it writes, is not vectorised.
    """
    looks_up = index_storage is not None
    index = _codes(index_storage) if looks_up else _codes(np.int8)
    dtype = np.dtype(storage_m)
    result = numba.from_dtype(dtype)
    small, _, _ = carrier.constants(n, es, rs)
    small_m, smallest, largest = carrier.constants(m, es_m, rs_m)

    signature = numba.void(_codes(storage), index, _REALS, _REALS, result[::1], numba.uint8[::1])

    @njit(signature, nogil=True, cache=True)
    def kernel(grad, codes, slopes, bounds, out, unsure):
        mask = np.int64(len(slopes) - 1)
        factors = np.empty(_BLOCK)
        products = np.empty(_BLOCK)
        lows = np.empty(_BLOCK, dtype)
        highs = np.empty(_BLOCK, dtype)
        for start in range(0, len(out), _BLOCK):
            length = min(_BLOCK, len(out) - start)
            for t in range(length):
                factors[t] = slopes[np.int64(codes[start + t]) & mask] if looks_up else slopes[start + t]
            for t in range(length):
                g = carrier.decode(grad[start + t], n, es, rs, small)
                slope = factors[t]
                products[t] = _in_range(odd.mul(g, slope), g, slope)
                known = _REACH * np.float64(float_bits(slope) & 1)
                factors[t] = known if looks_up else 2.0 * bounds[start + t]
            for t in range(length):
                low = products[t] - products[t] * factors[t]
                lows[t] = carrier.encode(low, m, es_m, rs_m, small_m, smallest, largest)
            for t in range(length):
                high = products[t] + products[t] * factors[t]
                highs[t] = carrier.encode(high, m, es_m, rs_m, small_m, smallest, largest)
            for t in range(length):
                unsure[start + t] = lows[t] != highs[t]
            out[start : start + length] = lows[:length]

    return kernel


@njit(numba.void(_REALS, numba.boolean[::1]), nogil=True, cache=True)
def is_odd(x, out):
    """Whether the last bit is 1: after an operation rounded to odd, whether it may be inexact."""
    for t in range(len(x)):
        out[t] = (float_bits(x[t]) & 1) != 0


@njit(numba.void(_REALS, numba.boolean[::1], numba.float64[::1]), nogil=True, cache=True)
def mark(x, inexact, out):
    """The numbers with their last bit set where they are inexact."""
    for t in range(len(x)):
        out[t] = bits_float(float_bits(x[t]) | (np.int64(1) if inexact[t] else np.int64(0)))


@cache
def binary(op):
    """Kernel (a, b, out) of ADD, SUB, MUL or DIV of `posit._kernels.arithmetic` on float64, rounded to odd."""

    @njit(numba.void(_REALS, _REALS, numba.float64[::1]), nogil=True, cache=True)
    def kernel(a, b, out):
        for t in range(len(out)):
            out[t] = odd_binary(op, a[t], b[t])

    return kernel


@njit(numba.void(_REALS, _REALS, _REALS, numba.float64[::1]), nogil=True, cache=True)
def fma(a, b, c, out):
    """The sum a * b + c, rounded to odd."""
    for t in range(len(out)):
        out[t] = odd.fma(a[t], b[t], c[t])
