"""Matrix products added to an array of quires without any rounding, at the speed of float64 BLAS.

For row i of A let l_i be its lowest set bit, for column j of B likewise.  All products and their partial sums, in any
order, with or without fused multiply-add, are multiples of l_i l_j of magnitude at most |A_i| |B_j|, the product of
the norms (Cauchy-Schwarz).

1. *Narrow pairs*, |A_i| |B_j| < 2**53 l_i l_j: float64 BLAS makes no rounding, and its result is added to the digits.
2. *Wide pairs* are sliced (error-free transformation: Ozaki, Ogita, Oishi, Rump, Numerical Algorithms 59, 2012).
   With all elements of A_i below 2**T_i slice s holds their bits from 2**(T_i - (s + 1) u) up to 2**(T_i - s u):
   multiples of the former, less than 2**u of them.  Columns have slices of v bits.  A product of two slices is exact
   in float64 as k 2**(u + v) <= 2**53, and A_i B_j is the sum of the products of all slices.  u and v are chosen so
   that the fewest multiplications result; a row takes part only in the slices that it needs, and rows that are wide
   with most columns are sliced apart from those that are with a few.
3. Where that would cost more (few wide pairs, or hundreds of slices), and in formats that do not fit float64, the
   products go to the digits one by one.

Blocks of `_OUTER` rows and columns by `_INNER` terms bound the workspace, whatever the shapes: two decoded operands
and two slices of 8 * _OUTER * _INNER bytes each, and three results of 8 * _OUTER**2 bytes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import convert, quire_products
from posit._quire_layout import QuireLayout
from posit._quire_storage import Planes, Storage
from posit._threads import split
from posit.codec import to_signed

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_INFLATE = 1.0 + 2.0**-18  # covers the rounding of computed norms
_OUTER = 1024
_INNER = 2048
_DIRECT_COST = 150  # one product added to digits costs as much as so many multiply-adds of BLAS
_ADDS_PER_BLOCK = 1 << 16  # slices of a row times those of a column: at most 2**8 each


def add_product(planes: Planes, a: Codes, b: Codes, storage: Storage) -> None:
    """Add the product of codes (m, k) and (k, n) to planes (digits + 1, m, n); NaR to the elements it feeds."""
    layout = storage.layout
    for columns in _blocks(b.shape[1], _OUTER):
        for terms in _blocks(a.shape[1], _INNER):
            right = b[terms, columns].T
            held = None if not in_float64(layout) else _decode(right, layout)
            storage.reserve(_ADDS_PER_BLOCK)
            for rows in _blocks(a.shape[0], _OUTER):
                part = planes[:, rows, columns]
                if held is None:
                    _add_codes(part, a[rows, terms], right, layout)
                else:
                    _add_block(part, _decode(a[rows, terms], layout), held, layout)


def in_float64(layout: QuireLayout) -> bool:
    """Whether products of the format, and 2**31 times as much, are normal float64 numbers."""
    return layout.format.nbits <= 32 and layout.lsb > -960 and layout.lsb + layout.unit < 960


@dataclass(frozen=True)
class _Operand:
    """Rows of A, or columns of B as rows: exact values, 0 for NaR."""

    values: Floats
    norm: Floats  #: no less than the root of the sum of squares
    largest: Floats
    lowest: Floats
    nar: npt.NDArray[np.uint8]

    @property
    def span(self) -> Floats:
        """Norm in units of the lowest bit; 0 for a row of zeros."""
        return self.norm / self.lowest

    @property
    def tops(self) -> Indices:
        """T with every |value| < 2**T."""
        return np.frexp(self.largest)[1].astype(np.int64)

    @property
    def lengths(self) -> Indices:
        """Bits from 2**T down to the lowest."""
        lowest = np.where(self.largest > 0, self.lowest, 1.0)
        return np.where(self.largest > 0, self.tops - np.frexp(lowest)[1] + 1, 0).astype(np.int64)


def _blocks(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _decode(codes: Codes, layout: QuireLayout) -> _Operand:
    fmt = layout.format
    stored = _buffers.contiguous(codes)
    outer, inner = stored.shape
    values = _buffers.empty((outer, inner))
    square, largest, lowest = (_buffers.empty(outer) for _ in range(3))
    nar = _buffers.zeros(outer, np.uint8)
    kernel = convert.decoder(*fmt.parameters, stored.dtype, np.dtype(np.float64))

    def run(start: int, stop: int) -> None:
        rows = slice(start, stop)
        kernel(stored[rows].reshape(-1), values[rows].reshape(-1))
        quire_products.measure(values[rows], square[rows], largest[rows], lowest[rows], nar[rows])

    split(outer, 3 * stored.size, run)
    return _Operand(values, np.sqrt(square) * _INFLATE, largest, lowest, nar)


def _add_block(planes: Planes, left: _Operand, right: _Operand, layout: QuireLayout) -> None:
    planes[-1] |= left.nar[:, None] | right.nar
    spans = left.span, right.span
    groups = _wide(left, right)
    if (
        len(groups) == 1
        and groups[0].sliced
        and groups[0].rows.size * groups[0].columns.size == planes[0].size
    ):
        spans = np.full(planes.shape[1], np.inf), np.full(planes.shape[2], np.inf)  # slice narrow pairs too
    else:
        rows, columns = np.arange(planes.shape[1]), np.arange(planes.shape[2])
        _add_float64(planes, left.values @ right.values.T, rows, columns, spans, True, layout)
    for group in groups:
        if group.sliced:
            _add_slices(planes, left, right, group, spans, layout)
        else:
            _add_dots(planes, left, right, group.rows, spans, layout)


@dataclass(frozen=True)
class _Wide:
    """Rows, all columns that make a wide pair with one of them, and what to do with these pairs."""

    rows: Indices
    columns: Indices
    sliced: bool  #: else product by product
    widths: tuple[int, int]  #: u, v


def _wide(left: _Operand, right: _Operand) -> list[_Wide]:
    """At most two groups of rows: those that are wide with most columns, and those that are with a few."""
    limit, span_left, span_right = quire_products.LIMIT, left.span, right.span
    wide = span_left * span_right.max(initial=0.0) >= limit
    if not wide.any():
        return []
    ordered = np.sort(span_right)
    with np.errstate(divide="ignore"):
        pairs = len(ordered) - np.searchsorted(
            ordered, limit / span_left
        )  # of each row, give or take a rounding
    most = pairs > len(ordered) // 2
    groups = []
    for rows in (np.flatnonzero(wide & most), np.flatnonzero(wide & ~most)):
        if len(rows):
            columns = np.flatnonzero(span_right * span_left[rows].max() >= limit)
            room = 53 - (left.values.shape[1] - 1).bit_length()
            u, v, cost = _widths(left.lengths[rows], right.lengths[columns], room)
            groups.append(_Wide(rows, columns, cost <= _DIRECT_COST * int(pairs[rows].sum()), (u, v)))
    return groups


def _widths(left: Indices, right: Indices, room: int) -> tuple[int, int, int]:
    """Slice widths u + v = room that need the fewest products of rows and columns, and how many these are."""
    choices = []
    for u in range(8, room - 7):
        products = int((-(-left // u)).sum()) * int((-(-right // (room - u))).sum())
        choices.append((products, u))
    products, u = min(choices)
    return u, room - u, products


def _add_slices(
    planes: Planes,
    left: _Operand,
    right: _Operand,
    group: _Wide,
    spans: tuple[Floats, Floats],
    layout: QuireLayout,
) -> None:
    u, v = group.widths
    for rows, x in _slices(left, group.rows, u):
        for columns, y in _slices(right, group.columns, v):
            _add_float64(planes, x @ y.T, rows, columns, spans, False, layout)


def _slices(operand: _Operand, rows: Indices, width: int) -> Any:
    """The slices of some rows, one after the other: which rows have it, and its values."""
    needed, tops = -(-operand.lengths[rows] // width), operand.tops
    for number in range(int(needed.max(initial=0))):
        these = rows[needed > number]
        part = _buffers.empty((len(these), operand.values.shape[1]))
        cut = _cutter(operand.values, these, tops, width, number, part)
        split(len(these), 2 * part.size, cut)
        yield these, part


def _cutter(values: Floats, rows: Indices, tops: Indices, width: int, number: int, out: Floats) -> Any:
    def run(start: int, stop: int) -> None:
        quire_products.cut_slices(values, rows[start:stop], tops, width, number, out[start:stop])

    return run


def _add_float64(
    planes: Planes,
    c: Floats,
    rows: Indices,
    columns: Indices,
    spans: tuple[Floats, Floats],
    narrow: bool,
    layout: QuireLayout,
) -> None:
    def run(start: int, stop: int) -> None:
        part = slice(start, stop)
        quire_products.add_matrix(c[part], rows[part], columns, *spans, narrow, planes, layout.lsb)

    split(len(rows), 5 * c.size, run)


def _add_dots(
    planes: Planes,
    left: _Operand,
    right: _Operand,
    rows: Indices,
    spans: tuple[Floats, Floats],
    layout: QuireLayout,
) -> None:
    def run(start: int, stop: int) -> None:
        part = rows[start:stop]
        quire_products.add_dots(part, left.values, right.values, *spans, planes, layout.lsb)

    split(len(rows), 10 * left.values.size, run)


def _add_codes(planes: Planes, a: Codes, b: Codes, layout: QuireLayout) -> None:
    fmt = layout.format
    x, y = (_buffers.contiguous(to_signed(codes, fmt).astype(np.int64)) for codes in (a, b))

    def run(start: int, stop: int) -> None:
        parameters = fmt.parameters
        quire_products.add_code_dots(start, stop, x, y, planes, layout.lsb, *parameters)

    split(len(x), 20 * x.size * max(1, len(y)), run)
