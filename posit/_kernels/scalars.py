"""Scalar operations of one format, callable in a user's own Numba code.

A code is any integer whose low n bits count; results are unsigned codes of the format's storage dtype.  The
way of computing (32-bit lanes, float64 to odd, integers) is a number frozen into each function, as in the
array kernels.
"""

from functools import cache

import numba
import numpy as np

import posit._kernels.arithmetic as arithmetic
import posit._kernels.lanes as lanes
import posit._kernels.wide as wide
import posit._kernels.wide_conversion as wide_conversion
from posit._kernels.arithmetic import (
    ADD,
    CEIL,
    DIV,
    FLOOR,
    MUL,
    NEAREST_INT,
    SQRT,
    SUB,
    lane_binary,
    odd_binary,
    odd_unary,
    wide_binary,
    wide_unary,
)
from posit._kernels.codec import from_float, to_float
from posit._kernels.compiled import njit
from posit._kernels.odd import fma as odd_fma

_LANES, _FLOAT64, _INTEGERS = range(3)


@njit(forceinline=True)
def _binary(op, way, a, b, n, es, rs, low, high):
    if way == _LANES and op != DIV:
        return np.int64(lane_binary(op, np.int32(a), np.int32(b), n, es, rs, np.int32(low), np.int32(high)))
    if way != _INTEGERS:
        x = odd_binary(op, to_float(np.int64(a), n, es, rs), to_float(np.int64(b), n, es, rs))
        return from_float(x, n, es, rs)
    return wide_binary(op, np.int64(a), np.int64(b), n, es, rs)


@njit(forceinline=True)
def _unary(op, way, a, n, es, rs):
    if way != _INTEGERS:
        return from_float(odd_unary(op, to_float(np.int64(a), n, es, rs)), n, es, rs)
    return wide_unary(op, np.int64(a), n, es, rs)


@njit(forceinline=True)
def _fma(way, a, b, c, n, es, rs):
    if way != _INTEGERS:
        x, y, z = (
            to_float(np.int64(a), n, es, rs),
            to_float(np.int64(b), n, es, rs),
            to_float(np.int64(c), n, es, rs),
        )
        return from_float(odd_fma(x, y, z), n, es, rs)
    return wide.fma(np.int64(a), np.int64(b), np.int64(c), n, es, rs)


@njit(forceinline=True)
def _encode(x, n, es, rs):
    if n <= 32:
        return from_float(np.float64(x), n, es, rs)
    return wide_conversion.from_float(np.float64(x), n, es, rs)


@njit(forceinline=True)
def _decode(a, n, es, rs):
    if n <= 32:
        return to_float(np.int64(a), n, es, rs)
    return wide_conversion.to_float(np.int64(a), False, n, es, rs)


def _way(n, es, rs):
    if lanes.serves(n, es, rs):
        return _LANES, *lanes.range_bits(n, es, rs)
    return (_FLOAT64 if arithmetic.fits_float64(n, es, rs) else _INTEGERS), 0, 0


@cache
def arithmetic_functions(n, es, rs, storage):
    """The functions of codes that give codes, by name."""
    way, low, high = _way(n, es, rs)
    mask = -1 if n == 64 else (1 << n) - 1
    code = numba.from_dtype(storage)

    @njit
    def add(a, b):
        return code(_binary(ADD, way, a, b, n, es, rs, low, high) & mask)

    @njit
    def sub(a, b):
        return code(_binary(SUB, way, a, b, n, es, rs, low, high) & mask)

    @njit
    def mul(a, b):
        return code(_binary(MUL, way, a, b, n, es, rs, low, high) & mask)

    @njit
    def div(a, b):
        return code(_binary(DIV, way, a, b, n, es, rs, low, high) & mask)

    @njit
    def fma(a, b, c):
        return code(_fma(way, a, b, c, n, es, rs) & mask)

    @njit
    def sqrt(a):
        return code(_unary(SQRT, way, a, n, es, rs) & mask)

    @njit
    def nearest_int(a):
        return code(_unary(NEAREST_INT, way, a, n, es, rs) & mask)

    @njit
    def ceil(a):
        return code(_unary(CEIL, way, a, n, es, rs) & mask)

    @njit
    def floor(a):
        return code(_unary(FLOOR, way, a, n, es, rs) & mask)

    return {f.__name__: f for f in (add, sub, mul, div, fma, sqrt, nearest_int, ceil, floor)}


@cache
def code_functions(n, storage):
    """The functions that only look at the code: signs, neighbours and comparisons, by name."""
    mask = -1 if n == 64 else (1 << n) - 1
    code = numba.from_dtype(storage)
    one = 1 << (n - 2)

    @njit
    def negate(a):
        return code(-np.int64(a) & mask)

    @njit
    def abs(a):  # noqa: A001 - the standard's name
        signed = wide.signed(a, n)
        return code((-signed if signed < 0 else signed) & mask)

    @njit
    def sign(a):
        signed = wide.signed(a, n)
        real = one if signed > 0 else (-one if signed < 0 else 0)
        return code(np.int64(signed if signed == wide.nar(n) else real) & mask)

    @njit
    def next(a):  # noqa: A001 - the standard's name
        return code((np.int64(a) + 1) & mask)

    @njit
    def prior(a):
        return code((np.int64(a) - 1) & mask)

    @njit
    def is_nar(a):
        return wide.signed(a, n) == wide.nar(n)

    @njit
    def compare_equal(a, b):
        return wide.signed(a, n) == wide.signed(b, n)

    @njit
    def compare_not_equal(a, b):
        return wide.signed(a, n) != wide.signed(b, n)

    @njit
    def compare_less(a, b):
        return wide.signed(a, n) < wide.signed(b, n)

    @njit
    def compare_less_equal(a, b):
        return wide.signed(a, n) <= wide.signed(b, n)

    @njit
    def compare_greater(a, b):
        return wide.signed(a, n) > wide.signed(b, n)

    @njit
    def compare_greater_equal(a, b):
        return wide.signed(a, n) >= wide.signed(b, n)

    made = (
        negate, abs, sign, next, prior, is_nar, compare_equal, compare_not_equal, compare_less,
        compare_less_equal, compare_greater, compare_greater_equal,
    )  # fmt: skip
    return {f.__name__: f for f in made}


@cache
def conversion_functions(n, es, rs, storage):
    """The functions between codes and Numba's numbers, by name."""
    mask = -1 if n == 64 else (1 << n) - 1
    code = numba.from_dtype(storage)

    @njit
    def from_float(x):
        return code(_encode(x, n, es, rs) & mask)

    @njit
    def to_float(a):
        return _decode(a, n, es, rs)

    @njit
    def from_int(x):
        whole = np.int64(x)
        negative = whole < 0
        if negative and whole == -whole:
            return code(wide.nar(n) & mask)
        return code(
            wide_conversion.from_unsigned(np.uint64(-whole if negative else whole), negative, n, es, rs)
            & mask
        )

    @njit
    def to_int(a):
        if wide.signed(a, n) == wide.nar(n):
            return np.int64(-0x8000000000000000)
        whole, overflow = wide_conversion.to_integer(np.int64(a), 0, n, es, rs)
        return np.int64(-0x8000000000000000) if overflow else whole

    return {f.__name__: f for f in (from_float, to_float, from_int, to_int)}
