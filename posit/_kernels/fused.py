"""alpha * x + y on arrays of codes, alpha a float64: formed exactly and rounded once."""

from functools import cache

import numba

from posit._kernels import carrier, odd
from posit._kernels.codec import code_mask


@cache
def axpy(n, es, rs, storage):
    """Kernel (alpha, x, y, out): out = alpha * x + y.  NaR in, NaR out.  `out` may be `x` or `y`.

    The sum is rounded to odd in float64 (`odd.fma`), so the encoding is the only rounding.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    signature = numba.void(numba.float64, codes_type, codes_type, numba.from_dtype(storage)[::1])
    mask = code_mask(n, storage)
    small, smallest, largest = carrier.constants(n, es, rs)

    @numba.njit(signature, nogil=True, cache=True)
    def kernel(alpha, x, y, out):
        for t in range(len(x)):
            a = carrier.decode(x[t], n, es, rs, small)
            b = carrier.decode(y[t], n, es, rs, small)
            total = odd.fma(alpha, a, b)
            out[t] = carrier.encode(total, n, es, rs, small, smallest, largest) & mask

    return kernel
