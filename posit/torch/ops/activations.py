"""Activation functions and their derivatives.

Rounding points: each function is the correctly rounded real function of the stored posit (exact where it only
selects); each gradient is ``g * f'`` with the real number f' at the stored argument, or at the stored result for tanh,
sigmoid and functions in place, rounded once.  PReLU's gradient of its weight is one rounding per element and an exact
sum of these.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit import _buffers
from posit._kernels import pointwise as kernels
from posit._threads import split
from posit.errors import NoRuleError
from posit.torch.ops import families
from posit.torch.ops import formulas as f
from posit.torch.ops.comparisons import bounds
from posit.torch.ops.curves import Curve, apply, multiply_slope
from posit.torch.ops.elementwise import delivered, outcome_of
from posit.torch.ops.pointwise import (
    MUL,
    Floats,
    broadcast_shape,
    finite,
    flat_codes,
    odd_binary,
    rounded_once,
)
from posit.torch.ops.views import scalar_code
from posit.torch.registry import calling_module, refuse, register_rule
from posit.torch.tensor import PositTensor, outcome, to_numpy

aten = torch.ops.aten


def clamped(op: Any, x: PositTensor, low: float | None, high: float | None) -> PositTensor:
    """The posit x between two real numbers, then rounded; rounding keeps order, so that codes can be clamped."""
    y = outcome_of(op, x).cast(x)
    ends = [None if end is None else scalar_code(finite(op, end), y.format) for end in (low, high)]
    codes = y.codes.clamp(*ends)
    if x.has_nar():
        codes = torch.where(y.codes == -y.format.nar, y.codes, codes)
    return delivered(op, x, y.like(codes))


@register_rule(aten.relu.default, aten.relu_.default)
def _relu(op: Any, x: PositTensor) -> PositTensor:
    """max(x, 0); NaR stays NaR."""
    return clamped(op, x, 0.0, None)


@register_rule(aten.hardtanh.default, aten.hardtanh_.default)
def _hardtanh(op: Any, x: PositTensor, low: float = -1, high: float = 1) -> PositTensor:
    """The posit between two numbers; NaR stays NaR."""
    return clamped(op, x, low, high)


@register_rule(aten.threshold_backward.default)
def _threshold_backward(op: Any, grad: PositTensor, x: PositTensor, threshold: float) -> PositTensor:
    """The gradient where x > threshold (or x is NaR), else 0."""
    return gated(op, grad, x, (bounds(threshold, x.format)[1] + 1, x.format.maxpos))


@register_rule(aten.hardtanh_backward.default)
def _hardtanh_backward(op: Any, grad: PositTensor, x: PositTensor, low: float, high: float) -> PositTensor:
    """The gradient where low < x < high (or x is NaR), else 0."""
    return gated(op, grad, x, (bounds(low, x.format)[1] + 1, bounds(high, x.format)[0] - 1))


def gated(op: Any, grad: PositTensor, x: PositTensor, codes: tuple[int, int]) -> PositTensor:
    """The gradient where the code of x is from the first to the second, or NaR; else 0."""
    given = outcome(op, grad, x).cast(grad)
    shape = broadcast_shape(op, (given, x))
    g, own = (flat_codes(np.broadcast_to(to_numpy(each.codes), shape)) for each in (given, x))
    out = _buffers.empty(g.shape, g.dtype)
    kernel = kernels.gate(g.dtype, own.dtype)
    low, high = (own.dtype.type(max(min(code, x.format.maxpos), -x.format.maxpos)) for code in codes)
    if codes[0] > codes[1] or codes[0] > x.format.maxpos:
        low, high = own.dtype.type(1), own.dtype.type(0)
    nar = own.dtype.type(-x.format.nar)
    split(g.size, g.size, lambda i, j: kernel(g[i:j], own[i:j], low, high, nar, out[i:j]))
    return given.like(torch.from_numpy(out.reshape(shape)))


_CURVES: dict[str, Curve] = {
    "silu": f.SILU,
    "mish": f.MISH,
    "hardswish": f.HARDSWISH,
    "hardsigmoid": f.HARDSIGMOID,
}
_SLOPES: dict[Any, Curve] = {
    aten.silu_backward.default: f.SILU_SLOPE,
    aten.mish_backward.default: f.MISH_SLOPE,
    aten.hardswish_backward.default: f.HARDSWISH_SLOPE,
    aten.hardsigmoid_backward.default: f.HARDSIGMOID_SLOPE,
    aten.tanh_backward.default: f.TANH_SLOPE_OF_RESULT,
    aten.sigmoid_backward.default: f.SIGMOID_SLOPE_OF_RESULT,
}


@register_rule(
    *(getattr(aten, name).default for name in _CURVES),
    *(getattr(aten, f"{name}_").default for name in _CURVES),
)
def _activation(op: Any, x: PositTensor) -> PositTensor:
    return delivered(op, x, apply(_CURVES[op._opname.rstrip("_")], x, outcome_of(op, x)))


@register_rule(*_SLOPES)
def _activation_backward(op: Any, grad: PositTensor, saved: PositTensor) -> PositTensor:
    return multiply_slope(_SLOPES[op], grad, saved, outcome(op, grad, saved))


@register_rule(aten.gelu.default, aten.gelu_.default)
def _gelu(op: Any, x: PositTensor, *, approximate: str = "none") -> PositTensor:
    """The function x Phi(x), or its approximation by tanh with sqrt(2 / pi) and 0.044715 as real numbers."""
    return delivered(op, x, apply(f.GELU if approximate == "none" else f.GELU_TANH, x, outcome_of(op, x)))


@register_rule(aten.gelu_backward.default)
def _gelu_backward(op: Any, grad: PositTensor, x: PositTensor, *, approximate: str = "none") -> PositTensor:
    slope = f.GELU_SLOPE if approximate == "none" else f.GELU_TANH_SLOPE
    return multiply_slope(slope, grad, x, outcome(op, grad, x))


@register_rule(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(op: Any, x: PositTensor, slope: float = 0.01) -> PositTensor:
    return delivered(op, x, apply(families.kinked(finite(op, slope), 1.0), x, outcome_of(op, x)))


@register_rule(aten.leaky_relu_backward.default)
def _leaky_relu_backward(
    op: Any, grad: PositTensor, saved: PositTensor, slope: float, is_result: bool
) -> PositTensor:
    return multiply_slope(families.step(finite(op, slope), 1.0), grad, saved, outcome(op, grad, saved))


@register_rule(aten.elu.default, aten.elu_.default)
def _elu(op: Any, x: PositTensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> PositTensor:
    """Also of SELU."""
    return delivered(
        op, x, apply(families.elu(*_elu_numbers(op, alpha, scale, input_scale)), x, outcome_of(op, x))
    )


@register_rule(aten.celu.default, aten.celu_.default)
def _celu(op: Any, x: PositTensor, alpha: float = 1) -> PositTensor:
    """ELU of x / alpha times alpha; 1 / alpha is the float64 that PyTorch's backward pass is given."""
    curve = families.elu(*_elu_numbers(op, alpha, 1.0, 1.0 / alpha))
    return delivered(op, x, apply(curve, x, outcome_of(op, x)))


