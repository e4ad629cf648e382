"""Sums of a few products, coefficient times posit, where the coefficient has more bits than a float64.

A coefficient is given as parts, float64 numbers whose sum it is exactly.  Sums are formed in float64 with a bound of
their error; where the bound does not decide the rounding, the exact value, a sum of float64 numbers without overlap
(Shewchuk, Adaptive precision floating-point arithmetic and fast robust geometric predicates, 1997, section 2.3), is
compared with the boundaries between posits.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import code_mask, from_float, to_float
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import fma64

_BLOCK = 1024
_UNIT = 2.0**-53


@njit
def grow(parts, count, x):
    """Add a float64 to an expansion, exactly; returns the new number of parts."""
    carry = x
    for i in range(count):
        total = carry + parts[i]
        other = total - carry
        parts[i] = (carry - (total - other)) + (parts[i] - other)
        carry = total
    parts[count] = carry
    return count + 1


@njit
def sign_less(parts, count, boundary, room):
    """Sign of an expansion less a float64: that of its largest part that is not 0."""
    for i in range(count):
        room[i] = parts[i]
    total = grow(room, count, -boundary)
    for i in range(total - 1, -1, -1):
        if room[i] != 0.0:
            return 1 if room[i] > 0.0 else -1
    return 0


@njit
def _boundary(code, n, es, rs):
    """Where rounding changes from `code` to the next one: the posit of one bit more between them."""
    if code >= 0:
        return to_float(2 * code + 1, n + 1, es, rs)
    return -to_float(-2 * code - 1, n + 1, es, rs)


@njit
def settle(parts, count, low, high, room, n, es, rs):
    """Code of an expansion that lies between two codes, by bisection."""
    sign = sign_less(parts, count, 0.0, room)
    if sign == 0:
        return np.int64(0)
    low = max(low, np.int64(1)) if sign > 0 else low
    high = min(high, np.int64(-1)) if sign < 0 else high
    while low < high:
        middle = (low + high) >> 1
        side = sign_less(parts, count, _boundary(middle, n, es, rs), room)
        if side > 0:
            low = middle + 1
        elif side < 0:
            high = middle
        else:
            return middle if middle & 1 == 0 else middle + 1
    return low


@njit
def _exact(coefficients, values, t, parts):
    """The sum of coefficient times value over the rows of `values` at column t, as an expansion."""
    count = 0
    for i in range(len(values)):
        for part in range(coefficients.shape[1]):
            product = coefficients[i, part] * values[i, t]
            if product != 0.0:
                count = grow(parts, count, product)
                count = grow(parts, count, fma64(coefficients[i, part], values[i, t], -product))
    return count


@cache
def combination(n, es, rs, storage):
    """Kernel (coefficients, values, out): out[t] = sum over i of coefficients[i] * values[i, t], rounded once.

    coefficients: (k, parts); values: (k, length), exact values of posits or of their squares.  NaN gives NaR.

    Each product errs by less than 2 units of 2**-53 of its size (one for the coefficient's first part, one for the
    multiplication), k - 1 additions by one of the sum of sizes each, and forming the two ends by two more.
    """
    given = numba.types.Array(numba.float64, 2, "C", readonly=True)
    mask = code_mask(n, storage)

    @njit(numba.void(given, given, numba.from_dtype(storage)[::1]), nogil=True, cache=True)
    def kernel(coefficients, values, out):
        total, size = np.empty(_BLOCK), np.empty(_BLOCK)
        lower, upper = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
        most = 2 * len(values) * coefficients.shape[1] + 2
        parts, room = np.empty(most), np.empty(most)
        unit = (len(values) + 8) * _UNIT
        for start in range(0, len(out), _BLOCK):
            length = min(_BLOCK, len(out) - start)
            total[:] = 0.0
            size[:] = 0.0
            for i in range(len(values)):
                alpha = coefficients[i, 0]
                row = values[i, start : start + length]
                for t in range(length):
                    product = alpha * row[t]
                    total[t] += product
                    size[t] += abs(product)
            for t in range(length):
                lower[t] = from_float(total[t] - unit * size[t], n, es, rs)
            for t in range(length):
                upper[t] = from_float(total[t] + unit * size[t], n, es, rs)
            for t in range(length):
                code = np.int64(lower[t])
                if lower[t] != upper[t]:
                    count = _exact(coefficients, values, start + t, parts)
                    code = settle(parts, count, code, np.int64(upper[t]), room, n, es, rs)
                out[start + t] = code & mask

    return kernel
