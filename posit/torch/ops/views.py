"""Operators that move, copy or create codes and change no value."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from posit.codec import encode_rational
from posit.errors import FormatMismatch, NoRuleError
from posit.formats import Format
from posit.torch.tensor import PositTensor, outcome, register_rule

aten = torch.ops.aten


@register_rule(
    aten.alias.default,
    aten.as_strided.default,
    aten.clone.default,
    aten.detach.default,
    aten.diagonal.default,
    aten.expand.default,
    aten.flip.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.permute.default,
    aten.repeat.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.unfold.default,
    aten.view.default,
    aten._unsafe_view.default,
    aten._reshape_alias.default,
)
def _same_values(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> PositTensor:
    return x.like(op(x.codes, *args, **kwargs))


@register_rule(aten.unbind.int, aten.split.Tensor, aten.split_with_sizes.default)
def _parts(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> list[PositTensor]:
    return [x.like(part) for part in op(x.codes, *args, **kwargs)]


@register_rule(aten.cat.default, aten.stack.default)
def _joined(op: Any, tensors: Sequence[PositTensor], *args: Any, **kwargs: Any) -> PositTensor:
    parts = [tensor for tensor in tensors if tensor.numel()] or list(tensors)
    if all(part.format == parts[0].format for part in parts):
        outcome(op, *parts)
        return parts[0].like(op([part.codes for part in parts], *args, **kwargs))
    result = outcome(op, *parts)
    return result.like(op([result.cast(part).codes for part in parts], *args, **kwargs))


@register_rule(aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default)
def _filled_like(op: Any, x: PositTensor, *, dtype: torch.dtype | None = None, **kwargs: Any) -> PositTensor:
    _require_outward_dtype(op, dtype)
    value = 1.0 if op is aten.ones_like.default else 0.0
    return x.like(torch.full_like(x.codes, scalar_code(value, x.format)))


@register_rule(
    aten.new_zeros.default, aten.new_empty.default, aten.new_ones.default, aten.new_empty_strided.default
)
def _new(
    op: Any, x: PositTensor, size: Sequence[int], *args: Any, dtype: Any = None, **kwargs: Any
) -> PositTensor:
    _require_outward_dtype(op, dtype)
    value = 1.0 if op is aten.new_ones.default else 0.0
    if op is aten.new_empty_strided.default:
        return x.like(x.codes.new_empty_strided(size, args[0]).zero_())
    return x.like(x.codes.new_full(tuple(size), scalar_code(value, x.format)))


@register_rule(aten.zero_.default)
def _zero(op: Any, x: PositTensor) -> PositTensor:
    x.codes.zero_()
    return x


@register_rule(aten.copy_.default)
def _copy(op: Any, x: PositTensor, source: Any, non_blocking: bool = False) -> PositTensor:
    if not isinstance(x, PositTensor):
        raise FormatMismatch(f"{op} cannot copy posits into a {x.dtype} tensor; use source.to_float()")
    if not isinstance(source, PositTensor):
        raise FormatMismatch(
            f"{op} got a {source.dtype} source for posits; round it with posit_tensor(x, fmt) first"
        )
    if source.format != x.format:
        raise FormatMismatch(f"{op} got formats {x.format} and {source.format}; cast one first")
    x.codes.copy_(source.codes)
    return x


@register_rule(aten._to_copy.default)
def _to_copy(op: Any, x: PositTensor, *, dtype: torch.dtype | None = None, **kwargs: Any) -> PositTensor:
    _require_outward_dtype(op, dtype)
    return x.like(x.codes.clone())


@register_rule(aten.slice_backward.default)
def _slice_backward(
    op: Any, grad: PositTensor, size: Sequence[int], dim: int, start: int, end: int, step: int
) -> PositTensor:
    codes = grad.codes.new_zeros(tuple(size))
    aten.slice.Tensor(codes, dim, start, end, step).copy_(grad.codes)
    return grad.like(codes)


@register_rule(aten.select_backward.default)
def _select_backward(op: Any, grad: PositTensor, size: Sequence[int], dim: int, index: int) -> PositTensor:
    codes = grad.codes.new_zeros(tuple(size))
    codes.select(dim, index).copy_(grad.codes)
    return grad.like(codes)


@register_rule(aten._local_scalar_dense.default)
def _item(op: Any, x: PositTensor) -> float:
    return float(x.to_float(torch.float64))


def scalar_code(value: float, fmt: Format) -> int:
    """Signed code of a Python number, rounded once."""
    code = encode_rational(Fraction(value), fmt)
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def _require_outward_dtype(op: Any, dtype: torch.dtype | None) -> None:
    if dtype not in (None, torch.float32):
        raise NoRuleError(f"{op} would turn posits into {dtype}; use .to_float() and convert that")
