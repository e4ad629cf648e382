"""Kernels of the elementary functions: certify approximations, look results up, and the error function."""

import math
from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import float_bits

_REALS = numba.types.Array(numba.float64, 1, "C", readonly=True)
_F1 = numba.float64[::1]
_LARGE = 2.0**1000  # beyond maxpos of every format that float64 carries: their scales stay below 993
_SMALL = 2.0**-1000


def _codes_type(storage):
    return numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)


@cache
def certifier(n, es, rs, storage):
    """Kernel (values, bounds, out, unsure): round each value where its error bound decides the rounding.

    The true number lies within values[t] * (1 ± bounds[t]); NaN stands for NaR, 0 for an exact zero,
    infinities and numbers outside 2**±1000 for something beyond maxpos or below minpos.  Both ends are
    rounded; where the codes differ, unsure[t] becomes 1.
    """
    mask = -1 if np.dtype(storage).kind == "i" else (1 << n) - 1

    @njit(
        numba.void(_REALS, _REALS, numba.from_dtype(storage)[::1], numba.uint8[::1]), nogil=True, cache=True
    )
    def kernel(values, bounds, out, unsure):
        for t in range(len(values)):
            value = values[t]
            bound = bounds[t]
            size = min(max(abs(value), _SMALL), _LARGE)
            low = size * (1.0 - bound)
            high = size * (1.0 + bound)
            low = -low if value < 0.0 else low
            high = -high if value < 0.0 else high
            low = 0.0 if value == 0.0 else low
            high = 0.0 if value == 0.0 else high
            low = np.nan if value != value else low
            high = np.nan if value != value else high
            code = from_float(low, n, es, rs)
            out[t] = code & mask
            unsure[t] = code != from_float(high, n, es, rs) or not bound < 0.5

    return kernel


@cache
def lookup(storage):
    """Kernel (codes, table, out): out[t] = table[low bits of codes[t]]; the table has 2**k entries."""
    storage_type = numba.from_dtype(storage)

    @njit(numba.void(_codes_type(storage), _codes_type(storage), storage_type[::1]), nogil=True, cache=True)
    def kernel(codes, table, out):
        mask = np.int64(len(table) - 1)
        for t in range(len(codes)):
            out[t] = table[np.int64(codes[t]) & mask]

    return kernel


@njit(numba.void(_REALS, numba.float64[::1]), nogil=True, cache=True)
def erf(x, out):
    """The error function, by the platform's C library."""
    for t in range(len(x)):
        out[t] = math.erf(x[t])


@njit(numba.void(_REALS, numba.float64[::1]), nogil=True, cache=True)
def erfc(x, out):
    """The complementary error function, by the platform's C library."""
    for t in range(len(x)):
        out[t] = math.erfc(x[t])


@njit(
    numba.void(
        _REALS, numba.uint64[:, ::1], numba.int64, numba.float64[::1], numba.int64[::1], numba.float64[::1]
    ),
    nogil=True,
    cache=True,
)
def modulo_half_pi(x, table, lowest, r, q, bound):
    """Remainders and quadrants modulo pi/2; `posit._elementary.reduction` says why this is right.

    Row E - lowest of `table` holds 2**E * 2/pi mod 4 in five 32-bit limbs, lowest first.
    """
    low_word = np.uint64(0xFFFFFFFF)
    word = np.uint64(32)
    for t in range(len(x)):
        size = abs(x[t])
        if not size > np.pi / 4:
            r[t], q[t], bound[t] = x[t], 0, 0.0
            continue
        bits = float_bits(size)
        mantissa = np.uint64(((bits & np.int64(0xFFFFFFFFFFFFF)) | (np.int64(1) << 52)) >> 21)
        row = table[(bits >> 52) - 1023 - 31 - lowest]
        term = mantissa * row[0]
        term = mantissa * row[1] + (term >> word)
        middle = term & low_word
        term = mantissa * row[2] + (term >> word)
        middle |= (term & low_word) << word
        term = mantissa * row[3] + (term >> word)
        high = term & low_word
        term = mantissa * row[4] + (term >> word)
        high |= (term & low_word) << word
        quadrant = (high + np.uint64(1 << 61)) >> np.uint64(62)
        signed = np.int64(high - (quadrant << np.uint64(62)))
        turns = np.float64(signed) * 2.0**-62 + np.float64(middle) * 2.0**-126
        remainder = turns * (np.pi / 2)
        negative = x[t] < 0.0
        r[t] = -remainder if negative else remainder
        q[t] = (-np.int64(quadrant) if negative else np.int64(quadrant)) & 3
        bound[t] = 1.0 if abs(remainder) < 2.0**-53 else 2.0**-46
