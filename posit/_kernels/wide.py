"""Arithmetic in integers, for any format up to 64 bits: 128-bit significands, one sticky bit, one rounding.

Everything below takes codes as int64 (low n bits count) and returns sign-extended codes.  Zero and NaR are
settled first; then a value is (negative, scale, significand with its leading 1 at bit 63), as `parts` gives
it.
"""

import numpy as np

from posit._kernels.codec import encode_parts, parts
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import clz64, mulhi64

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TOP = np.uint64(1 << 63)
_LOW = np.uint64(0xFFFFFFFF)


@njit(forceinline=True)
def signed(code, n):
    """The low n bits of a code, sign-extended."""
    return np.int64(code) << (64 - n) >> (64 - n)


@njit(forceinline=True)
def nar(n):
    """The sign-extended code of NaR."""
    return np.int64(-1) << (n - 1)


@njit
def shift_right(high, low, by):
    """A 128-bit number shifted right by 0 <= by, with a sticky bit for what fell off."""
    if by == 0:
        return high, low, False
    if by < 64:
        k, up = np.uint64(by), np.uint64(64 - by)
        return high >> k, (low >> k) | (high << up), (low << up) != _ZERO
    if by == 64:
        return _ZERO, high, low != _ZERO
    if by < 128:
        k, up = np.uint64(by - 64), np.uint64(128 - by)
        return _ZERO, high >> k, (high << up) != _ZERO or low != _ZERO
    return _ZERO, _ZERO, high != _ZERO or low != _ZERO


@njit
def normalise(high, low):
    """(significand with bit 63 set, whether a bit is below it, places moved up); not both are zero."""
    if high == _ZERO:
        lead = clz64(low)
        return low << np.uint64(lead), False, 64 + lead
    lead = clz64(high)
    if lead == 0:
        return high, low != _ZERO, 0
    up = np.uint64(lead)
    return (high << up) | (low >> np.uint64(64 - lead)), (low << up) != _ZERO, lead


@njit
def add_magnitudes(negative_a, scale_a, a1, a0, negative_b, scale_b, b1, b0, n, es, rs):
    """Code of ±(a1:a0) * 2**(scale_a - 127) ± the same for b, where bit 127 of both is set, for n <= 64.

    Both are moved two places down for the carry and a guard bit; those places hold zeros in every caller but
    `fma`, where they join the sticky bit.  A sticky bit below the smaller operand makes a difference less by
    a part of the
    last place: borrow one, and it stays sticky.
    """
    if scale_b > scale_a or (scale_b == scale_a and (b1 > a1 or (b1 == a1 and b0 > a0))):
        negative_a, scale_a, a1, a0, negative_b, scale_b, b1, b0 = (
            negative_b, scale_b, b1, b0, negative_a, scale_a, a1, a0,
        )  # fmt: skip
    a1, a0, cut_a = shift_right(a1, a0, 2)
    b1, b0, cut_b = shift_right(b1, b0, 2 + scale_a - scale_b)
    if negative_a == negative_b:
        total0 = a0 + b0
        total1 = a1 + b1 + (_ONE if total0 < a0 else _ZERO)
    else:
        total0 = a0 - b0
        total1 = a1 - b1 - (_ONE if a0 < b0 else _ZERO)
        if cut_b:
            total1 -= _ONE if total0 == _ZERO else _ZERO
            total0 -= _ONE
    if total1 == _ZERO and total0 == _ZERO:
        return np.int64(0)
    significand, sticky, moved = normalise(total1, total0)
    return encode_parts(negative_a, scale_a + 2 - moved, significand, sticky or cut_a or cut_b, n, es, rs)


@njit
def add(a, b, n, es, rs):
    """The sum, rounded once; NaR if either is."""
    a, b = signed(a, n), signed(b, n)
    if a == nar(n) or b == nar(n):
        return nar(n)
    if a == 0 or b == 0:
        return a + b
    negative_a, scale_a, significand_a = parts(a, n, es, rs)
    negative_b, scale_b, significand_b = parts(b, n, es, rs)
    return add_magnitudes(
        negative_a, scale_a, significand_a, _ZERO, negative_b, scale_b, significand_b, _ZERO, n, es, rs
    )


@njit
def sub(a, b, n, es, rs):
    """The difference, rounded once: the negative of a posit is the two's complement of its code."""
    return add(a, -signed(b, n), n, es, rs)


@njit
def mul(a, b, n, es, rs):
    """The product, rounded once; NaR if either is."""
    a, b = signed(a, n), signed(b, n)
    if a == nar(n) or b == nar(n):
        return nar(n)
    if a == 0 or b == 0:
        return np.int64(0)
    negative_a, scale_a, significand_a = parts(a, n, es, rs)
    negative_b, scale_b, significand_b = parts(b, n, es, rs)
    significand, sticky, moved = normalise(
        mulhi64(significand_a, significand_b), significand_a * significand_b
    )
    return encode_parts(
        negative_a != negative_b, scale_a + scale_b + 1 - moved, significand, sticky, n, es, rs
    )


