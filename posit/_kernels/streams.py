"""Exact sums and dot products of long vectors: blocks decoded to floats, added without rounding, poured into limbs.

A block has at most BLOCK elements.  Its `extent` gives top and bottom: every term x is a multiple of 2**bottom, and
|x| <= 2**top (for products, the sums of the factors' tops and bottoms).  `WINDOW` = 53 is the width of a float64's
significand, and enters every kernel as the argument `bits` so that a test can see that it is what protects.

*Exact by range.*  Sums of up to 2**b such terms are multiples of 2**bottom and at most 2**(top + b): where top + b -
bottom <= 53 every one of them is a float64, in any order of addition.

*Extraction* (Rump, Ogita and Oishi, Accurate floating-point summation part I, 2008, ExtractVector).  Otherwise let
unit = 2**(top + b - 53) and sigma = 1.5 * 2**52 * unit.  For |x| <= 2**top <= sigma / 6 (b >= 2), sigma + x lies in
[2**52, 2**53] * unit, where float64 are the multiples of unit: q = (sigma + x) - sigma is x rounded to a multiple of
unit, exactly, and x - q is exact, a multiple of 2**bottom and at most unit / 2.  |q| <= 2**top, so the sum of 2**b
such q is at most 2**53 * unit: exact in any order.  The rest is treated again with top + b - 54 for top, until it is
exact by range.  Each level gains 54 - b >= 42 bits (b <= 12), so it ends.

No loop that extracts is compiled with fast-math flags; only `total` is, whose additions are all exact by the above.

Products of two posits of n <= 32 bits may have up to 60 bits.  Where they may exceed 53, the first level extracts
from the exact product by fused multiply-add: q = fma(x, y, sigma) - sigma, rest = fma(x, y, -q), exact where
top + b - 54 - bottom <= 53, since the rest is a multiple of 2**bottom and at most unit / 2.  Beyond that, the
product is split into x * y rounded and its error, fma(x, y, -fl(x * y)), which is at most 2**(top - 53); both are
multiples of 2**bottom.

A block adds at most 2 * (2 * 1020 / 42 + 2) = 101 numbers to a limb, so limbs need no fold within 2**22 blocks.
"""

from functools import cache

import numba
import numpy as np

import posit._kernels.swift as swift
from posit._kernels.compiled import njit
from posit._kernels.exact_sums import divide
from posit._kernels.extent import bounds, extent
from posit._kernels.intrinsics import bits_float, float_bits, fma64
from posit._kernels.limbs import add, fold, to_code

WINDOW = 53
LANES = 256  #: sums kept side by side, so that an addition is a vector operation without reordering
ROWS = 8
BLOCK = ROWS * LANES
_BLOCKS_BEFORE_FOLD = 1 << 22
_LIMBS = numba.int64[::1]


@njit
def add_float(limbs, base, x):
    """Add a normal float64 or 0 exactly; digit 0 has weight 2**base, base at most 52 below its last bit."""
    bits = float_bits(x)
    field = (bits >> 52) & 0x7FF
    if field != 0:
        significand = (bits & np.int64(0xFFFFFFFFFFFFF)) | (np.int64(1) << 52)
        add(limbs, bits < 0, np.uint64(significand), field - 1075 - base)


@njit(numba.void(numba.float64[::1], numba.int64[:, ::1], numba.int64), cache=True)
def add_floats(values, limbs, base):
    """Add each float64 to its line of limbs."""
    for i in range(len(values)):
        add_float(limbs[i], base, values[i])


@njit(fastmath={"reassoc", "nsz"})
def total(x):
    """Sum in any order: for terms of which every partial sum is exact."""
    result = 0.0
    for t in range(len(x)):
        result += x[t]
    return result


@njit(forceinline=True)
def sigma_of(top, b, bits):
    """1.5 * 2**52 units of 2**(top + b - bits)."""
    return bits_float(((top + b - bits + 52 + 1023) << 52) | (np.int64(1) << 51))


@njit
def extract(x, rows, sigma, lanes):
    """Leave x - q in x and the sums of q over rows in `lanes`."""
    for j in range(LANES):
        lanes[j] = 0.0
    for r in range(rows):
        row = x[r * LANES : (r + 1) * LANES]
        for j in range(LANES):
            value = row[j]
            part = (sigma + value) - sigma
            row[j] = value - part
            lanes[j] += part


