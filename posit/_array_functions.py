"""NumPy's functions on posit arrays: a table; what is not in it raises."""

from collections.abc import Callable
from typing import Any

import numpy as np

from posit import _einsum, _products, _reductions, _solve, _vectors
from posit._array import PositArray
from posit._operands import codes_of, common_format
from posit.codec import to_signed
from posit.conversion import to_floats
from posit.creation import full, to_structured
from posit.errors import NoRuleError

Function = Callable[..., Any]
_TABLE: dict[Any, Function] = {}
_function: Any  # each of NumPy's functions below has a type of its own


def dispatch(func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """What `PositArray.__array_function__` does: the rule of `func`."""
    if not all(issubclass(t, PositArray | np.ndarray) for t in types):
        return NotImplemented
    rule = _TABLE.get(func)
    if rule is None:
        name = getattr(func, "__name__", str(func))
        raise NoRuleError(
            f"np.{name} has no rule for posit arrays; use .astype(np.float64) for a computation in floats, "
            "or .codes where the codes themselves are meant"
        )
    return rule(*args, **kwargs)


def _rule(*functions: Any) -> Callable[[Function], Function]:
    def register(rule: Function) -> Function:
        for function in functions:
            _TABLE[function] = rule
        return rule

    return register


def _moving(function: Any) -> Function:
    """A rule for a function that only moves elements: it acts on the codes."""

    def rule(x: PositArray, *args: Any, **kwargs: Any) -> Any:
        moved = function(x.codes, *args, **kwargs)
        if isinstance(moved, list | tuple):
            return [PositArray(part, x.format) for part in moved]
        return PositArray(np.asarray(moved), x.format)

    return rule


for _function in (
    np.reshape, np.transpose, np.ravel, np.squeeze, np.expand_dims, np.broadcast_to, np.moveaxis, np.swapaxes,
    np.rollaxis, np.flip, np.fliplr, np.flipud, np.roll, np.rot90, np.take, np.take_along_axis, np.repeat,
    np.tile, np.diagonal, np.copy, np.tril, np.triu, np.delete, np.split, np.array_split, np.hsplit,
    np.vsplit, np.dsplit, np.atleast_1d, np.atleast_2d, np.atleast_3d, np.compress, np.resize, np.trim_zeros,
    np.matrix_transpose, np.permute_dims,
):  # fmt: skip
    _TABLE[_function] = _moving(_function)


def _joining(function: Any) -> Function:
    """A rule for a function that joins arrays of one format."""

    def rule(arrays: Any, *args: Any, **kwargs: Any) -> PositArray:
        parts = list(arrays)
        fmt = common_format(parts)
        out = kwargs.pop("out", None)
        joined = PositArray(function([codes_of(part, fmt) for part in parts], *args, **kwargs), fmt)
        if out is None:
            return joined
        out[...] = joined
        return out  # type: ignore[no-any-return]

    return rule


for _function in (np.concatenate, np.stack, np.vstack, np.hstack, np.dstack, np.column_stack):
    _TABLE[_function] = _joining(_function)


def _ordering(function: Any) -> Function:
    """A rule for a function of the order of elements that gives indices."""

    def rule(x: PositArray, *args: Any, **kwargs: Any) -> Any:
        return function(to_signed(x.codes, x.format), *args, **kwargs)

    return rule


for _function in (np.argsort, np.argmax, np.argmin, np.argpartition):
    _TABLE[_function] = _ordering(_function)


def _of_order(function: Any) -> Function:
    """A rule for a function of the order of elements that gives elements."""

    def rule(x: PositArray, *args: Any, **kwargs: Any) -> PositArray:
        from posit.codec import to_unsigned

        result = np.asarray(function(to_signed(x.codes, x.format), *args, **kwargs))
        return PositArray(np.asarray(to_unsigned(result, x.format)), x.format)

    return rule


for _function in (np.sort, np.partition, np.unique):
    _TABLE[_function] = _of_order(_function)


def _extreme(function: Any) -> Function:
    inner = _of_order(function)

    def rule(x: PositArray, axis: Any = None, out: Any = None, keepdims: bool = False) -> PositArray:
        result = inner(x, axis=axis, keepdims=keepdims)
        if out is None:
            return result  # type: ignore[no-any-return]
        out[...] = result
        return out  # type: ignore[no-any-return]

    return rule


_TABLE[np.max] = _TABLE[np.amax] = _extreme(np.max)
_TABLE[np.min] = _TABLE[np.amin] = _extreme(np.min)


def _reducing(reduction: Function) -> Function:
    def rule(
        a: PositArray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> PositArray:
        if dtype is not None:
            raise NoRuleError(f"dtype={dtype!r} has no meaning for posit arrays; convert with .astype first")
        result = reduction(a, axis, bool(keepdims))
        if out is None:
            return result  # type: ignore[no-any-return]
        out[...] = result
        return out  # type: ignore[no-any-return]

    return rule


_TABLE[np.sum] = _reducing(_reductions.sum)
_TABLE[np.mean] = _reducing(_reductions.mean)
_TABLE[np.prod] = _reducing(_reductions.prod)


def _contracting(function: Function) -> Function:
    def rule(a: Any, b: Any, *args: Any, **kwargs: Any) -> PositArray:
        fmt = common_format((a, b))
        pair = (PositArray(codes_of(x, fmt), fmt) for x in (a, b))
        return function(*pair, *args, **kwargs)  # type: ignore[no-any-return]

    return rule


_TABLE[np.dot] = _contracting(_products.dot)
_TABLE[np.tensordot] = _contracting(_products.tensordot)
_TABLE[np.vdot] = _contracting(lambda a, b: _products.matmul(a.ravel(), b.ravel()))
_TABLE[np.inner] = _contracting(
    lambda a, b: a * b if 0 in (a.ndim, b.ndim) else _products.tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))
)
_TABLE[np.outer] = _contracting(lambda a, b: a.ravel()[:, None] * b.ravel())
_TABLE[np.einsum] = _einsum.einsum


