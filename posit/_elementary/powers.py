r"""Rational powers of rational numbers: which are rational, and the rest in multiple precision."""

from fractions import Fraction

from posit._elementary.precise import Context, Real
from posit._elementary.ziv import Solution, number

_BEYOND = 1 << 14  # 2**±BEYOND is outside the range of every format
_LONG = 8192  # bits: no posit and no rounding boundary has a significand as long


def power(x: Fraction, numerator: int, denominator: int) -> Solution:
    r""":math:`x^{p/q}` for a nonzero dyadic x; a negative x has an odd q.

    >>> power(Fraction(-8), 1, 3), power(Fraction(9, 16), 3, 2)
    (Fraction(-2, 1), Fraction(27, 64))
    """
    negative = x < 0 and numerator % 2 == 1
    rational = _rational(abs(x), numerator, denominator)
    if rational is not None:
        return -rational if negative else rational

    def evaluate(ctx: Context) -> Real:
        logarithm = _log(ctx, abs(x)) * numerator / denominator
        size = ctx.exp(max(min(logarithm, _BEYOND), -_BEYOND))
        return -size if negative else size

    return evaluate


def _log(ctx: Context, x: Fraction) -> Real:
    """Log x; by log1p near 1, where 1 + x of `compound` may have more bits than the working precision."""
    return ctx.log1p(number(ctx, x - 1)) if Fraction(1, 2) < x < 2 else ctx.log(number(ctx, x))


def _rational(x: Fraction, numerator: int, denominator: int) -> Fraction | None:
    """The power of a positive dyadic x where it is dyadic and short enough to matter, else None.

    x = m * 2**e with odd m has a rational q-th root only if m is a q-th power and q divides e.  A power of an
    odd root above 1 keeps an odd significand: if that is long it lies on no boundary, and its inverse is not
    dyadic.
    """
    twos = (x.numerator & -x.numerator).bit_length() - x.denominator.bit_length()
    odd = x.numerator >> max(twos, 0)
    root = integer_root(odd, denominator)
    if twos % denominator or root is None:
        return None
    exponent = twos // denominator * numerator
    if root == 1:
        return Fraction(2) ** max(min(exponent, _BEYOND), -_BEYOND)
    if numerator < 0 or numerator * root.bit_length() > _LONG:
        return None
    return Fraction(root) ** numerator * Fraction(2) ** exponent


def integer_root(m: int, degree: int) -> int | None:
    """The integer whose power of this degree is the positive m, or None.

    >>> integer_root(3**40, 40), integer_root(10, 2), integer_root(5, 10**30)
    (3, None, None)
    """
    if degree == 1 or m == 1:
        return m
    if degree >= m.bit_length():
        return None
    root = 1 << -(-m.bit_length() // degree)
    while (smaller := ((degree - 1) * root + m // root ** (degree - 1)) // degree) < root:
        root = smaller  # Newton's iteration from above
    return root if root**degree == m else None
