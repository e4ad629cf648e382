r"""The activation functions that the standard lacks, and the slopes of functions, as data.

Each float64 approximation states a bound of its relative error, derived from 2**-53 for an operation, `_ULPS` = 2**-49
for a library function (16 units in the last place: several times what any in use is known to need), and condition
numbers.  Where a slope passes through zero its terms cancel and the bound says so; those few are evaluated in higher
precision.  Numbers that float64 cannot reach are replaced by `TINY`, below every posit.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from posit._elementary.ziv import Solution, number
from posit._kernels import elementary
from posit.torch.ops.curves import Curve, registered
from posit.torch.ops.pointwise import Bounded, Floats, inexact, odd_fma

_ULPS = 2.0**-49
TINY = 2.0**-1000
_FLAT = Fraction(1 << 14)  # exp(-_FLAT) is below every posit and product of posits
_FAR, _NORMAL_FAR = 200, 20  # from here on exp(-x), and the tail of GELU, are below _HAIR
_HAIR = Fraction(1, 1 << 250)  # closer to a posit than any rounding boundary that is not one itself
_TANH_CUBE = Fraction(44715, 10**6)  # GELU's approximation by tanh: Hendrycks and Gimpel, arXiv 1606.08415


def clipped(x: Fraction) -> Fraction:
    """An argument beyond which exponentials no longer change any rounding."""
    return max(min(x, _FLAT), -_FLAT)


def evaluated(evaluate: Callable[[Any, Any], Any], x: Fraction) -> Solution:
    """A number to evaluate at x, with 96 guard bits: the slopes cancel by less than 64 near their zeros."""

    def with_guard(ctx: Any) -> Any:
        before = ctx.prec
        ctx.prec = before + 96
        try:
            return evaluate(ctx, number(ctx, clipped(x)))
        finally:
            ctx.prec = before

    return with_guard


def far(limit: Fraction, side: int) -> Fraction:
    """Instead of a number that is above (side 1) or below (-1) its limit in magnitude, by less than any precision."""
    return limit * (1 + side * _HAIR)


def _above_1(
    rational: Fraction, evaluate: Callable[[Any, Any], Any], start: int = _FAR
) -> Callable[[Fraction], Solution]:
    """A slope that is rational at 0, irrational elsewhere (Lindemann and Weierstrass), and falls to 1 for large x."""

    def exactly(x: Fraction) -> Solution:
        if x > start:
            return far(Fraction(1), 1)
        return rational if x == 0 else evaluated(evaluate, x)

    return exactly


def _below_x(exactly: Callable[[Fraction], Solution], start: int = _FAR) -> Callable[[Fraction], Solution]:
    """A function that is 0 at 0 and rises to x for large x."""
    return lambda x: far(x, -1) if x > start else Fraction(0) if x == 0 else exactly(x)


def _sum_bound(result: Floats, *terms: Floats) -> Floats:
    """Relative bound of a sum of which the terms' absolute errors are given."""
    total = np.sum(terms, axis=0)
    return np.asarray(np.where(total == 0.0, 0.0, total / np.abs(result)) + 2.0**-52)


def of_zero(x: Floats, values: Floats, bound: Floats | float) -> Bounded:
    """Exact at x = 0, where `values` must be right."""
    return values, np.where(x == 0.0, 0.0, bound)


def _signed_tiny(values: Floats, sign: Floats) -> Floats:
    """Values that float64 lost at its lower end: a number below every posit, with the sign of `sign`."""
    return np.where(np.abs(values) < TINY, np.copysign(TINY, sign), values)


def _sigmoid(x: Floats) -> Floats:
    return np.maximum(1.0 / (1.0 + np.exp(np.minimum(-x, 700.0))), TINY)


# Slopes over the argument


def square_error(x: Floats) -> Floats:
    """Bound of the rounding error of x * x: none where x has 24 significant bits."""
    return np.where(x.astype(np.float32).astype(np.float64) == x, 0.0, np.square(x) * 2.0**-53)


