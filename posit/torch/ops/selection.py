"""Operators that choose between posits by a mask or by bounds.

Rounding points: none, but for numbers and operands of formats other than the result's, each rounded once.
"""

import math
from typing import Any

import numpy as np
import torch

from posit import _buffers
from posit._kernels import pointwise as kernels
from posit._threads import split
from posit.errors import FormatMismatch, NonFiniteError, NoRuleError
from posit.formats import Format
from posit.torch.ops.activations import clamped
from posit.torch.ops.comparisons import extreme
from posit.torch.ops.elementwise import delivered, outcome_of
from posit.torch.ops.pointwise import broadcast_shape, finite, flat_codes
from posit.torch.ops.views import scalar_code
from posit.torch.registry import calling_module, register_rule
from posit.torch.tensor import PositTensor, outcome, to_numpy

aten = torch.ops.aten


@register_rule(aten.where.self)
def _where(op: Any, mask: torch.Tensor, x: Any, y: Any) -> PositTensor:
    """Of x where the mask holds, else of y; a number comes as PyTorch gives it: an ordinary tensor without shape."""
    result = outcome(op, *(each for each in (x, y) if not _is_number(each)))
    codes = [
        _chosen(op, each, result.format) if _is_number(each) else result.cast(each).codes for each in (x, y)
    ]
    return result.like(_picked(op, mask, *codes))


def _picked(op: Any, mask: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Codes of x where the mask holds, else of y; all three broadcast."""
    if mask.dtype != torch.bool:
        raise FormatMismatch(f"{op} needs a mask of torch.bool{calling_module()}, got {mask.dtype}")
    shape = broadcast_shape(op, (mask, x, y))
    truths, a, b = (flat_codes(np.broadcast_to(to_numpy(each), shape)) for each in (mask, x, y))
    out = _buffers.empty(truths.shape, a.dtype)
    kernel = kernels.choose(a.dtype)
    split(out.size, out.size, lambda i, j: kernel(truths[i:j], a[i:j], b[i:j], out[i:j]))
    return torch.from_numpy(out.reshape(shape))


def _is_number(x: Any) -> bool:
    return not isinstance(x, PositTensor) and (not isinstance(x, torch.Tensor) or x.ndim == 0)


def _chosen(op: Any, number: Any, fmt: Format) -> torch.Tensor:
    dtype = {1: torch.int8, 2: torch.int16, 4: torch.int32}[fmt.storage.itemsize]
    return torch.tensor(_code(op, float(number), fmt), dtype=dtype)


def _code(op: Any, number: float, fmt: Format) -> int:
    """Code of a number written where a mask holds; NaN becomes NaR."""
    if math.isnan(number):
        return -fmt.nar
    if math.isinf(number):
        raise NonFiniteError(
            f"{op} got {number}{calling_module()}: posits have no infinities. To leave positions out of attention or a "
            "softmax give the mask to scaled_dot_product_attention (attn_mask=, is_causal=); elsewhere fill a finite "
            "number"
        )
    return scalar_code(number, fmt)


@register_rule(
    aten.masked_fill.Scalar, aten.masked_fill_.Scalar, aten.masked_fill.Tensor, aten.masked_fill_.Tensor
)
def _masked_fill(op: Any, x: PositTensor, mask: torch.Tensor, number: Any) -> PositTensor:
    """A number, rounded once, where the mask holds; -inf is refused, posits have none."""
    result = outcome_of(op, x)
    if isinstance(number, torch.Tensor) and number.ndim:
        raise FormatMismatch(
            f"{op} fills one number{calling_module()}, got a tensor of shape {tuple(number.shape)}"
        )
    code = _chosen(op, number, result.format)
    return delivered(op, x, result.like(_picked(op, mask, code, result.cast(x).codes)))


@register_rule(aten.clamp.default, aten.clamp_.default)
def _clamp(op: Any, x: PositTensor, low: Any = None, high: Any = None) -> PositTensor:
    """The posit x between two real numbers, rounded after that; NaR stays NaR."""
    if low is not None and high is not None and low > high:
        low = high
    return clamped(op, x, *(None if end is None or math.isinf(end) else end for end in (low, high)))


@register_rule(aten.clamp_min.default, aten.clamp_min_.default)
def _clamp_min(op: Any, x: PositTensor, low: float) -> PositTensor:
    return clamped(op, x, finite(op, low), None)


@register_rule(aten.clamp_max.default, aten.clamp_max_.default)
def _clamp_max(op: Any, x: PositTensor, high: float) -> PositTensor:
    return clamped(op, x, None, finite(op, high))


@register_rule(aten.clamp.Tensor, aten.clamp_.Tensor)
def _clamp_tensor(op: Any, x: PositTensor, low: Any = None, high: Any = None) -> PositTensor:
    """min(max(x, low), high); NaR where any is."""
    result = outcome_of(op, x, *(end for end in (low, high) if end is not None))
    y = result.cast(x)
    y = y if low is None else extreme(torch.maximum, y, result.cast(low))
    y = y if high is None else extreme(torch.minimum, y, result.cast(high))
    return delivered(op, x, y)


@register_rule(aten.nan_to_num.default, aten.nan_to_num_.default)
def _nan_to_num(op: Any, x: PositTensor, *args: Any) -> PositTensor:
    raise NoRuleError(
        f"{op} would hide NaR{calling_module()}; find where it comes from, or write x.masked_fill(x.isnan(), number)"
    )
