"""One code and the rational number it stands for, in Python integers: for scalars, text and `posit show`.

The array kernels do the same in machine integers, and the oracle (`posit.reference.exact`) does it by
bisection; the three are tested against each other.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from posit.errors import CodeError, FormatMismatch
from posit.formats import Format

Number = int | float | Fraction


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a nonzero real code, read from its magnitude: value = ±significand * 2**scale."""

    negative: bool
    regime_bits: str  #: the run and its terminator, where it has one
    regime: int
    exponent_bits: str  #: at most es; missing ones count as 0
    exponent: int
    fraction_bits: str
    scale: int  #: regime * 2**es + exponent

    @property
    def significand(self) -> Fraction:
        """1 + fraction, in [1, 2)."""
        return Fraction(int("1" + self.fraction_bits, 2), 1 << len(self.fraction_bits))


def fields(code: int, fmt: Format) -> Fields:
    """Split a nonzero real code.

    >>> split = fields(0x5A00, Format(16))
    >>> split.regime_bits, split.exponent_bits, split.fraction_bits, split.scale
    ('10', '11', '01000000000', 3)
    """
    check_code(code, fmt)
    assert code not in (0, fmt.nar), "0 and NaR have no fields"
    negative = code > fmt.nar
    bits = f"{(1 << fmt.nbits) - code if negative else code:0{fmt.nbits}b}"[1:]
    longest = fmt.max_regime or fmt.nbits - 1
    run = min(len(bits) - len(bits.lstrip(bits[0])), longest)
    regime = run - 1 if bits[0] == "1" else -run
    length = min(run + 1, longest)
    exponent_bits = bits[length : length + fmt.es]
    exponent = int(exponent_bits.ljust(fmt.es, "0") or "0", 2)
    scale = (regime << fmt.es) + exponent
    return Fields(negative, bits[:length], regime, exponent_bits, exponent, bits[length + fmt.es :], scale)


def check_code(code: int, fmt: Format) -> None:
    """Refuse an integer that is no code of `fmt`.

    Raises:
        CodeError: the code is not in 0 .. 2**nbits - 1.
    """
    if not 0 <= code <= fmt.code_mask:
        raise CodeError(f"a code of {fmt} is from 0 to {fmt.code_mask:#x}, got {code:#x}")


def to_rational(code: int, fmt: Format) -> Fraction | None:
    """Exact value of a code; None for NaR.

    >>> to_rational(0x5A00, Format(16)), to_rational(0x8000, Format(16))
    (Fraction(10, 1), None)
    """
    check_code(code, fmt)
    if code == 0:
        return Fraction(0)
    if code == fmt.nar:
        return None
    split = fields(code, fmt)
    value = split.significand * Fraction(2) ** split.scale
    return -value if split.negative else value


def from_rational(x: Fraction, fmt: Format) -> int:
    """Code of an exact number, rounded once: nearest on the encoding, ties to even, never to 0 or NaR.

    >>> hex(from_rational(Fraction(1, 10), Format(32)))
    '0x24cccccd'
    """
    if x == 0:
        return 0
    magnitude = abs(x)
    scale = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** scale:
        scale -= 1
    longest = fmt.max_regime or fmt.nbits - 1
    regime = scale >> fmt.es
    if regime >= longest:
        code = fmt.maxpos
    elif regime < -longest:
        code = fmt.minpos
    else:
        code = _round_string(magnitude, scale, regime, longest, fmt)
    return (1 << fmt.nbits) - code if x < 0 else code


def _round_string(magnitude: Fraction, scale: int, regime: int, longest: int, fmt: Format) -> int:
    """Write regime, exponent and nbits bits of fraction, keep nbits - 1 of all, round half to even."""
    run = regime + 1 if regime >= 0 else -regime
    length = min(run + 1, longest)
    field = (1 << run) - 1 << (length - run) if regime >= 0 else (1 if length > run else 0)
    scaled = magnitude * Fraction(2) ** (fmt.nbits - scale)  # significand in units of 2**-nbits
    whole = scaled.numerator // scaled.denominator
    string = (((field << fmt.es) | (scale & ((1 << fmt.es) - 1))) << fmt.nbits) + whole - (1 << fmt.nbits)
    cut = length + fmt.es + fmt.nbits - (fmt.nbits - 1)
    kept, rest = string >> cut, string & ((1 << cut) - 1)
    half, sticky = 1 << (cut - 1), whole != scaled
    if rest > half or (rest == half and (sticky or kept & 1)):
        kept += 1
    return min(max(kept, fmt.minpos), fmt.maxpos)


def from_number(x: Number, fmt: Format) -> int:
    """Code of a Python number, rounded once; NaN and infinities become NaR.

    Raises:
        FormatMismatch: not a Python int, float or Fraction.

    >>> hex(from_number(3.14159265, Format(16))), hex(from_number(float("inf"), Format(16)))
    ('0x4c91', '0x8000')
    """
    if isinstance(x, bool) or not isinstance(x, int | float | Fraction):
        raise FormatMismatch(
            f"posits mix with Python int, float and Fraction, got {type(x).__name__}; "
            f"round it first: posit.array(x, {str(fmt)!r})"
        )
    if isinstance(x, float) and not math.isfinite(x):
        return fmt.nar
    return from_rational(Fraction(x), fmt)
