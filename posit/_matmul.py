"""Exact matrix products: float64 products, a proof for each element, and an exact sum where the proof fails.

The scheme (bit-identical to a quire for every input):

1. *Exact by range.*  Let all elements of row i of A and of column j of B be multiples of the powers of two l_i and
   l_j: the last fraction bits that the format has at their smallest magnitudes.  All products and all their partial
   sums, in any order, with or without fused multiply-add, are multiples of l_i * l_j and at most
   sum |a||b| <= |A_i| |B_j| (Cauchy-Schwarz).  If that is below 2**53 * l_i * l_j, float64 made no rounding at all.
2. *Certified.*  Otherwise |fl(sum) - sum| <= gamma_d * sum |a||b| for any order of summation in which no term passes
   through more than d operations (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1),
   gamma_d = d u / (1 - d u), u = 2**-53.  If both ends of the interval round to the same posit, that posit is the
   correctly rounded sum.
3. *Compensated.*  What is left is summed again with the rounding error of every operation beside it, and certified
   with the far smaller bound of `posit._kernels.settle`.  A row and a column whose supports are disjoint give 0.
4. *Quire.*  The rest, sums within 2**-52 of a rounding boundary or cancelled as far, goes through integer limbs.
"""

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._explain import Explanation
from posit._kernels import small
from posit._matmul_operands import Factor, Task, batch_shape, factor, formats
from posit._matmul_tiles import multiply_tiles, tiling
from posit._matmul_wide import multiply_wide
from posit._threads import split
from posit.codec import decode
from posit.errors import ShapeError
from posit.formats import Format

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Gemm = Callable[[Floats, Floats, Floats], object]

_SMALL = 1 << 19  #: multiply-adds of a product that one kernel does better than a BLAS and three
_CALL = 1024  #: bytes of limbs, counts and Python's own objects in a call: measured, not counted
_slack = 1.0  #: scales the proven error bounds; below 1 in tests that want to see wrong results


class Product(NamedTuple):
    """Codes of an exact product and how they were found."""

    codes: Codes  #: C order
    counts: npt.NDArray[np.int64]  #: of elements by tier
    open: npt.NDArray[np.int64] | None  #: flat indices of what float64 left open, in order, if asked for

    @property
    def tiers(self) -> Explanation:
        """How the elements were settled."""
        return Explanation(*self.counts.tolist())


def matmul_codes(
    a: Codes,
    b: Codes,
    fmt: Format,
    *,
    right_format: Format | None = None,
    out_format: Format | None = None,
    addend: Codes | None = None,
    gemm: Gemm | None = None,
    find_open: bool = False,
    workspace: int | None = None,
) -> Product:
    """Exact product of matrices of codes, each element rounded once.

    Args:
        a: Codes, shape (..., m, k), any strides; dtype of the format's width, signed or unsigned.
        b: Codes, shape (..., k, n); leading axes broadcast.  Factors whose rows or columns are contiguous are read
            where they are; others are copied, as codes.
        fmt: Format of `a`.
        right_format: Format of `b`; by default `fmt`.
        out_format: Format of the result and the addend; by default `fmt`.
        addend: Codes that broadcast to the result, added before the one rounding.
        gemm: ``gemm(x, y, out)`` writes the float64 product of two matrices; any summation order will do.
        find_open: Whether to list the elements that float64 left open.
        workspace: Most bytes of decoded tiles; by default `posit._matmul_tiles.WORKSPACE` (16 MiB).

    Returns:
        Codes of shape (..., m, n) in C order, signed if those of `a` are, and how they were settled.  NaR in a row of
        `a`, a column of `b` or an element of `addend` makes just the results it feeds NaR.  With k == 0 the result is
        `addend` or 0.

    Raises:
        ShapeError: shapes do not fit.
    """
    wanted = formats(fmt, right_format or fmt, out_format or fmt, a.dtype.kind == "i")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"a product needs shapes (..., m, k) and (..., k, n), got {a.shape} and {b.shape}")
    batch = batch_shape(a.shape, b.shape)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    shape = (*batch, m, n)
    codes = _buffers.empty(shape, wanted.dtype)
    if addend is not None and addend.shape != shape:
        addend = _spread(addend, shape)
    opened: list[npt.NDArray[np.int64]] | None = [] if find_open else None
    if not codes.size or not k:
        codes[...] = 0 if addend is None else addend
        counts = np.array([codes.size, 0, 0, 0, 0])
    elif not wanted.in_carrier:
        counts = multiply_wide(a, b, addend, batch, wanted, codes)
    else:
        task = Task(
            _placed(a, batch), _placed(b, batch), addend, out_format or fmt, prod(batch), m, k, n, wanted, codes,
            opened, _slack,
        )  # fmt: skip
        if wanted.left == wanted.right and _is_small(m, k, n):
            counts = _multiply_small(task)
        else:
            counts = multiply_tiles(task, gemm or _numpy_gemm, workspace)
    found = None if opened is None else (np.concatenate(opened) if opened else np.empty(0, np.int64))
    return Product(codes, counts, found)


