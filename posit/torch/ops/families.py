"""Functions with parameters: arithmetic with a number, powers, ELU and its relatives, softplus."""

from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np

from posit._elementary.several import SEVERAL
from posit._elementary.ziv import Solution, number
from posit.torch.ops.curves import Curve, registered
from posit.torch.ops.formulas import TINY, clipped, far
from posit.torch.ops.pointwise import EXACT, MUL, Bounded, Floats, inexact, odd_binary

_SOFTPLUS, _SIGMOID = registered("softplus"), registered("sigmoid")


def _times(x: Floats, factor: float) -> Bounded:
    """The product with a number, rounded to odd, and its bound: 0 where it is exact."""
    product = odd_binary(MUL, x, np.full(x.shape, factor))
    return product, np.where(inexact(product), 2.0**-52, 0.0)


@lru_cache(maxsize=256)
def with_number(operation: int, number: float, *, number_first: bool = False) -> Curve:
    """The sum, difference, product or quotient (ADD, SUB, MUL, DIV) with a number, right or left of the operator."""
    constant = Fraction(number)

    def approximate(x: Floats) -> Bounded:
        other = np.full(x.shape, number)
        return odd_binary(operation, *((other, x) if number_first else (x, other))), 0.0

    def exactly(x: Fraction) -> Solution:
        return EXACT[operation](*((constant, x) if number_first else (x, constant)))

    return Curve(approximate, exactly)


@cache
def over(divisor: Fraction) -> Curve:
    """The quotient by a positive rational."""
    near = float(divisor)
    return Curve(lambda x: (x / near, 2.0**-51), lambda x: x / divisor)


@cache
def kinked(left: float, right: float) -> Curve:
    """The function ``left * x`` up to 0 and ``right * x`` from there on."""
    a, b = Fraction(left), Fraction(right)

    def approximate(x: Floats) -> Bounded:
        return odd_binary(MUL, x, np.where(x > 0.0, right, left)), 0.0

    return Curve(approximate, lambda x: x * (b if x > 0 else a))


@cache
def step(left: float, right: float) -> Curve:
    """The slope of `kinked`: `left` up to 0, `right` above."""
    a, b = Fraction(left), Fraction(right)

    def approximate(x: Floats) -> Bounded:
        return np.where(np.isnan(x), x, np.where(x > 0.0, right, left)), 0.0

    return Curve(approximate, lambda x: b if x > 0 else a)


@cache
def power(exponent: Fraction, factor: Fraction = Fraction(1)) -> Curve:
    """The function ``factor * x**exponent``; NaR where it has no real value, 1 at exponent 0."""
    p, scale = float(exponent), float(factor)
    slip = (
        2.0**-52 if Fraction(p) == exponent and Fraction(scale) == factor else 2.0**-43
    )  # |log x| is below 700

    def approximate(x: Floats) -> Bounded:
        values, bound = SEVERAL["pow"].approximate(x, np.full(x.shape, p))
        half, twos = np.frexp(x)
        shift = (twos - 1) * p
        exact = (half == 0.5) & (shift == np.rint(shift)) & (np.abs(shift) < 900) & (slip < 2.0**-43)
        powers = np.ldexp(1.0, np.where(exact, shift, 0.0).astype(np.int64))
        return np.where(exact, powers, values) * scale, np.where(exact, 0.0, bound + slip)

    def exactly(x: Fraction) -> Solution:
        found = SEVERAL["pow"].solve(x, exponent)
        if found is None or isinstance(found, Fraction):
            return None if found is None else found * factor
        return lambda ctx: found(ctx) * ctx.mpf(factor.numerator) / factor.denominator

    return Curve(approximate, exactly)


def _below_1(x: Fraction) -> Solution:
    """The logistic function."""
    return far(Fraction(1), -1) if x > 200 else _SIGMOID.solve(x)


@cache
def elu(alpha: float, scale: float, input_scale: float) -> Curve:
    """``scale * x`` above 0, else ``alpha * scale * (exp(input_scale * x) - 1)``."""
    height = Fraction(alpha) * Fraction(scale)

    def approximate(x: Floats) -> Bounded:
        above, _ = _times(x, scale)
        below = float(height) * np.expm1(np.minimum(x, 0.0) * input_scale)
        return np.where(x > 0.0, above, below), np.where(x > 0.0, 0.0, 2.0**-47)

    def exactly(x: Fraction) -> Solution:
        if x >= 0 or height == 0 or input_scale == 0:
            return x * Fraction(scale) if x > 0 else Fraction(0)
        argument = clipped(x * Fraction(input_scale))
        if argument < -200:
            return far(-height, -1)
        return lambda ctx: ctx.expm1(number(ctx, argument)) * number(ctx, height)

    return Curve(approximate, exactly)


