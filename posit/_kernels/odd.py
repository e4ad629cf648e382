"""float64 operations rounded to odd, so that rounding them to a posit of at most 32 bits is the only one.

The exact result lies between two neighbouring float64; rounding to odd takes the one whose last bit is 1,
unless the result is a float64 itself.  A rounding boundary of a format with n <= 32 has at most 32
significant bits, so it has a 0 in bit 53: no boundary lies between the exact result and the odd one, and both
round to the same posit (Boldo and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms
using rounding to odd, 2008).

Each function knows the sign of its rounding error exactly; an error-free transformation needs exponents away
from float64's ends: `posit.Format.fits_float64` says so.  Infinities and NaN pass through.
"""

import numpy as np

from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, bits_float32, float32_bits, float_bits, fma64, shr32


@njit(forceinline=True)
def _cut(value, error):
    """`value`, rounded to nearest, rounded to odd instead; of `error` only the sign counts."""
    bits = float_bits(value)
    inexact = np.int64(1) if abs(error) > 0.0 else np.int64(0)
    toward_zero = ((bits ^ float_bits(error)) >> 63) & inexact
    return bits_float((bits - toward_zero) | inexact)


@njit(forceinline=True)
def add(a, b):
    """The sum; its rounding error is exact (TwoSum: Knuth, Seminumerical Algorithms, section 4.2.2)."""
    total = a + b
    other = total - a
    return _cut(total, (a - (total - other)) + (b - other))


@njit(forceinline=True)
def sub(a, b):
    """The difference a - b."""
    return add(a, -b)


@njit(forceinline=True)
def mul(a, b):
    """The product; the error is one fused multiply-add."""
    product = a * b
    return _cut(product, fma64(a, b, -product))


@njit(forceinline=True)
def div(a, b):
    """The quotient; the remainder a - b * quotient is exact, the error has its sign times that of b.

    By zero it is NaN.
    """
    quotient = a / b if b != 0.0 else np.nan
    remainder = fma64(-quotient, b, a)
    return _cut(quotient, -remainder if b < 0.0 else remainder)


@njit(forceinline=True)
def sqrt(a):
    """The square root; the remainder a - root**2 is exact.  NaN below 0."""
    root = np.sqrt(a)
    return _cut(root, fma64(-root, root, a))


@njit(forceinline=True)
def fma(a, b, c):
    """The sum a * b + c: the product is an exact pair, and of the sum only the last addition rounds.

    The two low parts are added to odd first.  That loses nothing: where their sum is inexact, the high part
    is larger than it by a factor 2**50 at least, so odd in its own last bit it is a sticky bit of the whole.
    """
    high = a * b
    low = fma64(a, b, -high)
    # TwoSum(c, low) = first + second
    first = c + low
    t = first - c
    second = (c - (first - t)) + (low - t)
    # TwoSum(high, first) = total + error
    total = high + first
    t = total - high
    error = (high - (total - t)) + (first - t)
    return add(total, add(error, second))


@njit(forceinline=True)
def fma32(a, b, c):
    """The sum a * b + c as a float32 rounded to odd, for b and c of a format that `posit._kernels.lanes` serves.

    Let t be the sum rounded to float64 and then to float32.  Rounding is monotone, so a boundary between posits, which
    is a float32 of at most 13 significant bits, lies between the sum and t only where it equals t; all that matters is
    the sign of the rest a * b + c - t in that case.  c - t = d + e exactly (TwoSum), and the sign is that of
    fma(a, b, d) + e:

    * If e is 0, fma(a, b, d) is the rest rounded once.
    * If e is not 0, exponents of c (12 bits) and t differ by 28 or more, in fact by 40: bits of both must reach past
      53.  Where t is the larger, a * b is near t, and a * b + d is a multiple of 2**-66 |t| below 2**-23 |t|: an exact
      float64.  Where c is the larger, the sum has cancelled to 2**-39 |c| and is a multiple of 2**-66 |c|, as d + e is,
      so that again a * b + d is exact.  The last addition rounds once and keeps the sign.

    For 2**-60 <= |a| <= 2**60, or a = 0, nothing leaves float32's range: b is a multiple of 2**-56 and below 2**57; a
    sum that cancels is a multiple of 2**-123.  NaN stays NaN.
    """
    total = np.float32(fma64(a, b, c))
    near = np.float64(total)
    d = c - near
    other = d - c
    e = (c - (d - other)) + (-near - other)
    rest = np.int32(float_bits(fma64(a, b, d) + e) >> 32)
    bits = float32_bits(total)
    inexact = np.int32(1) if np.int32(rest & np.int32(0x7FFFFFFF)) != np.int32(0) else np.int32(0)
    toward_zero = np.int32(shr32(np.int32(bits ^ rest), np.int32(31)) & inexact)
    return bits_float32(np.int32(np.int32(bits - toward_zero) | inexact))
