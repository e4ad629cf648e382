"""Small posits in 32-bit lanes, twice as many per vector: decode to float32, encode from it, compute.

For formats with n <= 16, at most 12 significant bits and every scale within -63 .. 63 (`serves`).  There a
value is a normal float32, a product of two (24 bits, scale within -126 .. 127) is an exact float32, and a
float32 rounded *to odd* (truncated, last bit set if anything was cut) rounds to the same posit as the real
number: a rounding boundary has at most 13 significant bits, so it is never odd in bit 24, and no boundary
lies strictly between the two.
"""

import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float32, clz32, float32_bits, sar32, shl32, shr32

_I = np.int32
_MAGNITUDE = np.int32(0x7FFFFFFF)
_ONE = np.int32(0x3F800000)
_INFINITY = np.int32(0x7F800000)


def serves(n, es, rs):
    """Whether a format (rs = 0: no bound) fits these lanes."""
    largest = ((rs << es) if rs else (n - 2) << es) + 1
    return n <= 16 and n - 2 - es <= 12 and largest <= 63


def range_bits(n, es, rs):
    """The float32 bits of minpos and maxpos."""
    if not rs:
        largest = (n - 2) << es
        return (127 - largest) << 23, (127 + largest) << 23
    one = 1 << (23 - (n - 1 - rs - es)) if n - 1 - rs - es >= 0 else 0
    if one == 0:  # the exponent is cut: minpos has its lowest kept bit, maxpos all of them
        cut = es - (n - 1 - rs)
        return (127 - (rs << es) + (1 << cut)) << 23, (127 + (rs << es) - (1 << cut)) << 23
    return ((127 - (rs << es)) << 23) + one, ((127 + (rs << es)) << 23) - one


@njit(forceinline=True)
def to_float32(code, n, es, rs):
    """The exact float32 of a code (int32, low n bits count); NaR gives NaN."""
    signed = shl32(_I(code), _I(32 - n))
    negative = sar32(signed, _I(31))
    word = shl32(_I((signed ^ negative) - negative), _I(1))
    ones = sar32(word, _I(31))
    run = clz32(_I((word ^ ones) | _I(1)))
    if rs:
        run = _I(run if run < _I(rs) else _I(rs))
        rest = shl32(word, run)
        rest = rest if run == _I(rs) else shl32(rest, _I(1))
    else:
        rest = shl32(shl32(word, run), _I(1))
    regime = _I(_I(run - _I(1)) ^ _I(~ones))
    bits = _I(shl32(_I(shl32(regime, _I(es)) + _I(127)), _I(23)) + shr32(rest, _I(9 - es)))
    bits = _I(bits | _I(signed & _I(-0x80000000)))
    bits = _I(0) if signed == _I(0) else bits
    bits = _I(0x7FC00000) if signed == _I(-0x80000000) else bits
    return bits_float32(bits)


@njit(forceinline=True)
def from_float32(x, n, es, rs, smallest, largest):
    """Code (int32, sign-extended) of a float32, between the float32 bits of minpos and maxpos, rounded once.

    Clamping the bits first leaves one path: the string regime, exponent, fraction starts at bit 30, with its first
    bit in bit 31 too. Shifted right by the regime's length it is the code, rounded to even in one addition.
    """
    bits = float32_bits(x)
    magnitude = _I(bits & _MAGNITUDE)
    clamped = magnitude if magnitude > smallest else smallest
    clamped = clamped if clamped < largest else largest
    scaled = _I(clamped - _ONE)  # scale and fraction, in two's complement
    sign = sar32(bits, _I(31))
    if rs == 0:  # by an addition, as `posit._kernels.codec` explains
        mirrored = scaled if scaled < _I(-scaled) else _I(-scaled)
        cut = _I(1) if _I(mirrored & _I((1 << es) - 1)) != _I(0) else _I(0)
        string = bits_float32(_I(_I(sar32(mirrored, _I(es)) + _I((125 + n) << 23)) | cut))
        code = _I(float32_bits(np.float32(string + np.float32(12582912.0))) - _I(0x4B400000))
        code = code if scaled <= _I(0) else _I(_I(1 << (n - 1)) - code)
        code = code if code < magnitude else magnitude  # 0 stays 0
        code = _I(_I(code ^ sign) - sign)
        return _I(-(1 << (n - 1))) if magnitude >= _INFINITY else code
    flip = sar32(scaled, _I(31))  # -1 below 1, 0 from 1 on
    more = _I(sar32(scaled, _I(23 + es)) ^ flip)  # length of the regime's run - 1
    # the regime's first bits are 110 or 001 at bit 31; the word's last bit is spare, and set: it makes up for a -1
    tail = _I((1 << 29) - 1)
    word = _I(_I(_I(_I(shl32(scaled, _I(6 - es)) ^ flip) & tail) ^ flip) ^ _I(-0x40000000 | 1))
    if rs:  # a run that reaches its bound has no bit that ends it
        tail = _I((1 << 30) - 1)
        ended = _I(_I(_I(_I(shl32(scaled, _I(7 - es)) ^ flip) & tail) ^ flip) ^ _I(-0x40000000 | 1))
        word = ended if more == _I(rs - 1) else word
    shift = _I(more + _I(32 - n))
    odd_less_2 = _I(sar32(word, shift) | _I(-2))
    half = shl32(_I(1 << (31 - n)), more)
    code = _I(sar32(_I(_I(word + half) + odd_less_2), shift) & _I((1 << (n - 1)) - 1))
    # 0 stays 0; the code of any other number is at most its bits
    code = code if code < magnitude else magnitude
    code = _I(_I(code ^ sign) - sign)
    return _I(-(1 << (n - 1))) if magnitude >= _INFINITY else code


@njit(forceinline=True)
def add_odd(a, b):
    """The sum in float32, rounded to odd; its rounding error is exact (TwoSum)."""
    total = np.float32(a + b)
    other = np.float32(total - a)
    error = np.float32(np.float32(a - np.float32(total - other)) + np.float32(b - other))
    bits = float32_bits(total)
    inexact = _I(1) if error != np.float32(0) else _I(0)
    away = shr32(_I(bits ^ float32_bits(error)), _I(31))
    return bits_float32(_I(_I(bits - _I(away & inexact)) | inexact))
