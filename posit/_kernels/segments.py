"""Exact sums of rows grouped by where they go: one rounding for each sum, whatever the order of the rows.

Values are float64, exact; NaN stands for NaR.  A sum runs as a pair hi + lo: each addition to hi leaves its rounding
error exactly (TwoSum: Knuth, Seminumerical Algorithms, section 4.2.2), which is added to lo the same way.  Where no
addition to lo left an error, hi + lo is the exact sum, and rounding it to odd makes the encoding the only rounding
(`posit._kernels.odd`).  All other sums are marked, and made again in limbs.
"""

import numba
import numpy as np

import posit._kernels.odd as odd
from posit._kernels.compiled import njit
from posit._kernels.exact_sums import divide
from posit._kernels.limbs import to_code
from posit._kernels.quire import add_at, float_digits
from posit._kernels.streams import add_float

_N = numba.int64
_INDEX = numba.types.Array(_N, 1, "C", readonly=True)
_REALS = numba.types.Array(numba.float64, 2, "C", readonly=True)


@njit(numba.void(_INDEX, _N[::1], _N[::1]), nogil=True, cache=True)
def group(index, starts, order):
    """Counting sort of rows by index: those of group g are order[starts[g]:starts[g + 1]], in their own order.

    `starts` has one element more than there are groups, and is 0; `order` has the length of `index`.
    """
    for t in range(len(index)):
        starts[index[t] + 1] += 1
    for g in range(1, len(starts)):
        starts[g] += starts[g - 1]
    for t in range(len(index)):
        order[starts[index[t]]] = t
        starts[index[t]] += 1
    for g in range(len(starts) - 1, 0, -1):
        starts[g] = starts[g - 1]
    if len(starts) > 0:
        starts[0] = 0


@njit(
    numba.void(_N, _N, _REALS, _INDEX, _INDEX, _REALS, _INDEX, numba.float64[:, ::1], numba.uint8[:, ::1]),
    nogil=True,
    cache=True,
)
def sums(begin, end, values, order, starts, base, divisors, out, marks):
    """Sums of groups begin .. end - 1, to odd, over their divisors; marks[g, j] is set where out[g, j] means nothing.

    `base` holds what the sums begin with, and `divisors` one positive number for each group; either may be empty.
    """
    width = out.shape[1]
    hi, lo, rest = np.empty(width), np.empty(width), np.empty(width)
    for g in range(begin, end):
        lo[:] = 0.0
        rest[:] = 0.0
        if len(base) > 0:
            for j in range(width):
                hi[j] = base[g, j]
        else:
            hi[:] = 0.0
        for t in range(starts[g], starts[g + 1]):
            row = values[order[t]]
            for j in range(width):
                total = hi[j] + row[j]
                other = total - hi[j]
                error = (hi[j] - (total - other)) + (row[j] - other)
                low = lo[j] + error
                other = low - lo[j]
                rest[j] += abs((lo[j] - (low - other)) + (error - other))
                hi[j] = total
                lo[j] = low
        divisor = np.float64(divisors[g]) if len(divisors) > 0 else 1.0
        for j in range(width):
            real = hi[j] == hi[j]
            exact = rest[j] == 0.0
            single = lo[j] == 0.0 or divisor == 1.0
            total = odd.add(hi[j], lo[j]) if divisor == 1.0 else odd.div(hi[j], divisor)
            if real and exact and single:
                out[g, j] = total
            else:
                out[g, j] = 0.0
                marks[g, j] = 1


@njit(
    numba.void(_INDEX, _REALS, _INDEX, _INDEX, _REALS, _INDEX, _N, _N, numba.types.UniTuple(_N, 3), _N[::1]),
    nogil=True,
    cache=True,
)
def sums_in_limbs(places, values, order, starts, base, divisors, lowest, length, result, out):
    """Codes of the sums at flat `places`, in limbs of weight 2**lowest; as `sums` otherwise."""
    width = values.shape[1]
    limbs = np.empty(length, np.int64)
    for p in range(len(places)):
        g, j = places[p] // width, places[p] % width
        limbs[:] = 0
        start = base[g, j] if len(base) > 0 else 0.0
        real = start == start
        if real:
            add_float(limbs, lowest, start)
        for t in range(starts[g], starts[g + 1]):
            value = values[order[t], j]
            if value != value:  # add_float takes no NaN
                real = False
                break
            add_float(limbs, lowest, value)
        if real and len(divisors) > 0 and divisors[g] != 1:
            divide(limbs, divisors[g])
        if real:
            out[p] = to_code(limbs, lowest, result[0], result[1], result[2])
        else:
            out[p] = np.int64(-1) << (result[0] - 1)


@njit(
    numba.void(_N, _N, _REALS, _INDEX, numba.types.Array(_N, 2, "A"), _N),
    nogil=True,
    cache=True,
)
def add_rows(begin, end, values, index, planes, lsb):
    """Add columns begin .. end - 1 of row t of the values to the quires of row index[t]; planes as in `quire`."""
    length, width = planes.shape[0] - 1, values.shape[1]
    for t in range(len(index)):
        first = index[t] * width
        for j in range(begin, end):
            value = values[t, j]
            if value != value:
                planes[length, first + j] = 1
            elif value != 0.0:
                at, x, y, z = float_digits(False, value, lsb)
                add_at(planes, first + j, length, at, x, y, z)
