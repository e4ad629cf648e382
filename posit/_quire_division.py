"""Arrays of quires over a whole number, each rounded once, to any format of at most 32 bits."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import quire as kernels
from posit._quire_array import QuireArray
from posit._quire_layout import QuireLayout
from posit._threads import split
from posit.codec import Codes, encode_rational, signed_storage
from posit.errors import QuireError
from posit.formats import Format
from posit.rounding import certified

_CHUNK = 16384
_DIGIT = np.int64(0xFFFFFFFF)


def divided(quires: QuireArray, divisor: int, fmt: Format) -> Codes:
    """Signed codes of quires / divisor, each rounded once; NaR for NaR.

    A power of two only moves the point; for other divisors the sum is read as a float64 with a bound of its error, and
    as a rational where that does not decide.

    Raises:
        QuireError: the divisor is below 1.

    >>> import posit
    >>> quires = QuireArray((2,), "posit16")
    >>> quires.add(posit.array([1.0, -2.0], "posit16"))
    >>> divided(quires, 4, Format(8)).tolist(), divided(quires, 3, Format(16)).tolist()
    ([48, -56], [12971, -15019])
    """
    if divisor < 1:
        raise QuireError(f"a divisor of quires must be at least 1, got {divisor}")
    layout = quires._storage.layout
    planes = _buffers.contiguous(quires._planes.reshape(len(quires._planes), -1))
    size = planes.shape[1]
    codes = _buffers.empty(size, np.int64)
    if divisor & (divisor - 1) == 0:
        lsb = layout.lsb - (divisor.bit_length() - 1)
        split(
            size,
            60 * size,
            lambda start, stop: kernels.to_codes(start, stop, planes, codes, lsb, *fmt.parameters),
        )
    else:
        for start in range(0, size, _CHUNK):
            part = slice(start, min(start + _CHUNK, size))
            codes[part] = _chunk(planes[:, part], layout, divisor, fmt)
    return codes.astype(signed_storage(fmt)).reshape(quires.shape)


def _chunk(planes: npt.NDArray[np.int64], layout: QuireLayout, divisor: int, fmt: Format) -> Codes:
    digits = planes[:-1].copy()
    _fold(digits)
    negative = digits[-1] < 0
    digits[:, negative] *= -1
    _fold(digits)
    total = np.zeros(digits.shape[1])
    for t in range(
        len(digits) - 1, -1, -1
    ):  # no term is negative: each addition errs by a unit of the whole at most
        total += np.ldexp(digits[t].astype(np.float64), 32 * t + layout.lsb)
    total[negative] *= -1.0
    total /= divisor
    total[planes[-1] != 0] = np.nan
    error = np.abs(total) * ((2 * len(digits) + 4) * 2.0**-53)

    def exact(index: int) -> int:
        whole = sum(int(digit) << (32 * t) for t, digit in enumerate(digits[:, index]))
        value = Fraction(-whole if negative[index] else whole) * Fraction(2) ** layout.lsb
        return encode_rational(value / divisor, fmt)

    return certified(total, error, fmt, exact, signed_storage(fmt))


def _fold(digits: npt.NDArray[np.int64]) -> None:
    """Propagate carries; every digit but the last into 0 .. 2**32 - 1."""
    for t in range(len(digits) - 1):
        digits[t + 1] += digits[t] >> 32
        digits[t] &= _DIGIT
