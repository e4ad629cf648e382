"""Kernels of the exact matrix product: float64 sums are rounded, and the rounding is proved.

`posit._matmul` has the proofs.
"""

from functools import cache

import numba
import numpy as np

from posit._kernels import carrier
from posit._kernels.codec import code_mask
from posit._kernels.compiled import njit
from posit._kernels.intrinsics import bits_float, float_bits
from posit._kernels.product import INFLATE, TOGETHER, group_size, lowest_bit

_F = numba.float64[::1]
_I = numba.int64
_U8 = numba.uint8[::1]


def prefix_shift(n, es, rs):
    """Low bits of a float64 that no code and no rounding boundary of a format reaches."""
    return 52 - (max(0, n - 3 - es) + 1)


@njit(forceinline=True)
def may_differ(value, bound, shift):
    """1 where the ends of value +- bound may round to different codes, 0 where they cannot.

    They cannot where they share the sign, the exponent and the leading fraction bits, with something set below (`shift`
    bits): then no code and no boundary lies between them.
    """
    below = (np.int64(1) << shift) - 1
    low, high = float_bits(value - bound), float_bits(value + bound)
    # no `and`, no `or`: branches would keep a loop out of vector registers
    crossed = np.int64(1) if ((low ^ high) >> shift) != 0 else np.int64(0)
    crossed |= np.int64(1) if (low & below) == 0 else np.int64(0)
    crossed |= np.int64(1) if (high & below) == 0 else np.int64(0)
    return crossed


@njit(forceinline=True)
def certify_row(
    row, flags, addend, norm, norms, lowest, lowests, gamma,
    coded, mask, n, es, rs, small, smallest, largest, shift, added,
):  # fmt: skip
    """Round one row of float64 sums; return how many are proven by range and how many are open (then NaN).

    row[j] has an error of at most gamma * (norm * norms[j] + |addend[j]|).  Where that magnitude is below 2**53
    times the lowest bit of all terms, every partial sum was exact, in any order.  Elsewhere both ends of the error
    interval must round to the same code.  Only those that `may_differ` are encoded.
    """
    exact = np.int64(0)
    suspects = np.int64(0)
    for j in range(len(row)):
        value = row[j]
        magnitude = norm * norms[j]
        unit = lowest * lowests[j]
        if added:
            term = addend[j]
            value += term
            magnitude += abs(term)
            unit = min(unit, bits_float(lowest_bit(term)))
            row[j] = value
        by_range = magnitude < 9007199254740992.0 * unit
        bound = gamma * magnitude + abs(value) * 4.440892098500626e-16
        inside = np.int64(1) if by_range else np.int64(0)
        exact += inside
        suspect = may_differ(value, bound, shift) & (inside ^ 1)
        suspects += suspect
        flags[j] = suspect
    for j in range(len(row)):
        coded[j] = carrier.encode(row[j], n, es, rs, small, smallest, largest) & mask
    undecided = np.int64(0)
    if suspects:
        for j in range(len(row)):
            if flags[j]:
                value = row[j]
                magnitude = norm * norms[j] + (abs(addend[j]) if added else 0.0)
                bound = gamma * magnitude + abs(value) * 4.440892098500626e-16
                low_code = carrier.encode_one(value - bound, n, es, rs, small, smallest, largest)
                high_code = carrier.encode_one(value + bound, n, es, rs, small, smallest, largest)
                # a NaN is an addend that is NaR; an infinite bound proves nothing
                proven = np.isnan(value) or (low_code == high_code and bound < np.inf)
                undecided += np.int64(0) if proven else np.int64(1)
                row[j] = 0.0 if proven else np.nan
    return exact, undecided


@njit(forceinline=True)
def round_row(row, coded, mask, n, es, rs, small, smallest, largest):
    """Round one row of exact float64 sums."""
    for j in range(len(row)):
        coded[j] = carrier.encode(row[j], n, es, rs, small, smallest, largest) & mask


@njit
def _tiled(x, length, count):
    """The first `length` elements so many times."""
    out = np.empty(count * length)
    for start in range(0, count * length, length):
        for t in range(length):
            out[start + t] = x[t]
    return out


@njit
def _summary(norms, lowests, nars):
    """The largest norm in units of the lowest weight, and how many lines have a NaR."""
    widest, count = 0.0, np.int64(0)
    for j in range(len(norms)):
        widest = max(widest, norms[j] / lowests[j])
        count += nars[j]
    return widest, count


