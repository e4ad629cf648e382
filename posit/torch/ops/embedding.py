"""Embedding: rows of a table, and the exact gradient of the table.

Rounding points: forward none (one where activations have another format than the table); backward, one rounding of
the exact sum of all gradients that a row receives, or none where the gradient is kept as a `GradientSum`.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from posit.errors import NoRuleError, ShapeError
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.indexing import in_range
from posit.torch.ops.segments import divided, summed
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome, to_numpy


@register_function(functional.embedding)
def embedding(
    input: torch.Tensor,  # noqa: A002  # torch's name, given by keyword
    weight: PositTensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of `weight`; backward the exact sum of the gradients of each row, rounded once.

    Args:
        input: Integers from 0 to ``len(weight) - 1``, any shape.
        weight: Shape (rows, ...).
        padding_idx: A row that gets no gradient; negative counts from the end.
        max_norm: Refused; so are `scale_grad_by_freq` and `sparse`.
        norm_type: Without `max_norm` it means nothing.

    Raises:
        ShapeError: an index out of range.
        NoRuleError: an option that is refused.
    """
    _refuse("embedding", max_norm, scale_grad_by_freq, sparse)
    where = _indices("embedding", input, weight)
    padding = _padding("embedding", padding_idx, weight)
    return _Embedding.apply(weight, where, tuple(input.shape), padding)  # type: ignore[no-untyped-call]


class _Embedding(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, weight: Any, where: Any, shape: Any, padding: Any) -> Any:
        ctx.where, ctx.padding, ctx.sums = where, padding, sums_for(weight)
        ctx.rows, ctx.row = weight.shape[0], weight.shape[1:]
        picked = weight.like(weight.codes[torch.from_numpy(where)].view(*shape, *weight.shape[1:]))
        return outcome("embedding", weight).cast(picked)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows = grad.like(grad.codes.reshape(len(ctx.where), *ctx.row))
        return _into_table("embedding", ctx, rows, ctx.where), None, None, None


@register_function(functional.embedding_bag)
def embedding_bag(
    input: torch.Tensor,  # noqa: A002  # torch's name, given by keyword
    weight: PositTensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Exact sums or means of rows, rounded once; an empty bag is 0.

    Backward of the mean, each bag's gradient over its count is rounded once before it is summed exactly.

    Raises:
        NoRuleError: mode "max", per-sample weights, or an option that `embedding` refuses.
        ShapeError: an index out of range.
    """
    op = "embedding_bag"
    _refuse(op, max_norm, scale_grad_by_freq, sparse)
    if mode not in ("sum", "mean") or per_sample_weights is not None:
        raise NoRuleError(
            f"{op} of posits has the modes 'sum' and 'mean' without per_sample_weights, got {mode!r}"
            f"{calling_module()}"
        )
    bags, count = _bags(op, input, offsets, include_last_offset)
    where = _indices(op, input, weight)
    if (padding := _padding(op, padding_idx, weight)) is not None:
        bags, where = bags[where != padding], where[where != padding]
    counts = np.maximum(np.bincount(bags, minlength=count), 1) if mode == "mean" else None
    return _Bag.apply(weight, where, bags, count, counts)  # type: ignore[no-untyped-call]


class _Bag(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, weight: Any, where: Any, bags: Any, count: int, counts: Any) -> Any:
        ctx.where, ctx.bags, ctx.counts = where, bags, counts
        ctx.padding, ctx.rows, ctx.sums = None, weight.shape[0], sums_for(weight)
        rows = weight.like(weight.codes[torch.from_numpy(where)])
        return summed("embedding_bag", rows, bags, count, counts)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if ctx.counts is not None:
            grad = divided("embedding_bag", grad, ctx.counts)
        rows = grad.like(grad.codes[torch.from_numpy(ctx.bags)])
        return _into_table("embedding_bag", ctx, rows, ctx.where), None, None, None, None


def _into_table(op: str, ctx: Any, rows: PositTensor, where: Any) -> PositTensor | None:
    """The gradient of the table, or None where it went to a `GradientSum`."""
    if ctx.padding is not None:
        kept = np.flatnonzero(where != ctx.padding)
        rows, where = rows.like(rows.codes[torch.from_numpy(kept)]), where[kept]
    if ctx.sums is not None:
        ctx.sums.add_at(where, rows)
        return None
    return summed(op, rows, where, ctx.rows)


def _bags(op: str, index: torch.Tensor, offsets: torch.Tensor | None, last: bool) -> tuple[Any, int]:
    """The bag of each index, and the number of bags."""
    if index.ndim == 2 and offsets is None:
        return np.repeat(np.arange(index.shape[0]), index.shape[1]), index.shape[0]
    if index.ndim != 1 or offsets is None or offsets.ndim != 1:
        raise ShapeError(
            f"{op} needs indices of two dimensions, or of one with offsets, got shape {tuple(index.shape)}"
        )
    edges = to_numpy(offsets).astype(np.int64)
    edges = edges if last else np.append(edges, len(index))
    counts = np.diff(edges)
    if len(edges) < 1 or (counts < 0).any() or edges[0] != 0 or edges[-1] != len(index):
        raise ShapeError(f"{op} got offsets that do not run from 0 to the {len(index)} indices")
    return np.repeat(np.arange(len(counts)), counts), len(counts)


def _indices(op: str, index: torch.Tensor, weight: Any) -> Any:
    if not isinstance(weight, PositTensor):
        outcome(op, weight)
    if index.dtype not in (torch.int64, torch.int32):
        raise ShapeError(f"{op} needs indices of torch.int64 or int32, got {index.dtype}{calling_module()}")
    where = in_range(op, index, weight.shape[0])
    if index.numel() and int(index.min()) < 0:
        raise ShapeError(
            f"{op} got index {int(index.min())}; indices must be 0 to {weight.shape[0] - 1}{calling_module()}"
        )
    return where


def _padding(op: str, padding: int | None, weight: PositTensor) -> int | None:
    if padding is None:
        return None
    return int(in_range(f"{op}'s padding_idx", torch.tensor([padding]), weight.shape[0])[0])


def _refuse(op: str, max_norm: float | None, by_frequency: bool, sparse: bool) -> None:
    for name, given in (
        ("max_norm", max_norm is not None),
        ("scale_grad_by_freq", by_frequency),
        ("sparse", sparse),
    ):
        if given:
            raise NoRuleError(f"{op} of posits has no {name}{calling_module()}; leave it out")
