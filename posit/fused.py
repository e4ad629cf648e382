"""Sums of coefficient times posit, exact with one rounding: addition, and the step of every optimizer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import combine, fused, stochastic
from posit._threads import split
from posit.codec import Codes, decode, signed_storage
from posit.errors import FormatError, NonFiniteError, ShapeError
from posit.formats import Format
from posit.stochastic import stream_key

Floats = npt.NDArray[np.float64]

_LARGEST = 2.0**400
_LANES_LARGEST = 2.0**60  # see posit._kernels.odd.fma32
_CHUNK = 16384
_PARTS = 5


def axpy(
    alpha: float,
    x: Codes,
    y: Codes,
    fmt: Format,
    out: npt.NDArray[np.integer] | None = None,
    *,
    x_format: Format | None = None,
    y_format: Format | None = None,
    scale: float = 1.0,
) -> Codes:
    """``alpha * x + scale * y``, formed exactly and rounded once.

    Args:
        alpha: Exact float64 coefficient: 0, or of magnitude 2**-400 to 2**400.
        x, y: Contiguous codes of the same shape (unsigned, or signed and sign-extended).
        fmt: Format of the result, of at most 32 bits.
        out: Where to write; may be `x` or `y`.  By default a new array of y's dtype.
        x_format, y_format: Formats of the operands, by default `fmt`.
        scale: A power of two.

    Returns:
        Codes of the same shape.  NaR where either operand is.

    Raises:
        NonFiniteError: a coefficient outside its range, or a scale that is no power of two.
        FormatError: a format wider than 32 bits or beyond float64's range.

    >>> one = np.array([0x4000], np.uint16)
    >>> axpy(-1e-40, one, one, Format(16))  # 1 - 1e-40 rounds to 1
    array([16384], dtype=uint16)
    """
    formats = x_format or fmt, y_format or fmt, fmt
    _check(formats, alpha)
    _check_scale(scale)
    result = (
        _buffers.empty(x.shape, y.dtype if y_format in (None, fmt) else _like(fmt, y)) if out is None else out
    )
    lane = _in_lanes(formats, scale, alpha)
    kernel = fused.axpy(*(f.parameters for f in formats), x.dtype, y.dtype, result.dtype, lane)
    flat_x, flat_y, flat_out = x.reshape(-1), y.reshape(-1), result.reshape(-1)

    def run(start: int, stop: int) -> None:
        kernel(alpha, scale, flat_x[start:stop], flat_y[start:stop], flat_out[start:stop])

    split(flat_x.size, flat_x.size * 2, run)
    return result


def momentum_step(
    mu: float,
    lr: float,
    grad: Codes,
    held: Codes,
    weights: Codes,
    fmt: Format,
    *,
    grad_format: Format | None = None,
    held_format: Format | None = None,
    scale: float = 1.0,
) -> None:
    """SGD with momentum in place: ``held = mu * held + scale * grad``, then ``weights = weights - lr * held``.

    Each is formed exactly and rounded once: the same bits as two calls of `axpy`, in one pass over memory.

    Args:
        mu, lr: Exact float64 coefficients: 0, or of magnitude 2**-400 to 2**400.
        grad, held, weights: Contiguous codes of the same shape; the last two are changed.
        fmt: Format of the weights, of at most 32 bits.
        grad_format, held_format: Formats of the other two, by default `fmt`.
        scale: A power of two.

    Raises:
        NonFiniteError: a coefficient outside its range, or a scale that is no power of two.
        FormatError: a format wider than 32 bits or beyond float64's range.

    >>> grad, held, weights = (np.array([0x4000], np.uint16) for _ in range(3))
    >>> momentum_step(0.5, 2.0, grad, held, weights, Format(16))  # held 0.5 + 1, weight 1 - 3
    >>> held, weights
    (array([17408], dtype=uint16), array([47104], dtype=uint16))
    """
    formats = grad_format or fmt, held_format or fmt, fmt
    _check(formats, mu, lr)
    _check_scale(scale)
    lane = _in_lanes(formats, scale, mu, lr)
    dtypes = grad.dtype, held.dtype, weights.dtype
    kernel = fused.momentum_step(*(f.parameters for f in formats), *dtypes, lane)
    parts = [codes.reshape(-1) for codes in (grad, held, weights)]

    def run(start: int, stop: int) -> None:
        kernel(mu, scale, lr, *(part[start:stop] for part in parts))

    split(weights.size, weights.size * 4, run)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a sum: a coefficient times posits, or times the products of posits.

    A coefficient that is a `Fraction` is taken exactly; it must be a sum of at most five float64 numbers, as sums and
    products of a few float64 numbers are.
    """

    coefficient: float | Fraction
    codes: Codes  #: contiguous, unsigned or signed
    format: Format
    other: tuple[Codes, Format] | None = None  #: factors to multiply by, element by element

    @property
    def takes_two_rows(self) -> bool:
        """Whether products have more bits than a float64."""
        bits = self.format.fraction_bits + (self.other[1].fraction_bits if self.other else 0)
        return self.other is not None and bits + 2 > 53

    def formats(self) -> tuple[Format, ...]:
        """Those of the factors."""
        return (self.format,) if self.other is None else (self.format, self.other[1])