@njit
def _spread_nars(row, coded, nar_a, nar_b, nar_code):
    """Make results of lines that have a NaR NaR; returns how many of them were open."""
    closed = np.int64(0)
    for t in range(len(row)):
        if nar_a[t // len(nar_b)] | nar_b[t % len(nar_b)]:
            closed += np.int64(1) if np.isnan(row[t]) else np.int64(0)
            row[t] = 0.0
            coded[t] = nar_code
    return closed


@njit(forceinline=True)
def certify_rows(
    start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
    codes, at, stride, mask, counts, n, es, rs, small, smallest, largest, shift, added,
):  # fmt: skip
    """As the kernel of `certify` says.  Short rows that follow each other in `codes` are proved together."""
    nar_code = (np.int64(-1) << (n - 1)) & mask
    group = group_size(columns, TOGETHER) if stride == columns else 1
    group = min(group, stop - start)
    norms, lowests, addends = norm_b, lowest_b, addend
    if group > 1:
        norms, lowests = _tiled(norm_b, columns, group), _tiled(lowest_b, columns, group)
        if added and step == 0:
            addends = _tiled(addend, columns, group)
    flags = np.zeros(group * columns, np.uint8)
    widest, nars_b = _summary(norm_b, lowest_b, nar_b)
    for i in range(start, stop, group):
        count = min(group, stop - i)
        length = count * columns
        row = c[i * columns : i * columns + length]
        coded = codes[at + i * stride : at + i * stride + length]
        norm, lowest, nars_a = 0.0, np.inf, np.int64(0)
        for r in range(i, i + count):
            norm, lowest = max(norm, norm_a[r]), min(lowest, lowest_a[r])
            nars_a += nar_a[r]
        if not added and norm * INFLATE * widest < 9007199254740992.0 * lowest:
            round_row(row, coded, mask, n, es, rs, small, smallest, largest)
            counts[0] += length
        else:
            exact, undecided = certify_row(
                row, flags, addends[i * step : i * step + length], norm, norms, lowest, lowests,
                gamma, coded, mask, n, es, rs, small, smallest, largest, shift, added,
            )  # fmt: skip
            counts[0] += exact
            counts[1] += length - exact - undecided
            counts[2] += undecided
        if nars_a + nars_b:
            closed = _spread_nars(row, coded, nar_a[i : i + count], nar_b, nar_code)
            counts[1] += closed
            counts[2] -= closed


@cache
def certify(n, es, rs, width, added):
    """Kernel (start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
    codes, at, stride, mask, counts): round rows start .. stop of `c` to `codes` and prove it.

    Row i goes to codes[at + i * stride :]; its addends, float64 with NaN for NaR, begin at addend[i * step] (`added`).
    What is left open becomes NaN in `c`; counts gets the numbers by range, by interval, and left open.
    """  # noqa: D205 - the arguments do not fit one line
    small, smallest, largest = carrier.constants(n, es, rs)
    shift = prefix_shift(n, es, rs)
    codes_type = numba.from_dtype(np.dtype(f"i{width}"))[::1]

    @njit(
        numba.void(
            *(_I, _I, _I, _F, _F, _I, _F, _F, _F, _F),
            *(numba.float64, _U8, _U8, codes_type, _I, _I, _I, numba.int64[::1]),
        ),
        nogil=True,
        cache=True,
    )
    def kernel(
        start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
        codes, at, stride, mask, counts,
    ):  # fmt: skip
        certify_rows(
            start, stop, columns, c, addend, step, norm_a, norm_b, lowest_a, lowest_b, gamma, nar_a, nar_b,
            codes, at, stride, mask, counts, n, es, rs, small, smallest, largest, shift, added,
        )  # fmt: skip

    return kernel


@cache
def certify_values(n, es, rs, storage):
    """Kernel (values, errors, out, unsure): each value rounded, and whether its error bound leaves that undecided.

    errors[t] bounds |values[t] - true number| up to a relative 2**-52 of the value; 0 says that it is exact.  Returns
    how many are undecided: both ends of the interval round to different codes, or it is infinite.  NaN is NaR.
    """
    small, smallest, largest = carrier.constants(n, es, rs)
    shift = prefix_shift(n, es, rs)
    mask = code_mask(n, storage)
    reals = numba.types.Array(numba.float64, 1, "C", readonly=True)

    @njit(
        numba.int64(reals, reals, numba.from_dtype(storage)[::1], numba.boolean[::1]), nogil=True, cache=True
    )
    def kernel(values, errors, out, unsure):
        suspects = np.int64(0)
        for t in range(len(values)):
            value, error = values[t], errors[t]
            error = 0.0 if error <= 0.0 else error + abs(value) * 2.220446049250313e-16
            suspect = may_differ(value, error, shift) & (np.int64(0) if error == 0.0 else np.int64(1))
            suspects += suspect
            unsure[t] = suspect != 0
        for t in range(len(values)):
            out[t] = carrier.encode(values[t], n, es, rs, small, smallest, largest) & mask
        if suspects == 0:
            return suspects
        undecided = np.int64(0)
        for t in range(len(values)):
            if unsure[t]:
                error = errors[t] + abs(values[t]) * 2.220446049250313e-16
                low = carrier.encode_one(values[t] - error, n, es, rs, small, smallest, largest)
                high = carrier.encode_one(values[t] + error, n, es, rs, small, smallest, largest)
                proven = np.isnan(values[t]) or (low == high and error < np.inf)
                unsure[t] = not proven
                undecided += np.int64(0) if proven else np.int64(1)
        return undecided

    return kernel
