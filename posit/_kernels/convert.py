"""Array kernels that encode and decode: one loop each, made for a format and a pair of dtypes."""

from functools import cache

import numba
import numpy as np

import posit._kernels.lanes as lanes
import posit._kernels.wide as wide
import posit._kernels.wide_conversion as wide_conversion
from posit._kernels.codec import code_mask, from_float, to_float
from posit._kernels.compiled import njit
from posit._kernels.lanes import from_float32, to_float32


@cache
def decoder(n, es, rs, storage, real):
    """Kernel (codes, out): exact values of codes with n <= 32; NaR gives NaN."""
    codes_type = numba.types.Array(numba.from_dtype(storage), 1, "C", readonly=True)
    real_type = numba.from_dtype(real)
    if lanes.serves(n, es, rs):

        @njit(numba.void(codes_type, real_type[::1]), nogil=True, cache=True)
        def lane_kernel(codes, out):
            for t in range(len(codes)):
                out[t] = to_float32(codes[t], n, es, rs)

        return lane_kernel

    @njit(numba.void(codes_type, real_type[::1]), nogil=True, cache=True)
    def kernel(codes, out):
        for t in range(len(codes)):
            out[t] = to_float(codes[t], n, es, rs)

    return kernel


@cache
def encoder(n, es, rs, storage, real):
    """Kernel (values, out): each value rounded once; NaN and infinities give NaR.

    Unsigned storage gets zero-extended codes, signed storage sign-extended ones.
    """
    real_type = numba.types.Array(numba.from_dtype(real), 1, "C", readonly=True)
    mask = code_mask(n, storage)
    if lanes.serves(n, es, rs) and np.dtype(real) == np.float32:
        low, high = lanes.range_bits(n, es, rs)

        @njit(numba.void(real_type, numba.from_dtype(storage)[::1]), nogil=True, cache=True)
        def lane_kernel(values, out):
            for t in range(len(values)):
                out[t] = from_float32(values[t], n, es, rs, np.int32(low), np.int32(high)) & mask

        return lane_kernel

    @njit(numba.void(real_type, numba.from_dtype(storage)[::1]), nogil=True, cache=True)
    def kernel(values, out):
        for t in range(len(values)):
            out[t] = from_float(np.float64(values[t]), n, es, rs) & mask

    return kernel


# In integers, for any format: codes are int64 (low n bits count, results sign-extended).
_CODES = numba.types.Array(numba.int64, 1, "C", readonly=True)
_FLOATS = numba.types.Array(numba.float64, 1, "C", readonly=True)
_N = numba.int64


@cache
def encode_wide():
    """Kernel (values, out, n, es, rs): float64 to codes."""

    @njit(numba.void(_FLOATS, numba.int64[::1], _N, _N, _N), nogil=True, cache=True)
    def kernel(values, out, n, es, rs):
        for t in range(len(values)):
            out[t] = wide_conversion.from_float(values[t], n, es, rs)

    return kernel


@cache
def decode_wide():
    """Kernel (codes, out, to_odd, n, es, rs): codes to float64, nearest, or to odd for one more rounding."""

    @njit(numba.void(_CODES, numba.float64[::1], numba.boolean, _N, _N, _N), nogil=True, cache=True)
    def kernel(codes, out, to_odd, n, es, rs):
        for t in range(len(codes)):
            out[t] = wide_conversion.to_float(codes[t], to_odd, n, es, rs)

    return kernel


@cache
def recode():
    """Kernel (codes, out, n, es, rs, m, es_m, rs_m): codes of one format to codes of another."""

    @njit(numba.void(_CODES, numba.int64[::1], _N, _N, _N, _N, _N, _N), nogil=True, cache=True)
    def kernel(codes, out, n, es, rs, m, es_m, rs_m):
        for t in range(len(codes)):
            out[t] = wide_conversion.convert(codes[t], n, es, rs, m, es_m, rs_m)

    return kernel


@cache
def encode_integers():
    """Kernel (integers, are_unsigned, out, n, es, rs): int64, or the bits of uint64, to codes.

    The int64 with only its first bit set is NaR.
    """

    @njit(numba.void(_CODES, numba.boolean, numba.int64[::1], _N, _N, _N), nogil=True, cache=True)
    def kernel(integers, are_unsigned, out, n, es, rs):
        for t in range(len(integers)):
            negative = not are_unsigned and integers[t] < 0
            magnitude = np.uint64(-integers[t] if negative else integers[t])
            code = wide_conversion.from_unsigned(magnitude, negative, n, es, rs)
            out[t] = wide.nar(n) if negative and magnitude == np.uint64(1 << 63) else code

    return kernel


@cache
def to_integers():
    """Kernel (codes, out, low, high, outside, n, es, rs): codes to integers, nearest, ties to even.

    NaR and what is not in low .. high give `outside`.
    """

    @njit(numba.void(_CODES, numba.int64[::1], _N, _N, _N, _N, _N, _N), nogil=True, cache=True)
    def kernel(codes, out, low, high, outside, n, es, rs):
        for t in range(len(codes)):
            if wide.signed(codes[t], n) == wide.nar(n):
                out[t] = outside
                continue
            whole, overflow = wide_conversion.to_integer(codes[t], 0, n, es, rs)
            out[t] = outside if overflow or whole < low or whole > high else whole

    return kernel