def combination(terms: Sequence[Term], fmt: Format, out: Codes | None = None) -> Codes:
    """The sum of all terms, formed exactly and rounded once.

    Args:
        terms: At least one, all of one shape.
        fmt: Format of the result, of at most 32 bits.
        out: Where to write; may be one of the operands.

    Returns:
        Signed codes of the terms' shape.  NaR where any operand is.

    Raises:
        NonFiniteError: a coefficient outside 2**-400 to 2**400, or not a sum of five float64 numbers.
        FormatError: a format wider than 32 bits or beyond float64's range.
        ShapeError: shapes differ.

    >>> from posit import posit16
    >>> one = np.array([0x4000], np.int16)
    >>> tenth = Term(Fraction(1) - Fraction(0.9), one, posit16)
    >>> combination([tenth, Term(0.9, one, posit16, (one, posit16))], posit16)  # 0.1 * 1 + 0.9 * 1 * 1
    array([16384], dtype=int16)
    """
    work = _Rows.of(terms, fmt)
    result = _buffers.empty(terms[0].codes.shape, signed_storage(fmt)) if out is None else out
    kernel = combine.combination(*fmt.parameters, result.dtype)
    flat = result.reshape(-1)

    def run(start: int, stop: int) -> None:
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            kernel(work.coefficients, work.values(first, last), flat[first:last])

    split(flat.size, flat.size * (4 + 2 * len(terms)), run)
    return result


def combination_stochastic(terms: Sequence[Term], fmt: Format, seed: int, out: Codes | None = None) -> Codes:
    """As `combination`, rounded stochastically: see `posit.round_stochastic`, element i uses output i of `seed`.

    The sum is formed in float64, so probabilities are exact to about 2**-49 of the largest term.
    """
    work = _Rows.of(terms, fmt)
    result = _buffers.empty(terms[0].codes.shape, signed_storage(fmt)) if out is None else out
    kernel, key = stochastic.rounder(*fmt.parameters), np.uint64(stream_key(seed))
    flat = result.reshape(-1)

    def run(start: int, stop: int) -> None:
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            values = work.values(first, last)
            total = values[0] * work.coefficients[0, 0]
            for coefficient, row in zip(work.coefficients[1:, 0], values[1:], strict=True):
                total += row * coefficient
            codes = np.empty(last - first, np.int64)
            kernel(total, key, np.uint64(first), codes)
            flat[first:last] = codes.astype(signed_storage(fmt)).view(flat.dtype)

    split(flat.size, flat.size * 10, run)
    return result


@dataclass(frozen=True)
class _Rows:
    """Terms as rows of exact float64 values with coefficients in parts: a square of many bits takes two rows."""

    coefficients: Floats
    terms: tuple[Term, ...]

    @classmethod
    def of(cls, terms: Sequence[Term], fmt: Format) -> "_Rows":
        if any(term.codes.shape != terms[0].codes.shape for term in terms):
            shapes = ", ".join(str(term.codes.shape) for term in terms)
            raise ShapeError(f"the terms of a sum must have one shape, got {shapes}")
        rows = []
        for term in terms:
            _check((*term.formats(), fmt), float(term.coefficient))
            if sum(each.lsb_scale for each in term.formats()) < -700:
                raise FormatError(f"products of {term.format} leave the float64 carrier; use es <= 2")
            parts = _parts(term.coefficient)
            rows += [parts, parts] if term.takes_two_rows else [parts]
        width = max(len(row) for row in rows)
        return cls(np.array([row + [0.0] * (width - len(row)) for row in rows]), tuple(terms))

    def values(self, start: int, stop: int) -> Floats:
        """Rows of the elements start..stop."""
        rows = np.empty((len(self.coefficients), stop - start))
        i = 0
        for term in self.terms:
            row = decode(term.codes.reshape(-1)[start:stop], term.format, out=rows[i])
            if term.other is not None:
                factor = decode(term.other[0].reshape(-1)[start:stop], term.other[1])
                if term.takes_two_rows:
                    i += 1
                    rows[i] = _product_error(row, factor)
                row *= factor
            i += 1
        return rows


def _product_error(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
    """Products less their float64, exact (Dekker, A floating-point technique for extending precision, 1971)."""
    (a, b), (c, d) = _halves(x), _halves(y)
    return np.asarray(((a * c - x * y) + a * d + b * c) + b * d)


def _halves(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Two numbers of at most 26 bits whose sum is x (Veltkamp)."""
    far = 134217729.0 * x
    high = far - (far - x)
    return high, x - high


def _parts(coefficient: float | Fraction) -> list[float]:
    """Float64 numbers whose sum a coefficient is, the largest first."""
    rest, parts = Fraction(coefficient), [float(coefficient)]
    while rest := rest - Fraction(parts[-1]):
        if len(parts) == _PARTS:
            raise NonFiniteError(
                f"a coefficient must be a sum of {_PARTS} float64 numbers, got {coefficient}"
            )
        parts.append(float(rest))
    return parts


def _like(fmt: Format, codes: Codes) -> Any:
    return signed_storage(fmt) if codes.dtype.kind == "i" else fmt.storage


def _in_lanes(formats: Sequence[Format], scale: float, *coefficients: float) -> bool:
    """Whether the kernels may work in float32: `odd.fma32` says when."""
    within = all(not c or 1 / _LANES_LARGEST <= abs(c) <= _LANES_LARGEST for c in coefficients)
    return within and scale == 1.0 and bool(fused.in_lanes(*(f.parameters for f in formats)))


def _check_scale(scale: float) -> None:
    if not 2.0**-100 <= scale <= 2.0**100 or math.frexp(scale)[0] != 0.5:
        raise NonFiniteError(f"a scale must be a power of two from 2**-100 to 2**100, got {scale!r}")


def _check(formats: Sequence[Format], *coefficients: float) -> None:
    for alpha in coefficients:
        if not math.isfinite(alpha) or (alpha and not 1 / _LARGEST <= abs(alpha) <= _LARGEST):
            raise NonFiniteError(
                f"a coefficient must be 0 or have a magnitude from 2**-400 to 2**400, got {alpha!r}"
            )
    for fmt in formats:
        if not fmt.fits_float64:
            raise FormatError(
                f"{fmt} does not fit the float64 carrier of fused updates; use at most 32 bits and es <= 4"
            )
