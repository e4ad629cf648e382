"""Arrays of quires as bytes and as memory-mapped files: digits to the standard's layout and back."""

import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posit._quire_layout import HEADER_BYTES, QuireLayout, layout, read_header
from posit._quire_storage import Planes, Storage, plane_length, zeros
from posit.errors import QuireError
from posit.formats import Format

_MAGIC_BYTES = b"PQA1"
_MAGIC_FILE = b"PQM1"
_MOST_AXES = 32
_COUNTERS_AT = 16  #: two int64
_SHAPE_AT = 32  #: number of axes, then their lengths, int64 each
_PLANES_AT = 512


def registers(planes: Planes, layout: QuireLayout) -> npt.NDArray[np.uint8]:
    """Settled planes (digits + 1, elements) as registers (elements, nbytes), least significant byte first."""
    digits = np.ascontiguousarray((planes[:-1] & 0xFFFFFFFF).astype("<u4").T)
    out = np.ascontiguousarray(
        digits.view(np.uint8).reshape(len(digits), 4 * layout.digits)[:, : layout.nbytes]
    )
    nar = planes[-1] != 0
    out[nar] = 0
    out[nar, -1] = 0x80
    return out


def planes_of(data: npt.NDArray[np.uint8], layout: QuireLayout) -> Planes:
    """The inverse of `registers`."""
    planes = np.zeros((layout.digits + 1, len(data)), np.int64)
    padded = np.zeros((len(data), 4 * layout.digits), np.uint8)
    padded[:, : layout.nbytes] = data
    padded[:, layout.nbytes :] = np.where(data[:, -1:] >= 0x80, 0xFF, 0)
    planes[:-1] = padded.view("<u4").T
    planes[-2] = planes[-2].astype(np.uint32).view(np.int32)
    nar = (data[:, -1] == 0x80) & ~data[:, :-1].any(axis=1)
    planes[:-1, nar] = 0
    planes[-1, nar] = 1
    return planes


def pack(planes: Planes, shape: tuple[int, ...], layout: QuireLayout) -> bytes:
    """Header, number of axes, lengths (int64), registers in C order."""
    axes = struct.pack(f"<{len(shape) + 1}q", len(shape), *shape)
    return layout.header(_MAGIC_BYTES) + axes + registers(planes, layout).tobytes()


def unpack(data: bytes) -> tuple[Storage, tuple[int, ...]]:
    """The inverse of `pack`.

    Raises:
        QuireError: bytes of another length, kind or version.
    """
    form, _ = read_header(data, _MAGIC_BYTES, "an array of quires")
    shape, start = _read_shape(data, HEADER_BYTES)
    count = prod(shape)
    if len(data) != start + count * form.nbytes:
        raise QuireError(
            f"an array of quires of {form.format} and shape {shape} has {start + count * form.nbytes} bytes, "
            f"got {len(data)}"
        )
    body = np.frombuffer(data, np.uint8, offset=start).reshape(count, form.nbytes)
    storage = zeros(form, shape)
    storage.planes[:, :count] = planes_of(body, form)
    storage.settle()
    return storage, shape


def _read_shape(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    axes = struct.unpack_from("<q", data, at)[0] if len(data) >= at + 8 else -1
    if not 0 <= axes <= _MOST_AXES or len(data) < at + 8 * (axes + 1):
        raise QuireError(f"an array of quires has 0 to {_MOST_AXES} axes, the bytes say {axes}: damaged data")
    shape = struct.unpack_from(f"<{axes}q", data, at + 8)
    if any(length < 0 for length in shape):
        raise QuireError(f"the shape {shape} of an array of quires has a negative length: damaged data")
    return shape, at + 8 * (axes + 1)


def create(path: Path, shape: tuple[int, ...], layout: QuireLayout) -> None:
    """Write a file of zeros, whole or not at all."""
    if len(shape) > _MOST_AXES:
        raise QuireError(f"a file of quires has at most {_MOST_AXES} axes, got shape {shape}")
    head = layout.header(_MAGIC_FILE).ljust(_COUNTERS_AT, b"\0") + bytes(16)
    head += struct.pack(f"<{len(shape) + 1}q", len(shape), *shape)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(head.ljust(_PLANES_AT, b"\0"))
        file.truncate(_file_bytes(shape, layout))
        file.flush()
    temporary.replace(path)


def mapped(
    path: Path, shape: tuple[int, ...] | None, fmt: Format | None, mode: str
) -> tuple[Storage, tuple[int, ...]]:
    """Make a file or open it; returns its storage and shape.

    Raises:
        QuireError: an unknown mode, or a file that is damaged or not of the shape and format asked for.
    """
    if mode not in ("r", "r+", "w+", "c"):
        raise QuireError(f"mode must be 'r', 'r+', 'w+' or 'c', got {mode!r}")
    if mode == "w+":
        if shape is None or fmt is None:
            raise QuireError("a new file of quires needs a shape and a format")
        create(path, shape, layout(fmt))
        mode = "r+"
    storage, found = open_file(path, mode)
    held = storage.layout.format
    wanted = shape if shape is not None else found, fmt or held
    if wanted != (found, held):
        raise QuireError(
            f"quires of {wanted[1]} and shape {wanted[0]} were wanted, "
            f"the file {path} holds {held} and shape {found}"
        )
    return storage, found


def open_file(path: Path, mode: str) -> tuple[Storage, tuple[int, ...]]:
    """The storage in a file, mapped, and the shape.

    Raises:
        QuireError: not such a file, or of another length than its header says.
    """
    with path.open("rb") as file:
        head = file.read(_PLANES_AT)
    form, _ = read_header(head, _MAGIC_FILE, f"the file {path}")
    shape, _ = _read_shape(head, _SHAPE_AT)
    size = path.stat().st_size
    if size != _file_bytes(shape, form):
        raise QuireError(
            f"the file {path} of quires of {form.format} and shape {shape} must have "
            f"{_file_bytes(shape, form)} bytes, got {size}"
        )
    words: Any = np.memmap(path, "<i8", mode)  # type: ignore[call-overload]
    counters = words[_COUNTERS_AT // 8 : _COUNTERS_AT // 8 + 2]
    planes = words[_PLANES_AT // 8 :].reshape(form.digits + 1, plane_length(prod(shape)))
    return Storage(form, planes, counters), shape


def _file_bytes(shape: tuple[int, ...], layout: QuireLayout) -> int:
    return _PLANES_AT + 8 * (layout.digits + 1) * plane_length(prod(shape))
