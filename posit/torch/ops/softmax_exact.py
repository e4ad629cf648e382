"""One element of a softmax or its derivative at a time, rounded once, by mpmath or rational numbers."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit.codec import encode_rational
from posit.formats import Format
from posit.rounding import nearest_real

Floats = npt.NDArray[np.float64]


def softmax_code(row: Floats, column: int, fmt: Format) -> int:
    """Code (unsigned) of one element of a softmax, rounded once, by mpmath.

    It is rational only where all elements are equal, because exponentials of distinct rationals are linearly
    independent over the rationals (Lindemann and Weierstrass).
    """
    if np.isnan(row).any():
        return fmt.nar
    if (row == row[0]).all():
        return encode_rational(Fraction(1, len(row)), fmt)
    return nearest_real(lambda bits: _softmax_real(row, column, bits), fmt)


def log_softmax_code(row: Floats, column: int, fmt: Format) -> int:
    """Code (unsigned) of one element of a log-softmax, rounded once, by mpmath; irrational but for a single element."""
    if np.isnan(row).any():
        return fmt.nar
    return 0 if len(row) == 1 else nearest_real(lambda bits: _log_softmax_real(row, column, bits), fmt)


def difference_code(own: Fraction, factor: Fraction, exponent: float, fmt: Format) -> int:
    """Code (unsigned) of ``own - factor * exp(exponent)``, rounded once; rational only for exponent or factor 0."""
    if exponent == 0.0 or factor == 0:
        return encode_rational(own - factor, fmt) if factor else encode_rational(own, fmt)
    return nearest_real(lambda bits: _minus_exp(own, exponent, factor, bits), fmt)


def exact_dot(x: Floats, y: Floats) -> Fraction:
    """The exact dot product of two vectors of finite numbers, by integers."""
    (xs, x_exponents), (ys, y_exponents) = np.frexp(x), np.frexp(y)
    exponents = (x_exponents + y_exponents).astype(np.int64)
    lowest = int(exponents.min(initial=0))
    total = 0
    factors = zip(
        (xs * 2.0**53).tolist(), (ys * 2.0**53).tolist(), (exponents - lowest).tolist(), strict=True
    )
    for first, second, shift in factors:
        total += (int(first) * int(second)) << shift
    exponent = lowest - 106
    return Fraction(total << exponent) if exponent >= 0 else Fraction(total, 1 << -exponent)


def exp_real(x: Any) -> Any:
    """exp(x) in mpmath's precision, but at least e**-1500.

    That is less than the distance from any number here to a rounding boundary it is not on; on one, only the sign
    of what is added decides.
    """
    import mpmath

    return mpmath.exp(max(mpmath.mpf(x), mpmath.mpf(-1500)))


def _softmax_real(row: Floats, column: int, bits: int) -> Any:
    import mpmath

    with mpmath.workprec(bits + 32):
        powers = _powers(row)
        return powers[column] / mpmath.fsum(powers)


def _powers(row: Floats) -> list[Any]:
    """exp(x - largest) of each element, with the differences formed exactly."""
    import mpmath

    top = Fraction(float(row.max()))
    differences = (Fraction(value) - top for value in row.tolist())
    return [exp_real(mpmath.mpf(d.numerator) / d.denominator) for d in differences]


def _log_softmax_real(row: Floats, column: int, bits: int) -> Any:
    import mpmath

    own = Fraction(float(row[column])) - Fraction(float(row.max()))
    working = 2 * bits
    while True:  # log(1 + little) cancels: until enough digits are left
        with mpmath.workprec(working):
            log = mpmath.log(mpmath.fsum(_powers(row)))
            if log != 0 and mpmath.log(log, 2) > bits - working + 16:
                return mpmath.mpf(own.numerator) / own.denominator - log
        working *= 2


def _minus_exp(own: Fraction, exponent: float, factor: Fraction, bits: int) -> Any:
    import mpmath

    working = 2 * bits
    while True:
        with mpmath.workprec(working):
            left = mpmath.mpf(own.numerator) / own.denominator
            right = exp_real(exponent) * factor.numerator / factor.denominator
            result = left - right
            if result != 0 and abs(result) > (abs(left) + abs(right)) * mpmath.mpf(2) ** (
                bits - working + 16
            ):
                return result
        working *= 2
