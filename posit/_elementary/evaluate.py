"""Elementary functions over arrays of codes, every element correctly rounded.

* up to 16 bits, one argument: a table of all codes, built on first use;
* up to 32 bits: float64 approximations whose error bound decides all but about 1 element in 2**15 (posit32),
  and
  Ziv's strategy for the rest;
* wider: Ziv's strategy for every element.
The library behind NumPy's float64 functions thus decides how many elements stay open, never a result.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import codec
from posit._elementary.registry import FUNCTIONS
from posit._elementary.rounding import value
from posit._elementary.several import SEVERAL, WITH_INTEGER, Several
from posit._elementary.ziv import settle, settle_code
from posit._kernels import elementary
from posit._threads import split
from posit.codec import Codes
from posit.errors import CodeError, ShapeError, UnknownFunctionError
from posit.formats import Format

_BLOCK = 1 << 13  # elements: the block's arrays stay in the cache
_NANOSECONDS = 10  # per element, for the choice of threads
_TABLE_BITS = 16

Settle = Callable[[int], int]
Approximate = Callable[..., Any]
_table_lock = threading.Lock()


def evaluate(name: str, codes: Codes, fmt: Format) -> Codes:
    """A function of one argument, by the name the registry gives it.

    Args:
        name: A key of `posit._elementary.registry.FUNCTIONS`, such as ``"exp"``.
        codes: Any shape; unsigned (as in `PositArray`) or sign-extended (as in `PositTensor`).
        fmt: Format of the codes.



    Returns:
        Codes of the same shape and dtype.  NaR gives NaR, and so does everything outside the function's
        domain.

    Raises:
        UnknownFunctionError: there is no such function.
        CodeError: the codes' dtype is not the format's.

    >>> [hex(code) for code in evaluate("exp", np.array([0x4000, 0x7FFF, 0x8000], np.uint16), Format(16))]
    ['0x4ae0', '0x7fff', '0x8000']
    """
    if name not in FUNCTIONS:
        raise _unknown(name, FUNCTIONS)
    codes = _checked(codes, fmt)
    if fmt.nbits > _TABLE_BITS:
        return _compute(name, codes, fmt)
    flat = np.ascontiguousarray(codes).reshape(-1)
    out, table = np.empty_like(flat), _table(name, fmt, flat.dtype)
    kernel = elementary.lookup(flat.dtype)
    split(flat.size, flat.size, lambda start, stop: kernel(flat[start:stop], table, out[start:stop]))
    return out.reshape(codes.shape)


def evaluate2(name: str, a: Codes, b: Codes, fmt: Format) -> Codes:
    """A function of two posits (``hypot pow arc_tan2 arc_tan2_pi``); the arrays broadcast.

    >>> three, four = np.array([0x4C00], np.uint16), np.array([0x5000], np.uint16)
    >>> hex(evaluate2("hypot", three, four, Format(16))[0])  # 5
    '0x5200'
    """
    if name not in SEVERAL or name == "fmm":
        raise _unknown(name, [known for known in SEVERAL if known != "fmm"])
    return _several(SEVERAL[name], (_checked(a, fmt), _checked(b, fmt)), None, fmt)


def evaluate3(name: str, a: Codes, b: Codes, c: Codes, fmt: Format) -> Codes:
    """A function of three posits (``fmm``: their product, rounded once); the arrays broadcast."""
    if name != "fmm":
        raise _unknown(name, ["fmm"])
    return _several(SEVERAL[name], (_checked(a, fmt), _checked(b, fmt), _checked(c, fmt)), None, fmt)


def evaluate_integer(name: str, codes: Codes, integers: npt.ArrayLike, fmt: Format) -> Codes:
    """A function of a posit and an integer (``compound root_n``); the arrays broadcast.

    Raises:
        CodeError: the second argument is not an array of integers.
    """
    if name not in WITH_INTEGER:
        raise _unknown(name, WITH_INTEGER)
    whole = np.asarray(integers)
    if whole.dtype.kind not in "iu" or (whole.dtype == np.uint64 and np.any(whole > np.uint64(2**63 - 1))):
        raise CodeError(
            f"the second argument of {name} must be integers that fit int64, got dtype {whole.dtype}"
        )
    return _several(WITH_INTEGER[name], (_checked(codes, fmt),), whole.astype(np.int64), fmt)


def _unknown(name: str, known: Any) -> UnknownFunctionError:
    return UnknownFunctionError(f"no function is called {name!r} here; there are {', '.join(sorted(known))}")


def _checked(codes: Codes, fmt: Format) -> Codes:
    codes = np.asarray(codes)
    if codes.dtype not in (fmt.storage, codec.signed_storage(fmt)):
        raise CodeError(
            f"codes of {fmt} are {fmt.storage} or {codec.signed_storage(fmt)}, got {codes.dtype}; "
            "to round real numbers use posit.array(values, fmt)"
        )
    return codes


def _table(name: str, fmt: Format, dtype: "np.dtype[Any]") -> Codes:
    with _table_lock:
        table = _unsigned_table(name, fmt)
    return table if dtype.kind == "u" else codec.to_signed(table, fmt)


@cache
def _unsigned_table(name: str, fmt: Format) -> Codes:
    return _compute(name, np.arange(1 << fmt.nbits, dtype=fmt.storage), fmt)


def _compute(name: str, codes: Codes, fmt: Format) -> Codes:
    function = FUNCTIONS[name]
    flat = np.ascontiguousarray(codes).reshape(-1)

    def exactly(index: int) -> int:
        return settle_code(function, int(flat[index]), fmt)

    return _fill([flat], None, function.approximate, exactly, fmt).reshape(codes.shape)


def _several(function: Several, operands: tuple[Codes, ...], integers: Codes | None, fmt: Format) -> Codes:
    every = operands if integers is None else (*operands, integers)
    try:
        shape = np.broadcast_shapes(*(array.shape for array in every))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in every)
        raise ShapeError(f"{function.name}: shapes {shapes} do not broadcast together") from None
    storage = operands[0].dtype
    posits = [np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1) for array in operands]
    whole = None if integers is None else np.ascontiguousarray(np.broadcast_to(integers, shape)).reshape(-1)

    def exactly(index: int) -> int:
        values = [value(int(array[index]), fmt) for array in posits]
        if None in values:
            return fmt.nar
        return settle(function.solve(*values, *([] if whole is None else [int(whole[index])])), fmt)

    return _fill(posits, whole, function.approximate, exactly, fmt).reshape(shape).astype(storage, copy=False)


def _fill(
    posits: list[Codes], whole: Codes | None, approximate: Approximate, exactly: Settle, fmt: Format
) -> Codes:
    """Certify in blocks what float64 decides; settle the rest one by one."""
    size, storage = posits[0].size, posits[0].dtype
    out = np.empty(size, storage)
    if fmt.nbits > 32:
        _settle_all(out, np.arange(size), exactly, fmt)
        return out
    kernel = elementary.certifier(*fmt.parameters, storage)
    unsure = np.empty(size, np.uint8)

    def run(start: int, stop: int) -> None:
        with np.errstate(all="ignore"):
            for low in range(start, stop, _BLOCK):
                part = slice(low, min(low + _BLOCK, stop))
                values = [codec.decode(array[part], fmt) for array in posits]
                result = approximate(*values, *([] if whole is None else [whole[part]]))
                rounded, bound = result if isinstance(result, tuple) else (result, _default_bound())
                bounds = np.broadcast_to(np.asarray(bound, np.float64), rounded.shape)
                kernel(rounded, np.ascontiguousarray(bounds), out[part], unsure[part])

    split(size, size * _NANOSECONDS, run)
    _settle_all(out, np.flatnonzero(unsure), exactly, fmt)
    return out


def _default_bound() -> float:
    from posit._elementary.approximate import DEFAULT_BOUND

    return DEFAULT_BOUND


def _settle_all(out: Codes, indices: npt.NDArray[np.intp], exactly: Settle, fmt: Format) -> None:
    if indices.size:
        settled = np.array([exactly(int(index)) for index in indices], np.uint64).astype(fmt.storage)
        out[indices] = settled if out.dtype.kind == "u" else codec.to_signed(settled, fmt)
