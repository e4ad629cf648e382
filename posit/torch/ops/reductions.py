"""Sums and means: exact, rounded once."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit._matmul import matmul_codes
from posit.codec import Codes, decode, encode_rational
from posit.errors import NoRuleError
from posit.formats import Format
from posit.rounding import certified
from posit.torch.ops.observe import SumObservation, current
from posit.torch.ops.views import scalar_code
from posit.torch.tensor import PositTensor, register_rule, to_numpy, wrap

aten = torch.ops.aten


@register_rule(aten.sum.dim_IntList, aten.sum.default)
def _sum(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` (all where None), one rounding: a product with a vector of ones."""
    if dtype not in (None, torch.float32):
        raise NoRuleError(f"{op} keeps the posit format; it cannot return {dtype}")
    rows, shape = _rows(x, dims, keepdim)
    ones = np.full((1, rows.shape[1]), scalar_code(1.0, x.format), rows.dtype)
    product = matmul_codes(ones, rows.T, x.format)
    if (observer := current()) is not None:
        observer(
            SumObservation(str(op), x.format, (x.codes,), product.codes, product.tiers, product.open, rows)
        )
    return wrap(product.codes.reshape(shape), x.format)


@register_rule(aten.mean.default, aten.mean.dim)
def _mean(
    op: Any, x: PositTensor, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> PositTensor:
    """Exact sum over `dims` divided by the count, one rounding."""
    if dtype not in (None, torch.float32):
        raise NoRuleError(f"{op} keeps the posit format; it cannot return {dtype}")
    rows, shape = _rows(x, dims, keepdim)
    return wrap(
        mean_codes(decode(rows, x.format), rows.shape[1], x.format, rows.dtype).reshape(shape), x.format
    )


def mean_codes(values: "np.ndarray[Any, np.dtype[Any]]", count: int, fmt: Format, storage: Any) -> Codes:
    """Codes of the exact row sums of float64 `values` divided by `count`, each rounded once."""
    sums = np.array([math.fsum(row) if np.isfinite(row).all() else np.nan for row in values])
    approximation = sums / count if count else np.full(len(values), np.nan)

    def exact(index: int) -> int:
        total = sum((Fraction(float(value)) for value in values[index]), Fraction(0))
        return encode_rational(total / count, fmt)

    return certified(approximation, np.abs(approximation) * 2.0**-50, fmt, exact, storage)


def _rows(x: PositTensor, dims: Sequence[int] | None, keepdim: bool) -> tuple[Codes, tuple[int, ...]]:
    """Codes as (kept, reduced) and the shape of the result."""
    reduced = sorted(dim % x.ndim for dim in dims) if dims else list(range(x.ndim))
    kept = [dim for dim in range(x.ndim) if dim not in reduced]
    shape = tuple(1 if dim in reduced else x.shape[dim] for dim in range(x.ndim) if keepdim or dim in kept)
    rows = x.codes.permute(kept + reduced).reshape(math.prod(x.shape[dim] for dim in kept), -1)
    return to_numpy(rows), shape
