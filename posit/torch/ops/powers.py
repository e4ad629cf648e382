"""Powers, and functions whose derivative PyTorch would form in several steps: here it is rounded once.

Rounding points: one for each result; in the backward pass one for each gradient, ``g * f'(x)`` with the real number
f'(x) at the stored x (and one more where a broadcast operand's gradients are summed).  Inside functions of torch that
are not taken over whole, the aten operators apply, whose derivatives PyTorch composes with a rounding at every step.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit._elementary.several import SEVERAL
from posit._elementary.ziv import Solution
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.curves import Curve, apply, multiply_slope, registered
from posit.torch.ops.elementwise import CURVES, combine, delivered, numbers_checked, outcome_of
from posit.torch.ops.families import power
from posit.torch.ops.formulas import TINY, evaluated, of_zero, square_error
from posit.torch.ops.pointwise import DIV, MUL, Bounded, Floats, finite, rounded_once
from posit.torch.registry import register_function, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome

aten = torch.ops.aten


def _mirrored(curve: Curve) -> Curve:
    """The function times -1."""

    def approximate(x: Floats) -> Bounded:
        values, bound = curve.approximate(x)
        return -values, bound

    def exactly(x: Fraction) -> Solution:
        found = curve.solve(x)
        if found is None or isinstance(found, Fraction):
            return None if found is None else -found
        return lambda ctx: -found(ctx)

    return Curve(approximate, exactly)


def _exact_at_zero(curve: Curve) -> Curve:
    """The same, its bound 0 at 0."""

    def approximate(x: Floats) -> Bounded:
        values, bound = curve.approximate(x)
        return of_zero(x, values, bound)

    return Curve(approximate, curve.solve)


def _bell(x: Floats) -> Bounded:
    """2 / sqrt(pi) exp(-x**2), the slope of the error function."""
    x = np.clip(x, -40.0, 40.0)
    return np.maximum(1.1283791670955126 * np.exp(-np.square(x)), TINY), 2.0**-48 + 2.0 * square_error(x)


def _bell_real(ctx: Any, x: Any) -> Any:
    return 2 * ctx.exp(-x * x) / ctx.sqrt(ctx.pi)


#: Slopes over the argument of functions whose derivative PyTorch would form in several steps.
SLOPES: dict[str, Curve] = {
    "sin": _exact_at_zero(registered("cos")),
    "cos": _mirrored(registered("sin")),
    "erf": Curve(_bell, lambda x: evaluated(_bell_real, x)),
    "expm1": _exact_at_zero(registered("exp")),
    "log1p": Curve(
        lambda x: (np.where(x > -1.0, 1.0 / (1.0 + x), np.nan), np.where(x == 0.0, 0.0, 2.0**-51)),
        lambda x: 1 / (1 + x) if x > -1 else None,
    ),
    "sqrt": power(Fraction(-1, 2), Fraction(1, 2)),
    "rsqrt": power(Fraction(-3, 2), Fraction(-1, 2)),
    "reciprocal": power(Fraction(-2), Fraction(-1)),
    "square": Curve(lambda x: (2.0 * x, 0.0), lambda x: 2 * x),
}


@register_rule(aten.pow.Tensor_Scalar, aten.pow_.Scalar)
def _pow_number(op: Any, x: PositTensor, exponent: float) -> PositTensor:
    """The posit x to a Python number; NaR where that is no real number, 1 for exponent 0."""
    return delivered(op, x, _power(op, x, finite(op, exponent), outcome_of(op, x)))


def _power(op: Any, x: PositTensor, exponent: float, result: Outcome) -> PositTensor:
    if exponent == 2.0:
        return combine(MUL, op, x, x, result)
    if exponent in (0.5, -0.5, -1.0):
        return apply(CURVES[{0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}[exponent]], x, result)
    return apply(power(Fraction(exponent)), x, result)


@register_rule(aten.pow.Tensor_Tensor, aten.pow.Scalar, aten.pow_.Tensor)
def _pow(op: Any, x: Any, exponent: Any) -> PositTensor:
    """The posit x to a power, both posits, or one a number."""
    x, exponent = numbers_checked(op, x, exponent)
    function = SEVERAL["pow"]
    result = rounded_once(
        outcome_of(op, x, exponent), op, (x, exponent), function.approximate, function.solve
    )
    return delivered(op, x, result)


class _Smooth(OnceDifferentiable):
    """A function of one argument and its slope."""

    @staticmethod
    def forward(ctx: Any, x: Any, function: Callable[[Any], Any], slope: Curve) -> Any:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return function(x)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return multiply_slope(ctx.slope, grad, x, outcome("backward", grad, x)), None, None


def _differentiated(name: str) -> Callable[..., Any]:
    slope, curve = SLOPES[name], CURVES.get(name)

    def function(x: PositTensor) -> PositTensor:
        result = outcome(name, x)
        return combine(MUL, name, x, x, result) if curve is None else apply(curve, x, result)

    def rule(x: Any) -> Any:
        return _Smooth.apply(x, function, slope)  # type: ignore[no-untyped-call]

    return rule


for _name in SLOPES:
    register_function(getattr(torch, _name), getattr(torch.Tensor, _name))(_differentiated(_name))
register_function(torch.special.expm1)(_differentiated("expm1"))
register_function(torch.special.erf)(_differentiated("erf"))
register_function(torch.special.log1p)(_differentiated("log1p"))


@register_function(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__)
def _raised(x: Any, exponent: Any) -> Any:
    if not isinstance(x, PositTensor) or isinstance(exponent, torch.Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return torch.pow(x, exponent)
    p = finite("pow", exponent)
    slope = SLOPES["square"] if p == 2.0 else power(Fraction(p) - 1, Fraction(p))
    return _Smooth.apply(x, lambda x: _power("pow", x, p, outcome("pow", x)), slope)  # type: ignore[no-untyped-call]


class _Quotient(OnceDifferentiable):
    """The posit x / y for posits and numbers, each gradient of its elements rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        x, y = numbers_checked("div", x, y)
        ctx.numerator = None if isinstance(x, torch.Tensor) else x
        ctx.save_for_backward(*(x, y) if isinstance(x, torch.Tensor) else (y,))
        return combine(DIV, "div", x, y, outcome_of("div", x, y))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        *numerator, y = ctx.saved_tensors
        x = numerator[0] if numerator else ctx.numerator
        result = outcome("div", grad, *(each for each in (x, y) if isinstance(each, PositTensor)))
        to_x = to_y = None
        if ctx.needs_input_grad[0]:
            to_x = combine(DIV, "div", grad, y, result).sum_to_size(x.shape)
        if ctx.needs_input_grad[1]:
            to_y = rounded_once(result, "div", (grad, x, y), _fall, _exact_fall).sum_to_size(y.shape)
        return to_x, to_y


