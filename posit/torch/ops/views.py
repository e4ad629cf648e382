"""Operators that move, copy or create codes and change no value.

Rounding points: none, but for Python numbers that are written into posits (exact float64, rounded once), and parts of
different formats that are joined (each rounded once to the format of the result).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit.codec import encode_rational
from posit.errors import FormatMismatch, NoRuleError
from posit.formats import Format
from posit.torch.policy import in_backward
from posit.torch.registry import calling_module, register_function, register_rule
from posit.torch.tensor import Outcome, PositTensor, convert_codes, outcome, to_numpy

aten = torch.ops.aten


@register_rule(
    aten.alias.default,
    aten.as_strided.default,
    aten.channel_shuffle.default,
    aten.clone.default,
    aten.detach.default,
    aten.diag_embed.default,
    aten.diagonal.default,
    aten.diagonal_copy.default,
    aten.expand.default,
    aten.flip.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.lift_fresh.default,
    aten.masked_select.default,
    aten.permute.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.repeat.default,
    aten.roll.default,
    aten.rot90.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.take.default,
    aten.transpose.int,
    aten.tril.default,
    aten.triu.default,
    aten.unsqueeze.default,
    aten.unfold.default,
    aten.view.default,
    aten._unsafe_view.default,
    aten._reshape_alias.default,
)
def _same_values(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> PositTensor:
    return x.like(op(x.codes, *args, **kwargs))


@register_rule(
    aten.unbind.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unsafe_split.Tensor,
    aten.unsafe_split_with_sizes.default,
)
def _parts(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> list[PositTensor]:
    return [x.like(part) for part in op(x.codes, *args, **kwargs)]


@register_rule(aten.cat.default, aten.stack.default, aten.block_diag.default)
def _joined(op: Any, tensors: Sequence[Any], *args: Any, **kwargs: Any) -> PositTensor:
    like: PositTensor = next(tensor for tensor in tensors if isinstance(tensor, PositTensor))
    every = [zeros_of_autograd(tensor, like) for tensor in tensors]
    parts = every if op is not aten.cat.default else [part for part in every if part.numel()] or every
    result = outcome(op, *parts)
    if all(part.format == parts[0].format for part in parts):
        result = Outcome(parts[0].format, result.policy)
    return result.like(op([result.cast(part).codes for part in parts], *args, **kwargs))


def zeros_of_autograd(x: Any, like: PositTensor) -> Any:
    """The float zeros that autograd makes for outputs nobody used as posits; everything else as it is."""
    plain = isinstance(x, torch.Tensor) and not isinstance(x, PositTensor)
    if plain and in_backward() and x.dtype == torch.float32 and not bool(x.any()):
        return like.like(like.codes.new_zeros(x.shape))
    return x


@register_rule(aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default)
def _filled_like(op: Any, x: PositTensor, **kwargs: Any) -> Any:
    """Posits, or integers and booleans where `dtype` asks for them."""
    if _wants_integers(op, kwargs):
        return op(x.codes, **kwargs)
    value = 1.0 if op is aten.ones_like.default else 0.0
    return x.like(torch.full_like(x.codes, scalar_code(value, x.format)))


@register_rule(aten.full_like.default)
def _full_like(op: Any, x: PositTensor, value: float, **kwargs: Any) -> Any:
    if _wants_integers(op, kwargs):
        return op(x.codes, value, **kwargs)
    return x.like(torch.full_like(x.codes, scalar_code(value, x.format)))


@register_rule(aten.new_zeros.default, aten.new_empty.default, aten.new_ones.default, aten.new_full.default)
def _new(op: Any, x: PositTensor, size: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    if _wants_integers(op, kwargs):
        return op(x.codes, size, *args, **kwargs)
    value = args[0] if op is aten.new_full.default else 1.0 if op is aten.new_ones.default else 0.0
    return x.like(x.codes.new_full(tuple(size), scalar_code(value, x.format)))


@register_rule(aten.new_empty_strided.default)
def _new_strided(
    op: Any, x: PositTensor, size: Sequence[int], stride: Sequence[int], **kwargs: Any
) -> PositTensor:
    _require_outward(op, **kwargs)
    return x.like(x.codes.new_empty_strided(tuple(size), tuple(stride)).zero_())


@register_rule(aten.zero_.default, aten.tril_.default, aten.triu_.default)
def _in_place(op: Any, x: PositTensor, *args: Any) -> PositTensor:
    op(x.codes, *args)
    return x


@register_rule(aten.fill_.Scalar, aten.fill_.Tensor)
def _fill(op: Any, x: PositTensor, value: Any) -> PositTensor:
    """A Python number, rounded once, or one posit, everywhere."""
    if isinstance(value, (int, float)):
        x.codes.fill_(scalar_code(value, x.format))
    else:
        x.codes.copy_(codes_for(op, value, x))
    return x


@register_rule(aten.copy_.default)
def _copy(op: Any, x: PositTensor, source: Any, non_blocking: bool = False) -> PositTensor:
    """Posits of the same format; of another only within one policy, each rounded once.  Floats are refused."""
    if not isinstance(x, PositTensor):
        raise FormatMismatch(f"{op} cannot copy posits into a {x.dtype} tensor; use source.to_float()")
    x.codes.copy_(codes_for(op, source, x))
    return x


def codes_for(op: Any, source: Any, x: PositTensor) -> torch.Tensor:
    """Codes of what is to be written into `x`, in its format.

    Raises:
        FormatMismatch: floats; or posits of another format that do not come under x's policy.
    """
    given = zeros_of_autograd(source, x)
    if not isinstance(given, PositTensor):
        raise FormatMismatch(
            f"{op} got a {source.dtype} source for posits{calling_module()}; "
            "round it with posit_tensor(x, fmt) first"
        )
    if given.format == x.format:
        return given.codes
    if x.policy is None or given.policy != x.policy:
        raise FormatMismatch(
            f"{op} got formats {x.format} and {given.format}{calling_module()}; cast one first"
        )
    return torch.from_numpy(convert_codes(to_numpy(given.codes), given.format, x.format))


@register_function(torch.Tensor.__setitem__)
def _setitem(x: Any, index: Any, value: Any) -> None:
    """``x[index] = value``; a Python number is rounded once (PyTorch would make it float32 first)."""
    if isinstance(value, (int, float)) and isinstance(x, PositTensor):
        value = x.like(torch.tensor(scalar_code(value, x.format), dtype=x.codes.dtype))
    with torch._C.DisableTorchFunctionSubclass():
        torch.Tensor.__setitem__(x, index, value)


@register_rule(aten._to_copy.default)
def _to_copy(op: Any, x: PositTensor, **kwargs: Any) -> PositTensor:
    """A copy.  Other dtypes and devices are refused: ``x.float()`` is x itself, whose outward dtype is float32."""
    _require_outward(op, **kwargs)
    return x.like(x.codes.clone())


@register_rule(aten.slice_backward.default, aten.select_backward.default, aten.diagonal_backward.default)
def _part_backward(op: Any, grad: PositTensor, size: Sequence[int], *args: Any) -> PositTensor:
    """The gradient in its place, 0 elsewhere."""
    forward = {
        aten.slice_backward.default: aten.slice.Tensor,
        aten.select_backward.default: aten.select.int,
        aten.diagonal_backward.default: aten.diagonal.default,
    }[op]
    codes = grad.codes.new_zeros(tuple(size))
    forward(codes, *args).copy_(grad.codes)
    return grad.like(codes)


@register_rule(aten._local_scalar_dense.default)
def _item(op: Any, x: PositTensor) -> float:
    return float(x.to_float(torch.float64))


@register_rule(aten.equal.default)
def _equal(op: Any, x: Any, y: Any) -> bool:
    """Whether shapes and values are the same; NaR equals itself."""
    outcome(op, x, y)
    if x.format == y.format:
        return torch.equal(x.codes, y.codes)
    return bool(np.array_equal(x.values(), y.values(), equal_nan=True))


def scalar_code(value: float, fmt: Format) -> int:
    """Signed code of a Python number, rounded once; NaR of NaN and infinities."""
    code = encode_rational(Fraction(value), fmt) if abs(value) < float("inf") else fmt.nar
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def _wants_integers(op: Any, kwargs: dict[str, Any]) -> bool:
    dtype = kwargs.get("dtype")
    if dtype is not None and not dtype.is_floating_point and not dtype.is_complex:
        return True
    _require_outward(op, **kwargs)
    return False


def _require_outward(op: Any, dtype: Any = None, device: Any = None, layout: Any = None, **_: Any) -> None:
    if dtype not in (None, torch.float32):
        raise NoRuleError(f"{op} would turn posits into {dtype}; use .to_float() and convert that")
    if device is not None and torch.device(device).type != "cpu":
        raise NoRuleError(f"{op} would move posits to {device}; they stay on the CPU{calling_module()}")
    if layout not in (None, torch.strided):
        raise NoRuleError(f"{op} would turn posits into {layout}; they are dense{calling_module()}")