def _gelu_slope(x: Floats) -> Bounded:
    """Phi(x) + x phi(x); erfc's condition number at -x / sqrt 2 is below x**2 + 2."""
    tail, x = np.empty(x.shape), np.clip(x, -40.0, 40.0)
    elementary.erfc(x * -0.7071067811865476, tail)
    area = 0.5 * tail
    rise = x * np.exp(-0.5 * np.square(x)) * 0.3989422804014327
    values = _signed_tiny(area + rise, np.where(x < 0.0, -1.0, 1.0))
    steep = np.square(np.minimum(x, 0.0))
    error = _sum_bound(values, area * (_ULPS + 2.0**-51 * steep), np.abs(rise) * (_ULPS + square_error(x)))
    return of_zero(x, values, np.where(x < -37.3, 2.0**-44, error))


def _gelu_slope_real(ctx: Any, x: Any) -> Any:
    return ctx.erfc(-x / ctx.sqrt(2)) / 2 + x * ctx.exp(-x * x / 2) / ctx.sqrt(2 * ctx.pi)


def _silu_slope(x: Floats) -> Bounded:
    x = np.clip(x, -750.0, 750.0)
    s = _sigmoid(x)
    rise = x * _sigmoid(-x)
    values = _signed_tiny(s * (1.0 + rise), np.where(x < 0.0, -1.0, 1.0))
    error = _sum_bound(values, s * _ULPS * 4, s * np.abs(rise) * _ULPS * 4)
    return of_zero(x, values, np.where(x < -690.0, 2.0**-44, error))


def _silu_slope_real(ctx: Any, x: Any) -> Any:
    s = 1 / (1 + ctx.exp(-x))
    return s + x * s / (1 + ctx.exp(x))


def _inner(x: Floats) -> tuple[Floats, Floats, Floats]:
    """2 u, its derivative and |2 u| times its relative error, u = sqrt(2 / pi) (x + 0.044715 x**3)."""
    x = np.clip(x, -100.0, 100.0)
    twice = 1.5957691216057308 * x * (1.0 + 0.044715 * np.square(x))
    return twice, 1.5957691216057308 * (1.0 + 3 * 0.044715 * np.square(x)), np.abs(twice) * 2.0**-50


def _gelu_tanh(x: Floats) -> Bounded:
    """The product x sigmoid(2 u)."""
    twice, _, error = _inner(x)
    size = np.maximum(np.abs(x) * _sigmoid(twice), np.where(x == 0.0, 0.0, TINY))
    return of_zero(x, np.copysign(size, x), 4 * _ULPS + error)


def _gelu_tanh_slope(x: Floats) -> Bounded:
    twice, rate, error = _inner(x)
    x = np.clip(x, -100.0, 100.0)
    s = _sigmoid(twice)
    rise = x * s * _sigmoid(-twice) * rate
    values = _signed_tiny(s + rise, np.where(x < 0.0, -1.0, 1.0))
    relative = _sum_bound(values, s * (4 * _ULPS + error), np.abs(rise) * (8 * _ULPS + 2 * error))
    return of_zero(x, values, np.where(x < -20.0, 2.0**-44, relative))


def _gelu_tanh_real(ctx: Any, x: Any, *, slope: bool = False) -> Any:
    cube, root = ctx.mpf(_TANH_CUBE.numerator) / _TANH_CUBE.denominator, ctx.sqrt(8 / ctx.pi)
    x = max(min(x, 100), -100) if slope else max(x, -100)
    twice = root * (x + cube * x**3)
    s = 1 / (1 + ctx.exp(-twice))
    if not slope:
        return x * s
    return s + x * s / (1 + ctx.exp(twice)) * root * (1 + 3 * cube * x * x)


def _mish(x: Floats) -> Bounded:
    """The product x n / (n + 2) with n = e**x (e**x + 2): tanh(softplus(x)) without cancellation."""
    e = np.exp(np.minimum(x, 40.0))
    n = e * (e + 2.0)
    size = np.maximum(np.abs(x) * (n / (n + 2.0)), np.where(x == 0.0, 0.0, TINY))
    return of_zero(x, np.copysign(size, x), 2.0**-45)


