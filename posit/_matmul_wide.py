"""Exact products of formats that float64 does not carry: everything in integer limbs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from posit._kernels import exact_sums
from posit._matmul_operands import Formats
from posit._threads import split
from posit.codec import to_int64

Codes = npt.NDArray[np.integer]


def multiply_wide(
    a: Codes, b: Codes, addend: Codes | None, batch: tuple[int, ...], wanted: Formats, codes: Codes
) -> npt.NDArray[np.int64]:
    """Write the products to `codes` (*batch, m, n), each sum through the quire; counts by tier."""
    m, n = codes.shape[-2:]
    kernel = exact_sums.products()
    left = to_int64(np.broadcast_to(a, (*batch, *a.shape[-2:])))
    right = to_int64(np.broadcast_to(b, (*batch, *b.shape[-2:])).swapaxes(-1, -2))
    added = to_int64(np.zeros(codes.shape, np.int64) if addend is None else addend)
    shape = wanted.left[:3], wanted.right[:3], wanted.result[:3]
    for index in np.ndindex(*batch):
        out = np.empty((m, n), np.int64)

        def run(start: int, stop: int, at: tuple[int, ...] = index, out: Any = out) -> None:
            limbs = np.zeros(wanted.length, np.int64)
            part = slice(start, stop)
            kernel(left[at][part], right[at], added[at][part], limbs, wanted.base, out[part], *shape)

        split(m, 50 * left[index].size * n, run)
        codes[index] = (out & wanted.mask).astype(codes.dtype)
    return np.array([0, 0, 0, 0, codes.size], np.int64)
