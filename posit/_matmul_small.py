"""Products that one kernel makes from codes to codes: a call of BLAS and of three kernels would cost more than they."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._blas import gemm_address
from posit._kernels import small
from posit._matmul_operands import Codes, Formats, Product, Task, error_bound
from posit._threads import split
from posit.codec import decode
from posit.formats import Format

Floats = npt.NDArray[np.float64]

MOST = 1 << 19  #: multiply-adds of a product that one kernel does better than a BLAS and three


def is_small(m: int, k: int, n: int) -> bool:
    """Whether one kernel makes the product; its inner loop runs over n."""
    return 0 < m * k * n <= MOST and (n >= 8 or m * k * n <= 4096)


def multiply_one(a: Codes, b: Codes, wanted: Formats, slack: float) -> Product | None:
    """The product of two matrices of one format in C or Fortran order; None where they are not, or not small."""
    m, k = a.shape
    n = b.shape[1]
    if not is_small(m, k, n):
        return None
    turned_a, turned_b = 0 if a.flags.c_contiguous else 1, 0 if b.flags.c_contiguous else 1
    if (turned_a and not a.flags.f_contiguous) or (turned_b and not b.flags.f_contiguous):
        return None
    kernel = wanted.small.get("one")
    if kernel is None:
        signed = wanted.dtype.kind == "i"
        kernel = small.multiply_one(
            wanted.left, wanted.result, signed, wanted.mask, wanted.base, wanted.length
        )
        wanted.small["one"] = kernel
    codes = _buffers.empty((m, n), wanted.dtype)
    work = _buffers.empty(sum(room(m, k, n)) + wanted.length + 5)
    kernel(a, b, turned_a, turned_b, codes, work, slack * error_bound(k), slack, gemm_address())
    return Product(codes, work[-5:].view(np.int64), None)


def multiply_small(task: Task) -> npt.NDArray[np.int64]:
    """Write the results of a batch of small products; how the elements were settled."""
    left, right, wanted, m, k, n = task.left, task.right, task.formats, task.m, task.k, task.n
    name = "many" if task.addend is None else "many, added"
    kernel = wanted.small.get(name)
    if kernel is None:
        kernel = small.multiply_small(wanted.left, wanted.result, task.addend is not None)
        wanted.small[name] = kernel
    marks = _UNMARKED if task.opened is None else _buffers.zeros(task.codes.size, np.uint8)
    added, places, row = _decoded(task.addend, task.out_format, task.items)
    floats, integers = room(m, k, n)
    flat, bound, gemm = task.flat, task.error_bound(k), gemm_address()
    parts: list[npt.NDArray[np.int64]] = []

    def run(start: int, stop: int) -> None:
        counts = np.zeros(5, np.int64)
        kernel(
            start, stop, left.codes, left.places, left.row, left.step, right.codes, right.places, right.row,
            right.step, added, places, row, m, k, n, flat, wanted.mask, _buffers.empty(floats),
            _buffers.empty(integers + wanted.length, np.int64), wanted.base, bound, task.slack, marks, counts,
            gemm,
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
def room(m: int, k: int, n: int) -> tuple[int, int]:
    """How many float64 and int64 a small product needs beside its operands."""
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
