"""Sums and means over axes of posit arrays: exact sums, rounded once; and `prod`, which cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_tuple

from posit import _explain, _streams
from posit._array import PositArray
from posit._explain import Explanation
from posit._kernels import exact_sums
from posit._operands import common_format
from posit._products import LONG, exact_product
from posit._threads import split
from posit.codec import from_int64, to_int64
from posit.formats import Format

Codes = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None

_LARGE = 1 << 15  #: elements from which sums of many rows are a matrix product


def sum(  # noqa: A001 - NumPy's name
    x: PositArray, axis: Axis = None, keepdims: bool = False, *, out_format: Format | str | None = None
) -> PositArray:
    """The exact sum over some axes or all, rounded once.

    Args:
        x: Posits of any shape.
        axis: Axis or axes summed over; None is all of them, () none.
        keepdims: Keep the summed axes, with length 1.
        out_format: Format of the result; by default that of `x`.

    Returns:
        Posits of the shape of the other axes; NaR where a summand is, 0 for none.

    Raises:
        FormatMismatch: `x` is not a posit array.
        AxisError: an axis that `x` does not have (NumPy's).

    >>> from posit.creation import array
    >>> x = array([1e9, 1.0, -1e9], "posit32")
    >>> sum(x), sum(x, out_format="posit8", keepdims=True)
    (posit.array(1.0, 'posit32'), posit.array([1.0], 'posit8'))
    """
    fmt = common_format((x,)) if out_format is None else Format.parse(out_format)
    return over_rows(x, axis, keepdims, fmt, lambda rows: _sums(rows, x.format, fmt))


def mean(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:
    """The exact mean over some axes or all, rounded once; NaR where an element is, and for no elements.

    Arguments and errors are those of `sum`.

    >>> from posit.creation import array
    >>> mean(array([1.0, 2.0, 2.0], "posit16"))
    posit.array(1.6665, 'posit16')
    """
    fmt = common_format((x,))
    return over_rows(x, axis, keepdims, fmt, lambda rows: _means(rows, fmt))


def prod(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:
    """The product over some axes or all, first to last in C order, *rounded after each factor*; 1 for none.

    A product of many posits has no exact accumulator; posit multiplication does not associate.
    """
    fmt = common_format((x,))
    return over_rows(x, axis, keepdims, fmt, lambda rows: _running_products(rows, fmt))


def over_rows(
    x: PositArray, axis: Axis, keepdims: bool, fmt: Format, reduce: Callable[[Codes], Codes]
) -> PositArray:
    """The array of one code of `fmt` for each row that `reduce` is given: (rows, k) codes in C order."""
    common_format((x,))
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    kept = [t for t in range(x.ndim) if t not in axes]
    shape = [x.shape[t] for t in kept]
    moved = x.codes.transpose(*kept, *sorted(axes))
    rows = np.ascontiguousarray(moved).reshape(
        int(np.prod(shape, dtype=np.int64)), int(np.prod([x.shape[t] for t in axes], dtype=np.int64))
    )
    final = [1 if t in axes else x.shape[t] for t in range(x.ndim)] if keepdims else shape
    return PositArray(reduce(rows).reshape(final), fmt)


def _sums(rows: Codes, fmt: Format, target: Format) -> Codes:
    """Sums of rows: as a product with ones where the formats differ or that is faster."""
    if target != fmt or (rows.size >= _LARGE and rows.shape[1] < LONG and fmt.fits_float64):
        ones = np.full((rows.shape[1], 1), 1 << (fmt.nbits - 2), fmt.storage)
        return exact_product(rows, ones, fmt, fmt, target)[:, 0]
    return _quotients(rows, 1, fmt)


def _means(rows: Codes, fmt: Format) -> Codes:
    if rows.shape[1] == 0:
        return np.full(len(rows), fmt.nar, fmt.storage)
    return _quotients(rows, rows.shape[1], fmt)


def _quotients(rows: Codes, divisor: int, fmt: Format) -> Codes:
    """Exact sums of rows, divided and rounded once."""
    _explain.record(Explanation(quire=len(rows)))
    if rows.shape[1] >= LONG and fmt.nbits <= 32:
        return np.array([_streams.sum_codes(row, fmt, divisor) for row in rows], fmt.storage)
    base = min(fmt.min_scale, 0) - 63 - 32 * exact_sums.SPARE - 64
    length = (fmt.max_scale + 34 - base) // 32 + 4
    wide, out, kernel = to_int64(rows), np.empty(len(rows), np.int64), exact_sums.sums()

    def run(start: int, stop: int) -> None:
        limbs = np.zeros(length, np.int64)
        kernel(wide[start:stop], divisor, limbs, base, out[start:stop], *fmt.parameters)

    split(len(rows), 10 * rows.size, run)
    return from_int64(out, fmt)


def _running_products(rows: Codes, fmt: Format) -> Codes:
    wide, out, kernel = to_int64(rows), np.empty(len(rows), np.int64), exact_sums.running_products()

    def run(start: int, stop: int) -> None:
        kernel(wide[start:stop], out[start:stop], *fmt.parameters)

    split(len(rows), 40 * rows.size, run)
    return from_int64(out, fmt)
