"""Scaled-dot-product attention: every sum exact, masked positions left out, exact 0 at them.

Rounding points, forward (each one rounding of the exact real value, in the format of activations):

1. scores ``scale * (q . k) + attn_mask``, with scale an exact float64 (by default ``1 / sqrt(d)`` rounded to float64)
   and finite entries of a float mask added as they are;
2. probabilities, the softmax of the stored scores over the positions that are not masked;
3. the context, the exact sum of probabilities times values.

Backward, in the format of gradients: the gradients of values and of probabilities (one contraction each), of scores
(``p (g - sum p g)`` over the stored p and g), of queries and of keys (scale times one contraction each).

A masked position (False in a bool mask, -inf in a float mask, above the diagonal where causal) is left out of maximum,
sum and context and gets an exact 0 in both directions, even where NaR stands at it.  A query of which all is masked
has an all-zero result and gradient, as in PyTorch's own function.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit import _buffers
from posit.errors import NoRuleError, ShapeError
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.contractions import product
from posit.torch.ops.scaled import scaled_product, scaled_sparing, spread_rows
from posit.torch.ops.softmax import Mask, softmax_backward_rows, softmax_rows
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome, to_numpy

Floats = npt.NDArray[np.float64]
_NAME = "scaled_dot_product_attention"


class Masking(NamedTuple):
    """What a mask says: which positions are kept and what is added to scores; both broadcast to (..., l, s)."""

    kept: npt.NDArray[np.bool_] | None
    added: Floats | None


@register_function(functional.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query: PositTensor,
    key: PositTensor,
    value: PositTensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(scale * query @ key.T + mask) @ value``; the module's docstring has the rounding points.

    Args:
        query: Shape (..., l, d).
        key: Shape (..., s, d).
        value: Shape (..., s, e); leading dimensions broadcast.
        attn_mask: bool (True: take part) or float64 or float32 (-inf: masked), broadcasts to (..., l, s).
        dropout_p: Share of probabilities set to 0, by `F.dropout`.
        is_causal: Query i sees keys 0 to i only.
        scale: A finite number; by default ``1 / math.sqrt(d)``.
        enable_gqa: Keys and values have fewer heads (dimension -3) than queries, each serving a group of them.
    """
    outcome(_NAME, query, key, value)  # which refuses plain floats
    if enable_gqa:
        key, value = (_repeated(x, query.shape[-3]) for x in (key, value))
    query, key, value = _same_batch(query, key, value)
    masking = _masking(attn_mask, is_causal, query, key)
    factor = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else float(scale)
    weights = attention_weights(query, key, masking, factor)
    return context(dropped(weights, dropout_p), value)


def attention_weights(query: PositTensor, key: PositTensor, masking: Masking, scale: float) -> PositTensor:
    """Probabilities (..., l, s) of queries (..., l, d) and keys (..., s, d) with the same leading dimensions."""
    weights: PositTensor = _Weights.apply(query, key, masking, scale)  # type: ignore[no-untyped-call]
    return weights


def context(weights: PositTensor, value: PositTensor) -> PositTensor:
    """``weights @ value``, exact and rounded once; a weight of exactly 0 leaves its value out, NaR or not."""
    result: PositTensor = _Context.apply(weights, value)  # type: ignore[no-untyped-call]
    return result


def dropped(weights: PositTensor, p: float) -> Any:
    """Weights after dropout."""
    return functional.dropout(weights, p) if p else weights


class _Weights(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, masking: Masking, scale: float) -> Any:
        scores = scaled_product(_NAME, query, _transposed(key), scale, masking.added)
        codes = _buffers.contiguous(to_numpy(scores.codes))
        rows = codes.reshape(math.prod(codes.shape[:-1]), codes.shape[-1])
        mask = _row_mask(masking.kept, codes.shape)
        result = outcome(_NAME, query, key)
        weights = result.wrap(softmax_rows(rows, scores.format, result.format, mask).reshape(codes.shape))
        ctx.save_for_backward(query, key, weights)
        ctx.scale = scale
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, weights = ctx.saved_tensors
        result = outcome(_NAME, grad, weights)
        g, y = (_buffers.contiguous(to_numpy(x.codes)) for x in (grad, weights))
        flat = math.prod(g.shape[:-1]), g.shape[-1]
        rows = softmax_backward_rows(
            g.reshape(flat), grad.format, y.reshape(flat), weights.format, result.format
        )
        scores = result.wrap(rows.reshape(g.shape))
        to_query = to_key = None
        if ctx.needs_input_grad[0]:
            to_query = scaled_sparing(_NAME, scores, key, weights, ctx.scale)
        if ctx.needs_input_grad[1]:
            to_key = scaled_sparing(_NAME, _transposed(scores), query, _transposed(weights), ctx.scale)
        return to_query, to_key, None, None


