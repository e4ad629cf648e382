"""Sums of limbs that came from the wire (`posit._quire_wire`), as exact numbers that can be rounded once."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._quire_layout import QuireLayout
from posit._quire_wire import Limbs, Window
from posit.codec import Codes, encode_rational, signed_storage
from posit.errors import QuireError
from posit.formats import Format
from posit.rounding import certified, divide

_CHUNK = 16384
_UNIT = 2.0**-53
_RANGE = 960  #: powers of two within which float64 is normal, divided too


@dataclass(frozen=True, slots=True, eq=False)
class Total:
    """The exact sum of the quires of all ranks, element by element, none of them NaR.

    What a quire of the layout could not hold is NaR here too, so that nothing depends on who held which part.
    """

    limbs: Limbs  #: shape (window.count, elements), each limb the sum over all ranks
    window: Window
    layout: QuireLayout  #: of the quires

    def fraction(self, index: int) -> Fraction | None:
        """The number at a place; None for NaR.

        >>> import posit
        >>> from posit._quire_layout import layout
        >>> total = Total(np.array([[3], [-1]]), Window(low=-4, count=2, width=61), layout(posit.posit16))
        >>> total.fraction(0) == Fraction(3 - 2**61, 16)
        True
        """
        whole = sum(int(limb) << (self.window.width * t) for t, limb in enumerate(self.limbs[:, index]))
        value = Fraction(whole) * Fraction(2) ** self.window.low
        return value if abs(value) < Fraction(2) ** self._limit_scale else None

    def rounded(self, divisor: int, fmt: Format) -> Codes:
        """Signed codes of the numbers over a whole number, each rounded once, as `posit._quire_division.divided`.

        A number is read as a float64 with a bound of its error, 0 where it is that float64; where the bound does not
        decide, as a rational.

        Raises:
            QuireError: the divisor is below 1.
        """
        if divisor < 1:
            raise QuireError(f"a divisor of quires must be at least 1, got {divisor}")
        codes = _buffers.empty(self.limbs.shape[1], signed_storage(fmt))
        for start in range(0, len(codes), _CHUNK):
            codes[start : start + _CHUNK] = self._part(slice(start, start + _CHUNK), divisor, fmt)
        return codes

    @property
    def _limit_scale(self) -> int:
        return self.layout.bits - 1 + self.layout.lsb

    def _part(self, rows: slice, divisor: int, fmt: Format) -> Codes:
        values, error = self._approximate(self.limbs[:, rows])
        near = np.abs(values) >= 2.0 ** min(self._limit_scale, 1000) * (1 - 2.0**-40)
        over = [index for index in np.flatnonzero(near) if self.fraction(rows.start + int(index)) is None]
        divide(values, error, divisor)
        values[over] = np.nan

        def exact(index: int) -> int:
            value = self.fraction(rows.start + index)
            assert value is not None  # NaR is NaN in `values`, which needs no more
            return encode_rational(value / divisor, fmt)

        return certified(values, error, fmt, exact, signed_storage(fmt))

    def _approximate(self, limbs: Limbs) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The numbers as float64, and bounds of their errors."""
        count, width = len(limbs), self.window.width
        size = limbs.shape[1]
        if count == 0:
            return np.zeros(size), np.zeros(size)
        if self.window.low < -_RANGE or self.window.low + width * count > _RANGE:
            return np.zeros(size), np.full(size, np.inf)  # every number is read as a rational
        if count == 1:
            total = limbs[0].astype(np.float64)
            inexact = total.astype(np.int64) != limbs[0]  # magnitudes are at most 2**62
            total = np.ldexp(total, self.window.low)
            return total, np.where(inexact, np.abs(total) * _UNIT, 0.0)
        digits = limbs.copy()
        negative = _carried(digits, width) < 0
        digits[:, negative] *= -1
        _carried(digits, width)
        total, error = np.zeros(size), np.zeros(size)
        for t in range(
            count - 1, -1, -1
        ):  # no term is negative: each addition errs by a unit of the sum at most
            term = digits[t].astype(np.float64)
            inexact = term.astype(np.int64) != digits[t]
            term = np.ldexp(term, self.window.low + width * t)
            before, total = total, total + term
            inexact |= (total - before != term) | (total - term != before)
            error[inexact] = 1.0
        np.negative(total, where=negative, out=total)
        return total, error * np.abs(total) * ((2 * count + 2) * _UNIT)


def _carried(digits: Limbs, width: int) -> npt.NDArray[np.int64]:
    """Propagate carries; every limb but the last into 0 .. 2**width - 1.  Returns the last."""
    for t in range(len(digits) - 1):
        digits[t + 1] += digits[t] >> width
        digits[t] &= (1 << width) - 1
    last: npt.NDArray[np.int64] = digits[-1]
    return last
