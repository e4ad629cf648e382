"""Encode and decode, one value at a time; Numba freezes n, es and rs where they are constants.

Everywhere below `n` is nbits, `es` the exponent bits and `rs` the longest regime run, 0 for no bound.
A code is an int64 whose low n bits count; results are sign-extended, so that signed order is posit order.

Encoding writes the value as the infinite string regime, exponent, fraction, keeps n - 1 bits of it and
rounds to nearest even *on the string* (Posit Standard 2022, section 4.1).  A 64-bit word holds the start
of the string: at most 62 - es fraction bits follow the two regime bits that the shift replicates, and what
is shifted or cut off survives as one sticky bit.  n - 1 <= 63 bits are kept, so the round bit is in the word.
"""

import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, clz64, float_bits

_HALF = np.uint64(1 << 63)


def code_mask(n, storage):
    """The mask of an int64 code before it is stored: zero-extended in unsigned storage, whole in signed."""
    return -1 if np.dtype(storage).kind == "i" else (1 << n) - 1


@njit(inline="never")
def parts(code, n, es, rs):
    """Split a nonzero, non-NaR code into (negative, scale, significand with its leading 1 at bit 63)."""
    signed = np.int64(code) << (64 - n) >> (64 - n)
    negative = signed < 0
    magnitude = -signed if negative else signed
    word = np.uint64(magnitude) << np.uint64(65 - n)
    ones = (word >> np.uint64(63)) != np.uint64(0)
    run = clz64(~word if ones else word)
    if rs:
        run = min(run, rs)
    rest = word << np.uint64(run)
    if not (rs and run == rs):
        rest = rest << np.uint64(1)
    exponent = np.int64((rest >> np.uint64(1)) >> np.uint64(63 - es))
    regime = run - 1 if ones else -run
    scale = (regime << es) + exponent
    significand = ((rest << np.uint64(es)) >> np.uint64(1)) | _HALF
    return negative, scale, significand


@njit(forceinline=True)
def to_float(code, n, es, rs):
    """The exact float64 of a code with n <= 32; NaR gives NaN.

    The run is counted up to one bit below its bound (an unbounded one's is n - 1), and the bit after it is kept with
    exponent and fraction, where it is worth one regime: 1 below 1, where a run of k zeros means -k, and 1 from 1 on
    only if the run reached its bound.
    """
    signed = np.int64(code) << (64 - n) >> (64 - n)
    magnitude = -signed if signed < 0 else signed
    word = magnitude << (65 - n)
    ones = word >> 63
    longest = rs if rs else n - 1
    run = clz64(np.uint64((word ^ ones) | (np.int64(1) << (64 - longest))))
    rest = np.uint64(word) << np.uint64(run)
    regime = (run ^ ~ones) + ones
    # exponent and fraction are already where a float64 has them
    bits = (((regime << es) + 1023) << 52) + np.int64(rest >> np.uint64(11 - es))
    sign = signed & np.int64(-0x8000000000000000)
    bits = np.int64(0) if signed == 0 else bits | sign
    return bits_float(np.int64(0x7FF8000000000000) if signed == (np.int64(-1) << (n - 1)) else bits)


@njit(inline="never")
def _string_to_code(word, shift, sticky, n):
    """Round the string of `word` shifted right by `shift`, its leading bit repeated, to n - 1 bits."""
    moved = np.uint64(np.int64(word) >> shift)
    lost = (moved << np.uint64(shift)) != word
    kept = np.int64(moved >> np.uint64(65 - n))
    remainder = moved << np.uint64(n - 1)
    inexact = np.uint64(1) if (sticky or lost) else np.uint64(0)
    remainder = remainder | inexact
    up = (remainder > _HALF) or (remainder == _HALF and (kept & 1) == 1)
    # all ones stay: that is maxpos, and with n = 64 the sum would not fit an int64
    return kept + (1 if up and kept != (np.int64(1) << (n - 1)) - 1 else 0)


@njit(inline="never")
def encode_parts(negative, scale, significand, sticky, n, es, rs):
    """Code of ±significand * 2**(scale - 63), bit 63 of it set; `sticky`: a bit below it is set too."""
    regime = scale >> es
    low = -rs if rs else -(n - 2)
    high = rs - 1 if rs else n - 2
    if regime < low:
        code = np.int64(1)
    elif regime > high:
        code = (np.int64(1) << (n - 1)) - 1
    else:
        exponent = np.uint64(scale & ((1 << es) - 1))
        fraction = significand << np.uint64(1)
        body = (exponent << np.uint64(62 - es)) | (fraction >> np.uint64(es + 2))
        cut = (fraction << np.uint64(62 - es)) != np.uint64(0)
        run = regime + 1 if regime >= 0 else -regime
        lead = np.uint64(2 if regime >= 0 else 1) << np.uint64(62)
        if rs and run == rs:
            body = (exponent << np.uint64(63 - es)) | (fraction >> np.uint64(es + 1))
            cut = (fraction << np.uint64(63 - es)) != np.uint64(0)
            lead = np.uint64(1 if regime >= 0 else 0) << np.uint64(63)
        code = _string_to_code(lead | body, run - 1, sticky or cut, n)
        code = max(code, np.int64(1))
        code = min(code, (np.int64(1) << (n - 1)) - 1)
    return -code if negative else code