@njit
def pour(x, rows, lanes, top, bottom, bits, limbs, base):
    """Add the first rows * LANES elements of x to the limbs, in as many levels as it takes; x is destroyed."""
    b = 8
    while (1 << b) < rows * LANES:
        b += 1
    while top + b - bits > bottom:
        extract(x, rows, sigma_of(top, b, bits), lanes)
        add_float(limbs, base, total(lanes))
        top += b - bits - 1
    add_float(limbs, base, total(x[: rows * LANES]))


@njit
def pour_small(p, x, lanes, top, bottom, bits, limbs, base):
    """Add the BLOCK float32 of p to the limbs: eight at a time where that is exact by range, else in levels."""
    if top + 3 - bits <= bottom:
        for j in range(LANES):
            first = (np.float64(p[j]) + np.float64(p[j + 256])) + (
                np.float64(p[j + 512]) + np.float64(p[j + 768])
            )
            x[j] = first + (
                (np.float64(p[j + 1024]) + np.float64(p[j + 1280]))
                + (np.float64(p[j + 1536]) + np.float64(p[j + 1792]))
            )
        pour(x, 1, lanes, top + 3, bottom, bits, limbs, base)
    else:
        for t in range(BLOCK):
            x[t] = p[t]
        pour(x, ROWS, lanes, top, bottom, bits, limbs, base)


@njit
def pour_products(x, y, lanes, top, bottom, bits, limbs, base):
    """Add the BLOCK products of float64 x[t] * y[t], exact also where a product has more than 53 bits."""
    b = 11
    if top - bits <= bottom:  # each product is exact
        for t in range(BLOCK):
            x[t] = x[t] * y[t]
        pour(x, ROWS, lanes, top, bottom, bits, limbs, base)
    elif top + b - 54 - bits <= bottom:
        sigma = sigma_of(top, b, bits)
        for j in range(LANES):
            lanes[j] = 0.0
        for r in range(ROWS):
            left = x[r * LANES : (r + 1) * LANES]
            right = y[r * LANES : (r + 1) * LANES]
            for j in range(LANES):
                part = fma64(left[j], right[j], sigma) - sigma
                left[j] = fma64(left[j], right[j], -part)
                lanes[j] += part
        add_float(limbs, base, total(lanes))
        pour(x, ROWS, lanes, top + b - bits - 1, bottom, bits, limbs, base)
    else:
        for t in range(BLOCK):
            product = x[t] * y[t]
            y[t] = fma64(x[t], y[t], -product)
            x[t] = product
        pour(x, ROWS, lanes, top, bottom, bits, limbs, base)
        pour(y, ROWS, lanes, top - 53, bottom, bits, limbs, base)


