"""Arrays of quires: digits of 32 bits in int64, one plane per digit.

`planes` is (digits + 1, elements): digit t of every element lies in plane t, of weight 2**(lsb + 32 t), and the
last plane is not 0 where the element is NaR.  Planes let `settle`, merging and reading run along the elements in
vector registers, while an addition touches the same three of them for neighbours of like magnitude.

Carries are lazy.  `add_at` changes a digit by less than 2**32, and a settled digit is below 2**32 (the top one
at most 2**32 in magnitude), so it counts as two additions: |digit| < 2**32 * additions.  The caller folds before
ADDS_BEFORE_FOLD = 2**29 are passed: |digit| <= 2**61, and digits of two arrays may be added before folding.
"""

import numba
import numpy as np

from posit._kernels.codec import parts
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import float_bits, mulhi64
from posit._kernels.limbs import to_code

_I = numba.int64
_PLANES = numba.types.Array(numba.int64, 2, "A")
_FLAT = numba.int64[:, ::1]
_READ_FLAT = numba.types.Array(numba.int64, 2, "C", readonly=True)
_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_CODES = numba.types.Array(numba.int64, 1, "C", readonly=True)
_LOW = np.uint64(0xFFFFFFFF)
_THIRTY_TWO = np.uint64(32)
_FRACTION = np.int64(0xFFFFFFFFFFFFF)
_HIDDEN = np.int64(1) << 52


@njit(forceinline=True)
def digits_of(negative, magnitude, position):
    """(t, x, y, z) with ±magnitude * 2**position = (x + 2**32 y + 2**64 z) * 2**(32 t), t >= 0, |x|, |y|, |z| < 2**32.

    Bits that a negative position moves out are zeros.
    """
    magnitude = magnitude >> np.uint64(-min(position, np.int64(0)))
    position = max(position, np.int64(0))
    offset = np.uint64(position & 31)
    low = (magnitude & _LOW) << offset
    high = ((magnitude >> _THIRTY_TWO) << offset) + (low >> _THIRTY_TWO)
    sign = np.int64(-1) if negative else np.int64(0)
    first, second, third = np.int64(low & _LOW), np.int64(high & _LOW), np.int64(high >> _THIRTY_TWO)
    return position >> 5, (first ^ sign) - sign, (second ^ sign) - sign, (third ^ sign) - sign


@njit(forceinline=True)
def float_digits(negative, x, lsb):
    """`digits_of` ± a nonzero normal float64, a multiple of 2**lsb."""
    bits = float_bits(x)
    place = ((bits >> 52) & 0x7FF) - 1075 - lsb
    return digits_of((bits < 0) != negative, np.uint64((bits & _FRACTION) | _HIDDEN), place)


@njit(forceinline=True)
def product_digits(negative, x, y, lsb):
    """`digits_of` ± x * y, both nonzero, of at most 32 significant bits."""
    bits_x, bits_y = float_bits(x), float_bits(y)
    left = np.uint64(((bits_x & _FRACTION) | _HIDDEN) >> 21)
    right = np.uint64(((bits_y & _FRACTION) | _HIDDEN) >> 21)
    place = ((bits_x >> 52) & 0x7FF) + ((bits_y >> 52) & 0x7FF) - 2 * 1023 - 62 - lsb
    return digits_of(((bits_x ^ bits_y) < 0) != negative, left * right, place)


@njit(forceinline=True)
def add_at(planes, e, length, index, first, second, third):
    """Add what `digits_of` gave to element e; a third part beyond the last digit is 0, for the number fits."""
    planes[index, e] += first
    planes[index + 1, e] += second
    if index + 2 < length:
        planes[index + 2, e] += third


@njit
def code_product(negative, a, b, lsb, n, es, rs):
    """(sign, high, low, place) of ± the product of two nonzero real codes: (2**64 high + low) * 2**(lsb + place)."""
    negative_a, scale_a, significand_a = parts(a, n, es, rs)
    negative_b, scale_b, significand_b = parts(b, n, es, rs)
    high, low = mulhi64(significand_a, significand_b), significand_a * significand_b
    return (negative_a != negative_b) != negative, high, low, scale_a + scale_b - 126 - lsb


