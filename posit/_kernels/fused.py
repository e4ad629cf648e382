"""alpha * x + y on arrays of codes, alpha a float64: formed exactly and rounded once."""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, odd
from posit._kernels.codec import code_mask
from posit._kernels.compiled import njit

_BLOCK = 1024


@cache
def axpy(n, es, rs, storage):
    """Kernel (alpha, x, y, out): out = alpha * x + y.  NaR in, NaR out.  `out` may be `x` or `y`.

    The sum is rounded to odd in float64 (`odd.fma`), so the encoding is the only rounding.  A plain fused multiply-add
    would not do, and not rarely: with alpha = 0.9 every x that is a multiple of 5 gives a float64 whose last bits are
    0, often a boundary between posits, while the exact sum is not.

    A block is finished before it is written: LLVM vectorises a loop only where it writes nothing that it reads.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    signature = numba.void(numba.float64, codes_type, codes_type, numba.from_dtype(storage)[::1])
    mask = code_mask(n, storage)
    dtype = np.dtype(storage)
    small, smallest, largest = carrier.constants(n, es, rs)

    @njit(signature, nogil=True, cache=True)
    def kernel(alpha, x, y, out):
        block = np.empty(_BLOCK, dtype)
        for start in range(0, len(x), _BLOCK):
            length = min(_BLOCK, len(x) - start)
            for t in range(length):
                a = carrier.decode(x[start + t], n, es, rs, small)
                b = carrier.decode(y[start + t], n, es, rs, small)
                total = odd.fma(alpha, a, b)
                block[t] = carrier.encode(total, n, es, rs, small, smallest, largest) & mask
            out[start : start + length] = block[:length]

    return kernel


@cache
def momentum_step(n, es, rs, storage):
    """Kernel (mu, lr, grad, held, weights): held = mu * held + grad, then weights = weights - lr * held, in place.

    Each is formed exactly and rounded once, as two calls of `axpy` would, in one pass.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    changed = numba.from_dtype(storage)[::1]
    mask = code_mask(n, storage)
    dtype = np.dtype(storage)
    small, smallest, largest = carrier.constants(n, es, rs)

    @njit(numba.void(numba.float64, numba.float64, codes_type, changed, changed), nogil=True, cache=True)
    def kernel(mu, lr, grad, held, weights):
        new_held = np.empty(_BLOCK, dtype)
        new_weights = np.empty(_BLOCK, dtype)
        for start in range(0, len(grad), _BLOCK):
            length = min(_BLOCK, len(grad) - start)
            for t in range(length):
                g = carrier.decode(grad[start + t], n, es, rs, small)
                m = carrier.decode(held[start + t], n, es, rs, small)
                code = carrier.encode(odd.fma(mu, m, g), n, es, rs, small, smallest, largest)
                new_held[t] = code & mask
            for t in range(length):
                m = carrier.decode(new_held[t], n, es, rs, small)
                w = carrier.decode(weights[start + t], n, es, rs, small)
                code = carrier.encode(odd.fma(-lr, m, w), n, es, rs, small, smallest, largest)
                new_weights[t] = code & mask
            held[start : start + length] = new_held[:length]
            weights[start : start + length] = new_weights[:length]

    return kernel
