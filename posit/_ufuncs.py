"""NumPy's ufuncs on posit arrays: a table; what is not in it raises."""

from collections.abc import Callable
from typing import Any

import numpy as np

from posit import _products, arithmetic
from posit._array import PositArray
from posit._operands import codes_of, common_format
from posit.codec import Codes
from posit.errors import FormatMismatch, NoRuleError
from posit.formats import Format

Rule = Callable[..., Any]

#: ufunc to (codes, ..., fmt) -> codes
_ARITHMETIC: dict[np.ufunc, Rule] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.sub,
    np.multiply: arithmetic.mul,
    np.divide: arithmetic.div,
    np.negative: arithmetic.negate,
    np.positive: lambda a, fmt: a.copy(),
    np.conjugate: lambda a, fmt: a.copy(),
    np.absolute: arithmetic.absolute,
    np.fabs: arithmetic.absolute,
    np.sign: arithmetic.sign,
    np.sqrt: arithmetic.sqrt,
    np.square: lambda a, fmt: arithmetic.mul(a, a, fmt),
    np.reciprocal: lambda a, fmt: arithmetic.div(np.array(1 << (fmt.nbits - 2), fmt.storage), a, fmt),
    np.rint: arithmetic.nearest_int,
    np.ceil: arithmetic.ceil,
    np.floor: arithmetic.floor,
    np.trunc: lambda a, fmt: _truncate(a, fmt),
    np.maximum: lambda a, b, fmt: _choose(np.greater_equal, a, b, fmt),
    np.minimum: lambda a, b, fmt: _choose(np.less_equal, a, b, fmt),
    np.nextafter: lambda a, b, fmt: _step_towards(a, b, fmt),
}

#: comparisons by the standard's order
_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)

#: ufunc to codes, fmt -> truth values
_TESTS: dict[np.ufunc, Callable[[Codes, Format], Any]] = {
    np.isnan: lambda a, fmt: a == fmt.nar,
    np.isinf: lambda a, fmt: np.zeros(a.shape, np.bool_),
    np.isfinite: lambda a, fmt: a != fmt.nar,
    np.signbit: lambda a, fmt: a > fmt.nar,
    np.logical_not: lambda a, fmt: a == 0,
}

_REDUCTIONS: dict[np.ufunc, Any] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
}


def apply(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `PositArray.__array_ufunc__` does: the rule of `ufunc`, into ``out`` if given."""
    if any(_is_foreign(x) for x in inputs):
        return NotImplemented
    out = kwargs.pop("out", None)
    if method == "reduce" and ufunc in _REDUCTIONS:
        result = _REDUCTIONS[ufunc](
            inputs[0], axis=kwargs.pop("axis", 0), keepdims=kwargs.pop("keepdims", False)
        )
    elif method == "__call__":
        result = _call(ufunc, inputs)
    else:
        raise NoRuleError(f"np.{ufunc.__name__}.{method} has no rule for posit arrays")
    if kwargs:
        raise NoRuleError(f"np.{ufunc.__name__} on posit arrays takes no {', '.join(kwargs)}")
    return result if out is None else _store(result, out[0])


def _is_foreign(x: Any) -> bool:
    """Whether `x` is another library's array, which may know what to do with ours."""
    return hasattr(x, "__array_ufunc__") and not isinstance(x, PositArray | np.ndarray | np.generic)


def _call(ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
    if ufunc is np.matmul:
        return _products.matmul(*(_as_array(x, inputs) for x in inputs))
    fmt = common_format(inputs)
    codes = [codes_of(x, fmt) for x in inputs]
    if ufunc in _ARITHMETIC:
        return PositArray(_ARITHMETIC[ufunc](*codes, fmt), fmt)
    if ufunc in _COMPARISONS:
        return _scalar(arithmetic.compare(ufunc, codes[0], codes[1], fmt))
    if ufunc in _TESTS:
        return _scalar(_TESTS[ufunc](codes[0], fmt))
    from posit.functions import BY_UFUNC  # the elementary functions, loaded when first used

    if ufunc in BY_UFUNC:
        return BY_UFUNC[ufunc](*inputs)
    raise NoRuleError(
        f"np.{ufunc.__name__} has no rule for posit arrays; posits never pass through floats silently: "
        "compute on x.astype(np.float64) and round back with posit.array, if that is meant"
    )


def _as_array(x: Any, inputs: tuple[Any, ...]) -> PositArray:
    fmt = common_format(inputs)
    return x if isinstance(x, PositArray) and x.format == fmt else PositArray(codes_of(x, fmt), fmt)


def _scalar(truths: Any) -> Any:
    return truths[()]  # NumPy gives scalars for shape ()


def _store(result: Any, out: Any) -> Any:
    if isinstance(result, PositArray):
        if not isinstance(out, PositArray) or out.format != result.format:
            given = out.format if isinstance(out, PositArray) else f"a NumPy {out.dtype}"
            raise FormatMismatch(
                f"the result is {result.format}, out is {given}; give out the result's format"
            )
        out.codes[...] = result.codes
        return out
    out[...] = result
    return out


def _truncate(a: Codes, fmt: Format) -> Codes:
    return np.where(a > fmt.nar, arithmetic.ceil(a, fmt), arithmetic.floor(a, fmt))


def _choose(relation: np.ufunc, a: Codes, b: Codes, fmt: Format) -> Codes:
    return np.where(arithmetic.compare(relation, a, b, fmt), a, b)


def _step_towards(a: Codes, b: Codes, fmt: Format) -> Codes:
    """The neighbour of a on the way to b; a where they are equal, NaR where either is."""
    up = arithmetic.compare(np.less, a, b, fmt)
    moved = np.where(up, arithmetic.next_code(a, fmt), arithmetic.prior_code(a, fmt))
    moved = np.where(arithmetic.compare(np.equal, a, b, fmt), a, moved)
    nar = fmt.storage.type(fmt.nar)
    return np.where((a == nar) | (b == nar), nar, moved)
