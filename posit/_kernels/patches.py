"""The patch matrix of a convolution: codes of every window side by side.

Indices are unsigned, and rows are no views: in so short loops Numba's care for negative indices and for views' owners
costs more than the copy.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.compiled import njit

_N = numba.int64
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)


@cache
def gather(itemsize):
    """Kernel (codes, channels, first_row, rows, columns, steps, at_rows, at_columns, out, sample, line).

    Of each sample of `codes` (samples, channels, height, width) the elements (row, column) at
    i * steps[0] + at_rows[r], j * steps[1] + at_columns[s] for rows i from `first_row` on; 0 outside.  With k counting
    channels (channels[0] to channels[1]), r and s, they go to out[sample * n + line * k + i * columns + j].
    """
    kind = numba.from_dtype(np.dtype(f"i{itemsize}"))
    codes_type = numba.types.Array(kind, 4, "C", readonly=True)

    @njit(
        numba.void(codes_type, _OFFSETS, _N, _N, _N, _OFFSETS, _OFFSETS, _OFFSETS, kind[::1], _N, _N),
        nogil=True,
        cache=True,
    )
    def kernel(codes, channels, first_row, rows, columns, steps, at_rows, at_columns, out, sample, line):
        height, width = codes.shape[2], codes.shape[3]
        flat = codes.reshape(codes.size)
        down, step = steps[0], steps[1]
        for n in range(codes.shape[0]):
            k = np.int64(0)
            for c in range(channels[0], channels[1]):
                plane = (n * codes.shape[1] + c) * height
                for r in range(len(at_rows)):
                    for s in range(len(at_columns)):
                        to = n * sample + k * line
                        k += 1
                        shift = at_columns[s]
                        # columns first <= j < last lie inside
                        first = min(max(-(shift // step), np.int64(0)), columns)
                        last = min(max((width - 1 - shift) // step + 1, first), columns)
                        for i in range(first_row, first_row + rows):
                            row = i * down + at_rows[r]
                            if row < 0 or row >= height:
                                for j in range(columns):
                                    out[np.uint64(to + j)] = 0
                                to += columns
                                continue
                            at = (plane + row) * width + shift
                            for j in range(first):
                                out[np.uint64(to + j)] = 0
                            if step == 1:
                                for j in range(first, last):
                                    out[np.uint64(to + j)] = flat[np.uint64(at + j)]
                            else:
                                for j in range(first, last):
                                    out[np.uint64(to + j)] = flat[np.uint64(at + j * step)]
                            for j in range(last, columns):
                                out[np.uint64(to + j)] = 0
                            to += columns

    return kernel
