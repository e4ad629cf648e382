"""What a `QuireArray` does to its planes: add products, add matrix products, round."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers, _quire_matmul
from posit._kernels import convert
from posit._kernels import quire as kernels
from posit._quire_layout import QuireLayout
from posit._quire_storage import Planes, Storage
from posit._threads import split
from posit.codec import Codes, to_signed, to_unsigned
from posit.errors import ShapeError

_CHUNK = 1 << 13  # elements decoded at a time: two operands stay in the cache


def products(storage: Storage, planes: Planes, negative: bool, a: Codes, b: Codes) -> None:
    """Add or subtract a * b, broadcast to the shape of the planes.

    Raises:
        ShapeError: the operands do not broadcast to that shape.
    """
    shape = planes.shape[1:]
    left, right = (_broadcast(codes, shape) for codes in (a, b))
    storage.reserve(2)  # a product of 64-bit codes is added in two parts
    flat = planes.reshape(len(planes), prod(shape))
    _add_products(flat, negative, left, right, storage.layout)
    if not np.may_share_memory(flat, planes):
        planes[...] = flat.reshape(planes.shape)
    storage.load(1)


def _broadcast(codes: Codes, shape: tuple[int, ...]) -> Codes:
    if codes.ndim == 0:
        return codes
    try:
        return _buffers.contiguous(np.broadcast_to(codes, shape)).reshape(-1)
    except ValueError:
        raise ShapeError(
            f"an operand of shape {codes.shape} does not broadcast to quires of shape {shape}"
        ) from None


def _add_products(planes: Planes, negative: bool, a: Codes, b: Codes, layout: QuireLayout) -> None:
    fmt = layout.format
    parameters = fmt.parameters

    def signed(codes: Codes) -> Codes:
        return to_signed(codes, fmt).astype(np.int64)

    def floats(codes: Codes) -> npt.NDArray[np.float64]:
        out = np.empty(codes.shape)
        convert.decoder(*parameters, fmt.storage, out.dtype)(codes, out)
        return out

    def run(start: int, stop: int) -> None:
        for low in range(start, stop, _CHUNK):
            part = slice(low, min(low + _CHUNK, stop))
            x, y = (np.full(part.stop - low, codes) if codes.ndim == 0 else codes[part] for codes in (a, b))
            if fmt.nbits <= 32:
                kernels.add_float_products(negative, floats(x), floats(y), planes[:, part], layout.lsb)
            else:
                kernels.add_code_products(
                    negative, signed(x), signed(y), planes[:, part], layout.lsb, *parameters
                )

    split(planes.shape[1], 8 * planes.shape[1], run)


def matrix_product(storage: Storage, planes: Planes, a: Codes, b: Codes) -> None:
    """Add a @ b, broadcast as NumPy's matmul does.

    Raises:
        ShapeError: the shape of the product is not that of the planes.
    """
    shape = planes.shape[1:]
    if min(a.ndim, b.ndim) == 0 or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ShapeError(f"matmul_add needs (..., m, k) and (..., k, n), got {a.shape} and {b.shape}")
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    if b.ndim == 1:
        planes = planes[..., None]
    if a.ndim == 1:
        planes = np.expand_dims(planes, -2)
    batch = planes.shape[1:-2]
    try:
        left = np.broadcast_to(left, batch + left.shape[-2:])
        right = np.broadcast_to(right, batch + right.shape[-2:])
    except ValueError:
        fits = False
    else:
        fits = planes.shape[-2:] == (left.shape[-2], right.shape[-1])
    if not fits:
        raise ShapeError(f"the product of {a.shape} and {b.shape} has another shape than the quires, {shape}")
    for index in np.ndindex(*batch):
        part = planes[(slice(None), *index)]
        _quire_matmul.add_product(part, left[index], right[index], storage)
    storage.load(a.shape[-1])


def combine(storage: Storage, planes: Planes, other: Storage, others: Planes, ufunc: np.ufunc) -> None:
    """Add or subtract quires of the same shape, elementwise; they may be views of the same storage."""
    storage.require_writable()
    loaded = storage.reserve_for(other)
    marks = others[-1] | planes[-1]
    ufunc(planes[:-1], others[:-1], out=planes[:-1])
    planes[-1] = marks
    storage.load(loaded)


def rounded(planes: Planes, layout: QuireLayout) -> Any:
    """Unsigned codes of the sums, rounded once."""
    fmt = layout.format
    out = np.empty(prod(planes.shape[1:]), np.int64)
    flat = _buffers.contiguous(planes.reshape(len(planes), len(out)))

    def run(start: int, stop: int) -> None:
        parameters = fmt.parameters
        kernels.to_codes(start, stop, flat, out, layout.lsb, *parameters)

    split(len(out), 60 * len(out), run)
    return np.asarray(to_unsigned(out, fmt)).reshape(planes.shape[1:])
