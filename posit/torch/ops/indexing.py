"""Reading and writing by index.  Where several elements meet in one place, their sum is exact and rounded once.

Rounding points: results of ``accumulate=True``, ``index_add``, ``scatter_add`` and backward passes of reading are the
exact sum of what was there and of all that comes, rounded once: the same bits for every order of the indices.
Writing without accumulation moves codes; Python numbers are rounded once.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posit._segments import segment_sums
from posit.errors import NoRuleError, ShapeError
from posit.torch.ops.views import codes_for, scalar_code, zeros_of_autograd
from posit.torch.registry import calling_module, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten
Indices = npt.NDArray[np.int64]


# Writing


@register_rule(
    aten.as_strided_scatter.default,
    aten.diagonal_scatter.default,
    aten.select_scatter.default,
    aten.slice_scatter.default,
    aten.index_copy.default,
    aten.masked_scatter.default,
    aten.scatter.src,
)
def _written(op: Any, x: PositTensor, *args: Any) -> PositTensor:
    """A copy of x with a source written into it, both rounded to the result's format where theirs differ."""
    place = _source_at(op, args)
    source = zeros_of_autograd(args[place], x)
    result = outcome(op, x, source)
    if isinstance(source, PositTensor) and x.format == source.format:
        result = Outcome(x.format, x.policy or source.policy)
    moved = (*args[:place], result.cast(source).codes, *args[place + 1 :])
    return result.like(op(result.cast(x).codes, *moved))


@register_rule(aten.index_copy_.default, aten.masked_scatter_.default, aten.scatter_.src)
def _write(op: Any, x: PositTensor, *args: Any) -> PositTensor:
    """The source written into x, in x's format."""
    place = _source_at(op, args)
    op(x.codes, *args[:place], codes_for(op, args[place], x), *args[place + 1 :])
    return x


def _source_at(op: Any, args: Sequence[Any]) -> int:
    """Position of the source: the only tensor, or the last of two."""
    return max(place for place, given in enumerate(args) if isinstance(given, torch.Tensor))


@register_rule(
    aten.index_fill.int_Scalar,
    aten.index_fill.int_Tensor,
    aten.scatter.value,
    aten.index_fill_.int_Scalar,
    aten.index_fill_.int_Tensor,
    aten.scatter_.value,
)
def _filled(op: Any, x: PositTensor, dim: int, index: torch.Tensor, value: Any) -> PositTensor:
    """A number, rounded once, or one posit written at the indices."""
    tensor = isinstance(value, torch.Tensor)
    code: Any = codes_for(op, value, x) if tensor else scalar_code(value, x.format)
    found = op(x.codes, dim, index, code)
    return x if found is x.codes else x.like(found)


@register_rule(aten.masked_scatter_backward.default)
def _masked_scatter_backward(
    op: Any, grad: PositTensor, mask: torch.Tensor, sizes: Sequence[int]
) -> PositTensor:
    """What was written where the mask is true, then 0 for what was not used."""
    codes = grad.codes.new_zeros(prod(sizes))
    taken = grad.codes[mask.expand(grad.shape)]
    codes[: len(taken)] = taken
    return grad.like(codes.view(*sizes))


# Accumulating


@register_rule(aten.index_add.default, aten.index_add_.default)
def _index_add(
    op: Any, x: PositTensor, dim: int, index: torch.Tensor, source: Any, *, alpha: float = 1
) -> PositTensor:
    """Sums of x and rows of the source, or their negatives (alpha = -1); one rounding for each element."""
    if alpha not in (1, -1):
        raise NoRuleError(f"{op} is exact for alpha = 1 and -1 only, got {alpha}{calling_module()}")
    source = zeros_of_autograd(source, x)
    result = _result(op, x, source)
    if not x.ndim:
        raise ShapeError(f"{op} needs at least one dimension, got a tensor of shape ()")
    where = in_range(op, index.reshape(-1), x.shape[dim])
    terms = source.codes.movedim(dim, 0) if source.ndim else source.codes.reshape(1)
    base = x.codes.movedim(dim, 0)
    if len(where) != len(terms) or terms.shape[1:] != base.shape[1:]:
        raise ShapeError(
            f"{op} got {len(where)} indices, a source of shape {tuple(source.shape)} and posits of shape "
            f"{tuple(x.shape)}; along dimension {dim} there must be one index for each row of the source"
        )
    terms = terms if alpha == 1 else _negated(terms, source)
    return _finish(op, x, result, _sums(x, base, where, source, terms, result).movedim(0, dim))