@register_rule(aten.elu_backward.default)
def _elu_backward(
    op: Any,
    grad: PositTensor,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    saved: PositTensor,
) -> PositTensor:
    family = families.elu_slope_of_result if is_result else families.elu_slope
    slope = family(*_elu_numbers(op, alpha, scale, input_scale))
    return multiply_slope(slope, grad, saved, outcome(op, grad, saved))


def _elu_numbers(op: Any, alpha: float, scale: float, input_scale: float) -> tuple[float, float, float]:
    if not input_scale > 0:
        raise NoRuleError(f"{op} needs a positive input scale, got {input_scale}{calling_module()}")
    return finite(op, alpha), finite(op, scale), finite(op, input_scale)


@register_rule(aten.softplus.default)
def _softplus(op: Any, x: PositTensor, beta: float = 1, threshold: float = 20) -> PositTensor:
    return apply(families.softplus(*_softplus_numbers(op, beta, threshold)), x, outcome(op, x))


@register_rule(aten.softplus_backward.default)
def _softplus_backward(
    op: Any, grad: PositTensor, x: PositTensor, beta: float, threshold: float
) -> PositTensor:
    slope = families.softplus_slope(*_softplus_numbers(op, beta, threshold))
    return multiply_slope(slope, grad, x, outcome(op, grad, x))


def _softplus_numbers(op: Any, beta: float, threshold: float) -> tuple[float, float]:
    if not beta > 0:
        raise NoRuleError(f"{op} needs a positive beta, got {beta}{calling_module()}")
    return finite(op, beta), finite(op, threshold)


@register_rule(aten.log_sigmoid_forward.default)
def _log_sigmoid(op: Any, x: PositTensor) -> tuple[PositTensor, PositTensor]:
    return apply(families.log_sigmoid(), x, outcome(op, x)), x.like(x.codes.new_empty(0))


@register_rule(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(op: Any, grad: PositTensor, x: PositTensor, buffer: Any) -> PositTensor:
    return multiply_slope(families.log_sigmoid_slope(), grad, x, outcome(op, grad, x))


@register_rule(aten._prelu_kernel.default)
def _prelu(op: Any, x: PositTensor, weight: PositTensor) -> PositTensor:
    """The function x above 0, else weight x."""

    def compute(x: Floats, w: Floats) -> Floats:
        return np.where(x > 0.0, x, odd_binary(MUL, x, w))

    return rounded_once(outcome(op, x, weight), op, (x, weight), compute, lambda x, w: x if x > 0 else w * x)


@register_rule(aten._prelu_kernel_backward.default)
def _prelu_backward(
    op: Any, grad: PositTensor, x: PositTensor, weight: PositTensor
) -> tuple[PositTensor, PositTensor]:
    """The gradients g or weight g of x, and 0 or x g of the weight."""

    def to_x(g: Floats, x: Floats, w: Floats) -> Floats:
        return np.where(x > 0.0, g, odd_binary(MUL, g, np.where(np.isnan(x), x, w)))

    def to_weight(g: Floats, x: Floats) -> Floats:
        return np.where(x > 0.0, 0.0 * g, odd_binary(MUL, g, x))

    result = outcome(op, grad, x, weight)
    return (
        rounded_once(result, op, (grad, x, weight), to_x, lambda g, x, w: g if x > 0 else w * g),
        rounded_once(result, op, (grad, x), to_weight, lambda g, x: Fraction(0) if x > 0 else x * g),
    )


refuse(
    aten.glu.default,
    reason="aten.glu.default has no rule for PositTensor{module}; "
    "write a, b = x.chunk(2, dim) and a * torch.sigmoid(b)",
)
