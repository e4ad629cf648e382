"""Sums over segments: what message passing on graphs is made of.

Rounding points: every sum (and mean) is exact and rounded once, so it has the same bits for every order of the rows.
Backward, a sum hands its gradient on unchanged; a mean divides it by the count, rounded once.
"""

from typing import Any

import numpy as np
import torch

from posit._segments import Indices, segment_sums
from posit.errors import NoRuleError, ShapeError
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.indexing import in_range
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome, to_numpy


def segment_sum(x: PositTensor, index: torch.Tensor, segments: int) -> PositTensor:
    """Sums of the rows of `x` that have the same index, each exact and rounded once.

    Args:
        x: Posits, shape (rows, ...).
        index: Integers from 0 to ``segments - 1``, shape (rows,), in any order.
        segments: How many sums there are.

    Returns:
        Posits of shape (segments, ...); 0 where a segment has no row, NaR where it has one with NaR.  Backward, row t
        gets the gradient of segment ``index[t]``, unchanged.

    Raises:
        ShapeError: an index out of range, or not one for each row.

    >>> from posit.torch import posit_tensor
    >>> messages = posit_tensor(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "posit16")
    >>> segment_sum(messages, torch.tensor([1, 0, 1]), 2)
    PositTensor([[3.0, 4.0], [6.0, 8.0]], posit16)
    """
    if x.ndim < 1 or index.ndim != 1 or len(index) != x.shape[0]:
        raise ShapeError(
            f"segment_sum needs one index for each row, got {tuple(index.shape)} for {tuple(x.shape)}"
        )
    where = in_range("segment_sum", index, segments)
    return _Segments.apply("segment_sum", x, where, segments, None)  # type: ignore[no-any-return, no-untyped-call]


@register_function(torch.segment_reduce)
def _segment_reduce(
    data: PositTensor,
    reduce: str,
    *,
    lengths: torch.Tensor | None = None,
    indices: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Any:
    """Sums or means of neighbouring rows, rounded once; the mean of none is NaR."""
    op = "torch.segment_reduce"
    if reduce not in ("sum", "mean"):
        raise NoRuleError(f"{op} is exact for 'sum' and 'mean' only, got {reduce!r}{calling_module()}")
    if indices is not None or axis != 0 or initial is not None:
        raise NoRuleError(
            f"{op} of posits takes lengths or offsets along axis 0 and no initial value{calling_module()}; "
            "posit.torch.segment_sum takes indices"
        )
    counts = _counts(op, data, lengths, offsets)
    where = np.repeat(np.arange(len(counts)), counts)
    return _Segments.apply(op, data, where, len(counts), counts if reduce == "mean" else None)  # type: ignore[no-untyped-call]


def _counts(
    op: str, data: PositTensor, lengths: torch.Tensor | None, offsets: torch.Tensor | None
) -> Indices:
    """Rows in each segment, which must be all."""
    given = offsets if lengths is None else lengths
    if given is None or given.ndim != 1:
        raise ShapeError(f"{op} of posits needs lengths or offsets of one dimension{calling_module()}")
    edges = to_numpy(given).astype(np.int64)
    counts = edges if lengths is not None else np.diff(edges)
    if (counts < 0).any() or counts.sum() != data.shape[0]:
        raise ShapeError(f"{op} got segments of {counts.sum()} rows in all, but data of {data.shape[0]}")
    return np.asarray(counts)


class _Segments(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, op: str, x: Any, where: Any, count: int, divisors: Any) -> Any:
        ctx.op, ctx.where, ctx.divisors = op, where, divisors
        return summed(op, x, where, count, divisors)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows = grad.like(grad.codes[torch.from_numpy(ctx.where)])
        if ctx.divisors is not None:
            rows = divided(ctx.op, rows, ctx.divisors[ctx.where])
        return None, rows, None, None, None


def summed(
    op: Any, x: PositTensor, where: Indices, count: int, divisors: Indices | None = None
) -> PositTensor:
    """Row g is the exact sum of the rows t with where[t] = g, over divisors[g] (NaR where that is 0), rounded once."""
    result = outcome(op, x)
    width = int(np.prod(x.shape[1:]))
    codes = segment_sums(
        to_numpy(x.codes).reshape(len(where), width),
        x.format,
        where,
        count,
        out_format=result.format,
        divisors=None if divisors is None else np.maximum(divisors, 1),
    )
    if divisors is not None:
        codes[divisors == 0] = -result.format.nar
    return result.wrap(codes.reshape(count, *x.shape[1:]))


def divided(op: Any, x: PositTensor, divisors: Indices) -> PositTensor:
    """Row t over divisors[t], each element rounded once."""
    return summed(op, x, np.arange(len(divisors)), len(divisors), divisors)
