"""Multi-head attention from `F.linear` and scaled-dot-product attention: the rounding points are theirs.

PyTorch's modules (`nn.MultiheadAttention` and the Transformer layers) call it unmodified.  Unlike PyTorch's, the path
that returns weights scales scores instead of queries, so that both paths have the same bits.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit.errors import NoRuleError, ShapeError
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.attention import Masking, attention_weights, context, dropped, read_mask
from posit.torch.ops.contractions import product
from posit.torch.ops.reductions import sum_leading
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor

_NAME = "multi_head_attention_forward"
Kept = npt.NDArray[np.bool_]


@register_function(functional.multi_head_attention_forward)
def multi_head_attention_forward(
    query: PositTensor,
    key: PositTensor,
    value: PositTensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: PositTensor | None,
    in_proj_bias: PositTensor | None,
    bias_k: PositTensor | None,
    bias_v: PositTensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: PositTensor,
    out_proj_bias: PositTensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: PositTensor | None = None,
    k_proj_weight: PositTensor | None = None,
    v_proj_weight: PositTensor | None = None,
    static_k: PositTensor | None = None,
    static_v: PositTensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Multi-head attention, sequence first, with PyTorch's arguments.

    Args:
        query: Shape (l, n, e), or (l, e) without a batch; key and value (s, n, e) or (s, e).
        key_padding_mask: Shape (n, s), bool (True: masked) or float.
        attn_mask: Shape (l, s) or (n * heads, l, s), bool (True: masked) or float.

    Returns:
        The output (l, n, e), and the weights (n, l, s), averaged over heads (n, heads, l, s otherwise), or None.  A
        query of which every position is masked has weights and context 0.
    """
    if static_k is not None or static_v is not None:
        raise NoRuleError(
            f"{_NAME} has no rule for static_k and static_v{calling_module()}; pass key and value"
        )
    batched = query.ndim == 3
    if not batched:
        alike = key is query, value is key
        query = query.unsqueeze(1)  # type: ignore[assignment]  # of a PositTensor
        key = query if alike[0] else key.unsqueeze(1)  # type: ignore[assignment]  # the same
        value = key if alike[1] else value.unsqueeze(1)  # type: ignore[assignment]  # the same
    _require_shapes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    weights_of = (
        (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else (in_proj_weight,)
    )
    q, k, v = _projected(query, key, value, weights_of, in_proj_bias)
    if bias_k is not None and bias_v is not None:
        k, v = (torch.cat([x, b.repeat(1, x.shape[1], 1)]) for x, b in ((k, bias_k), (v, bias_v)))
    q, k, v = (_heads(x, num_heads) for x in (q, k, v))
    if add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(*x.shape[:2], 1, x.shape[-1])], dim=2) for x in (k, v))
    masking = _merged(attn_mask, key_padding_mask, is_causal, (*q.shape[:3], k.shape[2]), key.shape[0])
    weights = attention_weights(q, k, masking, 1 / math.sqrt(q.shape[-1]))
    weights = dropped(weights, dropout_p if training else 0.0)
    merged = context(weights, v).permute(2, 0, 1, 3).reshape(*query.shape[:2], -1)
    output = functional.linear(merged, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (output if batched else output.squeeze(1)), None
    shown: Any = weights.mean(dim=1) if average_attn_weights else weights
    return (output, shown) if batched else (output.squeeze(1), shown.squeeze(0))


def _require_shapes(
    query: PositTensor, key: PositTensor, value: PositTensor, width: int, heads: int, separate: bool
) -> None:
    shapes = [tuple(x.shape) for x in (query, key, value)]
    fits = (
        all(len(shape) == 3 and shape[1] == shapes[0][1] for shape in shapes) and shapes[1][0] == shapes[2][0]
    )
    if not fits or shapes[0][2] != width or width % heads or not (separate or shapes[1] == shapes[2]):
        raise ShapeError(
            f"{_NAME} needs query (l, n, {width}), key and value (s, n, e) and a width that {heads} heads divide, "
            f"got {shapes}{calling_module()}"
        )


def _projected(
    query: PositTensor,
    key: PositTensor,
    value: PositTensor,
    weights: tuple[Any, ...],
    bias: PositTensor | None,
) -> tuple[Any, ...]:
    """Queries, keys and values; gradients of a packed weight are formed in one piece."""
    if len(weights) == 1 and query is key and key is value:
        return functional.linear(query, weights[0], bias).chunk(3, dim=-1)
    inputs = (query, key, value)
    if len(weights) == 1 and key is value:
        inputs = (query, key)  # type: ignore[assignment]  # keys and values in one product
    found: tuple[Any, ...] = _Projections.apply(bias, len(weights), *weights, *inputs)  # type: ignore[no-untyped-call]
    return found if len(found) == 3 else (found[0], *found[1].chunk(2, dim=-1))


class _Projections(OnceDifferentiable):
    """``x_i @ weight_i.T + bias_i`` with one packed bias, and weights packed or apart."""

    @staticmethod
    def forward(ctx: Any, bias: Any, count: int, *weights_and_inputs: Any) -> Any:
        weights, inputs = weights_and_inputs[:count], weights_and_inputs[count:]
        ctx.save_for_backward(*weights_and_inputs)
        ctx.count = count
        ctx.sums = [None if bias is None else sums_for(bias), *map(sums_for, weights)]
        ctx.slices = _row_slices(weights, len(inputs))
        results = []
        for index, x in enumerate(inputs):
            weight, own = _own(weights, ctx.slices, index)
            rows = x.reshape(-1, x.shape[-1])
            added = None if bias is None else bias[ctx.slices[index]]
            results.append(product("linear", rows, weight[own].t(), added).view(*x.shape[:-1], -1))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors
        weights, inputs = saved[: ctx.count], saved[ctx.count :]
        rows = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        to_bias = _to_bias(ctx, rows) if ctx.needs_input_grad[0] else None
        to_inputs = []
        to_weights: list[list[Any]] = [[] for _ in weights]
        for index, (x, grad) in enumerate(zip(inputs, rows, strict=True)):
            weight, own = _own(weights, ctx.slices, index)
            place = min(index, ctx.count - 1)
            needed = ctx.needs_input_grad
            to_inputs.append(
                product("linear", grad, weight[own]).view(x.shape) if needed[2 + ctx.count + index] else None
            )
            if needed[2 + place]:
                factors = grad.t(), x.reshape(-1, x.shape[-1])
                if (total := ctx.sums[1 + place]) is None:
                    to_weights[place].append(product("linear", *factors))
                else:
                    total.add_product(*factors, rows=own)
        joined = [torch.cat(parts) if parts else None for parts in to_weights]
        return to_bias, None, *joined, *to_inputs


def _row_slices(weights: tuple[Any, ...], inputs: int) -> list[slice]:
    """Which entries of the packed bias, and rows of a packed weight, belong to each input."""
    if len(weights) > 1:
        ends = np.cumsum([0, *(weight.shape[0] for weight in weights)]).tolist()
    else:
        width = weights[0].shape[0] // 3
        ends = [0, width, 3 * width] if inputs == 2 else [0, width, 2 * width, 3 * width]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _own(weights: tuple[Any, ...], slices: list[slice], index: int) -> tuple[Any, slice]:
    return (weights[0], slices[index]) if len(weights) == 1 else (weights[index], slice(None))


def _to_bias(ctx: Any, rows: list[Any]) -> Any:
    total = ctx.sums[0]
    if total is None:
        return torch.cat([sum_leading("linear", grad) for grad in rows])
    for own, grad in zip(ctx.slices, rows, strict=True):
        codes = grad.codes.new_zeros(grad.shape[0], ctx.slices[-1].stop)
        codes[:, own] = grad.codes
        total.add(grad.like(codes))
    return None


def _heads(x: Any, heads: int) -> Any:
    """(s, n, e) as (n, heads, s, e / heads)."""
    return x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _merged(
    attn_mask: torch.Tensor | None,
    padding: torch.Tensor | None,
    is_causal: bool,
    shape: tuple[int, int, int, int],
    keys: int,
) -> Masking:
    """Both masks, which are True or -inf where a position is masked, for scores (n, heads, l, s).

    Positions beyond `keys`, those of bias_k and of add_zero_attn, are seen by all.
    """
    n, heads, length, _ = shape
    if is_causal and attn_mask is None:
        raise ShapeError(f"{_NAME} needs attn_mask with is_causal{calling_module()}, as PyTorch does")
    parts = []
    if attn_mask is not None:
        wanted = (length, keys) if attn_mask.ndim == 2 else (n * heads, length, keys)
        table = _checked("attn_mask", attn_mask, wanted)
        parts.append(table if attn_mask.ndim == 2 else table.reshape(n, heads, length, keys))
    if padding is not None:
        if padding.ndim == 1:
            padding = padding.unsqueeze(0)
        parts.append(_checked("key_padding_mask", padding, (n, keys)).reshape(n, 1, 1, keys))
    readings = [read_mask(_padded(part, shape[3] - keys)) for part in parts]
    kept: Kept | None = None
    added = None
    for reading in readings:
        if reading.kept is not None:
            kept = reading.kept if kept is None else kept & reading.kept
        if reading.added is not None:
            added = reading.added if added is None else added + reading.added
    return Masking(kept, added)


def _checked(name: str, mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(mask.shape) != shape:
        raise ShapeError(f"{_NAME} needs {name} of shape {shape}, got {tuple(mask.shape)}{calling_module()}")
    return mask


def _padded(mask: torch.Tensor, more: int) -> torch.Tensor:
    """With columns at the end that everyone sees; bool masks turned round, True for what is kept."""
    kept = ~mask if mask.dtype == torch.bool else mask
    return functional.pad(kept, (0, more), value=1.0 if mask.dtype == torch.bool else 0.0) if more else kept
