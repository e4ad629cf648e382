"""Vectors of posits: the Euclidean norm and the scaled sum, each formed exactly and rounded once."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _explain, _streams, arithmetic, fused, rounding
from posit._array import PositArray
from posit._elementary.rounding import round_scaled
from posit._explain import Explanation
from posit._matmul_operands import carries_products
from posit._operands import common_format
from posit._products import LONG
from posit._rational import from_rational, to_rational
from posit._reductions import Axis, over_rows
from posit.codec import Codes, decode
from posit.errors import FormatMismatch, NonFiniteError, ShapeError
from posit.formats import Format

_CHUNK = 1 << 20  #: elements decoded at a time


def norm2(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:
    r"""The Euclidean norm :math:`\sqrt{\sum_i x_i^2}` over some axes or all, correctly rounded.

    float64 with a proven error bound decides nearly all; for the rest, and for long rows, where exact sums are as
    fast, the integer root of the exact sum does.

    Args:
        x: Posits of any shape.
        axis: Axis or axes summed over; None is all of them.
        keepdims: Keep the summed axes, with length 1.

    Returns:
        Posits of the same format; NaR where an element is, 0 for none.

    Raises:
        FormatMismatch: `x` is not a posit array.
        AxisError: an axis that `x` does not have (NumPy's).

    >>> import posit
    >>> norm2(posit.array([3e5, 4e5], "posit32")), norm2(posit.array([[3, 4], [0, 0]], "posit8"), axis=1)
    (posit.array(500000.0, 'posit32'), posit.array([5.0, 0.0], 'posit8'))
    """
    fmt = common_format((x,))
    return over_rows(x, axis, keepdims, fmt, lambda rows: _norms(rows, fmt))


def _norms(rows: Codes, fmt: Format) -> Codes:
    opened = 0

    def exact(index: int) -> int:
        nonlocal opened
        opened += 1
        return _exact_norm(rows[index], fmt)

    if fmt.fits_float64 and rows.shape[1] < LONG:
        norm = np.sqrt(_sums_of_squares(rows, fmt))
        # k + 1 roundings at most on the way of each square, all of one sign, halved by the root, and its own
        codes = rounding.certified(norm, norm * ((rows.shape[1] + 8) * 2.0**-53), fmt, exact)
    else:
        codes = np.array([exact(i) for i in range(len(rows))], fmt.storage)
    _explain.record(Explanation(certified=len(rows) - opened, quire=opened))
    return codes


def _sums_of_squares(rows: Codes, fmt: Format) -> npt.NDArray[np.float64]:
    """float64 sums in some order, decoding a chunk at a time."""
    total = np.zeros(len(rows))
    per_chunk = max(1, _CHUNK // max(1, len(rows)))
    for start in range(0, rows.shape[1], per_chunk):
        values = decode(rows[:, start : start + per_chunk], fmt)
        total += np.square(values, out=values).sum(axis=1)
    return total


def _exact_norm(row: Codes, fmt: Format) -> int:
    """Code of the norm of one row, from the exact sum of squares and its integer root."""
    if (row == fmt.nar).any():
        return fmt.nar
    if carries_products(fmt, fmt):
        squares = _streams.squares(row, fmt)
        total = sum(int(digit) << 32 * place for place, digit in enumerate(squares.limbs))
        return _root(total, squares.base, fmt)
    values = [to_rational(int(code), fmt) for code in row]
    square = sum((v * v for v in values if v is not None), Fraction(0))
    return _root(square.numerator, 1 - square.denominator.bit_length(), fmt)


def _root(total: int, exponent: int, fmt: Format) -> int:
    """Code of sqrt(total * 2**exponent): enough bits of the integer root, and one more for what is below them."""
    if total == 0:
        return 0
    shift = max(0, 2 * (fmt.nbits + 4) - total.bit_length())
    shift += (exponent - shift) % 2
    root = math.isqrt(total << shift)
    sticky = root * root != total << shift
    return round_scaled(False, 2 * root + sticky, (exponent - shift) // 2 - 1, fmt)


def axpy(alpha: Any, x: PositArray, y: PositArray) -> PositArray:
    r""":math:`\alpha x + y`, each element formed exactly and rounded once.

    Args:
        alpha: A posit scalar of the same format; or an exact Python number (int, float, Fraction), which is *not*
            rounded to the format first, unlike in ``alpha * x``.
        x: Posits of any shape.
        y: Posits of the same format; the shapes broadcast.

    Returns:
        Posits; NaR where x, y or alpha is.  A float alpha that is 0 or of magnitude 2**-400 to 2**400 takes the fast
        kernel where the format fits float64; rationals and the widest formats are computed one by one.

    Raises:
        FormatMismatch: the formats differ, or alpha is neither a posit nor a Python number.
        ShapeError: the shapes do not broadcast, or alpha is not a scalar.
        NonFiniteError: alpha is a float NaN or infinity.

    >>> import posit
    >>> from fractions import Fraction
    >>> w, g = posit.array([1.0, 2.0], "posit16"), posit.array([3.0, -6.0], "posit16")
    >>> axpy(Fraction(-1, 3), g, w), axpy(w[1], g, w)
    (posit.array([0.0, 4.0], 'posit16'), posit.array([7.0, -10.0], 'posit16'))
    """
    if not isinstance(x, PositArray) or not isinstance(y, PositArray):
        raise FormatMismatch(f"axpy takes posit arrays, got {type(x).__name__} and {type(y).__name__}")
    if isinstance(alpha, PositArray):
        fmt = common_format((alpha, x, y))
        if alpha.ndim:
            raise ShapeError(f"alpha must be a scalar, got shape {alpha.shape}")
        return PositArray(arithmetic.fma(alpha.codes, x.codes, y.codes, fmt), fmt)
    fmt = common_format((x, y))
    number = _exact_number(alpha)
    try:
        left, right = (np.ascontiguousarray(c) for c in np.broadcast_arrays(x.codes, y.codes))
    except ValueError:
        raise ShapeError(f"shapes {x.shape} and {y.shape} do not broadcast together") from None
    shape = np.broadcast_shapes(x.shape, y.shape)
    if _is_fast(number, fmt):
        return PositArray(fused.axpy(float(number), left, right, fmt).reshape(shape), fmt)
    codes = [_axpy(number, int(p), int(q), fmt) for p, q in zip(left.flat, right.flat, strict=True)]
    return PositArray(np.array(codes, fmt.storage).reshape(shape), fmt)


def _exact_number(alpha: Any) -> Fraction:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | Fraction):
        raise FormatMismatch(
            f"alpha must be a posit scalar or a Python int, float or Fraction, got {type(alpha).__name__}"
        )
    if isinstance(alpha, float) and not math.isfinite(alpha):
        raise NonFiniteError(f"alpha must be finite, got {alpha!r}")
    return Fraction(alpha)


def _is_fast(alpha: Fraction, fmt: Format) -> bool:
    """Whether the kernel of `posit.fused` serves this coefficient and format."""
    if not fmt.fits_float64:
        return False
    scale = alpha.numerator.bit_length() - alpha.denominator.bit_length()
    return alpha == 0 or (abs(scale) < 399 and Fraction(float(alpha)) == alpha)


def _axpy(alpha: Fraction, x: int, y: int, fmt: Format) -> int:
    left, right = to_rational(x, fmt), to_rational(y, fmt)
    return fmt.nar if left is None or right is None else from_rational(alpha * left + right, fmt)
