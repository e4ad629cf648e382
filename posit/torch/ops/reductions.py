"""Sums and means: exact, rounded once."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from posit._explain import Explanation
from posit._streams import sum_codes, sums_codes
from posit.codec import Codes
from posit.errors import NoRuleError
from posit.formats import Format
from posit.torch.ops.observe import SumObservation, current
from posit.torch.tensor import PositTensor, register_rule, to_numpy, wrap

aten = torch.ops.aten


@register_rule(aten.sum.dim_IntList, aten.sum.default)
def _sum(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` (all where None), one rounding."""
    _require_same_dtype(op, dtype)
    kept, reduced, shape = _split_dims(x, dims, keepdim)
    codes = _sums(to_numpy(x.codes), kept, reduced, 1, x.format)
    if (observer := current()) is not None:
        # every float64 addition of these sums is exact, so that none of them is open
        tiers, none = Explanation(by_range=codes.size), np.empty(0, np.int64)
        rows = _rows(to_numpy(x.codes), kept, reduced)
        observer(SumObservation(str(op), x.format, (x.codes,), codes, tiers, none, rows))
    return wrap(codes.reshape(shape), x.format)


@register_rule(aten.mean.default, aten.mean.dim)
def _mean(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` divided by the count, one rounding; NaR where there is nothing to divide."""
    _require_same_dtype(op, dtype)
    kept, reduced, shape = _split_dims(x, dims, keepdim)
    count = math.prod(x.shape[dim] for dim in reduced)
    return wrap(_sums(to_numpy(x.codes), kept, reduced, count, x.format).reshape(shape), x.format)


def mean_codes(rows: Codes, divisor: int, fmt: Format) -> Codes:
    """Codes of the exact row sums of signed codes over `divisor`, each rounded once; NaR where it is 0."""
    if divisor == 0:
        return np.full(len(rows), -fmt.nar, rows.dtype)
    return sums_codes(rows, 1, fmt, divisor)


def _sums(codes: Codes, kept: list[int], reduced: list[int], divisor: int, fmt: Format) -> Codes:
    """Sums over dimensions over `divisor`, flat; without a copy where the sum is over all, or over leading ones."""
    if not kept and divisor:
        code = sum_codes(codes.ravel("K"), fmt, divisor)
        return np.array([code - (1 << fmt.nbits) if code >= fmt.nar else code], codes.dtype)
    if divisor and codes.flags.c_contiguous and reduced == list(range(len(reduced))):
        return sums_codes(codes.reshape(math.prod(codes.shape[dim] for dim in reduced), -1), 0, fmt, divisor)
    return mean_codes(_rows(codes, kept, reduced), divisor, fmt)


def _rows(codes: Codes, kept: list[int], reduced: list[int]) -> Codes:
    """Codes as (kept, reduced)."""
    sizes = [math.prod(codes.shape[dim] for dim in dims) for dims in (kept, reduced)]
    return codes.transpose(*kept, *reduced).reshape(sizes)


def _split_dims(
    x: PositTensor, dims: Sequence[int] | None, keepdim: bool
) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Kept and reduced dimensions, and the shape of the result."""
    reduced = sorted(dim % x.ndim for dim in dims) if dims else list(range(x.ndim))
    kept = [dim for dim in range(x.ndim) if dim not in reduced]
    shape = tuple(1 if dim in reduced else x.shape[dim] for dim in range(x.ndim) if keepdim or dim in kept)
    return kept, reduced, shape


def _require_same_dtype(op: Any, dtype: Any) -> None:
    if dtype not in (None, torch.float32):
        raise NoRuleError(f"{op} keeps the posit format; it cannot return {dtype}")
