"""Exact sums of rows by index, one rounding each: the same bits for every order of the rows."""

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import segments as kernels
from posit._quire_array import QuireArray
from posit._streams import limb_layout
from posit._threads import split
from posit.codec import Codes, decode, encode, signed_storage
from posit.formats import Format

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_NONE = np.zeros(0, np.int64)
_NOTHING = np.zeros((0, 0))


def segment_sums(
    terms: Codes,
    fmt: Format,
    index: Indices,
    count: int,
    *,
    out_format: Format | None = None,
    base: Codes | None = None,
    base_format: Format | None = None,
    divisors: Indices | None = None,
) -> Codes:
    """Row g of the result is base[g] plus the exact sum of the rows of `terms` whose index is g, over divisors[g].

    Args:
        terms: Codes, shape (rows, width), any strides.
        fmt: Their format, of at most 32 bits.
        index: Shape (rows,), each from 0 to count - 1.
        count: Rows of the result.
        out_format: Format of the result; by default `fmt`.
        base: Codes, shape (count, width); by default 0.
        base_format: Their format; by default `fmt`.
        divisors: 1 to 2**31 - 1, shape (count,); by default 1.

    Returns:
        Signed codes, shape (count, width), each rounded once; NaR where a term is.

    >>> from posit.formats import posit16
    >>> segment_sums(np.array([[0x4000], [0x4000], [0x4800]], np.int16), posit16, np.array([1, 0, 1]), 2)
    array([[16384],
           [19456]], dtype=int16)
    """
    result = out_format or fmt
    width = terms.shape[1]
    values = decode(terms, fmt, np.float64)
    start = _NOTHING if base is None else decode(base, base_format or fmt, np.float64)
    over = _NONE if divisors is None else np.ascontiguousarray(divisors, np.int64)
    starts, order = _buffers.zeros(count + 1, np.int64), _buffers.empty(len(index), np.int64)
    kernels.group(np.ascontiguousarray(index, np.int64), starts, order)
    totals, marks = _buffers.empty((count, width)), _buffers.zeros((count, width), np.uint8)

    def run(begin: int, end: int) -> None:
        kernels.sums(begin, end, values, order, starts, start, over, totals, marks)

    split(count, 3 * (values.size + totals.size), run)
    if divisors is not None and not result.fits_float64:
        marks[...] = 1
    codes = encode(totals, result, signed_storage(result))
    places = np.flatnonzero(marks)
    if len(places):
        lowest, length = _limbs(fmt, base_format or fmt)
        settled = np.empty(len(places), np.int64)
        kernels.sums_in_limbs(
            places, values, order, starts, start, over, lowest, length, result.parameters, settled
        )
        codes.reshape(-1)[places] = settled
    return codes


def _limbs(fmt: Format, other: Format) -> tuple[int, int]:
    """(base, length) of limbs for sums of values of both formats."""
    bases, lengths = zip(*(limb_layout(each, 1) for each in (fmt, other)), strict=True)
    top = max(base + 32 * length for base, length in zip(bases, lengths, strict=True))
    return min(bases), -(-(top - min(bases)) // 32)


def add_rows(quires: QuireArray, index: Indices, values: Floats) -> None:
    """Add row t of the values, exact in the quires' format, to the quires of row ``index[t]``.

    Args:
        quires: Shape (count, ...).
        index: Shape (rows,), each from 0 to count - 1.
        values: Shape (rows, width), width the product of the quires' other axes; NaN is NaR.
    """
    storage, planes = quires._storage, quires._planes
    storage.require_writable()
    most = int(np.bincount(index).max()) if len(index) else 0
    storage.reserve(most)
    flat = planes.reshape(len(planes), quires.size)
    rows, where = np.ascontiguousarray(values), np.ascontiguousarray(index, np.int64)
    lsb = storage.layout.lsb
    split(
        values.shape[1],
        8 * values.size,
        lambda begin, end: kernels.add_rows(begin, end, rows, where, flat, lsb),
    )
    if not np.may_share_memory(flat, planes):
        planes[...] = flat.reshape(planes.shape)
    storage.load(most)
