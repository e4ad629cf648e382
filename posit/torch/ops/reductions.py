"""Sums and means: exact, rounded once."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit._explain import Explanation
from posit._matmul import matmul_codes
from posit._streams import sum_codes, sums_codes
from posit.codec import Codes, decode, encode_rational, to_signed
from posit.errors import NoRuleError
from posit.formats import Format
from posit.torch.ops.observe import SumObservation, current
from posit.torch.registry import register_rule
from posit.torch.tensor import PositTensor, convert_codes, outcome, to_numpy

aten = torch.ops.aten


@register_rule(aten.sum.dim_IntList, aten.sum.default)
def _sum(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` (all where None), one rounding."""
    _require_same_dtype(op, dtype)
    return _observed_sums(op, x, *_split_dims(x, dims, keepdim))


@register_rule(aten.mean.default, aten.mean.dim)
def _mean(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` divided by the count, one rounding; NaR where there is nothing to divide."""
    _require_same_dtype(op, dtype)
    kept, reduced, shape = _split_dims(x, dims, keepdim)
    count = math.prod(x.shape[dim] for dim in reduced)
    result = outcome(op, x)
    return result.wrap(_sums(x, kept, reduced, count, result.format).reshape(shape))


def sum_leading(op: Any, rows: PositTensor) -> PositTensor:
    """Exact sums over the first dimension of (n, m), each rounded once: gradients of a bias."""
    return _observed_sums(op, rows, [1], [0], (rows.shape[1],))


def _observed_sums(
    op: Any, x: PositTensor, kept: list[int], reduced: list[int], shape: tuple[int, ...]
) -> PositTensor:
    result = outcome(op, x)
    codes = _sums(x, kept, reduced, 1, result.format)
    if (observer := current()) is not None and result.format == x.format:
        # every float64 addition of these sums is exact, so that none of them is open
        tiers, none = Explanation(by_range=codes.size), np.empty(0, np.int64)
        rows = _rows(to_numpy(x.codes), kept, reduced)
        observer(SumObservation(str(op), x.format, (x.codes,), codes, tiers, none, rows))
    return result.wrap(codes.reshape(shape))


def mean_codes(rows: Codes, divisor: int, fmt: Format) -> Codes:
    """Codes of the exact row sums of signed codes over `divisor`, each rounded once; NaR where it is 0."""
    if divisor == 0:
        return np.full(len(rows), -fmt.nar, rows.dtype)
    return sums_codes(rows, 1, fmt, divisor)


def _sums(x: PositTensor, kept: list[int], reduced: list[int], divisor: int, fmt: Format) -> Codes:
    """Sums over dimensions over `divisor`, flat; without a copy where the sum is over all, or over leading ones."""
    codes = to_numpy(x.codes)
    if x.format != fmt:
        return _converting_sums(_rows(codes, kept, reduced), x.format, fmt, divisor)
    if not kept and divisor:
        code = sum_codes(codes.ravel("K"), fmt, divisor)
        return np.array([code - (1 << fmt.nbits) if code >= fmt.nar else code], codes.dtype)
    if divisor and codes.flags.c_contiguous and reduced == list(range(len(reduced))):
        return sums_codes(codes.reshape(math.prod(codes.shape[dim] for dim in reduced), -1), 0, fmt, divisor)
    return mean_codes(_rows(codes, kept, reduced), divisor, fmt)


def _converting_sums(rows: Codes, fmt: Format, to: Format, divisor: int) -> Codes:
    """Exact row sums over `divisor` in another format, each rounded once."""
    if divisor == 1:
        one = np.full((rows.shape[1], 1), 1 << (fmt.nbits - 2), rows.dtype)
        return matmul_codes(rows, one, fmt, out_format=to).codes[:, 0]
    if fmt.nbits <= to.nbits and (fmt.es, fmt.max_regime) == (to.es, to.max_regime):
        return mean_codes(convert_codes(rows, fmt, to), divisor, to)
    nars = np.asarray((rows == -fmt.nar).any(axis=1))
    values = np.nan_to_num(decode(rows, fmt, np.float64))
    totals = (sum(map(Fraction, row.tolist()), Fraction(0)) for row in values)
    codes = [
        to.nar if nar or not divisor else encode_rational(total / divisor, to)
        for nar, total in zip(nars, totals, strict=True)
    ]
    return to_signed(np.array(codes, to.storage), to)


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
