"""Adam's step: w - lr * m' / (sqrt(v') + eps), one correct rounding of the real number."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import quotients, stochastic
from posit._threads import split
from posit.codec import Codes, decode, encode_rational, signed_storage
from posit.formats import Format
from posit.rounding import certified
from posit.stochastic import stream_key
from posit.torch import PositTensor
from posit.torch.tensor import to_numpy

Floats = npt.NDArray[np.float64]

_CHUNK = 16384
_UNIT = 2.0**-53
_RATIONAL_AFTER = 2048  # bits of a number that may lie on a boundary


@dataclass(frozen=True)
class Rate:
    """The step of one element: keep * w - lr * (m / c1) / (sqrt(v / c2) + eps), all but w, m, v exact numbers.

    c1 and c2 are 1 - beta**t, Adam's corrections of the moments' bias.
    """

    keep: Fraction
    lr: Fraction
    eps: Fraction
    first: Fraction  #: c1's beta, 0 for no correction
    second: Fraction  #: c2's
    step: int

    def floats(self) -> tuple[float, float, float, float]:
        """keep, lr / c1, 1 / c2, eps: each within one unit of 2**-52 of its size."""
        import mpmath

        with mpmath.workprec(160):
            c1, c2 = (1 - _real(beta) ** self.step for beta in (self.first, self.second))
            return float(self.keep), float(_real(self.lr) / c1), float(1 / c2), float(self.eps)

    def real(self, w: Fraction, m: Fraction, v: Fraction, bits: int) -> Any:
        """The new weight to `bits` bits: the difference may cancel, so with as many more as it takes."""
        import mpmath

        working = bits + 32 + int(self.step).bit_length()
        while True:
            with mpmath.workprec(working):
                c1, c2 = (1 - _real(beta) ** self.step for beta in (self.first, self.second))
                left = _real(self.keep * w)
                right = _real(self.lr) * _real(m) / c1 / (mpmath.sqrt(_real(v) / c2) + _real(self.eps))
                result = left - right
                lost = abs(left) + abs(right)
                if result != 0 and abs(result) > lost * mpmath.mpf(2) ** (bits + 16 - working):
                    return result
            if working > 4 * _RATIONAL_AFTER + 4 * bits:
                return result  # 0, as far as anyone can tell
            working *= 2

    def rational(self, w: Fraction, m: Fraction, v: Fraction) -> Fraction | None:
        """The new weight where it is rational, else None."""
        root = _square_root(v / (1 - self.second**self.step))
        if root is None:
            return None
        return self.keep * w - self.lr * m / (1 - self.first**self.step) / (root + self.eps)

    def code(self, w: Fraction, m: Fraction, v: Fraction, fmt: Format, less: Fraction, unit: Fraction) -> int:
        """Code of unit * (new weight - less), correctly rounded: Ziv's strategy, and where that ends not, rationals."""
        if m == 0:
            return encode_rational(unit * (self.keep * w - less), fmt)
        bits = 96
        while True:
            approximate = _fraction(self.real(w, m, v, bits))
            error = abs(approximate) / (1 << (bits - 8))
            ends = (unit * (approximate + side * error - less) for side in (-1, 1))
            low, high = (encode_rational(end, fmt) for end in ends)
            if low == high:
                return low
            if bits > _RATIONAL_AFTER and (exact := self.rational(w, m, v)) is not None:
                return encode_rational(unit * (exact - less), fmt)
            bits *= 2


@dataclass(frozen=True)
class Second:
    """The second moment of every element, in float64 within three units of 2**-53 of its size, and exactly."""

    values: Callable[[slice], Floats]  #: of a range of elements
    exact: Callable[[int], Fraction]  #: of one element

    @staticmethod
    def of(tensor: PositTensor) -> "Second":
        codes = to_numpy(tensor.codes.contiguous()).reshape(-1)
        return Second(
            lambda part: _values(codes[part], tensor.format), lambda i: _exact(codes, tensor.format, i)
        )


