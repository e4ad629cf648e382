"""Exact products of small matrices, many at a time: decode, multiply, prove and settle in one kernel.

A call of a BLAS and of three kernels costs more than such a product.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, swift
from posit._kernels.certificate import certify_rows, prefix_shift
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import call_gemm, flat_signed
from posit._kernels.product import INFLATE, decode_lines, flat_codes, measured_together
from posit._kernels.settle import LANES, settle

_F = numba.float64[::1]
_I = numba.int64
_U = np.uint64
_PLACES = numba.types.Array(numba.int64, 1, "C", readonly=True)


@njit(fastmath={"reassoc", "contract", "nsz"})
def multiply(a, a_row, a_step, b, c, m, k, n):
    """Write the product to c (m, n); a[i * a_row + t * a_step] is any layout, b is (k, n) in C order.

    Every order of summation will do, fused multiply-adds too: four rows by four terms at a time.  Indices are
    unsigned, since Numba asks of every signed one whether it is negative, and slices cost more than short loops.
    """
    width, up, step = _U(n), _U(a_row), _U(a_step)
    two, three = _U(2), _U(3)
    whole = _U(k // 4 * 4)
    for i in range(m * n):
        c[i] = 0.0
    for i in range(_U(0), _U(m // 4 * 4), _U(4)):
        c0 = i * width
        c1, c2, c3 = c0 + width, c0 + two * width, c0 + three * width
        for t in range(_U(0), whole, _U(4)):
            p, q0 = i * up + t * step, t * width
            q1, q2, q3 = q0 + width, q0 + two * width, q0 + three * width
            w0, w1, w2, w3 = a[p], a[p + step], a[p + two * step], a[p + three * step]
            p += up
            x0, x1, x2, x3 = a[p], a[p + step], a[p + two * step], a[p + three * step]
            p += up
            y0, y1, y2, y3 = a[p], a[p + step], a[p + two * step], a[p + three * step]
            p += up
            z0, z1, z2, z3 = a[p], a[p + step], a[p + two * step], a[p + three * step]
            for j in range(width):
                b0, b1, b2, b3 = b[q0 + j], b[q1 + j], b[q2 + j], b[q3 + j]
                c[c0 + j] += w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3
                c[c1 + j] += x0 * b0 + x1 * b1 + x2 * b2 + x3 * b3
                c[c2 + j] += y0 * b0 + y1 * b1 + y2 * b2 + y3 * b3
                c[c3 + j] += z0 * b0 + z1 * b1 + z2 * b2 + z3 * b3
        for t in range(whole, _U(k)):
            p, q0 = i * up + t * step, t * width
            w0, x0, y0, z0 = a[p], a[p + up], a[p + two * up], a[p + three * up]
            for j in range(width):
                c[c0 + j] += w0 * b[q0 + j]
                c[c1 + j] += x0 * b[q0 + j]
                c[c2 + j] += y0 * b[q0 + j]
                c[c3 + j] += z0 * b[q0 + j]
    for i in range(_U(m // 4 * 4), _U(m)):
        c0 = i * width
        for t in range(_U(0), whole, _U(4)):
            p, q0 = i * up + t * step, t * width
            q1, q2, q3 = q0 + width, q0 + two * width, q0 + three * width
            w0, w1, w2, w3 = a[p], a[p + step], a[p + two * step], a[p + three * step]
            for j in range(width):
                c[c0 + j] += w0 * b[q0 + j] + w1 * b[q1 + j] + w2 * b[q2 + j] + w3 * b[q3 + j]
        for t in range(whole, _U(k)):
            w0, q0 = a[i * up + t * step], t * width
            for j in range(width):
                c[c0 + j] += w0 * b[q0 + j]


@njit
def _transpose(x, rows, columns, out):
    """Write x (rows, columns) to out (columns, rows)."""
    for r0 in range(0, rows, 8):
        for c in range(columns):
            for r in range(r0, min(r0 + 8, rows)):
                out[c * rows + r] = x[r * columns + c]


@njit
def _copy(x, at, step, out):
    for t in range(len(out)):
        out[t] = x[at + t * step]


def room(m, k, n):
    """How many float64 and int64 the kernel needs beside codes, limbs and counts."""
    return m * k + 2 * k * n + m * n + 2 * k + m + n + 3 * LANES, m + n


_room = njit(forceinline=True)(room)


#: multiply-adds up to which OpenBLAS starts no threads of its own (its interface/gemm.c)
MOST_FOR_BLAS = 1 << 18


@cache
def multiply_small(factors, result, added):
    """Kernel (start, stop, a, a_places, a_row, a_step, b, b_places, b_row, b_step, d, d_places, d_row,
    m, k, n, codes, mask, work, bits, base, bound, slack, marks, counts, gemm): products start .. stop of a batch.

    `factors` and `result` are (n, es, rs, width).  Element (i, t) of product p's left factor is
    a[a_places[p] + i * a_row + t * a_step]; one of the two steps is 1 in each factor.  With `added`, d is the addend
    in float64, NaN for NaR, its rows of n d_row apart (n or 0).  Product p goes to codes[p * m * n :].  `work` and
    `bits` have the sizes of `room`, and `bits` the limbs of an exact sum behind; `bound` is the relative error of the
    sums, `slack` scales that of `settle`.  counts: elements by range, certified, 0, compensated, through the quire;
    marks, unless empty, gets 1 for those that float64 left open.  `gemm` is the address of a BLAS's product, see
    `call_gemm`, or 0.
    """  # noqa: D205 - the arguments do not fit one line
    (nf, esf, rsf, width_f), (nr, es, rs, width) = factors, result
    way, one = swift.constants(nf, esf, rsf)
    small, smallest, largest = carrier.constants(nr, es, rs)
    shift = prefix_shift(nr, es, rs)
    codes_type, kind = numba.from_dtype(np.dtype(f"i{width}"))[::1], np.dtype(f"u{width_f}")
    ints = numba.int64[::1]
    given = flat_codes(width_f)

    @njit(
        numba.void(
            *(_I, _I, given, _PLACES, _I, _I, given, _PLACES, _I, _I, _F, _PLACES, _I),
            *(_I, _I, _I, codes_type, _I, _F, ints, _I, numba.float64, numba.float64),
            *(numba.uint8[::1], ints, _I),
        ),
        nogil=True,
        cache=True,
    )
    def kernel(
        start, stop, a, a_places, a_row, a_step, b, b_places, b_row, b_step, d, d_places, d_row,
        m, k, n, codes, mask, work, bits, base, bound, slack, marks, counts, gemm,
    ):  # fmt: skip
        values_a, rest = work[: m * k], work[m * k :]
        values_b, rest = rest[: k * n], rest[k * n :]
        turned, rest = rest[: k * n], rest[k * n :]
        c, rest = rest[: m * n], rest[m * n :]
        x, y, rest = rest[:k], rest[k : 2 * k], rest[2 * k :]
        norms, rest = rest[: m + n], rest[m + n :]
        limbs, bits = bits[m + n :], bits[: m + n]
        nars = np.zeros(m + n, np.uint8)
        lows = np.empty(max(measured_together(k), measured_together(max(m, n))), kind)
        lowest = bits.view(np.float64)
        row_a, step_a = (k, 1) if a_step == 1 else (1, m)
        row_b, step_b = (n, 1) if b_step == 1 else (1, k)
        foreign = gemm != 0 and m * k * n <= MOST_FOR_BLAS
        found = np.zeros(3, np.int64)
        for p in range(start, stop):
            norms[:] = 0.0
            lowest[:] = np.inf
            nars[:] = 0
            for side in range(2):  # the same code for both factors, since it is large
                if side == 0:
                    source, place, outer, inner, lines, terms = a, a_places[p], a_row, a_step, m, k
                    values, first = values_a, 0
                else:
                    source, place, outer, inner, lines, terms = b, b_places[p], b_step, b_row, n, k
                    values, first = values_b, m
                by_line = inner == 1
                if not by_line:
                    outer, lines, terms = inner, terms, lines
                decode_lines(
                    source, place, outer, lines, values, terms, norms[first:], bits[first:], nars[first:],
                    by_line, nf, esf, rsf, way, one, lows,
                )  # fmt: skip
            if foreign:
                turned_a, turned_b = np.int64(step_a != 1), np.int64(step_b != 1)
                long_a, long_b = max(row_a, step_a), max(row_b, step_b)
                call_gemm(gemm, turned_a, turned_b, m, n, k, values_a, long_a, values_b, long_b, c)
            elif step_b == 1:
                multiply(values_a, row_a, step_a, values_b, c, m, k, n)
            else:
                _transpose(values_b, n, k, turned)
                multiply(values_a, row_a, step_a, turned, c, m, k, n)
            for i in range(m + n):
                norms[i] = np.sqrt(norms[i]) * INFLATE
            addend = d[d_places[p] :] if added else d
            found[:] = 0
            certify_rows(
                0, m, n, c, addend, d_row, norms[:m], norms[m:], lowest[:m], lowest[m:], bound, nars[:m], nars[m:],
                codes, p * m * n, n, mask, found, nr, es, rs, small, smallest, largest, shift, added,
            )  # fmt: skip
            counts[0] += found[0]
            counts[1] += found[1]
            if found[2]:
                for place in range(m * n):
                    if np.isnan(c[place]):
                        i, j = place // n, place % n
                        _copy(values_a, i * row_a, step_a, x)
                        _copy(values_b, j * step_b, row_b, y)
                        code, tier = settle(
                            x, y, addend[i * d_row + j] if added else 0.0, slack, rest, limbs, base,
                            nr, es, rs, small, smallest, largest,
                        )  # fmt: skip
                        codes[p * m * n + place] = code & mask
                        counts[2 + tier] += 1
                        if len(marks):
                            marks[p * m * n + place] = 1

    return kernel


@cache
def multiply_one(factors, result, signed, mask, base, length):
    """Kernel (a, b, turned_a, turned_b, codes, work, bound, slack, gemm): one product, with few arguments.

    A call of `multiply_small` costs as much as a product of 16 × 16 numbers.  a (m, k), b (k, n) and codes (m, n) are
    matrices as the caller has them; one that is `turned` is in Fortran order, the others are in C order.  `work` has
    the sizes of `room`, `length` limbs and 5 counts more, and the counts are its last.
    """
    kernel = multiply_small(factors, result, False)
    kinds = [numba.from_dtype(np.dtype(f"{'i' if signed else 'u'}{each[3]}")) for each in (factors, result)]
    given = numba.types.Array(kinds[0], 2, "A", readonly=True)

    @njit(
        numba.void(given, given, _I, _I, kinds[1][:, ::1], _F, numba.float64, numba.float64, _I),
        nogil=True,
        cache=True,
    )
    def one(a, b, turned_a, turned_b, codes, work, bound, slack, gemm):
        (m, k), n = a.shape, b.shape[1]
        floats, integers = _room(m, k, n)
        work, bits = work[:floats], work[floats:].view(np.int64)
        bits, counts = bits[: integers + length], bits[integers + length :]
        counts[:] = 0
        places, none = np.zeros(1, np.int64), np.empty(0)
        kernel(
            0, 1, flat_signed(a), places, 1 if turned_a else k, m if turned_a else 1,
            flat_signed(b), places, 1 if turned_b else n, k if turned_b else 1, none, places, 0,
            m, k, n, flat_signed(codes), mask, work, bits, base, bound, slack, np.empty(0, np.uint8), counts, gemm,
        )  # fmt: skip

    return one