def _is_small(m: int, k: int, n: int) -> bool:
    """Whether one kernel makes the product; its inner loop runs over n."""
    return k > 0 and m * k * n <= _SMALL and (n >= 8 or m * k * n <= 4096)


def matmul_workspace(m: int, k: int, n: int) -> int:
    """Bytes that the product of two matrices holds beside operands and result, where float64 settles every element.

    >>> matmul_workspace(1024, 1024, 1024) < 17 << 20
    True
    """
    if _is_small(m, k, n):
        return 8 * sum(_room(m, k, n)) + m + 10 * n + 12 * max(m, k, n) + _CALL
    tiles = tiling(m, k, n)
    line = max(tiles.rows, tiles.depth, tiles.columns)
    return 8 * tiles.doubles + 17 * (tiles.rows + tiles.columns) + 12 * line + _CALL


def _numpy_gemm(x: Floats, y: Floats, out: Floats) -> object:
    return np.matmul(x, y, out=out)


def _spread(addend: Codes, shape: tuple[int, ...]) -> Codes:
    try:
        return np.broadcast_to(addend, shape)
    except ValueError:
        raise ShapeError(
            f"the addend of a product of shape {shape} must broadcast to it, got {addend.shape}"
        ) from None


def _placed(codes: Codes, batch: tuple[int, ...]) -> Factor:
    """The factor with a place for every product of the batch."""
    made = factor(codes)
    own = codes.shape[:-2]
    if own == batch:
        return made
    places = np.broadcast_to(made.places.reshape(own), batch).ravel()
    return Factor(made.codes, places, made.row, made.step)


def _multiply_small(task: Task) -> npt.NDArray[np.int64]:
    left, right, wanted, m, k, n = task.left, task.right, task.formats, task.m, task.k, task.n
    kernel = wanted.small.get(task.addend is not None)
    if kernel is None:
        kernel = small.multiply_small(wanted.left, wanted.result, task.addend is not None)
        wanted.small[task.addend is not None] = kernel
    marks = _UNMARKED if task.opened is None else _buffers.zeros(task.codes.size, np.uint8)
    added, places, row = _decoded(task.addend, task.out_format, task.items)
    floats, integers = _room(m, k, n)
    flat, bound = task.flat, task.error_bound(k)
    parts: list[npt.NDArray[np.int64]] = []

    def run(start: int, stop: int) -> None:
        counts = np.zeros(5, np.int64)
        kernel(
            start, stop, left.codes, left.places, left.row, left.step, right.codes, right.places, right.row,
            right.step, added, places, row, m, k, n, flat, wanted.mask, _buffers.empty(floats),
            _buffers.empty(integers + wanted.length, np.int64), wanted.base, bound, task.slack, marks, counts,
        )  # fmt: skip
        parts.append(counts)

    if task.items == 1:
        run(0, 1)
    else:
        split(task.items, task.items * (m * k * n // 16 + 2 * (m * k + k * n + m * n)), run)
    if task.opened is not None:
        task.opened.append(np.flatnonzero(marks))
    return parts[0] if len(parts) == 1 else np.asarray(np.sum(parts, axis=0))


@lru_cache(maxsize=256)
def _room(m: int, k: int, n: int) -> tuple[int, int]:
    floats, integers = small.room(m, k, n)
    return floats, integers


_UNMARKED = np.zeros(0, np.uint8)
_NOTHING = np.zeros(0), np.zeros(1, np.int64), 0


def _decoded(addend: Codes | None, fmt: Format, items: int) -> tuple[Floats, npt.NDArray[np.int64], int]:
    """Addends as flat float64 rows, the place of each product's first and how far apart they are; NaN for NaR.

    Only what differs is decoded, but for rows of equal numbers.
    """
    if addend is None:
        return _NOTHING
    least = addend[tuple(slice(None) if stride else slice(1) for stride in addend.strides[:-1])]
    values: Floats = decode(np.ascontiguousarray(least), fmt).astype(np.float64, copy=False)
    row = addend.shape[-1] if addend.strides[-2] else 0
    numbers = np.arange(0, values.size, values.shape[-1] * values.shape[-2], dtype=np.int64)
    places = np.broadcast_to(numbers.reshape(values.shape[:-2]), addend.shape[:-2]).reshape(items)
    return values.reshape(-1), np.ascontiguousarray(places), row


def dot_codes(a: Codes, b: Codes, fmt: Format, addend: int = 0) -> int:
    """Exact dot product of two vectors of codes in integer limbs: the plain quire, for checking the fast path.

    >>> from posit.formats import posit16
    >>> hex(dot_codes(np.array([0x5A00, 0x4000], np.uint16), np.array([0x4000, 0x4000], np.uint16), posit16))
    '0x5b00'
    """
    wanted = formats(fmt, fmt, fmt, False)
    out = np.empty((1, 1), fmt.storage)
    multiply_wide(a[None, :], b[:, None], np.full((1, 1), addend, fmt.storage), (), wanted, out)
    return int(out[0, 0])