@cache
def dot(n, es, rs, storage):
    """Kernel (a, b, limbs, base, bits): add the products of two vectors to the limbs; True, and no sum, at a NaR.

    `storage` is the signed dtype of the codes, of which the low n bits count; digit 0 has weight 2**base, at least
    52 bits below the lowest bit of a product.  Returned limbs are folded.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    way, one = swift.constants(n, es, rs)
    spare = 8 * np.dtype(storage).itemsize - n
    nar = 1 << (8 * np.dtype(storage).itemsize - 1)
    half, scaling = way == swift.HALF, 2 * (one - 127) if way == swift.HALF else 0

    @njit(numba.boolean(codes_type, codes_type, _LIMBS, numba.int64, numba.int64), nogil=True, cache=True)
    def kernel(a, b, limbs, base, bits):
        lanes, x = np.empty(LANES), np.empty(BLOCK)
        y = np.empty(1 if half else BLOCK)
        p = np.empty(BLOCK if half else 1, np.float32)
        for start in range(0, len(a), BLOCK):
            count = min(BLOCK, len(a) - start)
            left, right = a[start : start + count], b[start : start + count]
            low_a, high_a = extent(left, spare)
            low_b, high_b = extent(right, spare)
            if high_a == nar or high_b == nar:
                return True
            if high_a == 0 or high_b == 0:
                continue
            top_a, bottom_a = bounds(low_a, high_a, spare, n, es, rs)
            top_b, bottom_b = bounds(low_b, high_b, spare, n, es, rs)
            top, bottom = top_a + top_b + scaling, bottom_a + bottom_b + scaling
            if half:
                for t in range(count):
                    first = swift.to_float32(left[t], n, es, one)
                    p[t] = first * swift.to_float32(right[t], n, es, one)
                p[count:] = 0
                pour_small(p, x, lanes, top, bottom, bits, limbs, base + scaling)
            else:
                for t in range(count):
                    x[t] = swift.to_float64(left[t], n, es, rs, way, one)
                for t in range(count):
                    y[t] = swift.to_float64(right[t], n, es, rs, way, one)
                x[count:] = 0.0
                y[count:] = 0.0
                pour_products(x, y, lanes, top, bottom, bits, limbs, base)
            if (start // BLOCK + 1) % _BLOCKS_BEFORE_FOLD == 0:
                fold(limbs)
        fold(limbs)
        return False

    return kernel


@njit(forceinline=True)
def add_vector(codes, p, x, lanes, limbs, base, bits, n, es, rs, spare, nar, way, one):
    """Add the values of a vector to the limbs, which it folds; True, and no sum, at a NaR.

    `nar` is its magnitude in the storage, `spare` the unused bits there; p, x and lanes are workspace.
    """
    scaling = one - 127 if way == swift.HALF else 0
    for start in range(0, len(codes), BLOCK):
        count = min(BLOCK, len(codes) - start)
        part = codes[start : start + count]
        low, high = extent(part, spare)
        if high == nar:
            return True
        if high == 0:
            continue
        top, bottom = bounds(low, high, spare, n, es, rs)
        if way == swift.HALF:
            for t in range(count):
                p[t] = swift.to_float32(part[t], n, es, one)
            p[count:] = 0
            pour_small(p, x, lanes, top + scaling, bottom + scaling, bits, limbs, base + scaling)
        else:
            for t in range(count):
                x[t] = swift.to_float64(part[t], n, es, rs, way, one)
            x[count:] = 0.0
            pour(x, ROWS, lanes, top, bottom, bits, limbs, base)
        if (start // BLOCK + 1) % _BLOCKS_BEFORE_FOLD == 0:
            fold(limbs)
    fold(limbs)
    return False


@cache
def sums(n, es, rs, storage):
    """Kernel (codes, limbs, base, bits, nars): add each row's values to its line of limbs; nars[i] is set at a NaR.

    As `dot`.  The sum of a row with a NaR means nothing.
    """
    codes_type = numba.types.Array(numba.from_dtype(storage), 2, "C", readonly=True)
    way, one = swift.constants(n, es, rs)
    spare = 8 * np.dtype(storage).itemsize - n
    nar = 1 << (8 * np.dtype(storage).itemsize - 1)

    @njit(
        numba.void(codes_type, numba.int64[:, ::1], numba.int64, numba.int64, numba.uint8[::1]),
        nogil=True,
        cache=True,
    )
    def kernel(codes, limbs, base, bits, nars):
        lanes, x, p = np.empty(LANES), np.empty(BLOCK), np.empty(BLOCK, np.float32)
        for i in range(len(codes)):
            if add_vector(codes[i], p, x, lanes, limbs[i], base, bits, n, es, rs, spare, nar, way, one):
                nars[i] = 1

    return kernel


@njit(
    numba.void(
        numba.int64[:, ::1],
        numba.int64,
        numba.int64,
        numba.uint8[::1],
        numba.int64,
        numba.int64,
        numba.int64,
        numba.int64[::1],
    ),
    nogil=True,
    cache=True,
)
def rounded(limbs, base, divisor, nars, n, es, rs, out):
    """Codes (signed) of the sums in the lines of limbs over divisor, each rounded once; the limbs are destroyed."""
    for i in range(len(limbs)):
        if nars[i]:
            out[i] = np.int64(-1) << (n - 1)
            continue
        if divisor != 1:
            divide(limbs[i], divisor)
        out[i] = to_code(limbs[i], base, n, es, rs)
