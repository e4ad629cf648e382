"""Results to JSON text and back; a missing, unknown or non-finite value is an error that names its place."""

import json
import math
import types
import typing
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from postrain.errors import ReportError
from postrain.report.check import check
from postrain.report.schema import VERSION, Results


def dumps(results: Results) -> str:
    """JSON text of `results`, after checking them.

    Raises:
        ReportError: A value has the wrong type or is not finite, or the results contradict themselves.
    """
    return (
        json.dumps(asdict(from_dict(asdict(results))), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def loads(text: str) -> Results:
    """Results from the JSON text that `dumps` made.

    Raises:
        ReportError: It is not JSON, a value is missing, unknown, of the wrong type or not finite.
    """
    try:
        return from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ReportError(f"the results are not JSON ({error}); run postrain compare again") from error


def from_dict(data: dict[str, Any]) -> Results:
    """Results from nested dicts and lists, every value checked."""
    version = data.get("schema")
    if version != VERSION:
        raise ReportError(
            f"results of schema {version!r} cannot be read, wanted {VERSION}; run postrain compare again"
        )
    results: Results = _build(Results, data, "results")
    check(results)
    return results


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind` (a dataclass, list, dict or plain type); `where` names it in errors."""
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is list:
        (item,) = typing.get_args(kind)
        _require(isinstance(value, list), where, "a list", value)
        return [_build(item, each, f"{where}[{index}]") for index, each in enumerate(value)]
    if origin is dict:
        _, item = typing.get_args(kind)
        _require(isinstance(value, dict), where, "a dict", value)
        return {str(key): _build(item, each, f"{where}[{key!r}]") for key, each in value.items()}
    assert not isinstance(kind, types.UnionType), "nothing in the schema is optional"
    return _plain(kind, value, where)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), where, "a dict", value)
    names = [field.name for field in fields(kind)]
    missing = [name for name in names if name not in value]
    unknown = [name for name in value if name not in names]
    if missing or unknown:
        raise ReportError(
            f"{where} lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}; wanted {names}"
        )
    hints = typing.get_type_hints(kind)
    return kind(**{name: _build(hints[name], value[name], f"{where}.{name}") for name in names})


def _plain(kind: type, value: Any, where: str) -> Any:
    """`value` as exactly an int, float or str; an int may stand for a float, a NumPy scalar for nothing."""
    if kind is float:
        _require(type(value) in (int, float) and math.isfinite(value), where, "a finite float", value)
        return float(value)
    _require(type(value) is kind, where, f"of type {kind.__name__}", value)
    return value


def _require(holds: bool, where: str, wanted: str, value: Any) -> None:
    if not holds:
        raise ReportError(f"{where} must be {wanted}, got {value!r} of type {type(value).__name__}")