@cache
def elu_slope(alpha: float, scale: float, input_scale: float) -> Curve:
    """`scale` above 0, else ``alpha * scale * input_scale * exp(input_scale * x)``."""
    height = Fraction(alpha) * Fraction(scale) * Fraction(input_scale)

    def approximate(x: Floats) -> Bounded:
        z = np.minimum(x, 0.0) * input_scale
        below = float(height) * np.maximum(np.exp(z), TINY)
        flat = (x == 0.0) & (Fraction(float(height)) == height)
        bound = np.where(flat, 0.0, 2.0**-47 + 2.0**-52 * np.minimum(np.abs(z), 700.0))
        return np.where(x > 0.0, scale, below), np.where(x > 0.0, 0.0, bound)

    def exactly(x: Fraction) -> Solution:
        if x >= 0 or height == 0:
            return Fraction(scale) if x > 0 else height
        argument = clipped(x * Fraction(input_scale))
        return lambda ctx: ctx.exp(number(ctx, argument)) * number(ctx, height)

    return Curve(approximate, exactly)


@cache
def elu_slope_of_result(alpha: float, scale: float, input_scale: float) -> Curve:
    """The same over the result y: ``input_scale * (y + alpha * scale)`` up to 0."""
    height, rate = Fraction(alpha) * Fraction(scale), Fraction(input_scale)
    near = float(height)
    slip = 0.0 if Fraction(near) == height else abs(near) * 2.0**-53

    def approximate(y: Floats) -> Bounded:
        total = y + near
        bound = np.where(total == 0.0, slip and np.inf, slip / np.abs(total)) + 2.0**-51
        return np.where(y > 0.0, scale, total * input_scale), np.where(y > 0.0, 0.0, bound)

    return Curve(approximate, lambda y: Fraction(scale) if y > 0 else (y + height) * rate)


def _argument(x: Floats, beta: float) -> tuple[Floats, Floats | float]:
    """Beta x, and what its rounding adds to the relative error of e**(beta x)."""
    z = x * beta
    return z, 0.0 if beta == 1.0 else np.minimum(np.abs(z), 700.0) * 2.0**-52


@cache
def softplus(beta: float, threshold: float) -> Curve:
    """``log(1 + exp(beta * x)) / beta``; x itself where beta * x, as float64, exceeds the threshold."""

    def approximate(x: Floats) -> Bounded:
        z, slip = _argument(x, beta)
        values: Any = _SOFTPLUS.approximate(z)[0]
        return np.where(z > threshold, x, values / beta), np.where(z > threshold, 0.0, 2.0**-44 + slip)

    def exactly(x: Fraction) -> Solution:
        if float(x) * beta > threshold:
            return x
        if x * Fraction(beta) > 200:
            return far(x, 1)
        found: Any = _SOFTPLUS.solve(x * Fraction(beta))
        return lambda ctx: found(ctx) / number(ctx, Fraction(beta))

    return Curve(approximate, exactly)


@cache
def softplus_slope(beta: float, threshold: float) -> Curve:
    """``1 / (1 + exp(-beta * x))``; 1 where beta * x, as float64, exceeds the threshold."""

    def approximate(x: Floats) -> Bounded:
        z, slip = _argument(x, beta)
        bound = np.where(x == 0.0, 0.0, 2.0**-45 + slip)
        values: Any = _SIGMOID.approximate(z)[0]
        return np.where(z > threshold, 1.0, values), np.where(z > threshold, 0.0, bound)

    def exactly(x: Fraction) -> Solution:
        if float(x) * beta > threshold:
            return Fraction(1)
        return _below_1(x * Fraction(beta))

    return Curve(approximate, exactly)


@cache
def log_sigmoid() -> Curve:
    """The function -log(1 + exp(-x))."""

    def approximate(x: Floats) -> Bounded:
        values: Any = _SOFTPLUS.approximate(-x)[0]
        return -values, 2.0**-44

    def exactly(x: Fraction) -> Solution:
        if x < -200:
            return far(x, 1)
        found: Any = _SOFTPLUS.solve(-x)
        return lambda ctx: -found(ctx)

    return Curve(approximate, exactly)


@cache
def log_sigmoid_slope() -> Curve:
    """The function 1 / (1 + exp(x))."""

    def approximate(x: Floats) -> Bounded:
        values: Any = _SIGMOID.approximate(-x)[0]
        return values, np.where(x == 0.0, 0.0, 2.0**-45)

    return Curve(approximate, lambda x: _below_1(-x))