def step_weights(
    rate: Rate,
    target: PositTensor,
    first: PositTensor,
    second: Second,
    *,
    seed: int | None = None,
    residual: PositTensor | None = None,
    unit: float = 1.0,
) -> None:
    """Replace the codes of `target`, and of `residual`, by those of the new weights; see `Rate`.

    Args:
        rate: The step.
        target: The weights.
        first, second: The moments.
        seed: Round stochastically from this seed.
        residual: What was cut off before, times `unit`; it is added, and replaced by what is cut off now.
        unit: A power of two.
    """
    out = to_numpy(target.codes)
    weights, moments = (to_numpy(x.codes.contiguous()).reshape(-1) for x in (target, first))
    new = _buffers.empty(out.size, signed_storage(target.format))
    kept = None if residual is None else to_numpy(residual.codes).reshape(-1)
    work = _Step(rate, weights, moments, target.format, first.format, second, rate.floats(), unit)
    key = None if seed is None else stream_key(seed)

    def run(begin: int, end: int) -> None:
        for start in range(begin, end, _CHUNK):
            part = slice(start, min(start + _CHUNK, end))
            if key is not None:
                new[part] = work.stochastic(part, key)
            elif kept is None or residual is None:
                new[part] = work.nearest(part)
            else:
                new[part], kept[part] = work.compensated(part, kept[part], residual.format)

    split(new.size, new.size * 20, run)
    out[...] = new.reshape(out.shape)


@dataclass(frozen=True)
class _Step:
    """The step of ranges of weights."""

    rate: Rate
    weights: Codes
    moments: Codes
    fmt: Format
    moment_format: Format
    second: Second
    floats: tuple[float, float, float, float]
    unit: float

    def approximation(self, part: slice) -> tuple[Floats, Floats]:
        """New weights in float64 and bounds of their errors, see `posit._kernels.quotients`."""
        keep, lr, scale, eps = self.floats
        w, m, v = self.weights[part], self.moments[part], self.second.values(part)
        values, errors = (_buffers.empty(len(w)) for _ in range(2))
        kernel = quotients.adam_step(
            *((*f.parameters, c.dtype) for f, c in ((self.fmt, w), (self.moment_format, m)))
        )
        kernel(w, m, v, keep, lr, scale, eps, values, errors)
        return values, errors

    def nearest(self, part: slice) -> Codes:
        approximation, error = self.approximation(part)
        return certified(
            approximation, error, self.fmt, lambda i: self._code(part, i, self.fmt), signed_storage(self.fmt)
        )

    def stochastic(self, part: slice, key: int) -> Codes:
        values, _ = self.approximation(part)
        found = np.empty(len(values), np.int64)
        stochastic.rounder(*self.fmt.parameters)(values, np.uint64(key), np.uint64(part.start), found)
        return found.astype(signed_storage(self.fmt))

    def compensated(self, part: slice, kept: Codes, fmt: Format) -> tuple[Codes, Codes]:
        """New weights, rounded once from the sum with what was kept; and what is kept now, rounded once."""
        rest = decode(kept, fmt) / self.unit
        approximation, error = self.approximation(part)
        error += (np.abs(approximation) + np.abs(rest)) * (2 * _UNIT)
        approximation += rest
        new = certified(
            approximation,
            error,
            self.fmt,
            lambda i: self._code(part, i, self.fmt, -Fraction(float(rest[i]))),
            signed_storage(self.fmt),
        )
        values = decode(new, self.fmt)
        cut = approximation - values
        error += np.abs(cut) * (2 * _UNIT)
        residual = certified(
            cut * self.unit,
            error * self.unit,
            fmt,
            lambda i: self._code(
                part, i, fmt, Fraction(float(values[i])) - Fraction(float(rest[i])), self.unit
            ),
            signed_storage(fmt),
        )
        return new, residual

    def _code(
        self, part: slice, index: int, fmt: Format, less: Fraction = Fraction(0), unit: float = 1.0
    ) -> int:
        """Code of unit * (new weight - less), where the bound does not decide."""
        i = part.start + index
        w, m = _exact(self.weights, self.fmt, i), _exact(self.moments, self.moment_format, i)
        return self.rate.code(w, m, self.second.exact(i), fmt, less, Fraction(unit))


def _values(codes: Codes, fmt: Format) -> Floats:
    return np.asarray(decode(codes, fmt), np.float64)


def _exact(codes: Codes, fmt: Format, index: int) -> Fraction:
    return Fraction(float(decode(codes[index : index + 1], fmt)[0]))


def _real(x: Fraction) -> Any:
    import mpmath

    return mpmath.mpf(x.numerator) / x.denominator


def _fraction(x: Any) -> Fraction:
    sign, mantissa, exponent, _ = x._mpf_
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -value if sign else value


def _square_root(x: Fraction) -> Fraction | None:
    """The square root where it is rational."""
    top, bottom = isqrt(x.numerator), isqrt(x.denominator)
    root = Fraction(top, bottom)
    return root if root * root == x else None
