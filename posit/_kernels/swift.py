"""Decoding without a count of leading bits, for posits with unbounded regimes: the integer-to-float conversion counts.

Let a > 0 be the magnitude of a code as a fraction of 2**n: 1.0 is a = 1/4, a value below 1 has a < 1/4.  There the
string is a regime of k zeros, a one, exponent and fraction: converted from integer to float, a has the exponent that
tells k, and exponent and fraction follow in the significand.  The float's bits shifted left by es are therefore the
bits of the value, up to a constant: regime and exponent have become one number.  Call it g(a); it is linear between
powers of two, and continuous.  From 1 on the string is that of 1/2 - a with every bit complemented, and because g is
continuous, complement may be negation: the bits of the value are g(1/4) * 2 - g(1/2 - a).

Shifting the code left once more than its sign bit needs gives d = 2a or 2a - 1 as a signed fraction: |d| / 2 is just
a or 1/2 - a, and the sign of the code and that of d differ just where the value is 1 or more.  The sign of d goes
when the float's bits are shifted.  An exponent field that wraps around does no harm: all is modulo the word's size.
0 gives 0; NaR gives some number and must be recognised before.

The constant is left out: float32 values come scaled by 2**(one - 127), float64 values are multiplied right.
"""

import numpy as np

from posit._kernels import carrier
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, bits_float32, float32_bits, float_bits, shl32

_I = np.int32
GENERIC, HALF, FULL = range(3)  #: `carrier.decode` to float64; float32 lanes, products exact; float64 lanes


def constants(n, es, rs):
    """(way, one): how the format is decoded and the exponent field that 1.0 gets before scaling."""
    largest = (n - 2) << es
    field = (158 << es) % 256
    shift = 2 * (field - 127)
    if (
        not rs
        and n <= 16
        and 2 * (n - 2 - es) <= 24
        and shift - 2 * largest >= -126
        and shift + 2 * largest <= 127
    ):
        return HALF, field
    field = (1086 << es) % 2048
    if not rs and field - largest >= 1 and field + largest <= 2046:
        return FULL, field
    return GENERIC, 1023


@njit(forceinline=True)
def to_float32(code, n, es, one):
    """Value * 2**(one - 127) of a real code in a format whose way is HALF; exact."""
    signed = shl32(_I(code), _I(32 - n))
    doubled = shl32(_I(code), _I(33 - n))
    bits = shl32(float32_bits(np.float32(doubled)), _I(es))
    bits = _I(shl32(_I(one), _I(24)) - bits) if _I(signed ^ doubled) < _I(0) else bits
    return bits_float32(_I(_I(bits & _I(0x7FFFFFFF)) | _I(signed & _I(-0x80000000))))


@njit(forceinline=True)
def to_float64(code, n, es, rs, way, one):
    """The exact value of a real code, n <= 32."""
    if way == GENERIC:
        return carrier.decode(code, n, es, rs, False)
    signed = np.int64(code) << (64 - n)
    doubled = np.int64(code) << (65 - n)
    bits = float_bits(np.float64(doubled)) << es
    bits = (np.int64(one) << 53) - bits if (signed ^ doubled) < 0 else bits
    bits = (bits & np.int64(0x7FFFFFFFFFFFFFFF)) | (signed & np.int64(-0x8000000000000000))
    return bits_float(bits) * bits_float(np.int64(2046 - one) << 52)