class _Context(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, weights: Any, value: Any) -> Any:
        ctx.save_for_backward(weights, value)
        return scaled_sparing(_NAME, weights, value, weights, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        weights, value = ctx.saved_tensors
        to_weights = to_value = None
        if ctx.needs_input_grad[0]:
            to_weights = product(_NAME, grad, _transposed(value))
        if ctx.needs_input_grad[1]:
            turned = _transposed(weights)
            to_value = scaled_sparing(_NAME, turned, grad, turned, 1.0)
        return to_weights, to_value


def _transposed(x: PositTensor) -> PositTensor:
    return x.like(x.codes.transpose(-2, -1))


def _repeated(x: PositTensor, heads: int) -> Any:
    """Each head of dimension -3 as often as makes `heads` of them."""
    if x.ndim < 3 or x.shape[-3] == 0 or heads % x.shape[-3]:
        raise ShapeError(
            f"{_NAME} with enable_gqa needs heads of keys and values that divide {heads}, got {x.shape}"
        )
    if x.shape[-3] == heads:
        return x
    groups = x.unsqueeze(-3)
    shape = list(groups.shape)
    shape[-3] = heads // x.shape[-3]
    return groups.expand(shape).reshape(*x.shape[:-3], heads, *x.shape[-2:])


def _same_batch(query: PositTensor, key: PositTensor, value: PositTensor) -> tuple[Any, Any, Any]:
    """All with the same leading dimensions."""
    if min(x.ndim for x in (query, key, value)) < 2 or query.shape[-1] != key.shape[-1]:
        fits = False
    else:
        fits = key.shape[-2] == value.shape[-2]
    shapes = [tuple(x.shape) for x in (query, key, value)]
    if not fits:
        raise ShapeError(
            f"{_NAME} needs query (..., l, d), key (..., s, d) and value (..., s, e), got {shapes}{calling_module()}"
        )
    try:
        batch = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    except ValueError:
        raise ShapeError(
            f"{_NAME} got leading dimensions that do not broadcast: {shapes}{calling_module()}"
        ) from None
    return tuple(x if x.shape[:-2] == batch else x.expand(*batch, *x.shape[-2:]) for x in (query, key, value))  # type: ignore[return-value]


def _masking(mask: torch.Tensor | None, is_causal: bool, query: PositTensor, key: PositTensor) -> Masking:
    shape = (*query.shape[:-1], key.shape[-2])
    masking = read_mask(mask)
    if is_causal:
        if mask is not None:
            raise ShapeError(f"{_NAME} takes attn_mask or is_causal, not both{calling_module()}")
        masking = Masking(np.tri(*shape[-2:], dtype=np.bool_), None)
    for part in masking:
        if part is not None and (part.ndim > len(shape) or not _broadcasts(part.shape, shape)):
            raise ShapeError(
                f"{_NAME} needs attn_mask that broadcasts to {shape}, got {part.shape}{calling_module()}"
            )
    return masking


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return all(own in (1, other) for own, other in zip(reversed(shape), reversed(to), strict=False))


def read_mask(mask: torch.Tensor | None) -> Masking:
    """What a bool mask (True: kept) or a float mask (-inf: masked, else added) says.

    Raises:
        NoRuleError: the mask is of posits or needs a gradient, or is neither bool nor float32 or float64.
        ShapeError: a float mask holds NaN or +inf.
    """
    if mask is None:
        return Masking(None, None)
    if isinstance(mask, PositTensor) or mask.requires_grad:
        raise NoRuleError(
            f"{_NAME} has no rule for a mask of posits or one that needs a gradient{calling_module()}; "
            "give a bool mask, or a plain float mask of constants"
        )
    if mask.dtype == torch.bool:
        return Masking(mask.numpy(), None)
    if mask.dtype not in (torch.float32, torch.float64):
        raise NoRuleError(f"{_NAME} takes bool, float32 or float64 masks, got {mask.dtype}{calling_module()}")
    numbers = mask.numpy().astype(np.float64)
    kept = numbers != -np.inf
    if not np.isfinite(numbers[kept]).all():
        raise ShapeError(
            f"{_NAME} got a mask with NaN or +inf{calling_module()}; use -inf to mask a position"
        )
    added = np.where(kept, numbers, 0.0)
    return Masking(None if kept.all() else kept, added if added.any() else None)


def _row_mask(kept: npt.NDArray[np.bool_] | None, shape: tuple[int, ...]) -> Mask | None:
    if kept is None:
        return None
    rows, places = spread_rows(kept.astype(np.uint8), shape)
    return Mask(rows, places)
