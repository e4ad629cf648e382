"""Philox4x32-10, a counter-based generator: which elements dropout keeps is a function of their place alone.

Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
"""

from functools import cache

import numba
import numpy as np

from posit._kernels.compiled import njit

_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_BLOCK = 256


@njit(forceinline=True)
def philox(c0, c1, c2, c3, k0, k1):
    """Four random 32-bit words (as uint64) of a counter of four words and a key of two."""
    for _ in range(10):
        first = _M0 * c0
        second = _M1 * c2
        c0 = (second >> _WORD) ^ c1 ^ k0
        c1 = second & _LOW
        c2 = (first >> _WORD) ^ c3 ^ k1
        c3 = first & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@cache
def dropper(storage):
    """Kernel (codes, samples, key, call, limit, nar): 0 in place of the codes that are dropped.

    `codes` has a row for each of `samples`. Element e of a row is kept where word e % 4 of the generator, at the
    counter (e // 4, call, sample) and the key, is below `limit`; NaR is kept always.
    """
    changed = numba.from_dtype(np.dtype(storage))[:, ::1]
    u = numba.uint64
    given = numba.types.Array(u, 1, "C", readonly=True)

    @njit(numba.void(changed, given, u, u, u, numba.from_dtype(np.dtype(storage))), nogil=True, cache=True)
    def kernel(codes, samples, key, call, limit, nar):
        rows, width = codes.shape
        k0, k1 = key & _LOW, key >> _WORD
        call &= _LOW
        keep = np.empty((_BLOCK, 4), np.bool_)
        for row in range(rows):
            c2, c3 = samples[row] & _LOW, samples[row] >> _WORD
            for start in range(0, width, 4 * _BLOCK):
                length = min(4 * _BLOCK, width - start)
                for block in range((length + 3) // 4):
                    w0, w1, w2, w3 = philox(np.uint64(start // 4 + block), call, c2, c3, k0, k1)
                    keep[block, 0] = w0 < limit
                    keep[block, 1] = w1 < limit
                    keep[block, 2] = w2 < limit
                    keep[block, 3] = w3 < limit
                kept = keep.reshape(-1)
                for e in range(length):
                    code = codes[row, start + e]
                    codes[row, start + e] = code if kept[e] | (code == nar) else 0

    return kernel
