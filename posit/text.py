"""Posits as decimal text: the exact value, the shortest decimal that reads back, and reading."""

import re
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from posit._array import PositArray
from posit._rational import from_rational, to_rational
from posit.errors import TextError
from posit.formats import Format

_DECIMAL = re.compile(
    r"[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[+-]?\d{1,5})?", re.IGNORECASE | re.ASCII
)
_NOT_REAL = ("nar", "nan", "inf", "infinity")


def shortest(code: int, fmt: Format) -> str:
    """The decimal of fewest digits that `parse` reads back as this code; of several the nearest to its value.

    Plain from 1e-5 to 1e16, otherwise with an exponent, like Python's floats.

    >>> shortest(0x4C91, Format(16)), shortest(0x7FFF, Format(16)), shortest(0x8000, Format(16))
    ('3.142', '7e+16', 'NaR')
    """
    value = to_rational(code, fmt)
    if value is None:
        return "NaR"
    if value == 0:
        return "0.0"
    magnitude = abs(value)
    target = from_rational(magnitude, fmt)
    exponent = _decimal_exponent(magnitude)
    digits = 1
    while True:
        unit = Fraction(10) ** (exponent - digits + 1)
        below = int(magnitude / unit)
        fitting = [d for d in (below, below + 1) if d and from_rational(d * unit, fmt) == target]
        if fitting:
            best = min(fitting, key=lambda d: (abs(d * unit - magnitude), d % 2))
            return ("-" if value < 0 else "") + _written(best, exponent - digits + 1)
        digits += 1


def _decimal_exponent(x: Fraction) -> int:
    """The largest e with 10**e <= x."""
    e = len(str(x.numerator)) - len(str(x.denominator))
    return e if Fraction(10) ** e <= x else e - 1


def _written(digits: int, exponent: int) -> str:
    """Digits * 10**exponent as text."""
    text = str(digits)
    stripped = text.rstrip("0") or "0"
    exponent += len(text) - len(stripped)
    leading = exponent + len(stripped) - 1
    if -5 <= leading < 16:
        return f"{Decimal(stripped).scaleb(exponent):f}" + (".0" if exponent >= 0 else "")
    mantissa = stripped if len(stripped) == 1 else f"{stripped[0]}.{stripped[1:]}"
    return f"{mantissa}e{leading:+03d}"


def exact(code: int, fmt: Format) -> str:
    """The exact value in decimal; every posit has one.

    >>> exact(0x24CD, Format(16)), exact(0x8000, Format(16))
    ('0.100006103515625', 'NaR')
    """
    value = to_rational(code, fmt)
    if value is None:
        return "NaR"
    with localcontext() as context:
        context.prec = 4096  # the longest value has its 1984 binary places, so as many decimal ones
        decimal = Decimal(value.numerator) / Decimal(value.denominator)
        text = f"{decimal:f}"
        return text if len(text) <= 40 else f"{decimal.normalize():e}"


def parse_code(text: str, fmt: Format) -> int:
    """Code of a decimal number, rounded once from its exact value; NaR, nan, inf give NaR.

    Raises:
        TextError: not a decimal number.

    >>> hex(parse_code("0.1", Format(32))), hex(parse_code("-1e400", Format(8)))
    ('0x24cccccd', '0x81')
    """
    clean = text.strip()
    if clean.lower().lstrip("+-") in _NOT_REAL:
        return fmt.nar
    if not _DECIMAL.fullmatch(clean):
        raise TextError(
            f"{text!r} is not a decimal number; write 3.14, -1e-5 or NaR "
            "(codes such as 0x4c91 go to posit.from_codes)"
        )
    return from_rational(Fraction(clean), fmt)


def parse(
    text: "str | list[str] | np.ndarray[tuple[int, ...], np.dtype[np.str_]]", fmt: Format | str
) -> PositArray:
    """Posits from decimal text, each rounded once from the exact decimal value; the inverse of `str`.

    Args:
        text: One number, or a (nested) list or array of them.
        fmt: The format, or its name.

    Raises:
        TextError: not a decimal number.

    >>> parse("3.1416", "posit16"), parse(["1e-40", "NaR"], "bposit16")
    (posit.array(3.142, 'posit16'), posit.array([1e-40, NaR], 'bposit16'))
    """
    form = Format.parse(fmt)
    given = np.asarray(text)
    if given.dtype.kind not in "UT":
        raise TextError(
            f"text was wanted, got dtype {given.dtype}; numbers go to posit.array(x, {str(form)!r})"
        )
    codes = [parse_code(str(item), form) for item in given.reshape(-1)]
    return PositArray(np.array(codes, form.storage).reshape(given.shape), form)
