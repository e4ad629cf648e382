"""Linear algebra with one rounding per result: float64 products, a proof for each element, the quire where it fails.

The scheme (bit-identical to a quire for every input):

1. *Exact by range.*  Let l_i and l_j be the lowest set bits of row i of A and column j of B.  All products and all
   their partial sums, in any order, with or without fused multiply-add, are multiples of l_i * l_j and at most
   sum |a||b| <= |A_i| |B_j| (Cauchy-Schwarz).  If that is below 2**53 * l_i * l_j, float64 made no rounding at all.
2. *Certified.*  Otherwise |fl(sum) - sum| <= gamma_k * sum |a||b| for any order of summation (Higham, Accuracy and
   Stability of Numerical Algorithms, 2nd ed., section 3.1), gamma_k = k u / (1 - k u), u = 2**-53.  If both ends of
   the interval round to the same posit, that posit is the correctly rounded sum.
3. *Structural zeros.*  A row and a column whose supports are disjoint give 0.
4. *Quire.*  What is left is summed in integer limbs and rounded once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import limbs as limb_kernels
from posit._kernels import product
from posit._threads import split
from posit.errors import FormatError, ShapeError
from posit.formats import Format

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Gemm = Callable[[Floats, Floats, Floats], object]

_INFLATE = 1.0 + 2.0**-18  # covers the rounding of the computed norms for k < 2**31, and of the bound itself


@dataclass(frozen=True)
class Tiers:
    """How the elements of an exact product were settled; the counts add up to the number of elements."""

    by_range: int = 0  #: float64 made no rounding
    certified: int = 0  #: both ends of the error interval round to the same posit
    zeros: int = 0  #: disjoint supports
    quire: int = 0  #: summed in integer limbs

    def __add__(self, other: "Tiers") -> "Tiers":
        return Tiers(
            self.by_range + other.by_range,
            self.certified + other.certified,
            self.zeros + other.zeros,
            self.quire + other.quire,
        )


@dataclass(frozen=True)
class Product:
    """Codes of an exact product and how they were found."""

    codes: Codes  #: shape (m, n), C order
    tiers: Tiers
    open: npt.NDArray[np.int64]  #: flat indices of the elements that float64 left open (zeros and quire)


@dataclass(frozen=True)
class _Operand:
    """One decoded factor as (outer, k) float64 of any strides, with what the proof needs for every outer index."""

    values: Floats
    norm: Floats
    lowest: Floats
    nar: npt.NDArray[np.uint8]


def matmul_codes(
    a: Codes, b: Codes, fmt: Format, *, addend: Codes | None = None, gemm: Gemm | None = None
) -> Product:
    """Exact product of two matrices of codes, each element rounded once.

    Args:
        a: Codes, shape (m, k), any strides; dtype of the format's width, signed or unsigned.
        b: Codes, shape (k, n), same dtype.
        fmt: Format of everything.
        addend: Codes of shape (n,), added to every row before the one rounding.
        gemm: ``gemm(x, y, out)`` writes the float64 product of two matrices; any summation order will do.

    Returns:
        Codes of shape (m, n) in C order with the dtype of `a`, and how they were settled.  NaR in a row of `a`, a
        column of `b` or an element of `addend` makes just the results it feeds NaR.  With k == 0 the result is
        `addend` or 0.

    Raises:
        FormatError: the format is wider than 32 bits or its products leave float64's range.
        ShapeError: shapes do not fit.
    """
    _require_carrier(fmt)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(f"a product needs shapes (m, k) and (k, n), got {a.shape} and {b.shape}")
    if addend is not None and addend.shape != (b.shape[1],):
        raise ShapeError(
            f"the addend of a product {a.shape} by {b.shape} needs shape ({b.shape[1]},), got {addend.shape}"
        )
    left = _decode(
        a, fmt, None if addend is None else _buffers.full(a.shape[0], 1 << (fmt.nbits - 2), a.dtype)
    )
    right = _decode(b.T, fmt, addend)
    c = _buffers.empty((a.shape[0], b.shape[1]))
    (gemm or _numpy_gemm)(left.values, right.values.T, c)
    codes = _buffers.empty(c.shape, a.dtype)
    counts = _certify(c, left, right, fmt, codes)
    undecided = np.empty(0, np.int64)
    if counts[2]:
        counts[2:] = _repair(c, left, right, fmt, codes)
        # the largest buffers go before the open elements are listed: that list is not the peak
        del left, right
        undecided = np.flatnonzero(np.isnan(c))
    return Product(codes, Tiers(*(int(count) for count in counts)), undecided)


def _numpy_gemm(x: Floats, y: Floats, out: Floats) -> object:
    return np.matmul(x, y, out=out)


def _require_carrier(fmt: Format) -> None:
    if fmt.nbits > 32 or 2 * max(fmt.max_scale, -fmt.lsb_scale) + 64 > 1020:
        raise FormatError(
            f"{fmt} does not fit the float64 carrier of exact products; use at most 32 bits and es <= 4"
        )


def _decode(codes: Codes, fmt: Format, extra: Codes | None) -> _Operand:
    """Decode (outer, k) codes in their own memory order; `extra` (outer,) becomes a last k index."""
    outer, inner = codes.shape
    width = inner + (extra is not None)
    by_row = codes.flags.c_contiguous or not codes.flags.f_contiguous
    stored = _buffers.contiguous(codes if by_row else codes.T)
    values = _buffers.empty((outer, width) if by_row else (width, outer))
    square, lowest = _buffers.zeros(outer), _buffers.full(outer, np.inf)
    nar = _buffers.zeros(outer, np.uint8)
    _decode_into(stored, values, 0, square, lowest, nar, by_row, fmt)
    if extra is not None:
        last = _buffers.contiguous(extra)
        if by_row:
            _decode_into(last[:, None], values, inner, square, lowest, nar, True, fmt)
        else:
            _decode_into(last[None, :], values[inner:], 0, square, lowest, nar, False, fmt)
    norm = np.sqrt(square, out=square)
    norm *= _INFLATE
    return _Operand(values if by_row else values.T, norm, lowest, nar)


def _decode_into(
    stored: Codes,
    values: Floats,
    offset: int,
    square: Floats,
    lowest: Floats,
    nar: npt.NDArray[np.uint8],
    by_row: bool,
    fmt: Format,
) -> None:
    kernel = product.decode(fmt.nbits, fmt.es, fmt.max_regime or 0, stored.dtype)
    rows, columns = stored.shape

    def run_rows(start: int, stop: int) -> None:
        part = slice(start, stop)
        unused = _buffers.zeros(columns, np.uint8)
        kernel(stored[part], values[part], offset, square[part], lowest[part], nar[part], unused, True)

    def run_columns(start: int, stop: int) -> None:
        part = slice(start, stop)
        unused = _buffers.zeros(stop - start, np.uint8)
        own = _buffers.zeros(columns), _buffers.full(columns, np.inf), _buffers.zeros(columns, np.uint8)
        kernel(stored[part], values[part], offset, own[0], own[1], unused, own[2], False)
        pieces.append(own)

    pieces: list[tuple[Floats, Floats, npt.NDArray[np.uint8]]] = []
    split(rows, stored.size * 2, run_rows if by_row else run_columns)
    for part_square, part_lowest, part_nar in pieces:
        square += part_square
        np.minimum(lowest, part_lowest, out=lowest)
        np.maximum(nar, part_nar, out=nar)


def _certify(c: Floats, left: _Operand, right: _Operand, fmt: Format, codes: Codes) -> npt.NDArray[np.int64]:
    kernel = product.certify(fmt.nbits, fmt.es, fmt.max_regime or 0, codes.dtype)
    k = left.values.shape[1]
    unit = 2.0**-53
    gamma = (k + 4) * unit / (1 - (k + 4) * unit) * _INFLATE
    span_left, span_right = (
        np.divide(operand.norm, operand.lowest, out=_buffers.empty(operand.norm.shape))
        for operand in (left, right)
    )
    counts: list[npt.NDArray[np.int64]] = []

    def run(start: int, stop: int) -> None:
        own = np.zeros(4, np.int64)
        kernel(
            start,
            stop,
            c,
            left.norm,
            right.norm,
            span_left,
            span_right,
            gamma,
            left.nar,
            right.nar,
            codes,
            own,
        )
        counts.append(own)

    split(c.shape[0], c.size * 4, run)
    return _total(counts)


def _total(counts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.asarray(np.sum(counts, axis=0, dtype=np.int64))


def _repair(c: Floats, left: _Operand, right: _Operand, fmt: Format, codes: Codes) -> npt.NDArray[np.int64]:
    kernel = product.repair(fmt.nbits, fmt.es, fmt.max_regime or 0, codes.dtype)
    k = left.values.shape[1]
    supports = []
    for values in (left.values, right.values):
        words = _buffers.zeros((values.shape[0], (k + 63) // 64), np.uint64)
        product.support(values, words)
        supports.append(words)
    base, length = limb_layout(fmt)
    counts: list[npt.NDArray[np.int64]] = []

    def run(start: int, stop: int) -> None:
        own = np.zeros(4, np.int64)
        limbs = np.zeros(length, np.int64)
        kernel(start, stop, c, left.values, right.values, *supports, limbs, base, codes, own)
        counts.append(own)

    split(c.shape[0], c.size, run)
    return _total(counts)[2:]


def limb_layout(fmt: Format) -> tuple[int, int]:
    """Weight (as a power of two) of limb 0 and number of 32-bit limbs of an exact accumulator of products.

    Products are written as 64-bit integers whose lowest bit may lie 62 places below their scale; 62 + 2 bits of
    room are kept at both ends, and 31 + 1 bits for carries and sign.
    """
    base = 2 * fmt.min_scale - 62
    top = 2 * fmt.max_scale + 2 + 32
    return base, (top - base) // 32 + 4


def dot_codes(a: Codes, b: Codes, fmt: Format, addend: int = 0) -> int:
    """Exact dot product of two vectors of codes in integer limbs: the plain quire, for checking the fast path.

    >>> from posit.formats import posit16
    >>> hex(dot_codes(np.array([0x5A00, 0x4000], np.uint16), np.array([0x4000, 0x4000], np.uint16), posit16))
    '0x5b00'
    """
    _require_carrier(fmt)
    base, length = limb_layout(fmt)
    limbs = np.zeros(length, np.int64)
    signed = limb_kernels.dot_codes(
        np.ascontiguousarray(a),
        np.ascontiguousarray(b),
        addend,
        limbs,
        base,
        fmt.nbits,
        fmt.es,
        fmt.max_regime or 0,
    )
    return int(signed) & fmt.code_mask
