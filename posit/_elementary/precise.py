r"""The elementary functions in multiple precision, for the elements that float64 leaves open.

Each entry is ``evaluate(ctx, x)`` with an mpmath context whose precision is set; its relative error is below
``2**(GUARD - ctx.prec)``.  mpmath's functions err by a few units in the last place, also where naive formulas
cancel (expm1, log1p, sinpi, asinh near 0 ...); what its documentation does not promise is written out here
without cancellation.  Arguments are exact: they are posits, whose significands are shorter than any precision
used.
"""

from collections.abc import Callable
from typing import Any

Context = Any  # mpmath publishes no types
Real = Any
Evaluate = Callable[[Context, Real], Real]

GUARD = 32  # bits: far more than the few units in the last place that mpmath's functions may err
_FLAT = 1 << 14  # from here on e**-x is below 2**-23000 and plays no part in any rounding


def _exp2(ctx: Context, x: Real) -> Real:
    return ctx.exp(x * ctx.ln2)  # |x| <= 2**14 loses 14 of the guard bits


def _exp10(ctx: Context, x: Real) -> Real:
    return ctx.exp(x * ctx.ln10)


def _tan_pi(ctx: Context, x: Real) -> Real:
    return ctx.sinpi(x) / ctx.cospi(x)


def _arc_cosh(ctx: Context, x: Real) -> Real:
    over = x - 1  # exact
    return ctx.log1p(over + ctx.sqrt(over * (over + 2)))


def _arc_tanh(ctx: Context, x: Real) -> Real:
    size = abs(x)
    half = ctx.log1p(2 * size / (1 - size)) / 2  # 1 - size is exact, or rounded harmlessly where size is tiny
    return half if x > 0 else -half


def _gelu(ctx: Context, x: Real) -> Real:
    return x * ctx.erfc(-min(x, _FLAT) / ctx.sqrt(2)) / 2  # erfc's condition number is below 2**29


def _softplus(ctx: Context, x: Real) -> Real:
    return max(x, ctx.zero) + ctx.log1p(ctx.exp(-min(abs(x), _FLAT)))


ONE: dict[str, Evaluate] = {
    "sqrt": lambda ctx, x: ctx.sqrt(x),
    "rsqrt": lambda ctx, x: 1 / ctx.sqrt(x),
    "exp": lambda ctx, x: ctx.exp(x),
    "exp_minus_1": lambda ctx, x: ctx.expm1(x),
    "exp2": _exp2,
    "exp2_minus_1": lambda ctx, x: ctx.expm1(x * ctx.ln2),
    "exp10": _exp10,
    "exp10_minus_1": lambda ctx, x: ctx.expm1(x * ctx.ln10),
    "log": lambda ctx, x: ctx.log(x),
    "log_plus_1": lambda ctx, x: ctx.log1p(x),
    "log2": lambda ctx, x: ctx.log(x) / ctx.ln2,
    "log2_plus_1": lambda ctx, x: ctx.log1p(x) / ctx.ln2,
    "log10": lambda ctx, x: ctx.log(x) / ctx.ln10,
    "log10_plus_1": lambda ctx, x: ctx.log1p(x) / ctx.ln10,
    "sin": lambda ctx, x: ctx.sin(x),
    "sin_pi": lambda ctx, x: ctx.sinpi(x),
    "cos": lambda ctx, x: ctx.cos(x),
    "cos_pi": lambda ctx, x: ctx.cospi(x),
    "tan": lambda ctx, x: ctx.tan(x),
    "tan_pi": _tan_pi,
    "arc_sin": lambda ctx, x: ctx.asin(x),
    "arc_sin_pi": lambda ctx, x: ctx.asin(x) / ctx.pi,
    "arc_cos": lambda ctx, x: ctx.acos(x),
    "arc_cos_pi": lambda ctx, x: ctx.acos(x) / ctx.pi,
    "arc_tan": lambda ctx, x: ctx.atan(x),
    "arc_tan_pi": lambda ctx, x: ctx.atan(x) / ctx.pi,
    "sinh": lambda ctx, x: ctx.sinh(x),
    "cosh": lambda ctx, x: ctx.cosh(x),
    "tanh": lambda ctx, x: ctx.tanh(x),
    "arc_sinh": lambda ctx, x: ctx.asinh(x),
    "arc_cosh": _arc_cosh,
    "arc_tanh": _arc_tanh,
    "erf": lambda ctx, x: ctx.erf(x),
    "sigmoid": lambda ctx, x: 1 / (1 + ctx.exp(-x)),
    "silu": lambda ctx, x: x / (1 + ctx.exp(-min(x, _FLAT))),
    "gelu": _gelu,
    "softplus": _softplus,
}
