"""Exact products of small matrices, many at a time: decode, multiply, prove and settle in one kernel.

A call of a BLAS and of three kernels costs more than such a product.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier, swift
from posit._kernels.compiled import njit
from posit._kernels.product import INFLATE, certify_row, decode_lines, flat_codes, prefix_shift, round_row
from posit._kernels.settle import LANES, settle

_F = numba.float64[::1]
_I = numba.int64
_U = np.uint64


@njit(fastmath={"reassoc", "contract", "nsz"})
def multiply(a, a_row, a_step, b, c, m, k, n):
    """Write the product to c (m, n); a[i * a_row + t * a_step] is any layout, b is (k, n) in C order.

    Every order of summation will do, fused multiply-adds too: two rows by four terms at a time.  Indices are
    unsigned, since Numba asks of every signed one whether it is negative, and slices cost more than short loops.
    """
    width, up, step = _U(n), _U(a_row), _U(a_step)
    whole = _U(k // 4 * 4)
    for i in range(_U(0), _U(m // 2 * 2), _U(2)):
        first, second = i * width, (i + _U(1)) * width
        for j in range(width):
            c[first + j] = 0.0
            c[second + j] = 0.0
        for t in range(_U(0), whole, _U(4)):
            p, q = i * up + t * step, t * width
            a0, a1, a2, a3 = a[p], a[p + step], a[p + _U(2) * step], a[p + _U(3) * step]
            p += up
            d0, d1, d2, d3 = a[p], a[p + step], a[p + _U(2) * step], a[p + _U(3) * step]
            for j in range(width):
                b0, b1 = b[q + j], b[q + width + j]
                b2, b3 = b[q + _U(2) * width + j], b[q + _U(3) * width + j]
                c[first + j] += a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3
                c[second + j] += d0 * b0 + d1 * b1 + d2 * b2 + d3 * b3
        for t in range(whole, _U(k)):
            p, q = i * up + t * step, t * width
            a0, d0 = a[p], a[p + up]
            for j in range(width):
                c[first + j] += a0 * b[q + j]
                c[second + j] += d0 * b[q + j]
    for i in range(_U(m // 2 * 2), _U(m)):
        first = i * width
        for j in range(width):
            c[first + j] = 0.0
        for t in range(_U(k)):
            a0, q = a[i * up + t * step], t * width
            for j in range(width):
                c[first + j] += a0 * b[q + j]


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
    """How many float64 and int64 the kernel needs beside codes."""
    return m * k + 2 * k * n + m * n + 2 * k + m + n + n + 3 * LANES, m + n


@cache
def multiply_small(factors, result, added):
    """Kernel (start, stop, a, a_places, a_row, a_step, b, b_places, b_row, b_step, d, d_places, d_row, d_step,
    m, k, n, codes, mask, work, bits, limbs, base, bound, slack, marks, counts): products start .. stop of a batch.

    `factors` and `result` are (n, es, rs, width).  Element (i, t) of product p's left factor is
    a[a_places[p] + i * a_row + t * a_step]; one of the two steps is 1 in each factor.  With `added`, d is the addend
    in float64, NaN for NaR.  Product p goes to codes[p * m * n :].  `work` and `bits` have the sizes of `room`;
    `bound` is the relative error of the sums, `slack` scales that of `settle`.  counts: elements by range,
    certified, 0, compensated, through the quire; marks, unless empty, gets 1 for those that float64 left open.
    """  # noqa: D205 - the arguments do not fit one line
    (nf, esf, rsf, width_f), (nr, es, rs, width) = factors, result
    way, one = swift.constants(nf, esf, rsf)
    small, smallest, largest = carrier.constants(nr, es, rs)
    shift = prefix_shift(nr, es, rs)
    nar_code = -1 << (nr - 1)
    codes_type = numba.from_dtype(np.dtype(f"i{width}"))[::1]
    ints = numba.int64[::1]
    places = numba.types.Array(numba.int64, 1, "C", readonly=True)
    given = flat_codes(width_f)

    @njit(
        numba.void(
            *(_I, _I, given, places, _I, _I, given, places, _I, _I, _F, places, _I, _I),
            *(
                _I,
                _I,
                _I,
                codes_type,
                _I,
                _F,
                ints,
                ints,
                _I,
                numba.float64,
                numba.float64,
                numba.uint8[::1],
                ints,
            ),
        ),
        nogil=True,
        cache=True,
    )
    def kernel(
        start, stop, a, a_places, a_row, a_step, b, b_places, b_row, b_step, d, d_places, d_row, d_step,
        m, k, n, codes, mask, work, bits, limbs, base, bound, slack, marks, counts,
    ):  # fmt: skip
        values_a, rest = work[: m * k], work[m * k :]
        values_b, rest = rest[: k * n], rest[k * n :]
        turned, rest = rest[: k * n], rest[k * n :]
        c, rest = rest[: m * n], rest[m * n :]
        x, y, rest = rest[:k], rest[k : 2 * k], rest[2 * k :]
        norms, rest = rest[: m + n], rest[m + n :]
        addend, rest = rest[:n], rest[n:]
        norm_a, norm_b = norms[:m], norms[m:]
        nars, flags = np.zeros(m + n, np.uint8), np.zeros(n, np.uint8)
        nar_a, nar_b = nars[:m], nars[m:]
        floats = bits.view(np.float64)
        lowest_a, lowest_b = floats[:m], floats[m:]
        row_a, step_a = (k, 1) if a_step == 1 else (1, m)
        for p in range(start, stop):
            norms[:] = 0.0
            floats[:] = np.inf
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
                    source, place, outer, lines, values, terms, 0, terms, norms[first:], bits[first:], nars[first:],
                    by_line, nf, esf, rsf, way, one,
                )  # fmt: skip
            factor = values_b
            if b_row == 1:
                _transpose(values_b, n, k, turned)
                factor = turned
            multiply(values_a, row_a, step_a, factor, c, m, k, n)
            for i in range(m + n):
                norms[i] = np.sqrt(norms[i]) * INFLATE
            widest = 0.0
            for j in range(n):
                widest = max(widest, norm_b[j] / lowest_b[j])
            any_nar_b = nar_b.any()
            for i in range(m):
                row = c[i * n : (i + 1) * n]
                coded = codes[(p * m + i) * n : (p * m + i + 1) * n]
                if added:
                    _copy(d, d_places[p] + i * d_row, d_step, addend)
                undecided = np.int64(0)
                if not added and norm_a[i] * INFLATE * widest < 9007199254740992.0 * lowest_a[i]:
                    round_row(row, coded, mask, nr, es, rs, small, smallest, largest)
                    counts[0] += n
                else:
                    exact, undecided = certify_row(
                        row, flags, addend, norm_a[i], norm_b, lowest_a[i], lowest_b, bound,
                        coded, mask, nr, es, rs, small, smallest, largest, shift, added,
                    )  # fmt: skip
                    counts[0] += exact
                    counts[1] += n - exact - undecided
                if nar_a[i] or any_nar_b:
                    for j in range(n):
                        if nar_a[i] or nar_b[j]:
                            coded[j] = nar_code & mask
                if undecided:
                    _copy(values_a, i * row_a, step_a, x)
                    for j in range(n):
                        if np.isnan(row[j]):
                            if nar_a[i] or nar_b[j]:
                                counts[1] += 1
                            else:
                                _copy(factor, j, n, y)
                                code, tier = settle(
                                    x, y, addend[j] if added else 0.0, slack, rest, limbs, base,
                                    nr, es, rs, small, smallest, largest,
                                )  # fmt: skip
                                coded[j] = code & mask
                                counts[2 + tier] += 1
                                if len(marks):
                                    marks[(p * m + i) * n + j] = 1

    return kernel
