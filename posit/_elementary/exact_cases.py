r"""Which arguments have a rational result, and which one: there Ziv's loop would never end.

A posit's value and every rounding boundary are dyadic rationals.  For a nonzero dyadic x the exponential,
hyperbolic and trigonometric functions of x, their inverses, erf and the logistic functions are transcendental
(Lindemann and Weierstrass; Siegel and Shidlovskii for erf), except at the points listed here.  Powers of 2
and 10 are rational only for integer x, logarithms to base 2 and 10 only at such powers, sin, cos and tan of
:math:`\pi x` only at multiples of 1/2 and 1/4 (Niven; x = 1/6 is not dyadic), and their inverses at the
corresponding values.
"""

import math
from collections.abc import Callable
from fractions import Fraction

Rule = Callable[[Fraction], Fraction | None]

_HALF = Fraction(1, 2)


def at(points: dict[Fraction | int, Fraction | int]) -> Rule:
    """The results at finitely many points."""
    table = {Fraction(x): Fraction(y) for x, y in points.items()}
    return lambda x: table.get(x)


def odd_at(points: dict[Fraction | int, Fraction | int]) -> Rule:
    """The same for an odd function: f(-x) = -f(x)."""
    return at({0: 0, **points, **{-x: -y for x, y in points.items()}})


def sqrt(x: Fraction) -> Fraction | None:
    """The root of a perfect square, else None.

    >>> sqrt(Fraction(9, 16)), sqrt(Fraction(2))
    (Fraction(3, 4), None)
    """
    top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
    return Fraction(top, bottom) if top * top == x.numerator and bottom * bottom == x.denominator else None


def rsqrt(x: Fraction) -> Fraction | None:
    """1 over the root of a perfect square."""
    root = sqrt(x)
    return None if root is None else 1 / root


def exp2(x: Fraction) -> Fraction | None:
    """Integer powers of 2."""
    return Fraction(2) ** x.numerator if x.denominator == 1 else None


def exp10(x: Fraction) -> Fraction | None:
    """Integer powers of 10."""
    return Fraction(10) ** x.numerator if x.denominator == 1 else None


def minus_1(rule: Rule) -> Rule:
    """The rule for f(x) - 1."""
    return lambda x: None if (y := rule(x)) is None else y - 1


def plus_1(rule: Rule) -> Rule:
    """The rule for f(1 + x)."""
    return lambda x: rule(1 + x)


def log2(x: Fraction) -> Fraction | None:
    """Logarithms of powers of 2.

    >>> log2(Fraction(1, 8)), log2(Fraction(3))
    (Fraction(-3, 1), None)
    """
    if x.numerator & (x.numerator - 1) or x.denominator & (x.denominator - 1):
        return None
    return Fraction(x.numerator.bit_length() - x.denominator.bit_length())


def log10(x: Fraction) -> Fraction | None:
    """Logarithms of powers of 10; 1/10 is not a dyadic number."""
    power = len(str(x.numerator)) - 1
    return Fraction(power) if x == 10**power else None


def sin_pi(x: Fraction) -> Fraction | None:
    """At multiples of 1/2."""
    return Fraction((0, 1, 0, -1)[(2 * x).numerator % 4]) if (2 * x).denominator == 1 else None


def cos_pi(x: Fraction) -> Fraction | None:
    """At multiples of 1/2."""
    return sin_pi(x + _HALF)


def tan_pi(x: Fraction) -> Fraction | None:
    """At multiples of 1/4; the poles at odd multiples of 1/2 are outside the domain."""
    return Fraction((0, 1, 0, -1)[(4 * x).numerator % 4]) if (4 * x).denominator == 1 else None


arc_sin_pi = odd_at({_HALF: Fraction(1, 6), 1: _HALF})
arc_cos_pi = at({-1: 1, -_HALF: Fraction(2, 3), 0: _HALF, _HALF: Fraction(1, 3), 1: 0})
arc_tan_pi = odd_at({1: Fraction(1, 4)})
zero_at_0 = at({0: 0})
zero_at_1 = at({1: 0})
one_at_0 = at({0: 1})
half_at_0 = at({0: _HALF})
nowhere = at({})
