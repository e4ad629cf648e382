"""Calling a function under test: how operands are presented to it, and how its answer is read."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from posit._testing.numbers import IeeeNumbers, Numbers, PositNumbers, Value
from posit.errors import CheckError, MissingReferenceError

Present = Callable[[Any], Any]
PRESENTATIONS = ("array", "list", "torch")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave: values in C order, or the reason why there are none."""

    values: tuple[Value, ...] = ()
    problem: str = ""  #: "raised ValueError: …", "returned None"
    kind: str = ""  #: what numbers they are, where not those asked for


def presentation(operands: "str | Present") -> Present:
    """How to hand over an array: by name, or the user's own function of it.

    Raises:
        CheckError: no such name.
    """
    if callable(operands):
        return operands
    known: dict[str, Present] = {"array": lambda x: x, "list": _nested_list, "torch": _tensor}
    if operands not in known:
        raise CheckError(
            f"operands are given as {', '.join(PRESENTATIONS)} or by a function of the array, got {operands!r}"
        )
    return known[operands]


def _nested_list(array: Any) -> Any:
    return list(array) if array.ndim == 1 else [list(row) for row in array]


def _tensor(array: Any) -> Any:
    """A torch tensor, or a PositTensor: loaded only where the user asks for it, so that posit stays without torch."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingReferenceError("operands as torch tensors need PyTorch: pip install torch") from error
    if hasattr(array, "codes"):
        from posit.codec import to_signed

        codes = torch.from_numpy(np.array(to_signed(array.codes, array.format)))
        return importlib.import_module("posit.torch").PositTensor(codes, array.format)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def ask(fn: Callable[..., Any], operands: list[Any], wanted: tuple[int, ...], result: Numbers) -> Answer:
    """Call `fn` and read its answer, which should have the shape `wanted` and be of `result`'s numbers."""
    try:
        with np.errstate(all="ignore"):
            given = fn(*operands)
    except Exception as error:
        return Answer(problem=f"raised {type(error).__name__}: {error}".rstrip(": "))
    return _read(given, wanted, result)


def _read(given: Any, wanted: tuple[int, ...], result: Numbers) -> Answer:
    name = type(given).__name__
    if given is None or isinstance(given, str | bytes | bool | np.bool_ | complex):
        return Answer(problem=f"returned {given!r}, not a number")
    if hasattr(given, "to_posit"):
        return Answer(problem=f"returned a {name}, which is not rounded yet; return its to_posit()")
    shape = tuple(getattr(given, "shape", ()))
    if isinstance(given, list | tuple):
        return Answer(problem=f"returned a {name} of length {len(given)}; return an array or one number")
    if shape != wanted:
        expected = f"an array of shape {wanted}" if wanted else "one number, shape ()"
        return Answer(problem=f"returned a {name} of shape {shape}; {expected} was wanted")
    if hasattr(given, "codes") and hasattr(given, "format"):
        return _posits(given, result)
    return _reals(given, result)


def _posits(given: Any, result: Numbers) -> Answer:
    from posit.codec import to_unsigned

    if not isinstance(result, PositNumbers) or given.format != result.fmt:
        return Answer(
            problem=f"returned {given.format}, not {result.name}; "
            f"where that is the format of the answer, say so (result={str(given.format)!r})"
        )
    codes = to_unsigned(np.asarray(given.codes), result.fmt)
    return Answer(tuple(result.value(int(code)) for code in codes.reshape(-1)))


def _reals(given: Any, result: Numbers) -> Answer:
    kind = str(getattr(given, "dtype", type(given).__name__)).removeprefix("torch.")
    items = [given]
    if hasattr(given, "tolist"):
        flat = (given.detach() if hasattr(given, "detach") else given).reshape(-1)
        items = flat.tolist()
    try:
        values = tuple(_number(item) for item in items)
    except (TypeError, ValueError):
        return Answer(problem=f"returned a {type(given).__name__}, not a real number: {given!r}"[:300])
    plain = isinstance(result, IeeeNumbers) and kind in (result.name, "int")
    return Answer(values, kind="" if plain else kind)


def _number(item: Any) -> Value:
    if isinstance(item, int | Fraction):
        return Fraction(item)
    if isinstance(item, Decimal) and item.is_finite():
        return Fraction(item)
    if isinstance(item, complex) or not hasattr(item, "__float__"):
        raise TypeError("not a real number")
    if hasattr(item, "as_integer_ratio") and math.isfinite(item):
        return Fraction(*item.as_integer_ratio())
    real = float(item)
    return Fraction(real) if math.isfinite(real) else real


def same(x: Value, y: Value) -> bool:
    """Equal, where NaN and NaR equal themselves and -0 equals 0.

    >>> same(math.nan, math.nan), same(Fraction(0), Fraction(1))
    (True, False)
    """
    return x == y or (isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y))
