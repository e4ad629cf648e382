"""Exact accumulation in integer limbs: the arithmetic of a quire.

A quire is a two's-complement fixed-point number held as `len(limbs)` digits of 32 bits, each in an int64, least
significant first; digit 0 has weight 2**base.  Carries are lazy: an addition changes a digit by less than 2**33,
so 2**29 additions fit before `fold` must run (|digit| < 2**29 * 2**33 = 2**62, and a folded digit adds 2**32).
"""

import numpy as np

from posit._kernels.codec import encode_parts
from posit._kernels.compiled import njit

ADDS_BEFORE_FOLD = 1 << 29
_LOW = np.uint64(0xFFFFFFFF)
_THIRTY_TWO = np.uint64(32)


@njit
def add(limbs, negative, magnitude, position):
    """Add ±magnitude * 2**position (position >= 0, relative to digit 0); magnitude is any uint64."""
    index = position >> 5
    offset = np.uint64(position & 31)
    low = (magnitude & _LOW) << offset
    high = (magnitude >> _THIRTY_TWO) << offset
    first = np.int64(low & _LOW)
    second = np.int64(low >> _THIRTY_TWO) + np.int64(high & _LOW)
    third = np.int64(high >> _THIRTY_TWO)
    if negative:
        limbs[index] -= first
        limbs[index + 1] -= second
        limbs[index + 2] -= third
    else:
        limbs[index] += first
        limbs[index + 1] += second
        limbs[index + 2] += third


@njit
def fold(limbs):
    """Propagate carries: every digit but the last into 0 .. 2**32 - 1; the last keeps the sign."""
    carry = np.int64(0)
    for t in range(len(limbs) - 1):
        digit = limbs[t] + carry
        carry = digit >> 32
        limbs[t] = digit & 0xFFFFFFFF
    limbs[len(limbs) - 1] += carry


@njit
def to_code(limbs, base, n, es, rs):
    """Round the accumulated sum once; folds, and leaves the magnitude in `limbs`."""
    fold(limbs)
    top = len(limbs) - 1
    negative = limbs[top] < 0
    if negative:
        for t in range(len(limbs)):
            limbs[t] = -limbs[t]
        fold(limbs)
    while top >= 0 and limbs[top] == 0:
        top -= 1
    if top < 0:
        return np.int64(0)
    # the leading digit may exceed 32 bits only in the last limb, where no sum within the proven headroom reaches
    significand = np.uint64(limbs[top])
    length = 0
    while (significand >> np.uint64(length)) != np.uint64(0):
        length += 1
    scale = base + 32 * top + length - 1
    significand = significand << np.uint64(64 - length)
    if top >= 1:
        below = np.uint64(limbs[top - 1])
        significand |= below << np.uint64(32 - length)
    sticky = False
    if top >= 2:
        below = np.uint64(limbs[top - 2])
        significand |= below >> np.uint64(length)
        sticky = (below << np.uint64(64 - length)) != np.uint64(0)
    for t in range(top - 2):
        sticky = sticky or limbs[t] != 0
    return encode_parts(negative, scale, significand, sticky, n, es, rs)
