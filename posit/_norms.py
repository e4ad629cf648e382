"""Normalization of rows of codes, and its derivative: one correct rounding of the real-valued formula.

The kernels of `posit._kernels.norms` settle what float64 with a proven bound decides; the rest is settled here by exact
rational means and variances and an integer square root.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import norms as kernels
from posit._threads import split
from posit.codec import Codes, decode, encode_rational, signed_storage
from posit.errors import FormatError
from posit.formats import Format

Floats = npt.NDArray[np.float64]
CHUNK = 1 << 15  #: elements decoded at a time, unless a row is longer
_LARGEST = 200  #: scale of a format up to which the terms of all formulas stay in float64's range


@dataclass(frozen=True, slots=True)
class Norm:
    """What rows are normalized with.

    Element (r, j) has the factor and the addend number [r % lines, j // step].
    """

    eps: float
    centered: bool  #: whether the mean is subtracted, before the variance too
    lines: int
    step: int
    mean: Floats | None = None  #: of each line, where statistics are given and not the row's own
    variance: Floats | None = None

    def statistics(self, x: Floats, first: int) -> Floats:
        """As the kernels want them, of rows `first` … with these values."""
        stats = _buffers.zeros((len(x), 6))
        if self.mean is None or self.variance is None:
            kernels.statistics(x, self.eps, self.centered, stats)
            return stats
        line = (first + np.arange(len(x))) % self.lines
        whole = self.variance[line] + self.eps
        stats[:, 0] = self.mean[line]
        with np.errstate(invalid="ignore", divide="ignore"):
            stats[:, 2] = np.where(whole > 0, 1 / np.sqrt(whole), np.nan)
        stats[:, 3] = 4 * 2.0**-53
        return stats

    def exact_statistics(self, row: int, x: Floats) -> tuple[Fraction, Fraction]:
        """Mean, and variance + eps."""
        eps = Fraction(self.eps)
        if self.mean is not None and self.variance is not None:
            line = row % self.lines
            return Fraction(float(self.mean[line])), Fraction(float(self.variance[line])) + eps
        mean, variance = moments(x, centered=self.centered)
        return mean, variance + eps


@dataclass(frozen=True, slots=True)
class Rows:
    """Codes, shape (rows, columns), C order, and their format."""

    codes: Codes
    format: Format

    def values(self, part: slice) -> Floats:
        """Exact values of some rows."""
        return np.asarray(decode(self.codes[part], self.format, np.float64), np.float64)


def normalize(x: Rows, norm: Norm, gamma: Floats, beta: Floats, fmt: Format) -> tuple[Codes, Floats]:
    """Gamma (x - mean) / sqrt(variance + eps) + beta, each element rounded once; and the rows' statistics.

    Args:
        x: At least one column.
        gamma, beta: Values of posits, shape (norm.lines, columns / norm.step).
        fmt: Format of the result.

    Returns:
        Signed codes, and float64 rows: mean, bound of its error, two numbers more, variance, bound of its error.

    Raises:
        FormatError: a format with values that leave float64's range here.
    """
    _require_range(x.format, fmt)
    kernel = kernels.scaled(*fmt.parameters, signed_storage(fmt))
    held = _buffers.empty((len(x.codes), 6))

    def fill(part: slice, out: Codes, marks: Any) -> int:
        values = x.values(part)
        stats = held[part]
        stats[...] = norm.statistics(values, part.start)
        first = part.start % norm.lines  # the kernel counts lines from its own first row
        return int(kernel(values, stats, _turned(gamma, first), _turned(beta, first), norm.step, out, marks))

    @cache
    def line(row: int) -> tuple[Floats, Fraction, Fraction]:
        values = x.values(slice(row, row + 1))[0]
        return (values, *norm.exact_statistics(row, values))

    def exact(row: int, column: int) -> int:
        values, mean, square = line(row)
        at = row % norm.lines, column // norm.step
        numerator = Fraction(float(gamma[at])) * (Fraction(float(values[column])) - mean)
        return over_root(numerator, square, Fraction(float(beta[at])), fmt)

    return _rounded(x.codes.shape, fmt, fill, exact), held


def derivative(x: Rows, grad: Rows, norm: Norm, gamma: Floats, fmt: Format) -> Codes:
    """The gradient of x, each element the real-valued formula over the stored posits, rounded once.

    Args:
        x, grad: Of the same shape.
        gamma: Values of posits, shape (norm.lines, columns / norm.step).
        fmt: Format of the result.
    """
    _require_range(x.format, grad.format, fmt)
    kernel = kernels.derivative(*fmt.parameters, signed_storage(fmt))
    own = norm.mean is None

    def fill(part: slice, out: Codes, marks: Any) -> int:
        values = x.values(part)
        stats = norm.statistics(values, part.start)
        turned = _turned(gamma, part.start % norm.lines)
        return int(
            kernel(values, grad.values(part), stats, turned, norm.step, norm.centered, own, out, marks)
        )

    @cache
    def line(row: int) -> tuple[list[Fraction], list[Fraction], Fraction, Fraction, Fraction]:
        values, incoming = x.values(slice(row, row + 1))[0], grad.values(slice(row, row + 1))[0]
        mean, square = norm.exact_statistics(row, values)
        factors = np.repeat(gamma[row % norm.lines], norm.step)
        h = [Fraction(g) * Fraction(f) for g, f in zip(incoming.tolist(), factors.tolist(), strict=True)]
        d = [Fraction(value) - mean for value in values.tolist()]
        shift = slope = Fraction(0)
        if own:
            slope = sum((p * q for p, q in zip(h, d, strict=True)), Fraction(0)) / len(h) / square
            shift = sum(h, Fraction(0)) / len(h) if norm.centered else shift
        return h, d, shift, slope, square

    def exact(row: int, column: int) -> int:
        h, d, shift, slope, square = line(row)
        return over_root(h[column] - shift - d[column] * slope, square, Fraction(0), fmt)

    return _rounded(x.codes.shape, fmt, fill, exact)


def over_root(numerator: Fraction, square: Fraction, added: Fraction, fmt: Format) -> int:
    """Code of added + numerator / sqrt(square), rounded once; square > 0.

    The root of a rational that is no rational square is irrational, so that the result lies on no rounding boundary
    and enough bits decide.

    >>> from posit.formats import posit16
    >>> hex(over_root(Fraction(3), Fraction(4), Fraction(-1, 2), posit16))
    '0x4000'
    """
    ratio = numerator * numerator / square
    sign = -1 if numerator < 0 else 1
    p, q = ratio.numerator, ratio.denominator
    if isqrt(p) ** 2 == p and isqrt(q) ** 2 == q:
        return encode_rational(added + sign * Fraction(isqrt(p), isqrt(q)), fmt)
    bits = 64 + max(0, q.bit_length() - p.bit_length())
    while True:
        root = isqrt((p << 2 * bits) // q)
        ends = (added + sign * Fraction(end, 1 << bits) for end in (root, root + 1))
        low, high = (encode_rational(end, fmt) for end in ends)
        if low == high:
            return low
        bits *= 2


def moments(x: Floats, *, centered: bool = True) -> tuple[Fraction, Fraction]:
    """Exact mean and variance (over the count) of finite numbers; without `centered` 0 and the mean square.

    >>> moments(np.array([1.0, 2.0, 6.0]))
    (Fraction(3, 1), Fraction(14, 3))
    """
    integers, unit = whole(x)
    count = len(integers)
    square = Fraction(sum(i * i for i in integers), count) * unit * unit
    if not centered:
        return Fraction(0), square
    mean = Fraction(sum(integers), count) * unit
    return mean, square - mean * mean


def whole(x: Floats) -> tuple[list[int], Fraction]:
    """Finite numbers as integers, and the power of two to multiply them with.

    >>> whole(np.array([0.75, -2.0, 0.0]))[0]
    [6755399441055744, -18014398509481984, 0]
    """
    mantissas, exponents = np.frexp(x)
    lowest = int(exponents[x != 0].min(initial=1 << 20)) if x.any() else 0
    digits = (mantissas * 2.0**53).astype(np.int64).tolist()
    places = np.where(x == 0, 0, exponents - lowest).tolist()
    return [d << p for d, p in zip(digits, places, strict=True)], Fraction(2) ** (lowest - 53)


def _rounded(
    shape: tuple[int, ...],
    fmt: Format,
    fill: Callable[[slice, Codes, Any], int],
    exact: Callable[[int, int], int],
) -> Codes:
    """Rows filled in pieces, over threads; then what is unsure."""
    count, columns = shape
    out = _buffers.empty((count, columns), signed_storage(fmt))
    unsure: list[npt.NDArray[np.int64]] = []
    step = max(1, CHUNK // columns)

    def run(start: int, stop: int) -> None:
        marks = np.empty((min(step, stop - start), columns), np.uint8)
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            own = marks[: part.stop - first]
            if fill(part, out[part], own):
                unsure.append(np.flatnonzero(own) + first * columns)

    split(count, 8 * count * columns, run)
    flat = out.reshape(-1)
    for index in np.concatenate(unsure).tolist() if unsure else []:
        code = exact(*divmod(index, columns))
        flat[index] = code - (1 << fmt.nbits) if code >= fmt.nar else code
    return out


def _turned(lines: Floats, first: int) -> Floats:
    return np.roll(lines, -first, axis=0) if first else lines


def _require_range(*formats: Format) -> None:
    for fmt in formats:
        if fmt.max_scale > _LARGEST or fmt.nbits > 32:
            raise FormatError(
                f"normalization is exact in formats up to 32 bits and 2**{_LARGEST}, and {fmt} reaches 2**"
                f"{fmt.max_scale}; use a format with fewer exponent bits"
            )
