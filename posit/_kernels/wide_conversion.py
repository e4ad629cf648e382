"""Conversions in integers, for any format up to 64 bits: to and from integers, floats and other formats.

Codes are int64 (low n bits count); results are sign-extended.  Arithmetic is in `posit._kernels.wide`.
"""

import numpy as np

import posit._kernels.wide as wide
from posit._kernels.codec import encode_parts, parts
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, clz64, float_bits

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TOP = np.uint64(1 << 63)


@njit
def to_integer(a, mode, n, es, rs):
    """(a rounded to an integer, whether it overflowed int64); `mode` 0: nearest even, -1: floor, 1: ceiling.

    a is a real code.  With scale < 63 the magnitude fits 63 bits.
    """
    a = wide.signed(a, n)
    if a == 0:
        return np.int64(0), False
    negative, scale, significand = parts(a, n, es, rs)
    if scale >= 63:
        return np.int64(0), True
    if scale < -1:
        whole, rest = _ZERO, _ONE  # below one half
    elif scale == -1:
        whole, rest = _ZERO, significand
    else:
        whole = significand >> np.uint64(63 - scale)
        rest = significand << np.uint64(scale + 1)
    half_up = rest > _TOP or (rest == _TOP and (whole & _ONE) == _ONE)
    up = half_up if mode == 0 else rest != _ZERO and negative == (mode < 0)
    magnitude = np.int64(whole) + (1 if up else 0)
    return -magnitude if negative else magnitude, magnitude < 0


@njit
def from_unsigned(magnitude, negative, n, es, rs):
    """Code of ±magnitude (uint64), rounded once."""
    if magnitude == _ZERO:
        return np.int64(0)
    lead = clz64(magnitude)
    return encode_parts(negative, 63 - lead, magnitude << np.uint64(lead), False, n, es, rs)


@njit
def round_to_integer(a, mode, n, es, rs):
    """The posit nearest to `a` rounded to an integer; exact, and `a` itself where it has no fraction."""
    a = wide.signed(a, n)
    if a == wide.nar(n):
        return a
    whole, overflow = to_integer(a, mode, n, es, rs)
    if overflow:
        return a
    return from_unsigned(np.uint64(-whole if whole < 0 else whole), whole < 0, n, es, rs)


@njit
def convert(a, n, es, rs, m, es_m, rs_m):
    """Code in format (m, es_m, rs_m) of a code in format (n, es, rs), rounded once."""
    a = wide.signed(a, n)
    if a == 0:
        return np.int64(0)
    if a == wide.nar(n):
        return wide.nar(m)
    negative, scale, significand = parts(a, n, es, rs)
    return encode_parts(negative, scale, significand, False, m, es_m, rs_m)


@njit
def from_float(x, n, es, rs):
    """Code of a float64, rounded once, for any format; NaN and infinities give NaR.  Subnormals count."""
    bits = float_bits(x)
    biased = (bits >> 52) & 0x7FF
    fraction = np.uint64(bits) << np.uint64(12)
    if biased == 0x7FF:
        return wide.nar(n)
    if biased == 0:
        if fraction == _ZERO:
            return np.int64(0)
        lead = clz64(fraction)
        return encode_parts(bits < 0, -1023 - lead, fraction << np.uint64(lead), False, n, es, rs)
    return encode_parts(bits < 0, biased - 1023, _TOP | (fraction >> _ONE), False, n, es, rs)


@njit
def to_float(a, to_odd, n, es, rs):
    """The float64 nearest to a code (ties to even), or rounded to odd for a further rounding; NaR gives NaN.

    Beyond float64's range: infinity; below it: subnormals and zero (to odd: the largest, the smallest
    float64).
    """
    a = wide.signed(a, n)
    if a == 0:
        return 0.0
    if a == wide.nar(n):
        return np.nan
    negative, scale, significand = parts(a, n, es, rs)
    sign = np.int64(-0x8000000000000000) if negative else np.int64(0)
    if scale > 1023:
        return bits_float(sign | np.int64(0x7FEFFFFFFFFFFFFF if to_odd else 0x7FF0000000000000))
    drop = 11 if scale >= -1022 else 11 - 1022 - scale  # bits of the significand that do not fit
    biased = scale + 1022 if scale >= -1022 else 0  # the leading 1 adds one
    if drop > 64:
        return bits_float(sign | np.int64(1 if to_odd else 0))
    kept = significand >> np.uint64(drop) if drop < 64 else _ZERO
    rest = significand << np.uint64(64 - drop)
    bits = (np.int64(biased) << 52) + np.int64(kept)
    if to_odd:
        bits |= np.int64(rest != _ZERO)
    elif rest > _TOP or (rest == _TOP and (kept & _ONE) == _ONE):
        bits += 1
    return bits_float(sign | bits)
