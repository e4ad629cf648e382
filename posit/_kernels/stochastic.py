"""Stochastic rounding: the two neighbours of a number, and a counter-based generator that picks one."""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float, to_float
from posit._kernels.compiled import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit
def mix(x):
    """SplitMix64's output function: each changed bit changes about half the bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit
def uniform(key, counter):
    """A multiple of 2**-53 in [0, 1): output number `counter` of SplitMix64 started at `key`."""
    return np.float64(mix(key + (counter + np.uint64(1)) * _GOLDEN) >> np.uint64(11)) * 2.0**-53


@njit
def choose(x, u, n, es, rs):
    """Code of x rounded up in magnitude where u < (|x| - low) / (high - low), else down; n <= 32."""
    magnitude = abs(x)
    nearest = from_float(magnitude, n, es, rs)
    if nearest == np.int64(-1) << (n - 1) or magnitude == 0.0:
        return nearest
    below = nearest - 1 if to_float(nearest, n, es, rs) > magnitude else nearest
    low = to_float(below, n, es, rs)
    if below < (np.int64(1) << (n - 1)) - 1:
        high = to_float(below + 1, n, es, rs)
        if u * (high - low) < magnitude - low:
            below += 1
    return -below if x < 0.0 else below


@cache
def rounder(n, es, rs):
    """Kernel (values, key, first, out): element t uses the generator's output first + t."""
    given = numba.types.Array(numba.float64, 1, "C", readonly=True)

    @njit(
        numba.void(given, numba.uint64, numba.uint64, numba.int64[::1]),
        nogil=True,
        cache=True,
    )
    def kernel(values, key, first, out):
        for t in range(len(values)):
            out[t] = choose(values[t], uniform(key, first + np.uint64(t)), n, es, rs)

    return kernel
