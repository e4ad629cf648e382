"""Array kernels of arithmetic: made for a format where speed matters, generic elsewhere.

Three ways to the same bits, chosen by `binary`, `unary` and `fma` from the format alone:

* 32-bit lanes (`posit._kernels.lanes`) for add, sub and mul of small formats;
* float64 rounded to odd (`posit._kernels.odd`) for n <= 32 where `fits_float64`;
* integers (`posit._kernels.wide`) for everything else.

Every kernel takes contiguous 1-D arrays of codes in the signed dtype of the format's width and writes
sign-extended codes.  Operations are numbers, so that they can be frozen into a kernel; LLVM drops the
branches not taken.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

import posit._kernels.lanes as lanes
import posit._kernels.odd as odd
import posit._kernels.wide as wide
import posit._kernels.wide_conversion as wide_conversion
from posit._kernels.codec import from_float, to_float
from posit._kernels.compiled import njit
from posit._kernels.lanes import add_odd, from_float32, to_float32
from posit.formats import Format

ADD, SUB, MUL, DIV = range(4)
SQRT, NEAREST_INT, CEIL, FLOOR = range(4)


def fits_float64(n, es, rs):
    """Whether a format (rs = 0: no bound) `posit.Format.fits_float64`."""
    return Format(n, es, rs or None).fits_float64


@njit(forceinline=True)
def odd_binary(op, x, y):
    """One of ADD, SUB, MUL, DIV in float64, rounded to odd."""
    if op == ADD:
        return odd.add(x, y)
    if op == SUB:
        return odd.sub(x, y)
    if op == MUL:
        return odd.mul(x, y)
    return odd.div(x, y)


@njit(forceinline=True)
def odd_unary(op, x):
    """SQRT rounded to odd, or one of NEAREST_INT, CEIL, FLOOR, which are exact."""
    if op == SQRT:
        return odd.sqrt(x)
    if op == NEAREST_INT:
        return np.rint(x)
    if op == CEIL:
        return np.ceil(x)
    return np.floor(x)


@njit
def wide_binary(op, a, b, n, es, rs):
    """One of ADD, SUB, MUL, DIV in integers."""
    if op == ADD:
        return wide.add(a, b, n, es, rs)
    if op == SUB:
        return wide.sub(a, b, n, es, rs)
    if op == MUL:
        return wide.mul(a, b, n, es, rs)
    return wide.div(a, b, n, es, rs)


@njit
def wide_unary(op, a, n, es, rs):
    """One of SQRT, NEAREST_INT, CEIL, FLOOR in integers."""
    if op == SQRT:
        return wide.sqrt(a, n, es, rs)
    if op == NEAREST_INT:
        return wide_conversion.round_to_integer(a, 0, n, es, rs)
    return wide_conversion.round_to_integer(a, 1 if op == CEIL else -1, n, es, rs)


@njit(forceinline=True)
def lane_binary(op, a, b, n, es, rs, smallest, largest):
    """ADD, SUB or MUL of two codes in a 32-bit lane, between the float32 bits of minpos and maxpos."""
    x = to_float32(a, n, es, rs)
    y = to_float32(b, n, es, rs)
    if op == MUL:
        return from_float32(np.float32(x * y), n, es, rs, smallest, largest)
    return from_float32(add_odd(x, y if op == ADD else np.float32(-y)), n, es, rs, smallest, largest)


def _types(n):
    width = next(w for w in (8, 16, 32, 64) if n <= w)
    code = numba.from_dtype(np.dtype(f"int{width}"))
    return numba.types.Array(code, 1, "C", readonly=True), code[::1]


@cache
def binary(op: int, n: int, es: int, rs: int) -> Callable[..., Any]:
    """Kernel (a, b, out) of ADD, SUB, MUL or DIV."""
    given, result = _types(n)
    if lanes.serves(n, es, rs) and op != DIV:
        low, high = lanes.range_bits(n, es, rs)

        @njit(numba.void(given, given, result), nogil=True, cache=True)
        def lane_kernel(a, b, out):
            for t in range(len(out)):
                out[t] = lane_binary(op, a[t], b[t], n, es, rs, np.int32(low), np.int32(high))

        return lane_kernel
    if fits_float64(n, es, rs):

        @njit(numba.void(given, given, result), nogil=True, cache=True)
        def float_kernel(a, b, out):
            for t in range(len(out)):
                exact = odd_binary(op, to_float(a[t], n, es, rs), to_float(b[t], n, es, rs))
                out[t] = from_float(exact, n, es, rs)

        return float_kernel
    generic = _generic_binary(n > 32)
    return lambda a, b, out: generic(op, a, b, out, n, es, rs)


@cache
def _generic_binary(long):
    given, result = _types(64 if long else 32)
    i = numba.int64

    @njit(numba.void(i, given, given, result, i, i, i), nogil=True, cache=True)
    def kernel(op, a, b, out, n, es, rs):
        for t in range(len(out)):
            out[t] = wide_binary(op, a[t], b[t], n, es, rs)

    return kernel


@cache
def unary(op: int, n: int, es: int, rs: int) -> Callable[..., Any]:
    """Kernel (a, out) of SQRT, NEAREST_INT, CEIL or FLOOR."""
    given, result = _types(n)
    if fits_float64(n, es, rs):

        @njit(numba.void(given, result), nogil=True, cache=True)
        def float_kernel(a, out):
            for t in range(len(out)):
                out[t] = from_float(odd_unary(op, to_float(a[t], n, es, rs)), n, es, rs)

        return float_kernel
    generic = _generic_unary(n > 32)
    return lambda a, out: generic(op, a, out, n, es, rs)


@cache
def _generic_unary(long):
    given, result = _types(64 if long else 32)
    i = numba.int64

    @njit(numba.void(i, given, result, i, i, i), nogil=True, cache=True)
    def kernel(op, a, out, n, es, rs):
        for t in range(len(out)):
            out[t] = wide_unary(op, a[t], n, es, rs)

    return kernel


@cache
def fma(n: int, es: int, rs: int) -> Callable[..., Any]:
    """Kernel (a, b, c, out) of a * b + c."""
    given, result = _types(n)
    if fits_float64(n, es, rs):

        @njit(numba.void(given, given, given, result), nogil=True, cache=True)
        def float_kernel(a, b, c, out):
            for t in range(len(out)):
                x, y, z = to_float(a[t], n, es, rs), to_float(b[t], n, es, rs), to_float(c[t], n, es, rs)
                out[t] = from_float(odd.fma(x, y, z), n, es, rs)

        return float_kernel
    generic = _generic_fma(n > 32)
    return lambda a, b, c, out: generic(a, b, c, out, n, es, rs)


@cache
def _generic_fma(long):
    given, result = _types(64 if long else 32)
    i = numba.int64

    @njit(numba.void(given, given, given, result, i, i, i), nogil=True, cache=True)
    def kernel(a, b, c, out, n, es, rs):
        for t in range(len(out)):
            out[t] = wide.fma(a[t], b[t], c[t], n, es, rs)

    return kernel
