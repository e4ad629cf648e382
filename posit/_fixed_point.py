"""Values of codes as integers in units of a format's lowest bit, and exact numbers as text: for `Quire`."""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

from posit._rational import to_rational
from posit.formats import Format


@lru_cache
def lsb_scale(fmt: Format) -> int:
    """`Format.lsb_scale`, remembered."""
    return fmt.lsb_scale


@lru_cache(maxsize=1 << 14)
def fixed_point(code: int, fmt: Format) -> int | None:
    """The value of a code in units of 2**fmt.lsb_scale; None for NaR.

    >>> fixed_point(0x40, Format(8)) == 2**24
    True
    """
    value = to_rational(code, fmt)
    return None if value is None else int(value * (1 << -lsb_scale(fmt)))


def fraction(value: int, lsb: int) -> Fraction:
    """The rational value * 2**lsb."""
    return Fraction(value << lsb) if lsb >= 0 else Fraction(value, 1 << -lsb)


def decimal(x: Fraction) -> str:
    """``= 0.25`` where 17 digits say it all, else ``~ 0.33333333333333333``."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 17, 10**6, -(10**6)
        short = Decimal(x.numerator) / Decimal(x.denominator)
        text = f"{short.normalize():{'f' if -5 < short.adjusted() < 17 else 'e'}}"
        return ("= " if Fraction(short) == x else "~ ") + text
