"""Exact sums and dot products of long vectors of codes, one rounding each, at memory speed.

The scheme and its proofs are in `posit._kernels.streams`.  Every thread has its own integer limbs, which are added at
the end: the same bits for every number of threads and every split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import exact_sums, panels, streams
from posit._matmul_operands import carries_products
from posit._threads import split
from posit.codec import encode, signed_storage
from posit.errors import FormatError, ShapeError
from posit.formats import Format

Codes = npt.NDArray[Any]
Limbs = npt.NDArray[np.int64]
_CHUNK = 1 << 18  #: elements of a strided vector copied at a time
_FOLDS = 8  #: panels that make it worth while to lay the rows of a narrow matrix side by side
_WINDOW = 53  #: bits of a float64's significand: what the kernels may fill


@dataclass(frozen=True)
class Total:
    """An exact sum left in limbs: 32-bit digits in int64, digit 0 of weight 2**base; folded."""

    limbs: Limbs
    base: int
    nar: bool  #: a NaR was among the terms, the limbs mean nothing
    fmt: Format

    def code(self, divisor: int = 1) -> int:
        """Code (unsigned) of the sum over `divisor` (1 to 2**31 - 1), rounded once."""
        _require_divisor(divisor)
        if self.nar:
            return self.fmt.nar
        return (
            int(_rounded(self.limbs[None], self.base, divisor, np.zeros(1, np.uint8), self.fmt)[0])
            & self.fmt.code_mask
        )


def sum_codes(codes: Codes, fmt: Format, divisor: int = 1) -> int:
    """Code (unsigned) of the exact sum of a vector of codes over an integer, rounded once.

    Args:
        codes: Shape (k,), any strides, k < 2**31; signed or unsigned dtype of the format's width.
        fmt: A format of at most 32 bits.
        divisor: 1 for the sum, k for the mean; 1 to 2**31 - 1.

    Returns:
        NaR where a code is; 0 for none.

    Raises:
        FormatError: the format is wider than 32 bits.
        ShapeError: `codes` is not a vector, or the divisor is out of range.

    >>> from posit.formats import posit16
    >>> hex(sum_codes(np.array([0x4000, 0x4000, 0x4800], np.uint16), posit16, 3))
    '0x42ab'
    """
    return total(codes, fmt).code(divisor)


def dot_codes(a: Codes, b: Codes, fmt: Format) -> int:
    """Code (unsigned) of the exact dot product of two vectors of codes, rounded once.

    Args:
        a, b: Shape (k,), any strides, k < 2**31; signed or unsigned dtype of the format's width.
        fmt: A format of at most 32 bits whose products fit float64's range.

    Returns:
        NaR where a code is; 0 for none.

    Raises:
        FormatError: the format does not fit the float64 carrier.
        ShapeError: the shapes differ or are no vectors.

    >>> from posit.formats import posit16
    >>> hex(dot_codes(np.array([0x5A00, 0x4000], np.uint16), np.array([0x4000, 0x4000], np.uint16), posit16))
    '0x5b00'
    """
    return products(a, b, fmt).code()


def squares(codes: Codes, fmt: Format) -> Total:
    """The exact sum of squares, left in limbs (for a root that rounds once)."""
    return products(codes, codes, fmt)


def products(a: Codes, b: Codes, fmt: Format) -> Total:
    """The exact dot product, left in limbs; arguments and errors as for `dot_codes`."""
    _require_carrier(fmt)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"a dot product needs two vectors of one length, got shapes {a.shape} and {b.shape}")
    left, right = as_signed(a, fmt), as_signed(b, fmt)
    kernel = streams.dot(*fmt.parameters, left.dtype)

    def run(start: int, stop: int, limbs: Limbs, base: int) -> bool:
        x = _buffers.contiguous(left[start:stop])
        y = x if left is right else _buffers.contiguous(right[start:stop])
        return bool(kernel(x, y, limbs, base, _WINDOW))

    return _over_chunks(left, right, fmt, 2, run)


def total(codes: Codes, fmt: Format) -> Total:
    """The exact sum, left in limbs; arguments and errors as for `sum_codes`."""
    _require_narrow(fmt)
    if codes.ndim != 1:
        raise ShapeError(f"a sum of a vector needs shape (k,), got {codes.shape}")
    signed = as_signed(codes, fmt)
    kernel = streams.sums(*fmt.parameters, signed.dtype)

    def run(start: int, stop: int, limbs: Limbs, base: int) -> bool:
        nar = np.zeros(1, np.uint8)
        kernel(_buffers.contiguous(signed[start:stop])[None], limbs[None], base, _WINDOW, nar)
        return bool(nar[0])

    return _over_chunks(signed, signed, fmt, 1, run)


def sums_codes(codes: Codes, axis: int, fmt: Format, divisor: int = 1) -> Codes:
    """Codes of the exact sums over one axis of a matrix of codes, each divided by an integer and rounded once.

    Args:
        codes: Shape (m, k), any strides; a matrix in C or Fortran order is read where it is, any other is copied.
            Signed or unsigned dtype of the format's width.
        axis: 1 (or -1) sums rows, 0 columns; the summed axis is shorter than 2**31.
        fmt: A format of at most 32 bits.
        divisor: 1 for sums, the axis' length for means; 1 to 2**31 - 1.

    Returns:
        Codes of shape (m,) or (k,), the dtype of `codes`; NaR where a summand is, 0 for none.

    Raises:
        FormatError: the format is wider than 32 bits.
        ShapeError: `codes` is not a matrix, or the divisor is out of range.

    >>> from posit.formats import posit16
    >>> sums_codes(np.array([[0x4000, 0x4000], [0x4800, 0]], np.uint16), 0, posit16)  # [1, 1] + [2, 0]
    array([19456, 16384], dtype=uint16)
    """
    _require_narrow(fmt)
    _require_divisor(divisor)
    if codes.ndim != 2 or axis not in (-2, -1, 0, 1):
        raise ShapeError(f"sums over an axis 0 or 1 need shape (m, k), got {codes.shape} and axis {axis}")
    _require_room(codes.shape[axis])
    if codes.flags.f_contiguous and not codes.flags.c_contiguous:
        codes, axis = codes.T, 1 - axis % 2
    stored = as_signed(_buffers.contiguous(codes), fmt)
    sums = _row_sums(stored, fmt, divisor) if axis % 2 else _column_sums(stored, fmt, divisor)
    if codes.dtype.kind == "u":
        sums &= fmt.code_mask
    return sums.astype(codes.dtype)


def _row_sums(codes: Codes, fmt: Format, divisor: int) -> Limbs:
    count, k = codes.shape
    if count == 1:  # its parts over threads
        return np.array([_signed(total(codes[0], fmt).code(divisor), fmt)], np.int64)
    out = _buffers.empty(count, np.int64)
    together = 0 < k <= panels.LONGEST and fmt.fits_float64

    def run(start: int, stop: int) -> None:
        unsettled = _buffers.full(stop - start, not together, np.uint8)
        if together:
            values = _buffers.empty(stop - start)
            panels.rows(*fmt.parameters, codes.dtype)(codes[start:stop], _WINDOW, values, unsettled)
            values[unsettled != 0] = 0.0
            out[start:stop] = _encoded(values, fmt, divisor)
        left = start + np.flatnonzero(unsettled)
        for first in range(0, len(left), streams.LANES):
            indices = left[first : first + streams.LANES]
            one_run = indices[-1] - indices[0] < len(indices)
            rows = codes[indices[0] : indices[-1] + 1] if one_run else codes[indices]
            out[indices] = _row_sums_in_limbs(rows, fmt, divisor)

    split(count, codes.size, run)
    return out


def _row_sums_in_limbs(codes: Codes, fmt: Format, divisor: int) -> Limbs:
    base, length = limb_layout(fmt, 1)
    limbs, nars = _buffers.zeros((len(codes), length), np.int64), np.zeros(len(codes), np.uint8)
    streams.sums(*fmt.parameters, codes.dtype)(codes, limbs, base, _WINDOW, nars)
    return _rounded(limbs, base, divisor, nars, fmt)


def _column_sums(codes: Codes, fmt: Format, divisor: int) -> Limbs:
    count, width = codes.shape
    if 0 < width <= streams.LANES // 4 and count >= _FOLDS * panels.PANEL:
        return _narrow_column_sums(codes, fmt, divisor)
    out = _buffers.empty(width, np.int64)
    kernel = panels.columns(*fmt.parameters, codes.dtype)
    base, length = limb_layout(fmt, 1)
    step = min(streams.LANES, max(width, 1))

    def run(start: int, stop: int) -> None:
        for first in range(start * step, min(stop * step, width), step):
            part = slice(first, min(first + step, width))
            size = part.stop - first
            limbs, nars = _buffers.zeros((size, length), np.int64), np.zeros(size, np.uint8)
            values = _buffers.zeros(size)
            in_floats = kernel(codes, 0, count, first, limbs, base, _WINDOW, nars, values)
            if in_floats and not fmt.fits_float64:  # their quotients might leave float64
                streams.add_floats(values, limbs, base)
                in_floats = False
            if in_floats:
                values[nars != 0] = np.nan
                out[part] = _encoded(values, fmt, divisor)
            else:
                out[part] = _rounded(limbs, base, divisor, nars, fmt)

    split(-(-width // step), codes.size, run)
    return out


def _narrow_column_sums(codes: Codes, fmt: Format, divisor: int) -> Limbs:
    """Few long columns: rows side by side as one wide row, over threads; the limbs of equal columns are added."""
    count, width = codes.shape
    beside = streams.LANES // width
    wide = codes[: count // beside * beside].reshape(count // beside, beside * width)
    kernel = panels.columns(*fmt.parameters, codes.dtype)
    base, length = limb_layout(fmt, 1)
    pieces: list[tuple[Limbs, npt.NDArray[np.uint8]]] = []

    def add(matrix: Codes, start: int, stop: int) -> None:
        limbs, nars = np.zeros((matrix.shape[1], length), np.int64), np.zeros(matrix.shape[1], np.uint8)
        values = np.zeros(matrix.shape[1])
        if kernel(matrix, start, stop, 0, limbs, base, _WINDOW, nars, values):
            streams.add_floats(values, limbs, base)
        parts = [slice(first, first + width) for first in range(0, matrix.shape[1], width)]
        pieces.extend((limbs[part], nars[part]) for part in parts)

    split(len(wide), codes.size, lambda start, stop: add(wide, start, stop))
    add(codes[len(wide) * beside :], 0, count % beside)
    limbs = np.array([piece[0] for piece in pieces]).sum(axis=0)
    nars = np.array([piece[1] for piece in pieces]).max(axis=0)
    return _rounded(limbs, base, divisor, nars, fmt)


def _encoded(values: npt.NDArray[np.float64], fmt: Format, divisor: int) -> Limbs:
    """Signed codes of exact sums over divisor; `values` are overwritten."""
    if divisor != 1:
        panels.quotients(values, float(divisor))
    return encode(values, fmt, signed_storage(fmt)).astype(np.int64)


def _rounded(limbs: Limbs, base: int, divisor: int, nars: npt.NDArray[np.uint8], fmt: Format) -> Limbs:
    """Signed codes of the lines of limbs over divisor."""
    out = np.empty(len(limbs), np.int64)
    streams.rounded(limbs.copy(), base, divisor, nars, *fmt.parameters, out)
    return out


def _over_chunks(
    a: Codes, b: Codes, fmt: Format, factors: int, run: Callable[[int, int, Limbs, int], bool]
) -> Total:
    """Run over threads, and within a thread over pieces short enough to be copied where they are strided."""
    _require_room(a.size)
    base, length = limb_layout(fmt, factors)
    pieces: list[Limbs] = []
    nars: list[bool] = []
    step = max(a.size, 1) if a.flags.c_contiguous and b.flags.c_contiguous else _CHUNK

    def work(start: int, stop: int) -> None:
        limbs = np.zeros(length, np.int64)
        for first in range(start, stop, step):
            if run(first, min(first + step, stop), limbs, base):
                nars.append(True)
                return
        pieces.append(limbs)

    split(a.size, a.size // 2, work)
    return Total(np.array([np.zeros(length, np.int64), *pieces]).sum(axis=0), base, bool(nars), fmt)


def sums_workspace(count: int, width: int, fmt: Format) -> int:
    """Bytes that `sums_codes` holds beside its result for `count` sums side by side, over columns of a matrix.

    With `width` 1 the sums are over rows, or over everything.
    """
    if width == 1:
        return int(20 * streams.BLOCK + 8 * streams.LANES + 17 * count)
    size: int = min(streams.LANES, count)
    _, length = limb_layout(fmt, 1)
    levels = panels.max_levels(*fmt.parameters)
    in_kernel = fmt.storage.itemsize * panels.PANEL + 12 + 8 * levels
    return int(size * (8 * length + 9 + in_kernel) + 8 * count + 4096)  # and Python's own objects


def limb_layout(fmt: Format, factors: int) -> tuple[int, int]:
    """(base, length) of limbs for sums of 2**31 products of `factors` values (1 or 2).

    A float64 may have 52 bits below its term's lowest bit (all 0), `exact_sums.SPARE` digits below that are for
    quotients; at the top are 32 bits for 2**31 terms and the sign.
    """
    base = factors * fmt.lsb_scale - 53 - 32 * exact_sums.SPARE
    top = factors * (fmt.max_scale + 1) + 32
    return base, (top - base) // 32 + 4


def as_signed(codes: Codes, fmt: Format) -> Codes:
    """The codes as signed integers of their width (a view, where the dtype is of the format's width)."""
    signed = signed_storage(fmt)
    if codes.dtype.kind in "iu" and codes.dtype.itemsize == signed.itemsize:
        return codes.view(signed)
    return codes.astype(signed)


def _signed(code: int, fmt: Format) -> int:
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def _require_narrow(fmt: Format) -> None:
    if fmt.nbits > 32:
        raise FormatError(f"{fmt} does not fit the float64 carrier of exact sums; use at most 32 bits")


def _require_carrier(fmt: Format) -> None:
    if not carries_products(fmt, fmt):
        raise FormatError(
            f"{fmt} does not fit the float64 carrier of exact products; use at most 32 bits and es <= 4"
        )


def _require_room(count: int) -> None:
    if count >= 1 << 31:
        raise ShapeError(f"exact sums have room for 2**31 - 1 terms, got {count}; add the sums of parts")


def _require_divisor(divisor: int) -> None:
    if not 1 <= divisor < 1 << 31:
        raise ShapeError(f"an exact mean divides by 1 to 2**31 - 1, got {divisor}")