@njit
def _divide(high, divisor):
    """floor(high * 2**64 / divisor) and whether a remainder is left; high < divisor, bit 63 of divisor set.

    Two digits of 32 bits, each estimated by the divisor's upper half and at most 2 too large (Knuth,
    algorithm D).
    """
    upper, lower = divisor >> np.uint64(32), divisor & _LOW
    quotient, rest = _ZERO, high
    for _ in range(2):
        digit = rest // upper
        if digit > _LOW:
            digit = _LOW
        left = rest - digit * upper
        while left <= _LOW and digit * lower > (left << np.uint64(32)):
            digit -= _ONE
            left += upper
        rest = (rest << np.uint64(32)) - digit * divisor
        quotient = (quotient << np.uint64(32)) | digit
    return quotient, rest != _ZERO


@njit
def div(a, b, n, es, rs):
    """The quotient, rounded once; NaR if either is or b is 0."""
    a, b = signed(a, n), signed(b, n)
    if a == nar(n) or b == nar(n) or b == 0:
        return nar(n)
    if a == 0:
        return np.int64(0)
    negative_a, scale_a, significand_a = parts(a, n, es, rs)
    negative_b, scale_b, significand_b = parts(b, n, es, rs)
    scale = scale_a - scale_b
    if (
        significand_a >= significand_b
    ):  # quotient in [1, 2): its leading 1, then 64 bits, of which 63 are kept
        fraction, rest = _divide(significand_a - significand_b, significand_b)
        significand, sticky = _TOP | (fraction >> _ONE), rest or (fraction & _ONE) != _ZERO
    else:
        significand, sticky = _divide(significand_a, significand_b)
        scale -= 1
        if significand < _TOP:
            assert False, "a quotient of significands in [1, 2) is at least 1/2"  # noqa: B011, PT015
    return encode_parts(negative_a != negative_b, scale, significand, sticky, n, es, rs)


@njit
def sqrt(a, n, es, rs):
    """The square root, rounded once; NaR for NaR and below 0.  One bit of the root at a time."""
    a = signed(a, n)
    if a < 0:
        return nar(n)
    if a == 0:
        return np.int64(0)
    _, scale, significand = parts(a, n, es, rs)
    odd = scale & 1
    # radicand significand * 2**(63 + odd) in 128 bits is at least 2**126, so the root has its leading 1 at
    # bit 63
    high = significand >> _ONE if odd == 0 else significand
    low = significand << np.uint64(63) if odd == 0 else _ZERO
    root, rest1, rest0 = (
        _ZERO,
        _ZERO,
        _ZERO,
    )  # rest = radicand's leading bits - root**2 < 2 * root + 1 < 2**66
    for _ in range(64):
        rest1 = (rest1 << np.uint64(2)) | (rest0 >> np.uint64(62))
        rest0 = (rest0 << np.uint64(2)) | (high >> np.uint64(62))
        high = (high << np.uint64(2)) | (low >> np.uint64(62))
        low = low << np.uint64(2)
        trial1, trial0 = root >> np.uint64(62), (root << np.uint64(2)) | _ONE
        root = root << _ONE
        if rest1 > trial1 or (rest1 == trial1 and rest0 >= trial0):
            rest1 = rest1 - trial1 - (_ONE if rest0 < trial0 else _ZERO)
            rest0 = rest0 - trial0
            root = root | _ONE
    sticky = rest1 != _ZERO or rest0 != _ZERO
    return encode_parts(False, (scale - odd) >> 1, root, sticky, n, es, rs)


@njit
def fma(a, b, c, n, es, rs):
    """The sum a * b + c, rounded once; NaR if any is.

    Significands have at most n - 2 bits (n - 2 - es of fraction and the leading 1), so a product has at most
    124 of 128 and the two places that `add_magnitudes` moves it down are zeros.
    """
    a, b, c = signed(a, n), signed(b, n), signed(c, n)
    if a == nar(n) or b == nar(n) or c == nar(n):
        return nar(n)
    if a == 0 or b == 0:
        return c
    negative_a, scale_a, significand_a = parts(a, n, es, rs)
    negative_b, scale_b, significand_b = parts(b, n, es, rs)
    high, low = mulhi64(significand_a, significand_b), significand_a * significand_b
    scale = scale_a + scale_b + 1
    if high < _TOP:
        high, low = (high << _ONE) | (low >> np.uint64(63)), low << _ONE
        scale -= 1
    negative = negative_a != negative_b
    if c == 0:
        return encode_parts(negative, scale, high, low != _ZERO, n, es, rs)
    negative_c, scale_c, significand_c = parts(c, n, es, rs)
    return add_magnitudes(negative, scale, high, low, negative_c, scale_c, significand_c, _ZERO, n, es, rs)
