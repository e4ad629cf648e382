"""The float64 carrier of formats with n <= 32: the exact value of a code, and a float64 rounded once to a code.

Where `lanes.serves` the format, both go through 32-bit lanes, twice as many per vector, with the same bits; `small` is
that choice, frozen into a kernel like the format's integers.
"""

import numpy as np

from posit._kernels import lanes
from posit._kernels.codec import from_float, to_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float32, float_bits
from posit._kernels.lanes import from_float32, to_float32


def constants(n, es, rs):
    """(small, smallest, largest) for `decode` and `encode`: the choice, and the float32 bits of minpos and maxpos."""
    if not lanes.serves(n, es, rs):
        return False, 0, 0
    return True, *lanes.range_bits(n, es, rs)


@njit(forceinline=True)
def odd_to_float32(x):
    """A float64 as a float32 rounded to odd (truncated, last bit set if anything was cut).

    Scales beyond float32's go to its ends, which lie beyond those of every format that `lanes.serves`: there it
    rounds to minpos or maxpos all the same.  NaN and infinities become NaN, 0 stays 0.
    """
    bits = float_bits(x)
    magnitude = bits & np.int64(0x7FFFFFFFFFFFFFFF)
    cut = np.int64(1) if (bits & np.int64(0x1FFFFFFF)) != 0 else np.int64(0)
    short = ((magnitude >> 29) - (np.int64(896) << 23)) | cut
    short = min(max(short, np.int64(0x00800000)), np.int64(0x7F7FFFFF))
    short = np.int64(0) if magnitude == 0 else short
    short = np.int64(0x7FC00000) if magnitude >= np.int64(0x7FF0000000000000) else short
    return bits_float32(np.int32(short | ((bits >> 63) << 31)))


@njit(forceinline=True)
def decode(code, n, es, rs, small):
    """The exact float64 of a code; NaR gives NaN."""
    if small:
        return np.float64(to_float32(np.int32(code), n, es, rs))
    return to_float(code, n, es, rs)


@njit(forceinline=True)
def encode(x, n, es, rs, small, smallest, largest):
    """Code (int64, sign-extended) of a float64 rounded once; NaN and infinities give NaR."""
    if small and rs:  # an unbounded regime is shorter in 64-bit lanes, without the step between
        return np.int64(from_float32(odd_to_float32(x), n, es, rs, np.int32(smallest), np.int32(largest)))
    return from_float(x, n, es, rs)


@njit(inline="never")
def encode_one(x, n, es, rs, small, smallest, largest):
    """As `encode`, for places where one value at a time comes by: a call, not a copy of the code."""
    return encode(x, n, es, rs, small, smallest, largest)
