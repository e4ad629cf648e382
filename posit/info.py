"""What a numerics researcher asks of a format or a value: limits, precision, spacing, ulp distance."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import arithmetic
from posit._array import PositArray
from posit._operands import codes_of, common_format
from posit.codec import to_signed
from posit.formats import Format


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """The limits of a posit format, as NumPy's `finfo` gives those of a float; made by `finfo`."""

    format: Format
    bits: int  #: width
    max: PositArray = field(compare=False)  #: maxpos, a scalar
    min: PositArray = field(compare=False)  #: -maxpos, a scalar
    smallest: PositArray = field(compare=False)  #: minpos, a scalar
    eps: PositArray = field(compare=False)  #: next(1) - 1, rounded to the format
    nmant: int  #: most fraction bits of any value (those near 1)
    precision: int  #: decimal digits that always survive near 1
    min_scale: int  #: minpos is in [2**min_scale, 2**(min_scale + 1))
    max_scale: int  #: maxpos is in [2**max_scale, 2**(max_scale + 1))
    largest_integer: int  #: every integer up to this one is a value (the standard's pIntMax)
    quire_bits: int  #: width of the exact accumulator


def finfo(fmt: Format | str | PositArray) -> FormatInfo:
    """Limits of a format.

    Args:
        fmt: A format, its name, or an array of it.

    Raises:
        FormatError: an unknown name.

    >>> info = finfo("posit16")
    >>> info.max, info.eps, info.largest_integer
    (posit.array(7e+16, 'posit16'), posit.array(0.0004883, 'posit16'), 1024)
    """
    form = fmt.format if isinstance(fmt, PositArray) else Format.parse(fmt)
    one = PositArray(np.array(1 << (form.nbits - 2), form.storage), form)
    after = PositArray(arithmetic.next_code(one.codes, form), form)

    def scalar(code: int) -> PositArray:
        return PositArray(np.array(code, form.storage), form)

    return FormatInfo(
        format=form,
        bits=form.nbits,
        max=scalar(form.maxpos),
        min=scalar(form.nar + 1),
        smallest=scalar(form.minpos),
        eps=after - one,
        nmant=form.fraction_bits,
        precision=int(form.fraction_bits * 0.30102999566398120),
        min_scale=form.min_scale,
        max_scale=form.max_scale,
        largest_integer=_largest_integer(form),
        quire_bits=form.quire_bits,
    )


def _largest_integer(fmt: Format) -> int:
    """The largest power of two up to which neighbours are at most 1 apart."""
    from posit._rational import from_rational, to_rational

    power = 1
    while True:
        code = from_rational(Fraction(2 * power), fmt)
        below = to_rational(code - 1, fmt)
        if below is None or to_rational(code, fmt) != 2 * power or 2 * power - below > 1:
            return power
        power *= 2


def spacing(x: PositArray) -> PositArray:
    """Distance from x to the next posit away from 0, rounded to the format (exact but at the range ends).

    Posits taper: the spacing grows with the magnitude faster than a float's.  At ±maxpos, where nothing
    follows, it is the distance to the posit before; at 0 it is minpos; at NaR NaR.

    >>> from posit import array
    >>> spacing(array([1.0, -1.0, 1000.0, 1e6], "posit16"))
    posit.array([0.0004883, 0.0004883, 1.0, 4100.0], 'posit16')
    """
    fmt = x.format
    magnitude = arithmetic.absolute(x.codes, fmt)
    last = magnitude == fmt.maxpos
    near = np.where(last, arithmetic.prior_code(magnitude, fmt), magnitude)
    far = np.where(last, magnitude, arithmetic.next_code(magnitude, fmt))
    gap = arithmetic.sub(far, near, fmt)
    return PositArray(np.where(x.codes == fmt.nar, fmt.storage.type(fmt.nar), gap), fmt)


def ulp_distance(a: Any, b: Any) -> npt.NDArray[Any]:
    """How many steps of `posit.next` lie between two posits: the difference of their codes.

    Args:
        a: Posits, or a Python number (rounded first); at least one operand is a posit array.
        b: The same, of the same format; shapes broadcast.

    Returns:
        Non-negative int64 (uint64 for formats wider than 63 bits).  NaR counts as the code below -maxpos.

    Raises:
        FormatMismatch: the formats differ.

    >>> from posit import array
    >>> ulp_distance(array([1.0, 0.0], "posit16"), array([1.001, -1e-20], "posit16"))
    array([2, 1])
    """
    fmt = common_format((a, b))
    left, right = to_signed(codes_of(a, fmt), fmt), to_signed(codes_of(b, fmt), fmt)
    if fmt.nbits < 64:
        return np.asarray(np.abs(left.astype(np.int64) - right.astype(np.int64)))
    bias = np.uint64(1 << 63)
    high = np.maximum(left, right).astype(np.int64).view(np.uint64) ^ bias
    low = np.minimum(left, right).astype(np.int64).view(np.uint64) ^ bias
    return np.asarray(high - low)
