"""The standard's basic functions under the standard's names, on posit arrays; and `fma` and `nextafter`.

Some bear the name of a built-in, as the standard has it: use them as ``posit.next(x)``.
Source: Posit Standard (2022), section 5.2 (basic functions of one posit).
"""

from typing import Any

import numpy as np

from posit import arithmetic
from posit._array import PositArray
from posit._operands import codes_of, common_format


def negate(x: PositArray) -> PositArray:
    """-x, exact; 0 and NaR are their own negatives."""
    return PositArray(arithmetic.negate(x.codes, x.format), x.format)


def abs(x: PositArray) -> PositArray:  # noqa: A001 - the standard's name
    """The absolute value, exact; NaR stays."""
    return PositArray(arithmetic.absolute(x.codes, x.format), x.format)


def sign(x: PositArray) -> PositArray:
    """1, 0 or -1; NaR stays."""
    return PositArray(arithmetic.sign(x.codes, x.format), x.format)


def nearest_int(x: PositArray) -> PositArray:
    """The nearest integer, ties to even; NaR stays.

    >>> from posit import array
    >>> nearest_int(array([0.5, 1.5, -2.3], "posit16"))
    posit.array([0.0, 2.0, -2.0], 'posit16')
    """
    return PositArray(arithmetic.nearest_int(x.codes, x.format), x.format)


def ceil(x: PositArray) -> PositArray:
    """The smallest integer not below x; NaR stays."""
    return PositArray(arithmetic.ceil(x.codes, x.format), x.format)


def floor(x: PositArray) -> PositArray:
    """The largest integer not above x; NaR stays."""
    return PositArray(arithmetic.floor(x.codes, x.format), x.format)


def next(x: PositArray) -> PositArray:  # noqa: A001 - the standard's name
    """The posit after x in the order of codes, which form a ring: maxpos, NaR, -maxpos.

    >>> from posit import array
    >>> next(array([1.0, 0.0], "posit8"))
    posit.array([1.1, 6e-08], 'posit8')
    """
    return PositArray(arithmetic.next_code(x.codes, x.format), x.format)


def prior(x: PositArray) -> PositArray:
    """The posit before x in the order of codes, which form a ring: -maxpos, NaR, maxpos."""
    return PositArray(arithmetic.prior_code(x.codes, x.format), x.format)


def nextafter(x: PositArray, towards: Any) -> PositArray:
    """The neighbour of x on the way to another posit; x itself where they are equal; NaR where either is.

    Args:
        x: Posits.
        towards: Posits of the same format, or a Python number (rounded first); shapes broadcast.

    Raises:
        FormatMismatch: the formats differ.

    >>> from posit import array
    >>> nextafter(array([1.0, 2.0], "posit8"), 2)
    posit.array([1.1, 2.0], 'posit8')
    """
    return np.nextafter(x, towards)  # type: ignore[no-any-return]


def fma(a: Any, b: Any, c: Any) -> PositArray:
    r"""Fused multiply-add :math:`ab + c`, rounded once.  Not in the standard, which has the quire for it.

    Args:
        a: Posits, or a Python number (rounded first); at least one operand is a posit array.
        b: The same, of the same format; shapes broadcast.
        c: The same.

    Returns:
        Posits; NaR where any operand is.

    Raises:
        FormatMismatch: the formats differ.
        ShapeError: the shapes do not broadcast.

    >>> from posit import array, posit16
    >>> x = array(1.0005, posit16)
    >>> fma(x, x, -1), x * x - 1
    (posit.array(0.000977, 'posit16'), posit.array(0.000977, 'posit16'))
    """
    fmt = common_format((a, b, c))
    return PositArray(arithmetic.fma(codes_of(a, fmt), codes_of(b, fmt), codes_of(c, fmt), fmt), fmt)
