"""Comparisons, maxima and order: ordinary boolean and integer tensors, or posits moved, never rounded in one format.

Comparisons follow the Posit Standard: NaR equals itself and is below every real.  Sorting follows them too.  What
chooses a largest or smallest element (`max`, `min`, `argmax`, `maximum`, ...) gives NaR where any operand is NaR, so
that none goes unseen.

Rounding points: none, but for operands of formats other than the result's, each rounded once.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from posit.codec import decode
from posit.errors import FormatMismatch
from posit.formats import Format
from posit.torch.ops.elementwise import outcome_of
from posit.torch.ops.views import scalar_code
from posit.torch.registry import calling_module, register_function, register_rule
from posit.torch.tensor import PositTensor, outcome

aten = torch.ops.aten
_RELATIONS = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}


@lru_cache(maxsize=1024)
def bounds(number: float, fmt: Format) -> tuple[int, int]:
    """Signed codes of the smallest posit >= number and of the largest <= number; beyond the ends, one code further.

    >>> bounds(1.0, Format(8)), bounds(1e-30, Format(8)), bounds(float("inf"), Format(8))
    ((64, 64), (1, 0), (128, 127))
    """
    if number != number:
        return -fmt.nar, -fmt.nar
    if np.isinf(number):
        return (fmt.maxpos + 1, fmt.maxpos) if number > 0 else (-fmt.maxpos, -fmt.nar)
    code = scalar_code(number, fmt)
    rounded = float(decode(np.array([code]).astype(f"int{8 * fmt.storage.itemsize}"), fmt)[0])
    return (code if rounded >= number else code + 1), (code if rounded <= number else code - 1)


@register_rule(*(getattr(aten, name).Scalar for name in _RELATIONS))
def _compare_number(op: Any, x: PositTensor, number: float) -> torch.Tensor:
    """With a real number, exactly; infinities are beyond all posits."""
    name = op._opname
    above, below = bounds(float(number), x.format)
    codes = x.codes
    if name in ("eq", "ne"):
        if above != below:
            return torch.full_like(codes, name == "ne", dtype=torch.bool)
        return _RELATIONS[name](codes, above)
    end = above if name in ("lt", "ge") else below  # x < r where its code is below `above`
    return _RELATIONS[name](codes.to(torch.int64) if end > x.format.maxpos else codes, end)


@register_rule(*(getattr(aten, name).Tensor for name in _RELATIONS))
def _compare(op: Any, x: Any, y: Any) -> torch.Tensor:
    """By codes where the formats agree, else by values."""
    for each in (x, y):
        if not isinstance(each, PositTensor):
            raise FormatMismatch(
                f"{op} got a {each.dtype} operand among PositTensors{calling_module()}; "
                "round it with posit_tensor(x, fmt) first, or compare with a Python number"
            )
    relation = _RELATIONS[op._opname]
    if x.format == y.format:
        return relation(x.codes, y.codes)
    return relation(*(torch.from_numpy(np.nan_to_num(each.values(), nan=-np.inf)) for each in (x, y)))


@register_rule(aten.isnan.default)
def _isnan(op: Any, x: PositTensor) -> torch.Tensor:
    """Whether it is NaR."""
    return x.codes == -x.format.nar


@register_rule(aten.isinf.default, aten.isposinf.default, aten.isneginf.default)
def _isinf(op: Any, x: PositTensor) -> torch.Tensor:
    """Never."""
    return torch.zeros_like(x.codes, dtype=torch.bool)


@register_function(torch.isfinite, torch.Tensor.isfinite)
def _isfinite(x: PositTensor) -> torch.Tensor:
    return x.codes != -x.format.nar


@register_rule(aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims)
def _any(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Whether any, or every, element differs from 0."""
    found: torch.Tensor = op(x.codes != 0, *args, **kwargs)
    return found


@register_rule(aten.logical_not.default)
def _logical_not(op: Any, x: PositTensor) -> torch.Tensor:
    return x.codes == 0


def nar_on_top(x: PositTensor) -> torch.Tensor:
    """Codes that order as posits, but for NaR, which is above all."""
    codes = x.codes
    return torch.where(codes == -x.format.nar, torch.iinfo(codes.dtype).max, codes) if x.has_nar() else codes


def _keys(op: Any, x: PositTensor) -> torch.Tensor:
    """What to take the largest or the smallest of: NaR wins either way."""
    return nar_on_top(x) if "max" in op._opname else x.codes


@register_rule(aten.argmax.default, aten.argmin.default)
def _argmax(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    found: torch.Tensor = op(_keys(op, x), *args, **kwargs)
    return found


@register_rule(aten.max.default, aten.min.default)
def _max(op: Any, x: PositTensor) -> PositTensor:
    return outcome(op, x).cast(_restored(x, op(_keys(op, x))))


@register_rule(aten.max.dim, aten.min.dim)
def _max_dim(op: Any, x: PositTensor, dim: int, keepdim: bool = False) -> tuple[PositTensor, torch.Tensor]:
    found, index = op(_keys(op, x), dim, keepdim)
    return outcome(op, x).cast(_restored(x, found)), index


@register_rule(aten.amax.default, aten.amin.default)
def _amax(op: Any, x: PositTensor, dim: Sequence[int] = (), keepdim: bool = False) -> PositTensor:
    return outcome(op, x).cast(_restored(x, op(_keys(op, x), dim, keepdim)))


def _restored(x: PositTensor, keys: torch.Tensor) -> PositTensor:
    """Codes of keys: the highest key is NaR, unless it is maxpos and there was none."""
    if x.has_nar():
        keys = torch.where(keys == torch.iinfo(keys.dtype).max, -x.format.nar, keys)
    return x.like(keys)


@register_rule(aten.maximum.default, aten.minimum.default, aten.clamp_min.Tensor, aten.clamp_max.Tensor)
def _maximum(op: Any, x: PositTensor, y: PositTensor) -> PositTensor:
    """The larger or the smaller; NaR where either is."""
    largest = op._opname in ("maximum", "clamp_min")
    result = outcome_of(op, x, y)
    return extreme(torch.maximum if largest else torch.minimum, result.cast(x), result.cast(y))


def extreme(choose: Callable[..., torch.Tensor], x: PositTensor, y: PositTensor) -> PositTensor:
    """Chosen codes of two tensors of one format; NaR where either is."""
    nar = -x.format.nar
    codes = choose(x.codes, y.codes)
    if x.has_nar() or y.has_nar():
        codes = torch.where((x.codes == nar) | (y.codes == nar), nar, codes)
    return x.like(codes)


@register_rule(aten.sort.default, aten.sort.stable, aten.topk.default)
def _sort(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> tuple[PositTensor, torch.Tensor]:
    """Posits in their order, NaR least; and where they came from."""
    found, index = op(x.codes, *args, **kwargs)
    return outcome(op, x).cast(x.like(found)), index


@register_rule(aten.argsort.default, aten.argsort.stable)
def _argsort(op: Any, x: PositTensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    found: torch.Tensor = op(x.codes, *args, **kwargs)
    return found
