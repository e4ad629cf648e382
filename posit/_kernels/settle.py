"""What the certificate of a float64 product leaves open: compensated sums, certified again, and at last the quire.

A compensated sum keeps the rounding error of every addition (TwoSum) and multiplication (TwoProduct by one fused
multiply-add), both exact, and adds them up beside it (Ogita, Rump and Oishi, Accurate sum and dot product, SIAM J.
Sci. Comput. 26, 2005).  With p the rounded products, S = sum |p| and u = 2**-53 the errors are at most (k + LANES) u S
for the additions and u S for the products, and adding up these 2 k + 2 LANES numbers in float64 errs by at most
gamma_(2k + 2 LANES) (k + LANES + 1) u S, whatever the order.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, swift
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits, fma64
from posit._kernels.limbs import ADDS_BEFORE_FOLD, add, fold, to_code
from posit._kernels.product import flat_codes

LANES = 16
ZERO, COMPENSATED, QUIRE = 0, 1, 2  #: how `settle` settled an element

_F = numba.float64[::1]
_I = numba.int64
_UNIT = 2.0**-53


@njit
def add_float_product(limbs, base, x, y):
    """Add x * y exactly; both nonzero, of at most 32 significant bits."""
    bits_x = float_bits(x)
    bits_y = float_bits(y)
    fraction = np.int64(0xFFFFFFFFFFFFF)
    hidden = np.int64(1) << 52
    left = np.uint64(((bits_x & fraction) | hidden) >> 21)
    right = np.uint64(((bits_y & fraction) | hidden) >> 21)
    scale = ((bits_x >> 52) & 0x7FF) + ((bits_y >> 52) & 0x7FF) - 2 * 1023
    add(limbs, (bits_x ^ bits_y) < 0, left * right, scale - 62 - base)


@njit(forceinline=True)
def _two_sum(a, b):
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


@njit
def compensated_dot(x, y, addend, sums, errors, sizes):
    """Sum of x * y and the addend as (high, low, S); `sums`, `errors`, `sizes` are room for `LANES` floats each."""
    sums[:] = 0.0
    errors[:] = 0.0
    sizes[:] = 0.0
    whole = len(x) // LANES * LANES
    for t in range(0, whole, LANES):
        for lane in range(LANES):
            product = x[t + lane] * y[t + lane]
            rest = fma64(x[t + lane], y[t + lane], -product)
            total, error = _two_sum(sums[lane], product)
            sums[lane] = total
            errors[lane] += error + rest
            sizes[lane] += abs(product)
    high, low, size = addend, 0.0, abs(addend)
    for t in range(whole, len(x)):
        product = x[t] * y[t]
        low += fma64(x[t], y[t], -product)
        high, error = _two_sum(high, product)
        low += error
        size += abs(product)
    for lane in range(LANES):
        high, error = _two_sum(high, sums[lane])
        low += error + errors[lane]
        size += sizes[lane]
    return high, low, size


@njit(forceinline=True)
def _outward(x, up):
    """The neighbour of a nonzero float64 above or below it; of 0 the smallest normal number that way."""
    bits = float_bits(x)
    if x == 0.0:
        return 2.2250738585072014e-308 if up else -2.2250738585072014e-308
    return bits_float(bits + 1 if (bits >= 0) == up else bits - 1)


@njit
def settle(x, y, addend, slack, room, limbs, base, n, es, rs, small, smallest, largest):
    """Code (int64) and tier of the exact sum of x * y and the addend; n, es, rs are the result's format.

    `slack` scales the proven bound: 1, except in tests which show that a smaller one gives wrong results.
    """
    high, low, size = compensated_dot(x, y, addend, room[:LANES], room[LANES : 2 * LANES], room[2 * LANES :])
    if size == 0.0:
        return np.int64(0), ZERO
    terms = 2.0 * len(x) + 2.0 * LANES + 2.0
    gamma = terms * _UNIT / (1.0 - terms * _UNIT)
    bound = slack * gamma * terms * _UNIT * size * 1.0009765625
    below = _outward(high + _outward(low - bound, False), False)
    above = _outward(high + _outward(low + bound, True), True)
    code = carrier.encode_one(below, n, es, rs, small, smallest, largest)
    if code == carrier.encode_one(above, n, es, rs, small, smallest, largest):
        return code, COMPENSATED
    limbs[:] = 0
    added = 0
    for t in range(len(x)):
        if x[t] != 0.0 and y[t] != 0.0:
            add_float_product(limbs, base, x[t], y[t])
            added += 1
            if added % ADDS_BEFORE_FOLD == 0:
                fold(limbs)
    if addend != 0.0:
        add_float_product(limbs, base, addend, 1.0)
    return to_code(limbs, base, n, es, rs), QUIRE


@njit
def _gather(codes, at, stride, gathered):
    for t in range(len(gathered)):
        gathered[t] = codes[at + t * stride]


@njit(forceinline=True)
def _decode_line(gathered, out, n, es, rs, way, one):
    """Decode a line that holds no NaR: sums with one are settled before."""
    if way == swift.HALF:
        scale = bits_float(np.int64(1150 - one) << 52)
        for t in range(len(out)):
            out[t] = np.float64(swift.to_float32(gathered[t], n, es, one)) * scale
    else:
        for t in range(len(out)):
            out[t] = swift.to_float64(gathered[t], n, es, rs, way, one)


@cache
def repair(left, right, result):
    """Kernel (a, a_at, a_row, a_step, b, b_at, b_column, b_step, k, start, stop, rows, columns, addends, slack,
    limbs, base, codes, places, mask, counts): settle elements start .. stop of a list.

    `left`, `right`, `result` are (n, es, rs, width).  Element t is the sum over k of row rows[t] of `a` (from
    a[a_at + row * a_row], a_step apart) and column columns[t] of `b`, and addends[t]; it goes to codes[places[t]].
    Elements of one column should follow each other.  counts[tier] counts.
    """  # noqa: D205 - the arguments do not fit one line
    (na, esa, rsa, width_a), (nb, esb, rsb, width_b), (n, es, rs, width) = left, right, result
    way_a, one_a = swift.constants(na, esa, rsa)
    way_b, one_b = swift.constants(nb, esb, rsb)
    small, smallest, largest = carrier.constants(n, es, rs)
    storage_a, storage_b = np.dtype(f"i{width_a}"), np.dtype(f"i{width_b}")
    codes_type = numba.from_dtype(np.dtype(f"i{width}"))[::1]
    places_type = numba.int64[::1]

    @njit(
        numba.void(
            *(flat_codes(width_a), _I, _I, _I, flat_codes(width_b), _I, _I, _I, _I, _I, _I),
            *(places_type, places_type, _F, numba.float64, places_type, _I),
            *(codes_type, places_type, _I, places_type),
        ),
        nogil=True,
        cache=True,
    )
    def kernel(
        a, a_at, a_row, a_step, b, b_at, b_column, b_step, k, start, stop, rows, columns, addends, slack,
        limbs, base, codes, places, mask, counts,
    ):  # fmt: skip
        x, y, room = np.empty(k), np.empty(k), np.empty(3 * LANES)
        row, column = np.empty(k, storage_a), np.empty(k, storage_b)
        for t in range(start, stop):
            if t == start or columns[t] != columns[t - 1]:
                _gather(b, b_at + columns[t] * b_column, b_step, column)
                _decode_line(column, y, nb, esb, rsb, way_b, one_b)
            _gather(a, a_at + rows[t] * a_row, a_step, row)
            _decode_line(row, x, na, esa, rsa, way_a, one_a)
            code, tier = settle(
                x, y, addends[t], slack, room, limbs, base, n, es, rs, small, smallest, largest
            )
            codes[places[t]] = code & mask
            counts[tier] += 1

    return kernel


@njit(numba.int64(_F, numba.int64[::1]), nogil=True, cache=True)
def find_open(c, found):
    """List the indices of NaN in `c`; returns how many."""
    count = 0
    for t in range(len(c)):
        if np.isnan(c[t]):
            found[count] = t
            count += 1
    return count
