"""Where the bits of a quire lie, and the header that names a quire's format in bytes."""

import struct
from dataclasses import dataclass
from functools import cache

from posit.errors import FormatError, QuireError
from posit.formats import Format

EXACT, PAPER, THREE = "exact", "800-bit", "three factors"
_VARIANTS = (EXACT, PAPER, THREE)
_VERSION = 1
_HEADER = struct.Struct("<4sBBBBBBH")


@dataclass(frozen=True)
class QuireLayout:
    """A two's-complement fixed-point register: `bits` wide, its lowest bit of weight 2**lsb.

    The value -2**(bits - 1), written 10...0, is NaR; every other pattern is a real number.  A product of two posits
    is a multiple of 2**(2 * fmt.lsb_scale) of at most 2**(lsb + unit), so 2**31 - 1 of them cannot overflow:
    `bits` is at least 1 + 31 + unit.  The variant "three factors" has that room for products of three posits, and so
    for those of two.
    """

    format: Format
    variant: str  #: "exact", "800-bit" or "three factors"
    bits: int  #: width, a multiple of 8
    lsb: int  #: weight of bit 0, as a power of two
    unit: int  #: the largest product is at most 2**unit times the lowest bit

    @property
    def nbytes(self) -> int:
        """Bytes of one register."""
        return self.bits // 8

    @property
    def digits(self) -> int:
        """Digits of 32 bits that hold the register; at least 3, for kernels write three at a time."""
        return max(3, (self.bits + 31) // 32)

    @property
    def limit(self) -> int:
        """Real values lie strictly between -limit and limit, in units of the lowest bit."""
        return 1 << (self.bits - 1)

    def header(self, magic: bytes, flags: int = 0) -> bytes:
        """Twelve bytes: magic (4), version, flags, nbits, es, max_regime or 0, variant, register bytes (2)."""
        fmt = self.format
        return _HEADER.pack(
            magic, _VERSION, flags, fmt.nbits, fmt.es, fmt.max_regime or 0, _VARIANTS.index(self.variant), self.nbytes
        )  # fmt: skip


HEADER_BYTES = _HEADER.size


@cache
def layout(fmt: Format, variant: str = EXACT) -> QuireLayout:
    """The register of a format.

    Raises:
        FormatError: a variant that does not exist, or not for this format.

    >>> layout(Format(16)).bits, layout(Format(16)).lsb, layout(Format(16, 5, 6)).bits
    (256, -112, 808)
    >>> layout(Format(16), THREE).bits, layout(Format(16), THREE).lsb
    (368, -168)
    """
    if variant in (EXACT, THREE):
        factors = 2 if variant == EXACT else 3
        top = factors * (fmt.max_scale + (fmt.max_regime is not None))
        lsb = factors * fmt.lsb_scale
        bits = fmt.quire_bits if variant == EXACT else (1 + 31 + top - lsb + 7) // 8 * 8
        return QuireLayout(fmt, variant, bits, lsb, top - lsb)
    if variant != PAPER:
        raise FormatError(f"a quire is {EXACT!r}, {PAPER!r} or {THREE!r}, got variant {variant!r}")
    if (fmt.es, fmt.max_regime) != (5, 6):
        raise FormatError(
            f"the {PAPER} quire is that of bposits with es = 5 and max_regime = 6, not of {fmt}; leave out variant"
        )
    return QuireLayout(fmt, variant, 800, -384, 768)


def read_header(data: bytes, magic: bytes, what: str) -> tuple[QuireLayout, int]:
    """The layout and flags that the first bytes name.

    Raises:
        QuireError: too short, another kind of data, another version, or a format that does not exist.
    """
    if len(data) < HEADER_BYTES:
        raise QuireError(f"{what} starts with a header of {HEADER_BYTES} bytes, got {len(data)} bytes")
    found, version, flags, nbits, es, max_regime, variant, nbytes = _HEADER.unpack_from(data)
    if found != magic:
        raise QuireError(f"{what} starts with {magic!r}, got {found!r}: not written by to_bytes()")
    if version != _VERSION:
        raise QuireError(
            f"{what} of version {version} came, this posit reads version {_VERSION}; "
            "write the bytes again with the same release"
        )
    try:
        named = layout(
            Format(nbits, es, max_regime or None), dict(enumerate(_VARIANTS)).get(variant, str(variant))
        )
    except FormatError as error:
        raise QuireError(f"the header of {what} names no quire: {error}") from None
    if named.nbytes != nbytes or (named.format.max_regime or 0) != max_regime:
        raise QuireError(
            f"the header of {what} says {nbytes} bytes for {named.format}, whose quire has {named.nbytes}: damaged data"
        )
    return named, flags