@njit(forceinline=True)
def range_bits(n, es, rs):
    """The float64 bits of minpos and maxpos, n <= 32.

    The regime -rs or rs - 1 of a bounded format's ends leaves n - 1 - rs bits for exponent and fraction;
    minpos has only the last of them set, maxpos all.  They are at the top of float64's exponent field's last
    `es` bits.
    """
    largest = (rs << es) if rs else (n - 2) << es
    last = np.int64(1) << (52 + es - (n - 1 - rs)) if rs else np.int64(0)
    return (np.int64(1023 - largest) << 52) + last, (np.int64(1023 + largest) << 52) - last


@njit(forceinline=True)
def _unbounded_from_float(magnitude, n, es, smallest, largest):
    """Code of a positive float64 (as bits) in a format without a bound on regimes, rounded by a float64 addition.

    Scale and fraction, as one two's-complement number, are the float64's bits less those of 1.0.  For a value up to 1
    shift that number right by es: regime and fraction of the string are now exponent and fraction of a float64, which
    with a suitable constant is the string read as a fraction, times 2**n.  Adding 1.5 * 2**52 rounds it to an
    integer, half to even, and that is the code: es low bits that the shift cuts off live on in a last bit set to 1,
    52 - es places below the leading one and so below every tie.  A value above 1 is 1 mirrored: the string of
    -scale has every bit after the sign complemented, so its code is 2**(n - 1) less the other, ties included.
    """
    scaled = min(max(magnitude, smallest), largest) - (np.int64(1023) << 52)
    mirrored = min(scaled, -scaled)
    cut = np.int64(1) if (mirrored & ((np.int64(1) << es) - 1)) != 0 else np.int64(0)
    string = bits_float(((mirrored >> es) + (np.int64(1021 + n) << 52)) | cut)
    code = float_bits(string + 6755399441055744.0) - np.int64(0x4338000000000000)
    return code if scaled <= 0 else (np.int64(1) << (n - 1)) - code


@njit(forceinline=True)
def from_float(x, n, es, rs):
    """Code of a float64 rounded once, n <= 32, free of branches; NaN and infinities give NaR.

    The bits are clamped to those of minpos and maxpos first.  The string regime, exponent, fraction then starts at
    bit 62, with its first bit in bit 63 too; shifted right by the regime's length it is the code, rounded to even in
    one addition.  The last bit of the word is spare, and set: it makes up for a subtraction of 1.
    """
    bits = float_bits(x)
    magnitude = bits & np.int64(0x7FFFFFFFFFFFFFFF)
    smallest, largest = range_bits(n, es, rs)
    if rs == 0:
        code = min(_unbounded_from_float(magnitude, n, es, smallest, largest), magnitude)  # 0 stays 0
        sign = bits >> 63
        code = (code ^ sign) - sign
        return np.int64(-1) << (n - 1) if magnitude >= np.int64(0x7FF0000000000000) else code
    scaled = min(max(magnitude, smallest), largest) - (np.int64(1023) << 52)  # scale and fraction
    flip = scaled >> 63  # -1 below 1, 0 from 1 on
    more = (scaled >> (52 + es)) ^ flip  # length of the regime's run - 1
    tail = (np.int64(1) << 61) - 1  # what follows the regime's bits, 110 or 001 at bit 63
    word = ((((scaled << (9 - es)) ^ flip) & tail) ^ flip) ^ np.int64(-0x4000000000000000 | 1)
    if rs:  # a run that reaches its bound has no bit that ends it: the run's last bit takes its place
        ended = more == rs - 1
        word = word ^ (np.int64(1) << 61) if ended else word
        more = more - 1 if ended else more
    shift = more + (64 - n)
    half = (np.int64(1) << (63 - n)) << more
    odd_less_2 = (word >> shift) | np.int64(-2)
    code = ((word + half + odd_less_2) >> shift) & ((np.int64(1) << (n - 1)) - 1)
    sign = bits >> 63
    code = (code ^ sign) - sign
    code = np.int64(0) if magnitude == 0 else code
    return np.int64(-1) << (n - 1) if magnitude >= np.int64(0x7FF0000000000000) else code
