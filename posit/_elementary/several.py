"""The elementary functions of two and three posits, and of a posit and an integer, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from posit._elementary import approximate as fast
from posit._elementary.exact_cases import arc_tan_pi, sqrt
from posit._elementary.powers import power
from posit._elementary.ziv import Solution, number

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bounded = tuple[Floats, Floats | float]

_TINY = 2.0**-1000
_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Several:
    """A real function of several arguments: float64 approximation with bound, and exact solution."""

    name: str  #: the standard's name in snake_case
    approximate: Callable[..., Bounded]  #: of float64 arrays (and int64, where the argument is an integer)
    solve: Callable[..., Solution]  #: of rationals (and int)


def _never_zero(size: Floats, exact_zero: npt.NDArray[np.bool_]) -> Floats:
    """Magnitudes in which float64's underflow is undone; 0 only where the exact result is 0."""
    return np.where(exact_zero, size * 0.0, np.maximum(size, _TINY))


def _hypot(x: Floats, y: Floats) -> Bounded:
    return np.hypot(x, y), fast.DEFAULT_BOUND


def _solve_hypot(x: Fraction, y: Fraction) -> Solution:
    square = x * x + y * y
    rational = sqrt(square)
    return rational if rational is not None else lambda ctx: ctx.hypot(number(ctx, x), number(ctx, y))


def _pow(x: Floats, y: Floats) -> Bounded:
    result = np.power(x, y)
    undefined = np.isnan(x) | np.isnan(y) | ((x == 0.0) & (y < 0.0))
    size = np.where(undefined, np.nan, _never_zero(np.abs(result), (x == 0.0) & (y > 0.0)))
    return np.copysign(size, result), fast.DEFAULT_BOUND


def _solve_pow(x: Fraction, y: Fraction) -> Solution:
    if x == 0 or y == 0:
        return Fraction(y == 0) if y >= 0 else None
    if x < 0 and y.denominator != 1:
        return None
    return power(x, y.numerator, y.denominator)


def _arc_tan2(y: Floats, x: Floats) -> Bounded:
    angle = np.arctan2(y, x)
    angle = np.where((x == 0.0) & (y == 0.0), np.nan, angle)
    return np.copysign(_never_zero(np.abs(angle), (y == 0.0) & (x > 0.0)), y), fast.DEFAULT_BOUND


def _solve_arc_tan2(y: Fraction, x: Fraction) -> Solution:
    if y == 0 and x >= 0:
        return Fraction(0) if x > 0 else None
    return lambda ctx: ctx.atan2(number(ctx, y), number(ctx, x))


def _arc_tan2_pi(y: Floats, x: Floats) -> Bounded:
    angle, bound = _arc_tan2(y, x)
    return angle / np.pi, bound


def _solve_arc_tan2_pi(y: Fraction, x: Fraction) -> Solution:
    if y == 0:
        return None if x == 0 else Fraction(x < 0)
    if x == 0:
        return _HALF if y > 0 else -_HALF
    quarter = arc_tan_pi(y / x)
    if quarter is not None:
        return quarter if x > 0 else quarter + (1 if y > 0 else -1)
    return lambda ctx: ctx.atan2(number(ctx, y), number(ctx, x)) / ctx.pi


def _from_log(t: Floats, negative: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """±e**t where t has a few units of relative error; beyond ±1000 the result is out of every range."""
    t = np.clip(t, -1000.0, 1000.0)
    size = np.maximum(np.exp(t), _TINY)
    return np.where(negative, -size, size), fast.DEFAULT_BOUND + 2.0**-49 * np.abs(t)


def _compound(x: Floats, n: Integers) -> Bounded:
    below = x < -1.0
    logarithm = np.log1p(np.where(below, -2.0 - x, np.where(x == -1.0, 0.0, x)))  # of |1 + x|
    result, bound = _from_log(n.astype(np.float64) * logarithm, below & (n % 2 != 0))
    at_zero = np.where(n > 0, 0.0, np.where(n == 0, 1.0, np.nan))
    return np.where(x == -1.0, at_zero, result), bound


def _solve_compound(x: Fraction, n: int) -> Solution:
    if x == -1:
        return Fraction(n == 0) if n >= 0 else None
    return Fraction(1) if n == 0 else power(1 + x, n, 1)


def _root_n(x: Floats, n: Integers) -> Bounded:
    odd = n % 2 != 0
    result, bound = _from_log(fast.log(np.abs(x)) / np.where(n == 0, 1, n), x < 0.0)
    result = np.where((x == 0.0) & (n > 0), 0.0, result)
    return np.where((n == 0) | ((x < 0.0) & ~odd), np.nan, result), bound


def _solve_root_n(x: Fraction, n: int) -> Solution:
    if n == 0 or (x < 0 and n % 2 == 0):
        return None
    if x == 0:
        return x if n > 0 else None
    return power(x, 1 if n > 0 else -1, abs(n))


def _fmm(x: Floats, y: Floats, z: Floats) -> Bounded:
    parts = [np.frexp(factor) for factor in (x, y, z)]
    fraction = parts[0][0] * parts[1][0] * parts[2][0]
    exponent: Any = parts[0][1] + parts[1][1] + parts[2][1]
    return np.ldexp(fraction, np.clip(exponent, -1010, 1010)), 2.0**-50


SEVERAL: dict[str, Several] = {
    function.name: function
    for function in (
        Several("hypot", _hypot, _solve_hypot),
        Several("pow", _pow, _solve_pow),
        Several("arc_tan2", _arc_tan2, _solve_arc_tan2),
        Several("arc_tan2_pi", _arc_tan2_pi, _solve_arc_tan2_pi),
        Several("fmm", _fmm, lambda x, y, z: x * y * z),
    )
}
WITH_INTEGER: dict[str, Several] = {
    function.name: function
    for function in (
        Several("compound", _compound, _solve_compound),
        Several("root_n", _root_n, _solve_root_n),
    )
}