@register_rule(aten.scatter_add.default, aten.scatter_add_.default)
def _scatter_add(op: Any, x: PositTensor, dim: int, index: torch.Tensor, source: Any) -> PositTensor:
    """x[index[i, j], j] += source[i, j] (for dim = 0); one rounding for each element."""
    source = zeros_of_autograd(source, x)
    result = _result(op, x, source)
    return _finish(op, x, result, _scattered(op, x, x.codes, dim, index, source, result))


@register_rule(aten.scatter_reduce.two, aten.scatter_reduce_.two)
def _scatter_reduce(
    op: Any,
    x: PositTensor,
    dim: int,
    index: torch.Tensor,
    source: PositTensor,
    reduce: str,
    include_self: bool = True,
) -> PositTensor:
    """Exact sums as `scatter_add`'s; without ``include_self`` what receives a term begins from 0."""
    if reduce != "sum":
        raise NoRuleError(f"{op} is exact for reduce='sum' only, got {reduce!r}{calling_module()}")
    result = _result(op, x, source)
    base = x.codes if include_self else x.codes.scatter(dim, index, 0)
    return _finish(op, x, result, _scattered(op, x, base, dim, index, source, result))


@register_rule(
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
)
def _index_put(
    op: Any,
    x: PositTensor,
    indices: Sequence[torch.Tensor | None],
    source: Any,
    accumulate: bool = False,
    unsafe: bool = False,
) -> PositTensor:
    """x[indices] = source, or += source with ``accumulate``: then one rounding for each element."""
    source = zeros_of_autograd(source, x)
    if not accumulate:
        if _changes(op):
            x.codes.index_put_(indices, codes_for(op, source, x))  # type: ignore[arg-type]  # None is a slice
            return x
        return x.like(x.codes.index_put(indices, codes_for(op, source, x)))  # type: ignore[arg-type]
    result = _result(op, x, source)
    rows = _rows_of(indices)
    if rows is not None and x.ndim and tuple(source.shape) == (*rows.shape, *x.shape[1:]):
        where = in_range(op, rows.reshape(-1), x.shape[0])
        base, terms = x.codes, source.codes.reshape(len(where), *x.shape[1:])
        return _finish(op, x, result, _sums(x, base, where, source, terms, result))
    places = aten.index.Tensor(torch.arange(x.numel()).view(x.shape), indices)
    return _finish(op, x, result, _at_places(x, x.codes, places, source, result))


