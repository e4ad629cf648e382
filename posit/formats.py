"""Posit formats as values: `Format`, the ready-made ones, and how their names are read."""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from posit.errors import FormatError

_NAMED = re.compile(r"(?P<kind>b?posit)(?P<nbits>\d{1,3})")
_FULL = re.compile(r"(?P<kind>b?posit)<(?P<nbits>\d{1,3}),(?P<es>\d{1,2})(?:,(?P<rs>\d{1,3}))?>")


_WIDTHS = (8, 8, 8, 8, 16, 32, 64)  # by the bit length of nbits - 1
_STORAGE = tuple(np.dtype(f"uint{width}") for width in _WIDTHS)


@dataclass(frozen=True, slots=True)
class Format:
    """A posit format: `nbits` wide, `es` exponent bits, and a regime of at most `max_regime` bits.

    With ``max_regime=None`` it is a posit of the Posit Standard (2022) when ``es == 2``, and of the
    earlier drafts otherwise.  With a bound it is a bounded posit (b-posit: Jonnalagadda, Thotli,
    Gustafson, arXiv 2603.01615), whose regime run stops after `max_regime` bits without a terminator.
    A bound that cannot bind is normalised to None, so equal formats compare and hash equal.

    `minpos`, `maxpos` and `nar` are codes; `minpos_value` and `maxpos_value` are their exact values.

    Raises:
        FormatError: ``nbits`` outside 3..64, ``es`` outside 0..5, ``max_regime`` below 2.

    >>> Format(16).name, Format(16, 1).name, Format(32, 5, 6).name
    ('posit16', 'posit<16,1>', 'bposit32')
    >>> Format.parse("posit<12,1>").maxpos_value
    Fraction(1048576, 1)
    """

    nbits: int  #: total bits, 3..64
    es: int = 2  #: exponent bits, 0..5; 2 in the standard
    max_regime: int | None = None  #: longest regime run of a bounded posit, or None

    def __post_init__(self) -> None:
        for field, value, low, high in (("nbits", self.nbits, 3, 64), ("es", self.es, 0, 5)):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise FormatError(f"{field} must be an integer from {low} to {high}, got {value!r}")
        bound = self.max_regime
        if bound is None:
            return
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 2:
            raise FormatError(f"max_regime must be None or an integer of at least 2, got {bound!r}")
        if bound >= self.nbits - 1:
            object.__setattr__(self, "max_regime", None)

    @classmethod
    def parse(cls, text: "str | Format") -> "Format":
        """Read a format's name; a `Format` passes through.

        Accepts ``posit16`` (es = 2), ``bposit32`` (es = 5, max_regime = 6), ``posit<n,es>`` and
        ``bposit<n,es,max_regime>``.

        Raises:
            FormatError: the text is none of these.

        >>> Format.parse("bposit<16,5,6>") == Format.parse("bposit16")
        True
        """
        if isinstance(text, Format):
            return text
        clean = text.strip().replace(" ", "") if isinstance(text, str) else ""
        if match := _NAMED.fullmatch(clean):
            nbits = int(match["nbits"])
            return cls(nbits) if match["kind"] == "posit" else cls(nbits, 5, 6)
        match = _FULL.fullmatch(clean)
        if match and (match["kind"] == "bposit") == (match["rs"] is not None):
            return cls(int(match["nbits"]), int(match["es"]), int(match["rs"]) if match["rs"] else None)
        raise FormatError(
            f"unknown format {text!r}; write posit8, posit16, posit32, bposit16, posit<12,1> (bits, exponent bits) "
            "or bposit<16,5,6> (bits, exponent bits, longest regime)"
        )

    @property
    def name(self) -> str:
        """Shortest text that `parse` reads back."""
        if self.max_regime is None:
            return f"posit{self.nbits}" if self.es == 2 else f"posit<{self.nbits},{self.es}>"
        if (self.es, self.max_regime) == (5, 6):
            return f"bposit{self.nbits}"
        return f"bposit<{self.nbits},{self.es},{self.max_regime}>"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        bound = "" if self.max_regime is None else f", {self.max_regime}"
        return f"Format({self.nbits}, {self.es}{bound})"

    @property
    def nar(self) -> int:
        """Code of NaR (not a real): 1 followed by zeros."""
        return 1 << (self.nbits - 1)

    @property
    def maxpos(self) -> int:
        """Code of the largest posit."""
        return self.nar - 1

    @property
    def minpos(self) -> int:
        """Code of the smallest positive posit."""
        return 1

    @property
    def code_mask(self) -> int:
        """All nbits bits set."""
        return (1 << self.nbits) - 1

    @property
    def min_scale(self) -> int:
        """Power of two of minpos: minpos_value is in [2**min_scale, 2**(min_scale + 1))."""
        if self.max_regime is None:
            return -((self.nbits - 2) << self.es)
        value = self.minpos_value
        return value.numerator.bit_length() - value.denominator.bit_length()

    @property
    def max_scale(self) -> int:
        """Power of two of maxpos."""
        if self.max_regime is None:
            return (self.nbits - 2) << self.es
        value = self.maxpos_value
        return value.numerator.bit_length() - value.denominator.bit_length()

    @property
    def fraction_bits(self) -> int:
        """Most fraction bits that any value has (those near 1)."""
        return max(0, self.nbits - 3 - self.es)

    @property
    def lsb_scale(self) -> int:
        """Every value of the format is a multiple of 2**lsb_scale."""
        value = self.minpos_value
        return 1 - value.denominator.bit_length()

    @property
    def quire_bits(self) -> int:
        """Width of the exact accumulator: products of two posits and 31 bits of carry, in whole bytes.

        For the standard's formats this is 16 * nbits, as the standard says.  For all others it is the
        sign, 31 carry bits, and every bit from minpos**2 to maxpos**2, rounded up to a multiple of 8
        (for bposit16 and bposit32 that is 808 and 840, not the 800 of the b-posit paper).
        """
        top = 2 * (self.max_scale + 1) if self.max_regime is not None else 2 * self.max_scale
        bits = 1 + 31 + top - 2 * self.lsb_scale
        if self.max_regime is None and self.es == 2:
            return 16 * self.nbits
        return (bits + 7) // 8 * 8

    @property
    def parameters(self) -> tuple[int, int, int]:
        """The format as kernels take it: nbits, es, and the longest regime or 0."""
        return self.nbits, self.es, self.max_regime or 0

    @property
    def fits_float64(self) -> bool:
        """Whether all values, products, quotients and their rounding errors are normal float64 numbers.

        Every value is a multiple of 2**-e and below 2**e for the e below, so a product and its error are multiples
        of 2**(-2 * e) >= 2**-1022 and below 2**1022.
        """
        reach = (
            (self.max_regime << self.es) + self.nbits
            if self.max_regime
            else ((self.nbits - 2) << self.es) + 1
        )
        return self.nbits <= 32 and reach <= 511

    @property
    def storage(self) -> np.dtype:
        """Smallest unsigned dtype that holds a code."""
        return _STORAGE[(self.nbits - 1).bit_length()]

    @property
    def minpos_value(self) -> Fraction:
        """Exact value of minpos."""
        if self.max_regime is None:
            return Fraction(1, 1 << ((self.nbits - 2) << self.es))
        return self._bounded_value(self.minpos)

    @property
    def maxpos_value(self) -> Fraction:
        """Exact value of maxpos."""
        if self.max_regime is None:
            return Fraction(1 << ((self.nbits - 2) << self.es))
        return self._bounded_value(self.maxpos)

    def _bounded_value(self, code: int) -> Fraction:
        from posit.reference.exact import value

        result = value(code, self)
        assert result is not None  # minpos and maxpos are real
        return result


posit8 = Format(8)
posit16 = Format(16)
posit32 = Format(32)
posit64 = Format(64)
bposit16 = Format(16, 5, 6)
bposit32 = Format(32, 5, 6)
bposit64 = Format(64, 5, 6)
