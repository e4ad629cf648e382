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
from math import prod

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._matmul_operands import Factor, Product, Task, batch_shape, factor, formats
from posit._matmul_small import is_small, multiply_one, multiply_small, room
from posit._matmul_tiles import multiply_tiles, tiling
from posit._matmul_wide import multiply_wide
from posit.errors import ShapeError
from posit.formats import Format

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Gemm = Callable[[Floats, Floats, Floats], object]

_CALL = 1024  #: bytes of limbs, counts and Python's own objects in a call: measured, not counted
_slack = 1.0  #: scales the proven error bounds; below 1 in tests that want to see wrong results


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
    if (
        wanted.alike
        and addend is None
        and not find_open
        and a.ndim == b.ndim == 2
        and a.shape[1] == b.shape[0]
    ):
        product = multiply_one(a, b, wanted, _slack)
        if product is not None:
            return product
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
        if wanted.left == wanted.right and is_small(m, k, n):
            counts = multiply_small(task)
        else:
            counts = multiply_tiles(task, gemm or _numpy_gemm, workspace)
    found = None if opened is None else (np.concatenate(opened) if opened else np.empty(0, np.int64))
    return Product(codes, counts, found)


def matmul_workspace(m: int, k: int, n: int) -> int:
    """Bytes that the product of two matrices holds beside operands and result, where float64 settles every element.

    >>> matmul_workspace(1024, 1024, 1024) < 17 << 20
    True
    """
    if is_small(m, k, n):
        return 8 * sum(room(m, k, n)) + m + 10 * n + 12 * max(m, k, n) + _CALL
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