def _rows_of(indices: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """The indices, if they are integers that choose along the first dimension only."""
    first = indices[0]
    alone = first is not None and all(index is None for index in indices[1:])
    return first if alone and first is not None and first.dtype in (torch.int64, torch.int32) else None


@register_rule(aten.put.default, aten.put_.default)
def _put(
    op: Any, x: PositTensor, index: torch.Tensor, source: PositTensor, accumulate: bool = False
) -> PositTensor:
    """Elements of x, counted in C order, written or added to."""
    if not accumulate:
        found = op(x.codes, index, codes_for(op, source, x), False)
        return x if found is x.codes else x.like(found)
    result = _result(op, x, source)
    places = torch.from_numpy(in_range(op, index.reshape(-1), x.numel()))
    return _finish(
        op, x, result, _at_places(x, x.codes, places, source.like(source.codes.reshape(-1)), result)
    )


@register_rule(aten.bincount.default)
def _bincount(op: Any, index: torch.Tensor, weights: PositTensor, minlength: int = 0) -> PositTensor:
    """Exact sums of the weights of equal integers, one rounding each."""
    result = outcome(op, weights)
    count = max(int(index.max()) + 1 if index.numel() else 0, minlength)
    terms = to_numpy(weights.codes).reshape(-1, 1)
    found = segment_sums(terms, weights.format, in_range(op, index, count), count, out_format=result.format)
    return result.wrap(found[:, 0])


# Helpers


def in_range(op: Any, index: torch.Tensor, count: int) -> Indices:
    """Indices as int64 from 0 to count - 1, negative ones counted from the end.

    Raises:
        ShapeError: one lies outside.
    """
    where = to_numpy(index).astype(np.int64, copy=False).reshape(-1)
    if where.size and not (-count <= where.min() and where.max() < count):
        bad = where[(where < -count) | (where >= count)][0]
        raise ShapeError(f"{op} got index {bad}; indices must be 0 to {count - 1}{calling_module()}")
    return np.where(where < 0, where + count, where) if where.size and where.min() < 0 else where


def _changes(op: Any) -> bool:
    """Whether an operator writes into its first operand."""
    return bool(op.__name__.split(".")[0].endswith("_"))


def _result(op: Any, x: PositTensor, source: Any) -> Outcome:
    result = outcome(op, x, source)
    return Outcome(x.format, x.policy) if _changes(op) else result


def _finish(op: Any, x: PositTensor, result: Outcome, codes: torch.Tensor) -> PositTensor:
    if _changes(op):
        x.codes.copy_(codes)
        return x
    return result.like(codes.contiguous())


def _sums(
    x: PositTensor,
    base: torch.Tensor,
    where: Indices,
    source: PositTensor,
    terms: torch.Tensor,
    result: Outcome,
) -> torch.Tensor:
    """base[where[t]] + terms[t] in rows, in the shape of `base`."""
    count = len(base)
    width = prod(base.shape[1:])
    found = segment_sums(
        to_numpy(terms).reshape(len(where), width),
        source.format,
        where,
        count,
        out_format=result.format,
        base=to_numpy(base).reshape(count, width),
        base_format=x.format,
    )
    return torch.from_numpy(found.reshape(base.shape))


def _at_places(
    x: PositTensor, base: torch.Tensor, places: torch.Tensor, source: PositTensor, result: Outcome
) -> torch.Tensor:
    """The base with terms added at flat places; `source` broadcasts to them."""
    terms = source.codes.expand(places.shape).reshape(-1)
    where = to_numpy(places).reshape(-1)
    return _sums(x, base.reshape(-1), where, source, terms, result).view(base.shape)


def _scattered(
    op: Any,
    x: PositTensor,
    base: torch.Tensor,
    dim: int,
    index: torch.Tensor,
    source: PositTensor,
    result: Outcome,
) -> torch.Tensor:
    if not index.numel():
        return result.cast(x).codes
    dim = dim % max(x.ndim, 1)
    if x.ndim != index.ndim or source.ndim != index.ndim:
        raise ShapeError(
            f"{op} needs posits, indices and source of as many dimensions, got shapes {tuple(x.shape)}, "
            f"{tuple(index.shape)} and {tuple(source.shape)}"
        )
    shape = index.shape
    others = [axis for axis in range(x.ndim) if axis != dim]
    if any(shape[axis] > source.shape[axis] for axis in range(x.ndim)) or any(
        shape[axis] > x.shape[axis] for axis in others
    ):
        raise ShapeError(
            f"{op} got indices of shape {tuple(shape)}, a source of {tuple(source.shape)} and posits of "
            f"{tuple(x.shape)}; the indices may not be longer than either"
        )
    terms = source.codes[tuple(slice(size) for size in shape)]
    whole = all(shape[axis] == x.shape[axis] for axis in others)
    if whole and all(index.stride(axis) == 0 or shape[axis] == 1 for axis in others):
        rows = index[tuple(slice(None) if axis == dim else 0 for axis in range(x.ndim))]
        where = in_range(op, rows, x.shape[dim])
        return _sums(x, base.movedim(dim, 0), where, source, terms.movedim(dim, 0), result).movedim(0, dim)
    where = in_range(op, index, x.shape[dim]).reshape(shape)
    strides = [prod(x.shape[axis + 1 :]) for axis in range(x.ndim)]
    grids = np.ix_(*(np.arange(size) for size in shape))
    places = where * strides[dim] + sum(
        (grids[axis] * strides[axis] for axis in others), np.zeros((), np.int64)
    )
    return _sums(x, base.reshape(-1), places.reshape(-1), source, terms.reshape(-1), result).view(x.shape)


def _negated(codes: torch.Tensor, x: PositTensor) -> torch.Tensor:
    nar = -x.format.nar
    return torch.where(codes == nar, codes, -codes)
