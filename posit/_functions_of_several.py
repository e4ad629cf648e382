"""The elementary functions of two or three posits, and of a posit and an integer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from posit import _elementary
from posit.codec import Codes

if TYPE_CHECKING:
    from posit._array import PositArray


def call(evaluate: Callable[..., Codes], name: str, *operands: Any) -> "PositArray":
    """evaluate(name, codes ..., format) on operands of which at least one is a PositArray."""
    from posit._array import PositArray
    from posit._operands import codes_of, common_format

    fmt = common_format(operands)
    return PositArray(evaluate(name, *(codes_of(operand, fmt) for operand in operands), fmt), fmt)


def hypot(x: "PositArray | float", y: "PositArray | float") -> "PositArray":
    r"""Correctly rounded :math:`\sqrt{x^2 + y^2}`.

    Args:
        x: Posits; or a Python number, which is rounded to the other's format first.
        y: The same; the shapes broadcast.

    Returns:
        Posits of the common format; NaR if either is NaR.

    Raises:
        FormatMismatch: the formats differ, or neither operand is a PositArray.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (elementary functions of two posits).

    >>> import posit
    >>> float(posit.functions.hypot(posit.array(3.0, posit.posit16), 4))
    5.0
    """
    return call(_elementary.evaluate2, "hypot", x, y)


def pow(x: "PositArray | float", y: "PositArray | float") -> "PositArray":  # noqa: A001
    r"""Correctly rounded :math:`x^y`.

    Args:
        x: Base: posits, or a Python number, which is rounded to the other's format first.
        y: Exponent, likewise; the shapes broadcast.

    Returns:
        Posits of the common format.  NaR if either is NaR, for 0 to a negative power, and for a negative base
        with an exponent that is not an integer.  ``pow(x, 0)`` is 1 for every real x, 0 included, as in IEEE
        754.

    Raises:
        FormatMismatch: the formats differ, or neither operand is a PositArray.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (elementary functions of two posits).

    >>> import posit
    >>> float(posit.functions.pow(posit.array(9.0, posit.posit16), 1.5))
    27.0
    """
    return call(_elementary.evaluate2, "pow", x, y)


def arc_tan2(y: "PositArray | float", x: "PositArray | float") -> "PositArray":
    r"""Correctly rounded angle of the point (x, y), in :math:`(-\pi, \pi]` before rounding.

    Args:
        y: Ordinate: posits, or a Python number, which is rounded to the other's format first.
        x: Abscissa, likewise; the shapes broadcast.

    Returns:
        Posits of the common format; NaR if either is NaR, and at the origin, which has no angle.

    Raises:
        FormatMismatch: the formats differ, or neither operand is a PositArray.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (elementary functions of two posits).

    >>> import posit
    >>> float(posit.functions.arc_tan2(posit.array(1.0, posit.posit16), -1))
    2.3564453125
    """
    return call(_elementary.evaluate2, "arc_tan2", y, x)


def arc_tan2_pi(y: "PositArray | float", x: "PositArray | float") -> "PositArray":
    r"""Correctly rounded angle of the point (x, y) divided by :math:`\pi`, in (-1, 1].

    Args, results and errors are those of `arc_tan2`.

    >>> import posit
    >>> float(posit.functions.arc_tan2_pi(posit.array(1.0, posit.posit16), -1))
    0.75
    """
    return call(_elementary.evaluate2, "arc_tan2_pi", y, x)


def fmm(x: "PositArray | float", y: "PositArray | float", z: "PositArray | float") -> "PositArray":
    r"""Fused product :math:`x y z`, rounded once.

    Args:
        x: Posits; or a Python number, which is rounded to the others' format first.
        y: The same; the shapes broadcast.
        z: The same.

    Returns:
        Posits of the common format; NaR if any is NaR.

    Raises:
        FormatMismatch: the formats differ, or no operand is a PositArray.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (functions of three posits, fMM).

    >>> import posit
    >>> tiny = posit.array(2.0**-56, posit.posit16)
    >>> float(posit.functions.fmm(tiny, tiny, 2.0**56)) == 2.0**-56  # two roundings would saturate: 1
    True
    """
    return call(_elementary.evaluate3, "fmm", x, y, z)


def compound(x: "PositArray", n: npt.ArrayLike) -> "PositArray":
    r"""Correctly rounded :math:`(1 + x)^n` for an integer n.

    Args:
        x: Posits.
        n: An integer or integers within int64; the shapes broadcast.

    Returns:
        Posits of the format of `x`; NaR for NaR, and for x = -1 with a negative n.  n = 0 gives 1.

    Raises:
        FormatMismatch: `x` is not a PositArray.
        CodeError: `n` is not integer, or beyond int64.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (functions of a posit and an integer).

    >>> import posit
    >>> float(posit.functions.compound(posit.array(0.5, posit.posit16), 3))
    3.375
    """
    return call(lambda name, codes, fmt: _elementary.evaluate_integer(name, codes, n, fmt), "compound", x)


def root_n(x: "PositArray", n: npt.ArrayLike) -> "PositArray":
    r"""Correctly rounded n-th root :math:`x^{1/n}` for an integer n.

    Args:
        x: Posits.
        n: An integer or integers within int64; the shapes broadcast.

    Returns:
        Posits of the format of `x`; NaR for NaR, for n = 0, for a negative x with an even n, and for x = 0
        with a negative n.

    Raises:
        FormatMismatch: `x` is not a PositArray.
        CodeError: `n` is not integer, or beyond int64.
        ShapeError: the shapes do not broadcast.

    Source:
        Posit Standard (2022), section 5 (functions of a posit and an integer).

    >>> import posit
    >>> float(posit.functions.root_n(posit.array(-27.0, posit.posit16), 3))
    -3.0
    """
    return call(lambda name, codes, fmt: _elementary.evaluate_integer(name, codes, n, fmt), "root_n", x)
