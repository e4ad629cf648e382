"""Float64 approximations of Adam's new weights, with bounds of their errors."""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier
from posit._kernels.compiled import njit

_UNIT = 2.0**-53
_REALS = numba.types.Array(numba.float64, 1, "C", readonly=True)
_BLOCK = 512


@cache
def adam_step(weights, moments):
    """Kernel (w, m, v, keep, rate, scale, eps, values, errors): keep * w - rate * m / (sqrt(scale * v) + eps).

    `weights` and `moments` are (n, es, rs, storage) of the codes w and m; v is float64 within three units of 2**-53 of
    its size, the constants within two.  The quotient is formed from m times a constant, and the square root of v times
    a constant plus eps: each of these operations errs by a unit of 2**-53 of its size, so that the quotient errs by
    less than 14 units of it, keep * w by 3, and the difference by one of both.
    """
    (n, es, rs, storage), (nm, esm, rsm, storage_m) = weights, moments
    small, _, _ = carrier.constants(n, es, rs)
    small_m, _, _ = carrier.constants(nm, esm, rsm)
    codes, codes_m = (
        numba.types.Array(numba.from_dtype(np.dtype(each)), 1, "C", readonly=True)
        for each in (storage, storage_m)
    )
    real = numba.float64

    @njit(
        numba.void(codes, codes_m, _REALS, real, real, real, real, real[::1], real[::1]),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def kernel(w, m, v, keep, rate, scale, eps, values, errors):
        held, first = np.empty(_BLOCK), np.empty(_BLOCK)
        shrunk = 4.0 * _UNIT if keep != 1.0 else 0.0
        for start in range(0, len(w), _BLOCK):
            length = min(_BLOCK, len(w) - start)
            for t in range(length):
                held[t] = carrier.decode(w[start + t], n, es, rs, small) * keep
            for t in range(length):
                first[t] = carrier.decode(m[start + t], nm, esm, rsm, small_m)
            for t in range(length):
                quotient = first[t] * rate / (np.sqrt(v[start + t] * scale) + eps)
                quotient = 0.0 if first[t] == 0.0 else quotient
                last = 2.0 * _UNIT if quotient != 0.0 else 0.0
                values[start + t] = held[t] - quotient
                errors[start + t] = abs(quotient) * (16.0 * _UNIT) + abs(held[t]) * (shrunk + last)

    return kernel