def _mish_slope(x: Floats) -> Bounded:
    x = np.clip(x, -750.0, 40.0)
    e = np.exp(x)
    n = e * (e + 2.0)
    level = n / (n + 2.0)
    rise = x * (e * (e + 1.0)) * 4.0 / np.square(n + 2.0)
    values = _signed_tiny(level + rise, np.where(x < 0.0, -1.0, 1.0))
    error = _sum_bound(values, level * 2.0**-46, np.abs(rise) * 2.0**-46)
    return values, np.where(x < -690.0, 2.0**-44, error)


def _mish_real(ctx: Any, x: Any, *, slope: bool = False) -> Any:
    e = ctx.exp(x)
    n = e * (e + 2)
    return n / (n + 2) + 4 * x * e * (e + 1) / (n + 2) ** 2 if slope else x * n / (n + 2)


def _hardswish(x: Floats) -> Bounded:
    inside = np.where((x <= -3.0), 0.0, x * (x + 3.0) / 6.0)
    return np.where(x >= 3.0, x, inside), np.where(x >= 3.0, 0.0, 2.0**-50)


def _hardswish_slope(x: Floats) -> Bounded:
    inside = np.where(x <= -3.0, 0.0, odd_fma(np.full(x.shape, 2.0), x, np.full(x.shape, 3.0)) / 6.0)
    return np.where(x >= 3.0, 1.0, inside), np.where(np.abs(x) >= 3.0, 0.0, 2.0**-51)


def _hardsigmoid(x: Floats) -> Bounded:
    inside = np.where(x <= -3.0, 0.0, (x + 3.0) / 6.0)
    return np.where(x >= 3.0, 1.0, inside), np.where(np.abs(x) >= 3.0, 0.0, 2.0**-51)


def _sixth(x: Floats) -> Bounded:
    return np.where(np.abs(x) < 3.0, 1.0 / 6.0, np.where(np.isnan(x), x, 0.0)), 2.0**-52


SILU = Curve(registered("silu").approximate, _below_x(registered("silu").solve))
GELU = Curve(registered("gelu").approximate, _below_x(registered("gelu").solve, _NORMAL_FAR))
GELU_TANH = Curve(_gelu_tanh, _below_x(lambda x: evaluated(_gelu_tanh_real, x), _NORMAL_FAR))
MISH = Curve(_mish, _below_x(lambda x: evaluated(_mish_real, x)))
HARDSWISH = Curve(_hardswish, lambda x: x * max(min(x + 3, Fraction(6)), Fraction(0)) / 6)
HARDSIGMOID = Curve(_hardsigmoid, lambda x: max(min((x + 3) / 6, Fraction(1)), Fraction(0)))
GELU_SLOPE = Curve(_gelu_slope, _above_1(Fraction(1, 2), _gelu_slope_real, _NORMAL_FAR))
SILU_SLOPE = Curve(_silu_slope, _above_1(Fraction(1, 2), _silu_slope_real))
GELU_TANH_SLOPE = Curve(
    _gelu_tanh_slope, _above_1(Fraction(1, 2), partial(_gelu_tanh_real, slope=True), _NORMAL_FAR)
)
MISH_SLOPE = Curve(_mish_slope, _above_1(Fraction(3, 5), partial(_mish_real, slope=True)))
HARDSWISH_SLOPE = Curve(_hardswish_slope, lambda x: Fraction(x >= 3) if abs(x) >= 3 else (2 * x + 3) / 6)
HARDSIGMOID_SLOPE = Curve(_sixth, lambda x: Fraction(1, 6) if abs(x) < 3 else Fraction(0))


# Slopes over the stored result


def _odd(values: Floats) -> Bounded:
    """Numbers rounded to odd: exact where the last bit is 0."""
    return values, np.where(inexact(values), 2.0**-52, 0.0)


TANH_SLOPE_OF_RESULT = Curve(lambda y: _odd(odd_fma(-y, y, np.ones(y.shape))), lambda y: 1 - y * y)
SIGMOID_SLOPE_OF_RESULT = Curve(lambda y: _odd(odd_fma(-y, y, y)), lambda y: y - y * y)