_TABLE[np.linalg.solve] = _solve.solve


@_rule(np.linalg.norm)
def _norm(x: PositArray, ord: Any = None, axis: Any = None, keepdims: bool = False) -> PositArray:  # noqa: A002
    """The 2-norm of vectors, or of all elements; NumPy's default."""
    if ord is not None:
        raise NoRuleError(
            f"np.linalg.norm with ord={ord!r} has no rule for posits; posit.norm2 is the 2-norm"
        )
    return _vectors.norm2(x, axis, keepdims)


@_rule(np.trace)
def _trace(x: PositArray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> PositArray:
    diagonal = PositArray(np.diagonal(x.codes, offset, axis1, axis2), x.format)
    return _reductions.sum(diagonal, axis=-1)


@_rule(np.where)
def _where(condition: Any, *choices: Any) -> Any:
    truths = condition.codes != 0 if isinstance(condition, PositArray) else np.asarray(condition)
    if not choices:
        return np.where(truths)
    fmt = common_format(choices)
    return PositArray(np.where(truths, *(codes_of(x, fmt) for x in choices)), fmt)


@_rule(np.clip)
def _clip(x: PositArray, a_min: Any = None, a_max: Any = None) -> Any:
    lower = x if a_min is None else np.maximum(x, a_min)
    return lower if a_max is None else np.minimum(lower, a_max)


@_rule(np.searchsorted)
def _searchsorted(x: PositArray, values: Any, side: Any = "left") -> Any:
    wanted = to_signed(codes_of(values, x.format), x.format)
    return np.searchsorted(to_signed(x.codes, x.format), wanted, side=side)


@_rule(np.isclose)
def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """|a - b| <= atol + rtol * |b| in float64; equal codes are close, NaR only if equal_nan."""
    fmt = common_format((a, b))
    left, right = codes_of(a, fmt), codes_of(b, fmt)
    x, y = to_floats(left, fmt, np.float64), to_floats(right, fmt, np.float64)
    same = left == right
    return np.where(
        np.isnan(x) | np.isnan(y), same & equal_nan, same | (np.abs(x - y) <= atol + rtol * np.abs(y))
    )


@_rule(np.allclose)
def _allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    return bool(np.all(_isclose(a, b, rtol, atol, equal_nan)))


@_rule(np.array_equal)
def _array_equal(a: Any, b: Any, equal_nan: bool = True) -> bool:
    """Same format, shape and codes; NaR equals itself, as in the standard."""
    fmt = common_format((a, b))
    left, right = codes_of(a, fmt), codes_of(b, fmt)
    return np.array_equal(left, right) and (equal_nan or not bool(np.any(left == fmt.nar)))


_TABLE[np.shape] = lambda x: x.shape
_TABLE[np.ndim] = lambda x: x.ndim
_TABLE[np.size] = lambda x, axis=None: np.size(x.codes, axis)
_TABLE[np.nonzero] = lambda x: np.nonzero(x.codes)
_TABLE[np.flatnonzero] = lambda x: np.flatnonzero(x.codes)
_TABLE[np.argwhere] = lambda x: np.argwhere(x.codes)
_TABLE[np.count_nonzero] = lambda x, axis=None, keepdims=False: np.count_nonzero(
    x.codes, axis, keepdims=keepdims
)
_TABLE[np.any] = lambda x, axis=None, keepdims=False: np.any(x.codes != 0, axis=axis, keepdims=keepdims)
_TABLE[np.all] = lambda x, axis=None, keepdims=False: np.all(x.codes != 0, axis=axis, keepdims=keepdims)
_TABLE[np.shares_memory] = lambda a, b: np.shares_memory(_memory(a), _memory(b))
_TABLE[np.may_share_memory] = lambda a, b: np.may_share_memory(_memory(a), _memory(b))
_TABLE[np.iscomplexobj] = lambda x: False
_TABLE[np.array_repr] = lambda x: repr(x)
_TABLE[np.array_str] = lambda x: str(x)
_TABLE[np.zeros_like] = lambda x, shape=None: full(x.shape if shape is None else shape, 0, x.format)
_TABLE[np.ones_like] = lambda x, shape=None: full(x.shape if shape is None else shape, 1, x.format)
_TABLE[np.empty_like] = _TABLE[np.zeros_like]
_TABLE[np.full_like] = lambda x, value, shape=None: full(x.shape if shape is None else shape, value, x.format)
_TABLE[np.save] = lambda file, arr: np.save(file, to_structured(arr), allow_pickle=False)


def _memory(x: Any) -> Any:
    return x.codes if isinstance(x, PositArray) else x


@_rule(np.copyto)
def _copyto(target: PositArray, source: Any) -> None:
    target[...] = source
