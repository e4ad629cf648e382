"""Elementwise operators: each result is the exact real result rounded once."""

from typing import Any

import numpy as np
import torch

from posit.codec import Codes
from posit.errors import NoRuleError
from posit.fused import axpy
from posit.torch.ops.views import scalar_code
from posit.torch.tensor import PositTensor, register_rule, same_format, to_numpy, wrap

aten = torch.ops.aten


def _nar(x: PositTensor) -> int:
    return -(1 << (x.format.nbits - 1))


@register_rule(aten.relu.default)
def _relu(op: Any, x: PositTensor) -> PositTensor:
    """max(x, 0); NaR stays NaR."""
    codes = x.codes.clamp(min=0)
    if x.has_nar():
        codes = torch.where(x.codes == _nar(x), x.codes, codes)
    return PositTensor(codes, x.format)


@register_rule(aten.threshold_backward.default)
def _threshold_backward(op: Any, grad: PositTensor, x: PositTensor, threshold: float) -> PositTensor:
    """The gradient where x > threshold (or x is NaR), else 0."""
    same_format(op, grad, x)
    passes = (x.codes > scalar_code(threshold, x.format)) | (x.codes == _nar(x))
    return PositTensor(grad.codes * passes, x.format)


@register_rule(aten.neg.default)
def _neg(op: Any, x: PositTensor) -> PositTensor:
    """-x, exact; NaR stays NaR."""
    return PositTensor(torch.where(x.codes == _nar(x), x.codes, -x.codes), x.format)


@register_rule(aten.add.Tensor, aten.sub.Tensor, aten.add_.Tensor, aten.sub_.Tensor)
def _add(op: Any, x: Any, y: Any, *, alpha: float = 1) -> PositTensor:
    """The sum x ± alpha y with one rounding."""
    sign = -1.0 if op in (aten.sub.Tensor, aten.sub_.Tensor) else 1.0
    if isinstance(y, (int, float)) or isinstance(x, (int, float)):
        raise NoRuleError(
            f"{op} of a PositTensor and a Python number has no rule yet; make the number a posit_tensor"
        )
    fmt = same_format(op, x, y)
    left, right = torch.broadcast_tensors(x.codes, y.codes)
    codes = axpy(sign * alpha, _contiguous(right), _contiguous(left), fmt)
    if op in (aten.add_.Tensor, aten.sub_.Tensor):
        x.codes.copy_(torch.from_numpy(codes))
        return x  # type: ignore[no-any-return]
    return wrap(codes, fmt)


@register_rule(aten.mul.Tensor, aten.mul.Scalar, aten.div.Scalar, aten.div.Tensor)
def _scale(op: Any, x: Any, y: Any) -> PositTensor:
    """The product with a Python number, rounded once (division only by powers of two, where it is exact)."""
    if isinstance(x, (int, float)) and op is aten.mul.Tensor:
        x, y = y, x
    if not isinstance(x, PositTensor) or not isinstance(y, (int, float)):
        raise NoRuleError(
            f"{op} of two tensors has no rule for PositTensor yet; only a product with a Python number has"
        )
    factor = float(y)
    if op in (aten.div.Scalar, aten.div.Tensor):
        factor = 1.0 / factor
        if np.frexp(factor)[0] != 0.5:
            raise NoRuleError(
                f"{op} by {y} has no rule for PositTensor yet; only division by a power of two has"
            )
    codes = _contiguous(x.codes)
    return wrap(axpy(factor, codes, np.zeros_like(codes), x.format), x.format)


def _contiguous(codes: torch.Tensor) -> Codes:
    return to_numpy(codes.contiguous())
