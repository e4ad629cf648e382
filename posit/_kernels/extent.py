"""The range of a block of codes, measured on the codes: the largest magnitude and the smallest that is not 0.

From these two follows what an exact sum has to know.  Let u(c) be the weight of the last fraction bit that the
format has at the magnitude c (`finest`): 2**(scale - f), f the fraction bits left by regime and exponent, at least 0.

*Every value of magnitude c' >= c is a multiple of u(c).*  Within a regime f is constant and the scale grows.
From a regime r to r + d, d >= 1, f grows by at most d (a regime below 1 shortens by one bit a step), while the scale
grows by at least d * 2**es - (2**es - 1) >= d.  So u never falls, and the value of c' is a multiple of u(c').
Where exponent bits are cut off, f is 0 and the value a power of two.

Codes are compared in lanes as narrow as they are stored (Numba would widen them to 64 bits): 4 operations on 32 codes
of 16 bits at a time.  NaR is the one code that is its own negative: the largest magnitude.
"""

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from posit._kernels.codec import parts
from posit._kernels.compiled import njit

if numba.config.DISABLE_JIT:

    def magnitude(code, spare):
        """|code << spare| in the unsigned type of its width; the signed minimum becomes 2**(width - 1)."""
        width = 8 * code.dtype.itemsize
        moved = int(code) << spare & ((1 << width) - 1)
        value = (1 << width) - moved if moved >> (width - 1) else moved
        return np.dtype(f"u{code.dtype.itemsize}").type(value)

    def less_one(x):
        """X - 1 in its own type, 0 becoming the largest."""
        return type(x)((int(x) - 1) & ((1 << (8 * x.dtype.itemsize)) - 1))

else:

    @intrinsic
    def magnitude(typingctx, code, spare):
        """|code << spare| in the unsigned type of its width; the signed minimum becomes 2**(width - 1)."""

        def codegen(context, builder, signature, args):
            kind = args[0].type
            moved = builder.shl(args[0], builder.trunc(args[1], kind))
            zero = kind(0)
            return builder.select(builder.icmp_signed("<", moved, zero), builder.sub(zero, moved), moved)

        return types.Integer.from_bitwidth(code.bitwidth, False)(code, types.int64), codegen

    @intrinsic
    def less_one(typingctx, x):
        """X - 1 in its own type, 0 becoming the largest."""

        def codegen(context, builder, signature, args):
            return builder.sub(args[0], args[0].type(1))

        return x(x), codegen


@njit
def extent(codes, spare):
    """(low, high) of at least one code: smallest nonzero magnitude less 1, largest magnitude.

    Both shifted left by `spare`, the unused bits of the storage, as `magnitude` has them; low is the largest number
    of the type where all codes are 0.
    """
    high = magnitude(codes[0], spare)
    low = less_one(high)
    for t in range(len(codes)):
        size = magnitude(codes[t], spare)
        high = max(high, size)
        low = min(low, less_one(size))
    return low, high


@njit
def bounds(low, high, spare, n, es, rs):
    """(top, bottom) for an `extent` of real codes, not all 0: each is below 2**top and a multiple of 2**bottom."""
    _, scale, _ = parts((np.int64(high) >> spare), n, es, rs)
    return scale + 1, finest((np.int64(low) + 1) >> spare, n, es, rs)


@njit
def finest(code, n, es, rs):
    """Power of two of u(code), the module's lemma, for a code from 1 to maxpos."""
    _, scale, _ = parts(code, n, es, rs)
    regime = scale >> es
    length = regime + 2 if regime >= 0 else 1 - regime
    if rs:
        length = min(length, rs)
    return scale - max(n - 1 - es - length, 0)
