"""Arrays of codes to arrays of floats and back, at memory speed, for formats of at most 32 bits."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import convert
from posit._rational import from_rational
from posit._threads import split
from posit.errors import FormatError, ShapeError
from posit.formats import Format

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


def signed_storage(fmt: Format) -> "np.dtype[np.signedinteger]":
    """The signed dtype in which torch keeps codes: as wide as `fmt.storage`.

    >>> signed_storage(Format(12))
    dtype('int16')
    """
    return np.dtype(f"int{8 * fmt.storage.itemsize}")


def to_signed(codes: Codes, fmt: Format) -> Codes:
    """Unsigned zero-extended codes as signed sign-extended ones (the only converter between the two).

    >>> to_signed(np.array([0xFFF, 0x400], np.uint16), Format(12))
    array([  -1, 1024], dtype=int16)
    """
    spare = 8 * fmt.storage.itemsize - fmt.nbits
    moved = codes.astype(fmt.storage, copy=False).view(signed_storage(fmt))
    return moved if spare == 0 else moved << spare >> spare


def to_unsigned(codes: Codes, fmt: Format) -> Codes:
    """The inverse of `to_signed`."""
    bare = codes.astype(signed_storage(fmt), copy=False).view(fmt.storage)
    return bare if 8 * fmt.storage.itemsize == fmt.nbits else bare & fmt.storage.type(fmt.code_mask)


def to_int64(codes: Codes) -> npt.NDArray[np.int64]:
    """Codes in C order as int64, as the generic kernels take them: of each only the low nbits count."""
    stored = np.asarray(codes, order="C")
    return stored.view(np.int64) if stored.dtype == np.uint64 else stored.astype(np.int64)


def from_int64(signed: npt.NDArray[np.int64], fmt: Format) -> Codes:
    """Unsigned codes of sign-extended ones."""
    return (signed & np.int64(-1 if fmt.nbits == 64 else fmt.code_mask)).astype(fmt.storage)


def decode(codes: Codes, fmt: Format, dtype: npt.DTypeLike = np.float64, out: Floats | None = None) -> Floats:
    """Exact values of codes; NaR gives NaN.

    Args:
        codes: Any shape and strides; only the low nbits count, so both signed and unsigned codes will do.
        dtype: float64, or float32 (exact where the format's values are float32 numbers, else rounded to nearest).
        out: Where to write: contiguous, of the same shape and this dtype.

    Raises:
        ShapeError: `out` does not fit.
        FormatError: the format is wider than 32 bits.

    >>> decode(np.array([0x4C91], np.uint16), Format(16))
    array([3.14160156])
    """
    _require_narrow(fmt)
    flat = _buffers.contiguous(codes).reshape(-1)
    result = destination(out, codes.shape, dtype)
    reals = result.reshape(-1)
    kernel = convert.decoder(*fmt.parameters, flat.dtype, reals.dtype)
    split(flat.size, flat.size, lambda start, stop: kernel(flat[start:stop], reals[start:stop]))
    return result


def encode(
    values: Floats, fmt: Format, storage: npt.DTypeLike | None = None, out: Codes | None = None
) -> Codes:
    """Codes of real numbers, each rounded once (nearest on the encoding, ties to even; never to 0 or NaR).

    Args:
        values: float32 or float64, any shape and strides; NaN and infinities become NaR.
        storage: dtype of the codes; unsigned (default, zero-extended) or signed (sign-extended).
        out: Where to write: contiguous, of the same shape and the dtype of the codes.

    Raises:
        ShapeError: `out` does not fit.
        FormatError: the format is wider than 32 bits.

    >>> encode(np.array([3.14159265, -1e300, np.inf]), Format(16))
    array([19601, 32769, 32768], dtype=uint16)
    """
    _require_narrow(fmt)
    flat = _buffers.contiguous(values).reshape(-1)
    result = destination(out, values.shape, storage or fmt.storage)
    codes = result.reshape(-1)
    kernel = convert.encoder(*fmt.parameters, codes.dtype, flat.dtype)
    split(flat.size, flat.size * 2, lambda start, stop: kernel(flat[start:stop], codes[start:stop]))
    return result


def destination(
    out: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """`out`, or a new buffer where it is None.

    Raises:
        ShapeError: `out` has another shape or dtype, is not contiguous, or cannot be written.
    """
    if out is None:
        return _buffers.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise ShapeError(
            f"out must be contiguous and writeable, of shape {shape} and dtype {np.dtype(dtype)}; got shape "
            f"{out.shape}, dtype {out.dtype}, strides {out.strides}, writeable: {out.flags.writeable}"
        )
    return out


def _require_narrow(fmt: Format) -> None:
    if fmt.nbits > 32:
        raise FormatError(
            f"{fmt} has values that float64 cannot hold; the float64 carrier serves at most 32 bits"
        )


def encode_rational(x: Fraction, fmt: Format) -> int:
    """Code (unsigned) of an exact rational number, rounded once; any format.

    >>> hex(encode_rational(Fraction(1, 10), Format(16)))
    '0x24cd'
    """
    return from_rational(x, fmt)