@njit
def add_code_product(planes, e, length, negative, a, b, lsb, n, es, rs):
    """Add the product of two nonzero real codes of any format; two additions."""
    sign, high, low, place = code_product(negative, a, b, lsb, n, es, rs)
    index, first, second, third = digits_of(sign, high, place + 64)
    add_at(planes, e, length, index, first, second, third)
    if low != np.uint64(0):
        index, first, second, third = digits_of(sign, low, place)
        add_at(planes, e, length, index, first, second, third)


@njit(numba.void(numba.boolean, _F, _F, _PLANES, _I), nogil=True, cache=True)
def add_float_products(negative, x, y, planes, lsb):
    """Add or subtract x[e] * y[e], exact values of codes with n <= 32; NaN is NaR."""
    length = planes.shape[0] - 1
    for e in range(len(x)):
        if np.isnan(x[e]) or np.isnan(y[e]):
            planes[length, e] = 1
        elif x[e] != 0.0 and y[e] != 0.0:
            index, first, second, third = product_digits(negative, x[e], y[e], lsb)
            add_at(planes, e, length, index, first, second, third)


@njit(numba.void(numba.boolean, _CODES, _CODES, _PLANES, _I, _I, _I, _I), nogil=True, cache=True)
def add_code_products(negative, a, b, planes, lsb, n, es, rs):
    """Add or subtract the products of sign-extended codes; two additions each."""
    length = planes.shape[0] - 1
    nar = np.int64(-1) << (n - 1)
    for e in range(len(a)):
        if a[e] == nar or b[e] == nar:
            planes[length, e] = 1
        elif a[e] != 0 and b[e] != 0:
            add_code_product(planes, e, length, negative, a[e], b[e], lsb, n, es, rs)


@njit(numba.void(_I, _I, _FLAT), nogil=True, cache=True)
def fold(begin, end, planes):
    """Propagate carries of elements begin .. end - 1: every digit but the top one into 0 .. 2**32 - 1."""
    for start in range(begin, end, 1024):
        stop = min(start + 1024, end)
        for t in range(planes.shape[0] - 2):
            digits, above = planes[t, start:stop], planes[t + 1, start:stop]
            for e in range(len(digits)):
                digit = digits[e]
                digits[e] = digit & 0xFFFFFFFF
                above[e] += digit >> 32


@njit
def overflows(digits, length, bits):
    """Whether a folded number lies outside -2**(bits - 1) < value < 2**(bits - 1)."""
    first, shift = (bits - 1) >> 5, (bits - 1) & 31
    negative = digits[length - 1] < 0
    for t in range(first, length):
        wanted = np.int64(0)
        if negative:
            wanted = np.int64(-1) if t == length - 1 else np.int64(0xFFFFFFFF)
        by = shift if t == first else 0
        if digits[t] >> by != wanted >> by:
            return True
    below = digits[first] & ((np.int64(1) << shift) - 1)
    for t in range(first):
        below |= digits[t]
    return negative and below == 0


@njit
def load(digits, length, unit):
    """At least |value| / 2**unit of a folded number in range: the products it may stand for."""
    first = unit >> 5
    total = np.float64(0.0)
    for t in range(length - 1, first - 1, -1):
        total = total * 4294967296.0 + np.float64(digits[t])
    return np.int64(abs(total) / np.float64(np.int64(1) << (unit & 31))) + 2


@njit(_I(_I, _I, _FLAT, _I, _I), nogil=True, cache=True)
def settle(begin, end, planes, bits, unit):
    """Fold; what overflows becomes NaR, what is NaR gets zero digits.  Returns the largest load of an element."""
    fold(begin, end, planes)
    length = planes.shape[0] - 1
    largest = np.int64(0)
    for e in range(begin, end):
        digits = planes[:, e]
        if digits[length] != 0 or overflows(digits, length, bits):
            for t in range(length):
                digits[t] = 0
            digits[length] = 1
        else:
            largest = max(largest, load(digits, length, unit))
    return largest


@njit(numba.void(_I, _I, _READ_FLAT, _I[::1], _I, _I, _I, _I), nogil=True, cache=True)
def to_codes(begin, end, planes, out, lsb, n, es, rs):
    """Round elements begin .. end - 1 once; the planes stay as they are."""
    length = planes.shape[0] - 1
    digits = np.empty(length, np.int64)
    for e in range(begin, end):
        if planes[length, e] != 0:
            out[e] = np.int64(-1) << (n - 1)
        else:
            for t in range(length):
                digits[t] = planes[t, e]
            out[e] = to_code(digits, lsb, n, es, rs)
