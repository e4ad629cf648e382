"""Linear combinations of posit arrays with float64 coefficients, formed exactly and rounded once."""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import code_mask, from_float, to_float
from posit._kernels.intrinsics import bits_float, float_bits, fma64
from posit._kernels.limbs import add, to_code


@numba.njit(inline="always")
def two_sum(a, b):
    """a + b rounded, and the error of that (Knuth): their sum is exactly a + b."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


@numba.njit(inline="always")
def to_odd(s, tail):
    """The float64 that rounds like s + tail: where tail is not 0, an odd last bit, reached towards tail.

    Needs s != 0 and |tail| below one unit in the last place of s.  Boundaries of posits with n <= 32 have far fewer
    than 53 bits, so an odd float64 is never one, and lies on the same side of each as the exact sum.
    """
    bits = float_bits(s)
    step = np.int64(1) if (tail > 0.0) == (s > 0.0) else np.int64(-1)
    step = step if (tail != 0.0 and (bits & 1) == 0) else np.int64(0)
    return bits_float(bits + step)


@numba.njit(inline="always")
def _distil(p, dp, q, dq):
    """Leading part and tail of p + dp + q + dq, and whether the tail's sign and size are proven."""
    s, a = two_sum(p, q)
    b, c = two_sum(dp, dq)
    s, b = two_sum(s, b)
    t, u = two_sum(a, b)
    s, t = two_sum(s, t)
    tail = t + (u + c)
    rest = abs(u) + abs(c)
    proven = (s + tail == s) and ((rest == 0.0) or (abs(t) > 4.0 * rest))
    proven = proven and (s != 0.0 or (t == 0.0 and rest == 0.0))
    return s, tail, proven


@numba.njit
def _add_float(limbs, base, x):
    """Add one normal float64 to limbs exactly."""
    if x != 0.0:
        bits = float_bits(x)
        significand = np.uint64((bits & np.int64(0xFFFFFFFFFFFFF)) | (np.int64(1) << 52))
        add(limbs, bits < 0, significand, ((bits >> 52) & 0x7FF) - 1075 - base)


@cache
def combine(n, es, rs, storage):
    """Kernel (alpha, x, beta, y, limbs, base, out): out = alpha * x + beta * y on codes, exact and rounded once.

    Products are split exactly into two float64 by a fused multiply-add; the four parts are distilled into a leading
    float64 and a tail whose sign decides the rounding.  Where cancellation leaves that unproven, limbs decide.
    NaR in, NaR out.  `out` may be `x` or `y`.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    mask = code_mask(n, storage)

    @numba.njit(
        numba.void(
            numba.float64,
            codes_type,
            numba.float64,
            codes_type,
            numba.int64[::1],
            numba.int64,
            numba.from_dtype(storage)[::1],
        ),
        nogil=True,
        cache=True,
    )
    def kernel(alpha, x, beta, y, limbs, base, out):
        block = 256
        proven = np.empty(block, np.bool_)
        codes = np.empty(block, np.int64)
        for start in range(0, len(x), block):
            length = min(block, len(x) - start)
            all_proven = True
            for t in range(length):
                a = to_float(x[start + t], n, es, rs)
                b = to_float(y[start + t], n, es, rs)
                p = alpha * a
                q = beta * b
                s, tail, sure = _distil(p, fma64(alpha, a, -p), q, fma64(beta, b, -q))
                sure = sure or (s != s)
                proven[t] = sure
                all_proven = all_proven and sure
                codes[t] = from_float(to_odd(s, tail), n, es, rs)
            if not all_proven:
                for t in range(length):
                    if not proven[t]:
                        a = to_float(x[start + t], n, es, rs)
                        b = to_float(y[start + t], n, es, rs)
                        limbs[:] = 0
                        p = alpha * a
                        q = beta * b
                        _add_float(limbs, base, p)
                        _add_float(limbs, base, fma64(alpha, a, -p))
                        _add_float(limbs, base, q)
                        _add_float(limbs, base, fma64(beta, b, -q))
                        codes[t] = to_code(limbs, base, n, es, rs)
            for t in range(length):
                out[start + t] = codes[t] & mask

    return kernel
