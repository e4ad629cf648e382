"""A posit taken apart, and a table of formats, as plain text."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from posit._rational import check_code, fields, to_rational
from posit.errors import TextError
from posit.formats import Format
from posit.text import exact, parse_code, shortest


def read(text: str, fmt: Format) -> int:
    """The code that a user means: ``0x5a00`` or ``0b0101``, or that of a decimal number, rounded.

    Raises:
        CodeError: a code with more than nbits bits.
        TextError: neither a code nor a decimal number.

    >>> hex(read("0x5a00", Format(16))), hex(read("10", Format(16)))
    ('0x5a00', '0x5a00')
    """
    clean = text.strip().lower()
    if clean[:2] in ("0x", "0b"):
        try:
            code = int(clean, 0)
        except ValueError:
            raise TextError(
                f"{text!r} is not a code; write hexadecimal digits after 0x, binary ones after 0b"
            ) from None
        check_code(code, fmt)
        return code
    return parse_code(text, fmt)


def show(text: str, fmt: Format) -> str:
    """Describe one posit: fields, exact value, neighbours, and the rounding error where a number was given.

    Raises:
        CodeError: a code with more than nbits bits.
        TextError: neither a code nor a decimal number.

    >>> print(show("0x5a00", Format(16)))
    posit16 0x5a00 = 10.0
      bits      0 10 11 01000000000
      sign      0 (+)
      regime    10 (r = 0, factor 2**0)
      exponent  11 (e = 3, factor 2**3)
      fraction  01000000000 (f = 1/4)
      value     +(1 + 1/4) * 2**3
      exact     10
      prior     0x59ff = 9.996
      next      0x5a01 = 10.004
    """
    code = read(text, fmt)
    lines = [f"{fmt} {_hex(code, fmt)} = {shortest(code, fmt)}"]
    if code in (0, fmt.nar):
        meaning = (
            "zero" if code == 0 else "NaR: not a real number, less than every other posit, equal to itself"
        )
        lines += [f"  bits      {code:0{fmt.nbits}b}", f"  value     {meaning}"]
    else:
        lines += _fields(code, fmt)
    lines.append(f"  prior     {_neighbour(code - 1, fmt)}")
    lines.append(f"  next      {_neighbour(code + 1, fmt)}")
    lines += _error(text, code, fmt)
    return "\n".join(lines)


def _hex(code: int, fmt: Format) -> str:
    return f"0x{code:0{(fmt.nbits + 3) // 4}x}"


def _neighbour(code: int, fmt: Format) -> str:
    code &= fmt.code_mask
    return f"{_hex(code, fmt)} = {shortest(code, fmt)}"


def _fields(code: int, fmt: Format) -> list[str]:
    split = fields(code, fmt)
    bits = " ".join(part for part in (split.regime_bits, split.exponent_bits, split.fraction_bits) if part)
    fraction = split.significand - 1
    missing = ", missing bits are 0" if len(split.exponent_bits) < fmt.es else ""
    exponent = f"e = {split.exponent}, factor 2**{split.exponent}{missing}"
    lines = [
        f"  bits      {int(split.negative)} {bits}",
        f"  sign      {int(split.negative)} ({'-' if split.negative else '+'})",
        f"  regime    {split.regime_bits} (r = {split.regime}, factor 2**{split.regime << fmt.es})",
        f"  exponent  {split.exponent_bits or 'none'} ({exponent})",
        f"  fraction  {split.fraction_bits or 'none'} (f = {fraction})",
        f"  value     {'-' if split.negative else '+'}(1 + {fraction}) * 2**{split.scale}",
        f"  exact     {exact(code, fmt)}",
    ]
    if split.negative:
        lines[0] += f"  (of {_hex((1 << fmt.nbits) - code, fmt)}, the two's complement, after the sign)"
    return lines


def _error(text: str, code: int, fmt: Format) -> list[str]:
    """How far the number given was from the posit; nothing for codes and what is not real."""
    value = to_rational(code, fmt)
    if value is None or text.strip().lower()[:2] in ("0x", "0b"):
        return []
    given = Fraction(text.strip())
    if given == value:
        return ["  rounding  exact"]
    error, relative = (
        Decimal(x.numerator) / Decimal(x.denominator) for x in (value - given, (value - given) / given)
    )
    return [f"  rounding  {error:+.3g} ({relative:+.3g} of the number given)"]


def table(formats: Iterable[Format]) -> str:
    """Formats with range, precision near 1 and quire width, one a line.

    >>> print(table([Format(16)]))
    format    bits  es  rS  minpos  maxpos  fraction bits near 1  digits near 1  quire bits
    posit16     16   2   -   1e-17   7e+16                    11            3.6         256
    """
    head = (
        "format", "bits", "es", "rS", "minpos", "maxpos", "fraction bits near 1", "digits near 1", "quire bits"
    )  # fmt: skip
    rows = [head, *(_row(fmt) for fmt in formats)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    widths[0] = max(widths[0], 8)
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _row(fmt: Format) -> tuple[str, str, str, str, str, str, str, str, str]:
    return (
        str(fmt),
        str(fmt.nbits),
        str(fmt.es),
        "-" if fmt.max_regime is None else str(fmt.max_regime),
        shortest(fmt.minpos, fmt),
        shortest(fmt.maxpos, fmt),
        str(fmt.fraction_bits),
        f"{(fmt.fraction_bits + 1) * 0.3010299956639812:.1f}",
        str(fmt.quire_bits),
    )
