"""Codes of any format to and from floats, integers and other formats; each result is rounded once.

Source: Posit Standard (2022), section 6 (conversions).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from posit import codec
from posit._kernels import convert
from posit._threads import split
from posit.codec import Codes, from_int64, to_int64
from posit.errors import CodeError
from posit.formats import Format

Array = npt.NDArray[Any]


def from_floats(values: Array, fmt: Format) -> Codes:
    """Unsigned codes of float16, bfloat16, float32 or float64; NaN and infinities become NaR.

    >>> from_floats(np.array([1.0, np.inf]), Format(64))
    array([4611686018427387904, 9223372036854775808], dtype=uint64)
    """
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)  # float16 and bfloat16 are float32 numbers
    if fmt.nbits <= 32:
        return codec.encode(values, fmt)
    flat = np.ascontiguousarray(values.astype(np.float64, copy=False)).reshape(-1)
    out = np.empty(flat.shape, np.int64)
    kernel = convert.encode_wide()
    _run(lambda i, j: kernel(flat[i:j], out[i:j], *fmt.parameters), flat.size)
    return from_int64(out, fmt).reshape(values.shape)


def to_floats(codes: Codes, fmt: Format, dtype: npt.DTypeLike) -> Array:
    """The values of codes as float64, float32, float16 or bfloat16, nearest (ties to even); NaR gives NaN.

    Where the value does not fit float64 it is first rounded to odd, so that the last rounding is the only
    one.

    >>> to_floats(np.array([0x4000000000000001], np.uint64), Format(64), np.float64)
    array([1.])
    """
    target = np.dtype(dtype)
    if fmt.nbits <= 32:
        if target in (np.float32, np.float64):
            return codec.decode(codes, fmt, target)
        values = codec.decode(codes, fmt, np.float64)
    else:
        to_odd = target != np.float64
        moved = to_int64(codes).reshape(-1)
        values = np.empty(moved.shape)
        kernel = convert.decode_wide()
        _run(lambda i, j: kernel(moved[i:j], values[i:j], to_odd, *fmt.parameters), moved.size)
        values = values.reshape(codes.shape)
    if target in (np.float64, np.float32, np.float16):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return values.astype(target, copy=False)
    return np.asarray(_float32_to_odd(values).astype(target))


def _float32_to_odd(values: Array) -> Array:
    """float64 to float32 rounded to odd, for the cast to a smaller float that follows."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = values.astype(np.float32)
    near = np.where(np.isinf(near), np.copysign(np.finfo(np.float32).max, near), near)
    too_far = np.abs(near.astype(np.float64)) > np.abs(values)
    cut = np.where(too_far, np.nextafter(near, np.float32(0)), near)
    inexact = cut.astype(np.float64) != values
    odd: Array = np.asarray(cut, np.float32).view(np.int32) | inexact.astype(np.int32)
    return odd.view(np.float32)


def from_integers(values: Array, fmt: Format) -> Codes:
    """Unsigned codes of integers of any NumPy dtype.

    The most negative int64 (its first bit set and no other) is the integers' NaR and becomes NaR; narrower
    integers have no such value here, as widening them is exact.

    >>> from_integers(np.array([1, -2, 10**6]), Format(16))
    array([16384, 47104, 32244], dtype=uint16)
    """
    unsigned = values.dtype.kind == "u"
    wide = values.astype(np.uint64 if unsigned else np.int64, copy=False).view(np.int64)
    flat = np.ascontiguousarray(wide).reshape(-1)
    out = np.empty(flat.shape, np.int64)
    kernel = convert.encode_integers()
    _run(lambda i, j: kernel(flat[i:j], unsigned, out[i:j], *fmt.parameters), flat.size)
    return from_int64(out, fmt).reshape(values.shape)


def to_integers(codes: Codes, fmt: Format, dtype: npt.DTypeLike) -> Array:
    """Values as integers, nearest, ties to even; NaR and values outside the dtype give its first bit alone.

    That integer is the most negative one of a signed dtype, and 2**(bits - 1) of an unsigned one.

    Raises:
        CodeError: uint64, in which posits above 2**63 would be lost.

    >>> to_integers(np.array([0x4400, 0x8000], np.uint16), Format(16), np.int8)
    array([   2, -128], dtype=int8)
    """
    target = np.dtype(dtype)
    if target == np.uint64:
        raise CodeError("posits become int64 or narrower integers, not uint64; use astype(np.int64)")
    info = np.iinfo(target)
    moved = to_int64(codes).reshape(-1)
    out = np.empty(moved.shape, np.int64)
    limits = int(info.min), int(info.max), -(1 << 63) if info.bits == 64 else 1 << (info.bits - 1)
    kernel = convert.to_integers()
    _run(lambda i, j: kernel(moved[i:j], out[i:j], *limits, *fmt.parameters), moved.size)
    return out.astype(target).reshape(codes.shape)


def recode(codes: Codes, source: Format, target: Format) -> Codes:
    """Codes of `target` for unsigned codes of `source`, rounded once; exact where it only widens.

    >>> hex(recode(np.array([0x4C91], np.uint16), Format(16), Format(32))[0])
    '0x4c910000'
    """
    if source == target:
        return codes.copy()
    moved = to_int64(codes).reshape(-1)
    out = np.empty(moved.shape, np.int64)
    kernel = convert.recode()
    _run(lambda i, j: kernel(moved[i:j], out[i:j], *source.parameters, *target.parameters), moved.size)
    return from_int64(out, target).reshape(codes.shape)


def _run(kernel: Any, size: int) -> None:
    split(size, 10 * size, kernel)
