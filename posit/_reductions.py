"""Sums, means, products and contractions of posit arrays: exact sums, rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_tuple

from posit import _matmul
from posit._array import PositArray
from posit._kernels import exact_sums
from posit._operands import common_format
from posit._threads import split
from posit.errors import ShapeError
from posit.formats import Format

Codes = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None


def sum(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:  # noqa: A001 - NumPy's name
    """The exact sum over some axes or all, rounded once; NaR where a summand is, 0 for none.

    >>> from posit.creation import array
    >>> sum(array([1e9, 1.0, -1e9], "posit32"))
    posit.array(1.0, 'posit32')
    """
    return _reduce(x, axis, keepdims, lambda rows, fmt: _sums(rows, 1, fmt))


def mean(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:
    """The exact mean over some axes or all, rounded once; NaR where an element is, and for no elements.

    >>> from posit.creation import array
    >>> mean(array([1.0, 2.0, 2.0], "posit16"))
    posit.array(1.6665, 'posit16')
    """
    return _reduce(x, axis, keepdims, _means)


def prod(x: PositArray, axis: Axis = None, keepdims: bool = False) -> PositArray:
    """The product over some axes or all, first to last in C order, *rounded after each factor*; 1 for none.

    A product of many posits has no exact accumulator; posit multiplication does not associate.
    """
    return _reduce(x, axis, keepdims, _running_products)


def _reduce(
    x: PositArray, axis: Axis, keepdims: bool, over_rows: Callable[[Codes, Format], Codes]
) -> PositArray:
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    kept = [t for t in range(x.ndim) if t not in axes]
    shape = [x.shape[t] for t in kept]
    moved = x.codes.transpose(*kept, *sorted(axes))
    rows = np.ascontiguousarray(moved).reshape(
        int(np.prod(shape, dtype=np.int64)), int(np.prod([x.shape[t] for t in axes], dtype=np.int64))
    )
    result = over_rows(rows, x.format)
    final = [1 if t in axes else x.shape[t] for t in range(x.ndim)] if keepdims else shape
    return PositArray(result.reshape(final), x.format)


def _parameters(fmt: Format) -> tuple[int, int, int]:
    return fmt.nbits, fmt.es, fmt.max_regime or 0


def _int64(codes: Codes) -> Codes:
    flat = np.ascontiguousarray(codes)
    return flat.view(np.int64) if flat.dtype == np.uint64 else flat.astype(np.int64)


def _narrow(signed: Codes, fmt: Format) -> Codes:
    return (signed & np.int64(-1 if fmt.nbits == 64 else fmt.code_mask)).astype(fmt.storage)


def _sums(rows: Codes, divisor: int, fmt: Format) -> Codes:
    base = min(fmt.min_scale, 0) - 63 - 32 * exact_sums.SPARE - 64
    length = (fmt.max_scale + 34 - base) // 32 + 4
    wide, out, kernel = _int64(rows), np.empty(len(rows), np.int64), exact_sums.sums()

    def run(start: int, stop: int) -> None:
        limbs = np.zeros(length, np.int64)
        kernel(wide[start:stop], divisor, limbs, base, out[start:stop], *_parameters(fmt))

    split(len(rows), 10 * rows.size, run)
    return _narrow(out, fmt)


def _means(rows: Codes, fmt: Format) -> Codes:
    if rows.shape[1] == 0:
        return np.full(len(rows), fmt.nar, fmt.storage)
    return _sums(rows, rows.shape[1], fmt)


def _running_products(rows: Codes, fmt: Format) -> Codes:
    wide, out, kernel = _int64(rows), np.empty(len(rows), np.int64), exact_sums.running_products()

    def run(start: int, stop: int) -> None:
        kernel(wide[start:stop], out[start:stop], *_parameters(fmt))

    split(len(rows), 40 * rows.size, run)
    return _narrow(out, fmt)


def _product(a: Codes, b: Codes, fmt: Format) -> Codes:
    """Exact product of (m, k) and (k, n) codes in whichever way serves the format."""
    if fmt.nbits <= 32 and 2 * max(fmt.max_scale, -fmt.lsb_scale) + 64 <= 1020:
        return _matmul.matmul_codes(a, b, fmt).codes
    base = 2 * fmt.min_scale - 128
    length = (2 * fmt.max_scale + 36 - base) // 32 + 4
    left, right = _int64(a), _int64(b.T)
    out, kernel = np.empty((a.shape[0], b.shape[1]), np.int64), exact_sums.products()

    def run(start: int, stop: int) -> None:
        limbs = np.zeros(length, np.int64)
        kernel(left[start:stop], right, limbs, base, out[start:stop], *_parameters(fmt))

    split(len(left), 50 * left.size * out.shape[1], run)
    return _narrow(out, fmt)


def matmul(a: PositArray, b: PositArray) -> PositArray:
    """The matrix product of NumPy's `matmul`, each element an exact sum rounded once.

    Args:
        a: Shape (..., m, k) or (k,).
        b: Shape (..., k, n) or (k,); leading axes broadcast.

    Raises:
        FormatMismatch: the formats differ.
        ShapeError: the shapes do not fit, or one is a scalar.
    """
    fmt = common_format((a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul needs at least one axis, got shapes {a.shape} and {b.shape}; scale with a * b"
        )
    left = a.codes[None, :] if a.ndim == 1 else a.codes
    right = b.codes[:, None] if b.ndim == 1 else b.codes
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(f"matmul needs (..., m, k) and (..., k, n), got {a.shape} and {b.shape}")
    result = _batched(left, right, fmt)
    if a.ndim == 1:
        result = result[..., 0, :]
    if b.ndim == 1:
        result = result[..., 0]
    return PositArray(np.asarray(result), fmt)


def _batched(left: Codes, right: Codes, fmt: Format) -> Codes:
    if left.ndim == 2 and right.ndim == 2:
        return _product(left, right, fmt)
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"batches {left.shape[:-2]} and {right.shape[:-2]} do not broadcast together"
        ) from None
    left, right = (
        np.broadcast_to(left, batch + left.shape[-2:]),
        np.broadcast_to(right, batch + right.shape[-2:]),
    )
    result = np.empty((*batch, left.shape[-2], right.shape[-1]), fmt.storage)
    for index in np.ndindex(*batch):
        result[index] = _product(left[index], right[index], fmt)
    return result


def dot(a: PositArray, b: PositArray) -> PositArray:
    """NumPy's `dot`: sums of products over the last axis of `a` and the last but one of `b`, rounded once."""
    if a.ndim == 0 or b.ndim == 0:
        return a * b  # type: ignore[no-any-return]
    if a.ndim <= 2 and b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)))


