"""What the functions of several arguments must return: exact comparison of powers, and 320-bit values."""

from fractions import Fraction
from typing import Any

from posit import Format
from posit.reference import exact
from tests.posit.real_oracle import PRECISION, mp, number, round_real

HUGE, TINY = Fraction(2) ** 3000, Fraction(1, 2**3000)


def _clamped_power(base: Any, exponent: Any) -> Any:
    """Base ** exponent for a positive base, kept within 2**±3000, which rounds alike."""
    with mp.workprec(2 * PRECISION):
        bits = exponent * mp.log(base, 2)
        return mp.power(2, max(min(bits, 3000), -3000))


def power(x: Fraction, y: Fraction) -> Any:
    """x**y as an mpmath number, or None for NaR."""
    if y == 0:
        return mp.one
    if x == 0:
        return mp.zero if y > 0 else None
    if x < 0 and y.denominator > 1:
        return None
    size = _clamped_power(number(abs(x)), number(y))
    return -size if x < 0 and y.numerator % 2 else size


def compound(x: Fraction, n: int) -> Any:
    """(1 + x)**n."""
    return power(1 + x, Fraction(n))


def root_n(x: Fraction, n: int) -> Any:
    """The real n-th root."""
    if n == 0 or (x < 0 and n % 2 == 0) or (x == 0 and n < 0):
        return None
    if x == 0:
        return mp.zero
    size = _clamped_power(number(abs(x)), mp.one / n)
    return -size if x < 0 else size


def hypot(x: Fraction, y: Fraction) -> Any:
    """The length of (x, y)."""
    if x == 0 or y == 0:
        return number(abs(x + y))
    apart = abs(mp.mag(number(x)) - mp.mag(number(y)))
    with mp.workprec(PRECISION + 2 * apart):  # the sum of squares is exact
        return mp.sqrt(number(x) ** 2 + number(y) ** 2)


def arc_tan2(y: Fraction, x: Fraction) -> Any:
    """The angle of (x, y), from arctan of the quotient."""
    if x == 0:
        return None if y == 0 else mp.sign(number(y)) * mp.pi / 2
    quotient = number(abs(y)) / number(abs(x))
    tiny = quotient < mp.ldexp(1, -100)  # arctan q lies below q, nearer than the oracle can see
    angle = quotient * (1 - mp.ldexp(1, -200)) if tiny else mp.atan(quotient)
    angle = angle if x > 0 else mp.pi - angle
    return angle if y >= 0 else -angle


def arc_tan2_pi(y: Fraction, x: Fraction) -> Any:
    """The same over pi."""
    angle = arc_tan2(y, x)
    return None if angle is None else angle / mp.pi


SEVERAL = {"hypot": hypot, "pow": power, "arc_tan2": arc_tan2, "arc_tan2_pi": arc_tan2_pi}
WITH_INTEGER = {"compound": compound, "root_n": root_n}


def expected2(name: str, a: int, b: int, fmt: Format) -> int:
    """Code of a function of two posits."""
    x, y = exact.value(a, fmt), exact.value(b, fmt)
    result = None if x is None or y is None else SEVERAL[name](x, y)
    return fmt.nar if result is None else round_real(result, fmt)


def expected_integer(name: str, code: int, n: int, fmt: Format) -> int:
    """Code of a function of a posit and an integer."""
    x = exact.value(code, fmt)
    result = None if x is None else WITH_INTEGER[name](x, n)
    return fmt.nar if result is None else round_real(result, fmt)