def _fall(g: Floats, x: Floats, y: Floats) -> tuple[Floats, float]:
    """The gradient -g x / y**2 of a divisor, its range kept by halves and exponents."""
    parts = [np.frexp(part) for part in (g, x, y)]
    (a, i), (b, j), (c, k) = parts
    fraction = np.where(y == 0.0, np.nan, -(a * b) / (c * c))
    scale: Any = i + j - 2 * k
    return np.ldexp(fraction, np.clip(scale, -1005, 1005)), 2.0**-50


def _exact_fall(g: Fraction, x: Fraction, y: Fraction) -> Solution:
    return -g * x / (y * y) if y else None


@register_function(
    torch.div, torch.true_divide, torch.Tensor.div, torch.Tensor.true_divide, torch.Tensor.__truediv__
)
def _divided(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None or not isinstance(y, PositTensor) or not _whole(x):
        options: Any = {} if rounding_mode is None else {"rounding_mode": rounding_mode}
        with torch._C.DisableTorchFunctionSubclass():
            return torch.div(x, y, **options)
    return _Quotient.apply(x, y)  # type: ignore[no-untyped-call]


@register_function(torch.Tensor.__rdiv__, torch.Tensor.__rtruediv__)
def _divided_by(y: Any, x: Any) -> Any:
    return _divided(x, y)


def _whole(x: Any) -> bool:
    """Whether a dividend is posits or a number (a plain tensor takes PyTorch's way, and is refused there)."""
    return isinstance(x, PositTensor | int | float)