def tensordot(a: PositArray, b: PositArray, axes: Any = 2) -> PositArray:
    """NumPy's `tensordot`, each element an exact sum rounded once."""
    fmt = common_format((a, b))
    if isinstance(axes, int | np.integer):
        over_a, over_b = tuple(range(a.ndim - int(axes), a.ndim)), tuple(range(int(axes)))
    else:
        over_a, over_b = normalize_axis_tuple(axes[0], a.ndim), normalize_axis_tuple(axes[1], b.ndim)
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ShapeError(
            f"tensordot over axes {over_a} of {a.shape} and {over_b} of {b.shape}: lengths differ"
        )
    rest_a = [i for i in range(a.ndim) if i not in over_a]
    rest_b = [i for i in range(b.ndim) if i not in over_b]
    k = int(np.prod([a.shape[i] for i in over_a], dtype=np.int64))
    m = int(np.prod([a.shape[i] for i in rest_a], dtype=np.int64))
    n = int(np.prod([b.shape[i] for i in rest_b], dtype=np.int64))
    left = a.codes.transpose(*rest_a, *over_a).reshape(m, k)
    right = b.codes.transpose(*over_b, *rest_b).reshape(k, n)
    shape = [a.shape[i] for i in rest_a] + [b.shape[i] for i in rest_b]
    return PositArray(_product(left, right, fmt).reshape(shape), fmt)
