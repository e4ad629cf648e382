"""Scaled products: size and finest bit of each line of a factor, and the certificate of ``scale * dot + added``.

The proof is that of `posit._matmul`, with one product and one sum more; u is 2**-53.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import from_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits

_U = 2.0**-53
_WHOLE = 2.0**53 * (1.0 - 2.0**-40)
_ANY = numba.types.Array(numba.float64, 3, "A", readonly=True)
_CUBE = numba.types.Array(numba.float64, 3, "C", readonly=True)
_TABLE = numba.types.Array(numba.float64, 2, "C", readonly=True)
_PLACES = numba.types.Array(numba.int64, 2, "C", readonly=True)


@njit(
    numba.void(_ANY, numba.float64[:, ::1], numba.float64[:, ::1]),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def sizes(x, norms, digits):
    """Per line x[p, i]: its Euclidean norm, not rounded down, and the norm over the weight of its finest set bit.

    Both 0 where all of it is 0, NaN where anything is NaN.
    """
    for p in range(x.shape[0]):
        for i in range(x.shape[1]):
            total = 0.0
            finest = np.inf
            for t in range(x.shape[2]):
                value = x[p, i, t]
                total += value * value
                bits = float_bits(value)
                fraction = (bits & np.int64(0xFFFFFFFFFFFFF)) | (np.int64(1) << 52)
                exponent = bits & np.int64(0x7FF0000000000000)
                lowest = np.float64(fraction & -fraction) * 2.0**-52 * bits_float(exponent)
                finest = min(finest, lowest if value != 0.0 else np.inf)
            norm = np.sqrt(total) * (1.0 + (x.shape[2] + 8.0) * _U)
            norms[p, i] = norm
            digits[p, i] = norm / finest


@cache
def certify(n, es, rs, storage, has_addend):
    """Kernel (dots, scale, depth, norms and digits of both, added, places, out, unsure).

    out = scale * dots + added[places[p, i]], rounded, for float64 dot products of `depth` terms.
    """

    @njit(
        numba.void(
            _CUBE, numba.float64, numba.int64, _TABLE, _TABLE, _TABLE, _TABLE, _TABLE, _PLACES,
            numba.from_dtype(storage)[:, :, ::1], numba.uint8[:, :, ::1],
        ),
        nogil=True,
        cache=True,
        error_model="numpy",
    )  # fmt: skip
    def kernel(dots, scale, depth, norms, digits, right_norms, right_digits, added, places, out, unsure):
        power = float_bits(scale) & np.int64(0xFFFFFFFFFFFFF)
        rounding = 0.0 if power == 0 else 2.0 * _U  # scaling by a power of two is exact
        for p in range(dots.shape[0]):
            others, finest = right_norms[p], right_digits[p]
            for i in range(dots.shape[1]):
                row, codes, marks = dots[p, i], out[p, i], unsure[p, i]
                norm = norms[p, i] * ((depth + 4.0) * _U)
                digit = digits[p, i]
                if has_addend:
                    addend = added[places[p, i]]
                for j in range(len(row)):
                    error = 0.0 if digit * finest[j] < _WHOLE else norm * others[j]
                    value = row[j] * scale
                    slack = abs(error * scale) + abs(value) * rounding
                    if has_addend:
                        value = value + addend[j]
                        slack += (abs(value) + abs(addend[j])) * (2.0 * _U)
                    slack = slack + (0.0 if slack == 0.0 else abs(value) * (2.0 * _U))
                    code = from_float(value - slack, n, es, rs)
                    codes[j] = code
                    marks[j] = code != from_float(value + slack, n, es, rs)

    return kernel
