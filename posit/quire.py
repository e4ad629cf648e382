"""`Quire`: the exact accumulator of the Posit Standard, one at a time.

A quire is a fixed-point register wide enough that sums of products of posits round only once, when they are read
(`to_posit`).  For arrays of quires, matrix products and memory-mapped storage see `posit.QuireArray`; for quires
in compiled loops see `posit.jit`.
"""

from fractions import Fraction
from typing import Any, Self

import numpy as np

from posit._array import PositArray
from posit._fixed_point import decimal, fixed_point, fraction, lsb_scale
from posit._operands import codes_of
from posit._quire_layout import EXACT, HEADER_BYTES, QuireLayout, layout, read_header
from posit._rational import from_rational
from posit.errors import FormatMismatch, NonFiniteError, QuireError, ShapeError
from posit.formats import Format

_MAGIC = b"PQR1"
_INEXACT = 1  # flag in the header


class Quire:
    r"""One exact accumulator :math:`q = \sum_i \pm a_i b_i`, a two's-complement fixed-point number.

    Its width is ``fmt.quire_bits``: 16n bits for the standard's formats, 808, 840 and 904 for bposit16, 32 and 64.
    Its lowest bit is that of minpos**2 (for posits 2**(16 - 8n)), so nothing is ever lost below; 31 carry bits
    hold 2**31 - 1 products of any size above.  A result that does not fit the width becomes NaR, and NaR stays NaR,
    after each operation as in the standard; short of that, no order of operations changes a bit.

    Methods change the quire in place and return None, like ``list.append`` and ``ndarray.sort``: a quire is a
    register, and a chain of calls would read as if each made a new one.  Operands are posits of its format with
    shape (), or Python numbers, which are first rounded to the format as in posit arithmetic.  A call that raises
    leaves the quire unchanged.

    Args:
        fmt: The format, or its name.
        variant: ``"exact"``, or ``"800-bit"``: the narrower register that the b-posit paper gives for es = 5 and
            max_regime = 6.  It drops bits below 2**-384 of each operand (towards zero) and then sets `inexact`.
            ``"three factors"`` is as wide as sums of products of three posits need (`QuireArray` can hold them).

    Raises:
        FormatError: an unknown format or variant.

    Source:
        Posit Standard (2022), sections 3.2 and 5.11; arXiv 2603.01615 for the 800-bit register.

    >>> import posit
    >>> q = Quire("posit16")
    >>> q.mul_add(30000, 30000)
    >>> q.add(0.25)
    >>> q.mul_sub(30000, 30000)
    >>> q
    <Quire posit16 = 0.25>
    >>> q.to_posit()
    posit.array(0.25, 'posit16')
    """

    __slots__ = ("_inexact", "_layout", "_value")
    _layout: QuireLayout
    _value: int | None  # in units of the lowest bit; None is NaR
    _inexact: bool

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(self, fmt: Format | str, variant: str = EXACT) -> None:
        self._layout = layout(Format.parse(fmt), variant)
        self._value = 0
        self._inexact = False

    @classmethod
    def from_posit(cls, p: PositArray, variant: str = EXACT) -> Self:
        """A quire that holds one posit (the standard's pToQ); NaR for NaR.

        Raises:
            FormatMismatch: not a posit; numbers have no format.
            ShapeError: not of shape ().
        """
        if not isinstance(p, PositArray):
            raise FormatMismatch(
                f"from_posit needs a posit array of shape (), got {type(p).__name__}; use Quire(fmt).add(x)"
            )
        quire = cls(p.format, variant)
        quire.add(p)
        return quire

    @property
    def format(self) -> Format:
        """Format of the operands and of the result."""
        return self._layout.format

    @property
    def variant(self) -> str:
        """``"exact"`` or ``"800-bit"``."""
        return self._layout.variant

    @property
    def bits(self) -> int:
        """Width of the register."""
        return self._layout.bits

    @property
    def is_nar(self) -> bool:
        """Whether the quire is not a real: a NaR came in, or the sum left the register."""
        return self._value is None

    @property
    def inexact(self) -> bool:
        """Whether bits were dropped since the last `clear`; never in the exact variant."""
        return self._inexact

    # The standard's functions

    def add(self, p: Any) -> None:
        """``q + p`` (qAddP)."""
        self._accumulate(self._scaled(p))

    def sub(self, p: Any) -> None:
        """``q - p`` (qSubP)."""
        self._accumulate(_negative(self._scaled(p)))

    def mul_add(self, a: Any, b: Any) -> None:
        """``q + a * b`` (qMulAdd); NaR if either is, even times 0."""
        self._accumulate(self._product(a, b))

    def mul_sub(self, a: Any, b: Any) -> None:
        """``q - a * b`` (qMulSub)."""
        self._accumulate(_negative(self._product(a, b)))

    def add_quire(self, q: "Quire") -> None:
        """``self + q`` (qAddQ); adding a quire to itself doubles it.

        Raises:
            QuireError: not a quire of the same format and variant.
        """
        self._combine(q, 1)

    def merge(self, q: "Quire") -> None:
        """`add_quire` under the name that says what it is for: partial sums come together in any grouping."""
        self.add_quire(q)

    def sub_quire(self, q: "Quire") -> None:
        """``self - q`` (qSubQ).

        Raises:
            QuireError: not a quire of the same format and variant.
        """
        self._combine(q, -1)

    def negate(self) -> None:
        """``-q`` (qNegate)."""
        self._value = _negative(self._value)

    def abs(self) -> None:
        """``|q|`` (qAbs)."""
        self._value = None if self._value is None else abs(self._value)

    def clear(self) -> None:
        """Start again from 0: neither NaR nor inexact."""
        self._value, self._inexact = 0, False

    def to_posit(self) -> PositArray:
        """The sum, rounded once to nearest, ties to the even code (qToP); NaR for NaR.  The quire stays."""
        fmt = self.format
        code = fmt.nar if self._value is None else from_rational(self.to_fraction(), fmt)
        return PositArray(np.array(code, fmt.storage), fmt)

    def to_fraction(self) -> Fraction:
        """The exact value.

        Raises:
            NonFiniteError: the quire is NaR.
        """
        if self._value is None:
            raise NonFiniteError("to_fraction() of a NaR quire: it is not a real number; test is_nar first")
        return fraction(self._value, self._layout.lsb)

    # Bytes

    def to_bytes(self) -> bytes:
        """Header and register.

        Twelve bytes of header: ``PQR1``, version (1), flags (1 if inexact), nbits, es, max_regime or 0, variant (0
        exact, 1 800-bit), length of the register as uint16.  Then the register: the standard's two's-complement
        layout, least significant byte first, ``bits / 8`` bytes; NaR is 10...0.

        >>> Quire("posit8").to_bytes()[12:] == bytes(16)
        True
        """
        value = -self._layout.limit if self._value is None else self._value
        head = self._layout.header(_MAGIC, _INEXACT if self._inexact else 0)
        return head + value.to_bytes(self._layout.nbytes, "little", signed=True)

    @classmethod
    def from_bytes(cls, data: bytes, fmt: Format | str | None = None) -> Self:
        """The quire that `to_bytes` wrote.

        Args:
            data: The bytes.
            fmt: The format that is expected, or its name; None takes any.

        Raises:
            QuireError: bytes of another length, kind, version or format.
        """
        given, flags = read_header(data, _MAGIC, "a quire")
        if fmt is not None and given.format != Format.parse(fmt):
            raise QuireError(
                f"a quire of {Format.parse(fmt)} was wanted, the bytes hold one of {given.format}"
            )
        if len(data) != HEADER_BYTES + given.nbytes or flags not in (0, _INEXACT):
            raise QuireError(
                f"a quire of {given.format} has {HEADER_BYTES + given.nbytes} bytes and flags 0 or 1, "
                f"got {len(data)} bytes and flags {flags}"
            )
        quire = cls.from_register(data[HEADER_BYTES:], given.format, given.variant)
        quire._inexact = bool(flags)
        return quire

    @classmethod
    def from_register(cls, data: bytes, fmt: Format | str, variant: str = EXACT) -> Self:
        r"""The quire with this register: two's complement, least significant byte first, without a header.

        Raises:
            QuireError: not ``bits / 8`` bytes.

        >>> Quire.from_register(b"\1" + bytes(31), "posit16").to_fraction() == Fraction(1, 2**112)
        True
        """
        quire = cls(fmt, variant)
        if len(data) != quire.bits // 8:
            raise QuireError(f"a register of {quire.format} has {quire.bits // 8} bytes, got {len(data)}")
        value = int.from_bytes(data, "little", signed=True)
        quire._value = None if value == -quire._layout.limit else value
        return quire

    # Python's protocols

    def copy(self) -> Self:
        """A second quire with the same content."""
        twin = type(self)(self.format, self.variant)
        twin._value, twin._inexact = self._value, self._inexact
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __eq__(self, other: object) -> bool:
        """Whether format, variant, content and the inexact mark are equal; NaR equals itself, as in the standard."""
        if not isinstance(other, Quire):
            return NotImplemented
        mine, theirs = ((q._layout, q._value, q._inexact) for q in (self, other))
        return mine == theirs

    def __repr__(self) -> str:
        name = str(self.format) + ("" if self.variant == EXACT else f" {self.variant}")
        mark = ", inexact" if self._inexact else ""
        return f"<Quire {name} {'NaR' if self._value is None else decimal(self.to_fraction())}{mark}>"

    # Integers in units of the lowest bit that a product can have

    def _code(self, operand: Any) -> int:
        codes = codes_of(operand, self.format)
        if codes.shape != ():
            raise ShapeError(
                f"a quire takes one posit at a time, got shape {codes.shape}; posit.QuireArray takes arrays"
            )
        return int(codes)

    def _scaled(self, p: Any) -> int | None:
        x = fixed_point(self._code(p), self.format)
        return None if x is None else x << -lsb_scale(self.format)

    def _product(self, a: Any, b: Any) -> int | None:
        x, y = fixed_point(self._code(a), self.format), fixed_point(self._code(b), self.format)
        return None if x is None or y is None else x * y

    def _accumulate(self, term: int | None) -> None:
        below = self._layout.lsb - 2 * lsb_scale(self.format)
        if term is not None and below > 0:
            kept = abs(term) >> below
            self._inexact = self._inexact or kept << below != abs(term)
            term = kept if term > 0 else -kept
        elif term is not None:
            term <<= -below
        self._set(None if self._value is None or term is None else self._value + term)

    def _combine(self, q: "Quire", sign: int) -> None:
        if not isinstance(q, Quire):
            raise QuireError(f"quires merge with quires, got {type(q).__name__}; use add(p) for a posit")
        if q._layout != self._layout:
            names = [f"{x.format} ({x.variant}, {x.bits} bits)" for x in (self, q)]
            raise QuireError(f"quires of different formats do not merge: {names[0]} met {names[1]}")
        self._inexact = self._inexact or q._inexact
        self._set(None if self._value is None or q._value is None else self._value + sign * q._value)

    def _set(self, value: int | None) -> None:
        limit = self._layout.limit
        self._value = value if value is not None and -limit < value < limit else None


def _negative(value: int | None) -> int | None:
    return None if value is None else -value
