"""One quire as an int64 array, for a user's own Numba code.

The array holds the digits of `posit._kernels.quire`, then the mark of NaR and a count of what was added: all state is
in it, so that quires can be rows of a matrix, one for each thread.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.codec import to_float
from posit._kernels.compiled import njit
from posit._kernels.limbs import ADDS_BEFORE_FOLD, fold, to_code
from posit._kernels.quire import code_product, digits_of, load, overflows, product_digits
from posit._kernels.wide import nar, signed

NAR, USED, SIZE = 0, 1, 2  #: places after the digits, and how many
_SLACK = (1 << 31) - 1 - ADDS_BEFORE_FOLD


@njit(forceinline=True)
def _add(q, length, index, first, second, third):
    q[index] += first
    q[index + 1] += second
    if index + 2 < length:
        q[index + 2] += third


@njit
def settle(q, length, bits, unit):
    """Fold; NaR and no digits where the value has left the register; count anew.

    One count serves both allowances: while it is below 2**29 there were fewer additions, and
    |value| <= (count + _SLACK) products, which fewer than 2**31 of cannot leave the register.
    """
    digits = q[:length]
    fold(digits)
    if q[length + NAR] != 0 or overflows(digits, length, bits):
        q[:] = 0
        q[length + NAR] = 1
    else:
        q[length + USED] = max(np.int64(2), load(digits, length, unit) - _SLACK)


@njit(forceinline=True)
def _accumulate(q, negative, a, b, length, lsb, bits, unit, n, es, rs):
    x, y = signed(a, n), signed(b, n)
    if x == nar(n) or y == nar(n):
        q[length + NAR] = 1
    elif x != 0 and y != 0:
        if n <= 32:
            u, v = to_float(x, n, es, rs), to_float(y, n, es, rs)
            index, first, second, third = product_digits(negative, u, v, lsb)
            _add(q, length, index, first, second, third)
        else:
            sign, high, low, place = code_product(negative, x, y, lsb, n, es, rs)
            index, first, second, third = digits_of(sign, high, place + 64)
            _add(q, length, index, first, second, third)
            if low != np.uint64(0):
                index, first, second, third = digits_of(sign, low, place)
                _add(q, length, index, first, second, third)
        q[length + USED] += 1 if n <= 32 else 2
        if q[length + USED] >= ADDS_BEFORE_FOLD:
            settle(q, length, bits, unit)


@njit
def _accumulate_one(q, negative, a, length, lsb, bits, unit, n, es, rs):
    """Add or subtract a posit, as its product with 1; compiled once for all formats, slower than if inlined."""
    _accumulate(q, negative, a, np.int64(1) << (n - 2), length, lsb, bits, unit, n, es, rs)


@njit
def _merge(q, r, negative, length, bits, unit):
    if q[length + USED] + r[length + USED] > ADDS_BEFORE_FOLD:
        settle(q, length, bits, unit)
    sign = np.int64(-1) if negative else np.int64(1)
    for t in range(length):
        q[t] += sign * r[t]
    q[length + NAR] |= r[length + NAR]
    settle(q, length, bits, unit)


@njit
def _rounded(q, length, lsb, n, es, rs):
    if q[length + NAR] != 0:
        return nar(n)
    return to_code(q[:length].copy(), lsb, n, es, rs)


@cache
def functions(n, es, rs, storage, length, lsb, bits, unit):
    """The quire functions of a format, by name."""
    mask = -1 if n == 64 else (1 << n) - 1
    code = numba.from_dtype(storage)
    size = length + SIZE

    @njit
    def quire():
        return np.zeros(size, np.int64)

    @njit
    def quire_clear(q):
        q[:] = 0

    @njit
    def quire_add(q, a):
        _accumulate_one(q, False, a, length, lsb, bits, unit, n, es, rs)

    @njit
    def quire_sub(q, a):
        _accumulate_one(q, True, a, length, lsb, bits, unit, n, es, rs)

    @njit
    def quire_mul_add(q, a, b):
        _accumulate(q, False, a, b, length, lsb, bits, unit, n, es, rs)

    @njit
    def quire_mul_sub(q, a, b):
        _accumulate(q, True, a, b, length, lsb, bits, unit, n, es, rs)

    @njit
    def quire_merge(q, r):
        _merge(q, r, False, length, bits, unit)

    @njit
    def quire_sub_quire(q, r):
        _merge(q, r, True, length, bits, unit)

    @njit
    def quire_negate(q):
        for t in range(length):
            q[t] = -q[t]

    @njit
    def quire_is_nar(q):
        return q[length + NAR] != 0

    @njit
    def quire_to_posit(q):
        return code(_rounded(q, length, lsb, n, es, rs) & mask)

    made = (
        quire, quire_clear, quire_add, quire_sub, quire_mul_add, quire_mul_sub, quire_merge, quire_sub_quire,
        quire_negate, quire_is_nar, quire_to_posit,
    )  # fmt: skip
    return {f.__name__: f for f in made}
