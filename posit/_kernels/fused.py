"""alpha * x + y on arrays of codes, alpha a float64: formed exactly and rounded once.

A plain fused multiply-add would not do, and not rarely: with alpha = 0.9 every x that is a multiple of 5 gives a float
whose last bits are 0, often a boundary between posits, while the exact sum is not.  So sums are rounded to odd.

Two ways.  Where every format is one of `posit._kernels.lanes`, sums go to float32 (`odd.fma32`) and are encoded there,
twice as many per vector; else they stay in float64 (`odd.fma`).  Both work in blocks that fit the first cache, one
loop per stage, over slices: LLVM vectorises a loop only where it writes nothing that it reads and where an index
cannot be negative.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, lanes, odd
from posit._kernels.codec import code_mask, from_float
from posit._kernels.compiled import njit

_BLOCK = 1024


@njit(forceinline=True)
def _values(codes, out, n, es, rs, lane):
    """Exact values of a block of codes."""
    for t in range(len(codes)):
        out[t] = carrier.decode(codes[t], n, es, rs, lane)


@njit(forceinline=True)
def _sum32(alpha, x, y, total, out, n, es, rs, smallest, largest):
    """Sums alpha * x + y in codes, by way of float32 rounded to odd."""
    for t in range(len(out)):
        total[t] = odd.fma32(alpha, np.float64(x[t]), np.float64(y[t]))
    for t in range(len(out)):
        out[t] = lanes.from_float32(total[t], n, es, rs, np.int32(smallest), np.int32(largest))


@njit(forceinline=True)
def _sum64(alpha, x, y, out, n, es, rs):
    """Sums alpha * x + y in codes, by way of float64 rounded to odd."""
    for t in range(len(out)):
        out[t] = from_float(odd.fma(alpha, x[t], y[t]), n, es, rs)


def _readonly(storage):
    return numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)


def in_lanes(*formats):
    """Whether `axpy` and `momentum_step` may work in float32 for these (n, es, rs)."""
    return all(lanes.serves(*each) for each in formats)


@cache
def axpy(x_format, y_format, format_, x_storage, y_storage, storage, lane):
    """Kernel (alpha, scale, x, y, out): out = alpha * x + scale * y, scale a power of two.  NaR in, NaR out.

    `out` may be `x` or `y` where it has their dtype.  `lane`: by way of float32, with scale = 1.
    """
    signature = numba.void(
        numba.float64,
        numba.float64,
        _readonly(x_storage),
        _readonly(y_storage),
        numba.from_dtype(storage)[::1],
    )
    n, es, rs = format_
    xn, xes, xrs = x_format
    yn, yes, yrs = y_format
    mask, dtype = code_mask(n, storage), np.dtype(np.int32 if n > 16 else np.int16)
    _, smallest, largest = carrier.constants(n, es, rs)
    x_small, y_small = lanes.serves(*x_format), lanes.serves(*y_format)
    real = np.float32 if lane else np.float64

    @njit(signature, nogil=True, cache=True)
    def kernel(alpha, scale, x, y, out):
        block = np.empty(_BLOCK, dtype)
        left, right, total = np.empty(_BLOCK, real), np.empty(_BLOCK, real), np.empty(_BLOCK, np.float32)
        for start in range(0, len(x), _BLOCK):
            part = out[start : start + _BLOCK]
            codes = block[: len(part)]
            _values(x[start : start + _BLOCK], left, xn, xes, xrs, x_small)
            _values(y[start : start + _BLOCK], right, yn, yes, yrs, y_small)
            if lane:
                _sum32(alpha, left, right, total, codes, n, es, rs, smallest, largest)
            else:
                if scale != 1.0:
                    right *= scale
                _sum64(alpha, left, right, codes, n, es, rs)
            for t in range(len(part)):
                part[t] = np.int64(codes[t]) & mask

    return kernel


@cache
def momentum_step(grad_format, held_format, format_, grad_storage, held_storage, storage, lane):
    """Kernel (mu, scale, lr, grad, held, weights), in place: held = mu * held + scale * grad; weights -= lr * held.

    Each is formed exactly and rounded once, as two calls of `axpy` would, in one pass.
    """
    changed = numba.from_dtype(held_storage)[::1], numba.from_dtype(storage)[::1]
    signature = numba.void(numba.float64, numba.float64, numba.float64, _readonly(grad_storage), *changed)
    n, es, rs = format_
    hn, hes, hrs = held_format
    gn, ges, grs = grad_format
    held_mask, mask = code_mask(hn, held_storage), code_mask(n, storage)
    held_dtype, dtype = (np.dtype(np.int32 if bits > 16 else np.int16) for bits in (hn, n))
    small, smallest, largest = carrier.constants(n, es, rs)
    held_small, held_smallest, held_largest = carrier.constants(hn, hes, hrs)
    grad_small = lanes.serves(*grad_format)
    real = np.float32 if lane else np.float64

    @njit(signature, nogil=True, cache=True)
    def kernel(mu, scale, lr, grad, held, weights):
        held_block, block = np.empty(_BLOCK, held_dtype), np.empty(_BLOCK, dtype)
        left, right, total = np.empty(_BLOCK, real), np.empty(_BLOCK, real), np.empty(_BLOCK, np.float32)
        for start in range(0, len(grad), _BLOCK):
            held_part, part = held[start : start + _BLOCK], weights[start : start + _BLOCK]
            held_codes, codes = held_block[: len(part)], block[: len(part)]
            _values(held_part, left, hn, hes, hrs, held_small)
            _values(grad[start : start + _BLOCK], right, gn, ges, grs, grad_small)
            if lane:
                _sum32(mu, left, right, total, held_codes, hn, hes, hrs, held_smallest, held_largest)
            else:
                if scale != 1.0:
                    right *= scale
                _sum64(mu, left, right, held_codes, hn, hes, hrs)
            _values(held_codes, left, hn, hes, hrs, held_small)
            _values(part, right, n, es, rs, small)
            if lane:
                _sum32(-lr, left, right, total, codes, n, es, rs, smallest, largest)
            else:
                _sum64(-lr, left, right, codes, n, es, rs)
            for t in range(len(part)):
                held_part[t] = np.int64(held_codes[t]) & held_mask
            for t in range(len(part)):
                part[t] = np.int64(codes[t]) & mask

    return kernel
