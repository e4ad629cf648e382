"""Kernels of the elementary functions: certify approximations, look results up, and the error function."""

import math
from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float

_REALS = numba.types.Array(numba.float64, 1, "C", readonly=True)
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

    @numba.njit(
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

    @numba.njit(
        numba.void(_codes_type(storage), _codes_type(storage), storage_type[::1]), nogil=True, cache=True
    )
    def kernel(codes, table, out):
        mask = np.int64(len(table) - 1)
        for t in range(len(codes)):
            out[t] = table[np.int64(codes[t]) & mask]

    return kernel


@numba.njit(numba.void(_REALS, numba.float64[::1]), nogil=True, cache=True)
def erf(x, out):
    """The error function, by the platform's C library."""
    for t in range(len(x)):
        out[t] = math.erf(x[t])


@numba.njit(numba.void(_REALS, numba.float64[::1]), nogil=True, cache=True)
def erfc(x, out):
    """The complementary error function, by the platform's C library."""
    for t in range(len(x)):
        out[t] = math.erfc(x[t])
