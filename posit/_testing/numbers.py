"""Number sets that a function under test may use: posit formats and IEEE floats, decided by rationals.

A value is a `Fraction`; what is no real number is a Python float: nan (NaR, too), inf or -inf.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from posit._rational import from_rational
from posit.errors import FormatError, MissingReferenceError
from posit.formats import Format
from posit.reference import exact

Value = Fraction | float


class Numbers(Hashable, Protocol):
    """A set of numbers, each named by a code of `nbits` bits."""

    @property
    def name(self) -> str:
        """Its name, as the user writes it."""

    @property
    def nbits(self) -> int:
        """Width of a code."""

    @property
    def special(self) -> tuple[int, ...]:
        """Codes of what is no real number."""

    @property
    def maxpos(self) -> int:
        """Code of the largest real number."""

    def value(self, code: int) -> Value:
        """What a code stands for."""

    def nearest(self, value: Value) -> int:
        """The code that a value rounds to, by the oracle."""

    def near(self, value: Fraction) -> int:
        """The same, faster, for drawing and shrinking operands; it decides nothing."""

    def boundary(self, code: int) -> Fraction:
        """Where rounding passes from positive `code` to ``code + 1``."""

    def array(self, codes: Any) -> Any:
        """Nested sequences of codes as the array that a function takes."""

    def text(self, code: int) -> str:
        """The value in short decimal."""


@dataclass(frozen=True, slots=True)
class PositNumbers:
    """The posits of one format."""

    fmt: Format

    @property
    def name(self) -> str:
        """The format's name."""
        return self.fmt.name

    @property
    def nbits(self) -> int:
        """Width of a code."""
        return self.fmt.nbits

    @property
    def special(self) -> tuple[int, ...]:
        """NaR."""
        return (self.fmt.nar,)

    @property
    def maxpos(self) -> int:
        """Code of maxpos."""
        return self.fmt.maxpos

    def value(self, code: int) -> Value:
        """The exact value; NaR is nan."""
        value = exact.value(code, self.fmt)
        return math.nan if value is None else value

    def nearest(self, value: Value) -> int:
        """Rounded by the oracle; what is not real becomes NaR."""
        return exact.nearest(value, self.fmt) if isinstance(value, Fraction) else self.fmt.nar

    def near(self, value: Fraction) -> int:
        """Rounded as the library's scalars are."""
        return from_rational(value, self.fmt)

    def boundary(self, code: int) -> Fraction:
        """The posit of one more bit that lies between."""
        return exact.boundary(code, self.fmt)

    def array(self, codes: Any) -> Any:
        """A `posit.PositArray`."""
        from posit._array import PositArray

        return PositArray(np.array(codes, self.fmt.storage), self.fmt)

    def text(self, code: int) -> str:
        """The shortest decimal that reads back."""
        from posit.text import shortest

        return shortest(code, self.fmt)


@dataclass(frozen=True, slots=True)
class IeeeNumbers:
    """The floats of one IEEE-like format: subnormals, infinities, NaN.

    Rounding is to nearest, ties to even, and to infinity from half a unit above the largest number.

    Source: IEEE 754-2019, sections 3.3, 3.4 and 4.3.1; bfloat16 has float32's exponents.

    >>> single = IeeeNumbers("float32", 32, 24)
    >>> hex(single.nearest(Fraction(1, 10))), single.value(0x4B800001)
    ('0x3dcccccd', Fraction(16777218, 1))
    """

    name: str
    nbits: int
    precision: int  #: bits of the significand, the hidden one included

    @property
    def _fraction_bits(self) -> int:
        return self.precision - 1

    @property
    def _min_scale(self) -> int:
        return 2 - (1 << (self.nbits - self.precision - 1))

    @property
    def _infinity(self) -> int:
        return (1 << (self.nbits - 1)) - (1 << self._fraction_bits)

    @property
    def _sign(self) -> int:
        return 1 << (self.nbits - 1)

    @property
    def special(self) -> tuple[int, ...]:
        """A quiet NaN and both infinities."""
        quiet = 1 << (self.precision - 2)
        return self._infinity + quiet, self._infinity, self._sign + self._infinity

    @property
    def maxpos(self) -> int:
        """Code of the largest finite number."""
        return self._infinity - 1

    def value(self, code: int) -> Value:
        """The exact value; -0 is 0."""
        magnitude = code & (self._sign - 1)
        negative = code >= self._sign
        if magnitude > self._infinity:
            return math.nan
        if magnitude == self._infinity:
            return -math.inf if negative else math.inf
        value = self._positive(magnitude)
        return -value if negative else value

    def _positive(self, code: int) -> Fraction:
        biased, fraction = divmod(code, 1 << self._fraction_bits)
        if biased:
            fraction += 1 << self._fraction_bits
        return fraction * Fraction(2) ** (self._min_scale - self._fraction_bits + max(biased, 1) - 1)

    def nearest(self, value: Value) -> int:
        """Rounded once; zero is +0, nan is the quiet NaN."""
        if isinstance(value, float):
            nan, up, down = self.special
            return nan if math.isnan(value) else up if value > 0 else down
        sign = self._sign if value < 0 else 0
        magnitude = abs(value)
        if not magnitude:
            return 0
        scale = max(floor_log2(magnitude), self._min_scale)
        steps = round(magnitude / Fraction(2) ** (scale - self._fraction_bits))  # Python rounds half to even
        code = (scale - self._min_scale) * (1 << self._fraction_bits) + steps
        return sign + min(code, self._infinity)

    def near(self, value: Fraction) -> int:
        """The same as `nearest`."""
        return self.nearest(value)

    def boundary(self, code: int) -> Fraction:
        """The mean of two neighbours."""
        return (self._positive(code) + self._positive(code + 1)) / 2

    def array(self, codes: Any) -> Any:
        """A NumPy array; bfloat16 is that of ml_dtypes."""
        return np.array(codes, f"uint{self.nbits}").view(_dtype(self.name))

    def text(self, code: int) -> str:
        """The shortest decimal that reads back."""
        value = self.value(code)
        if isinstance(value, float):
            return str(value)
        for digits in range(17):
            short = f"{float(value):.{digits}e}"
            if self.value(self.nearest(Fraction(short))) == value:
                return repr(float(short))
        return repr(float(value))


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingReferenceError(
            "NumPy has bfloat16 through the package ml_dtypes: pip install ml_dtypes; "
            "or present operands as torch tensors"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)


_IEEE = {
    numbers.name: numbers
    for numbers in (
        IeeeNumbers("float16", 16, 11),
        IeeeNumbers("bfloat16", 16, 8),
        IeeeNumbers("float32", 32, 24),
        IeeeNumbers("float64", 64, 53),
    )
}


@lru_cache(maxsize=64)
def numbers_of(fmt: Format | str) -> Numbers:
    """The number set of a format or a name.

    Raises:
        FormatError: no such format.

    >>> numbers_of("posit16").name, numbers_of("bfloat16").maxpos
    ('posit16', 32639)
    """
    if isinstance(fmt, str) and fmt.strip() in _IEEE:
        return _IEEE[fmt.strip()]
    if isinstance(fmt, Format) or (isinstance(fmt, str) and "posit" in fmt):
        return PositNumbers(Format.parse(fmt))
    raise FormatError(
        f"unknown format {fmt!r}; write posit16, bposit32, posit<12,1>, … or one of {', '.join(_IEEE)}"
    )


def floor_log2(x: Fraction) -> int:
    """The largest e with 2**e <= x, for positive x.

    >>> floor_log2(Fraction(3, 8))
    -2
    """
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1
