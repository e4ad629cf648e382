"""Train small neural networks in posit arithmetic, every sum exact and rounded once.

Importing this package loads neither torch nor Numba; its modules do that when they are used.

>>> import postrain
>>> postrain.__version__
'0.1.0.dev0'
>>> postrain.Recipe("posit16").weights
'posit16'
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postrain import optim
    from postrain._coverage import coverage
    from postrain._entry import train
    from postrain.accumulate import accumulate
    from postrain.convert import convert, to_float
    from postrain.recipe import Recipe

__version__ = "0.1.0.dev0"

__all__ = ["Recipe", "accumulate", "convert", "coverage", "optim", "to_float", "train"]

_HOMES = {
    "Recipe": "recipe",
    "accumulate": "accumulate",
    "convert": "convert",
    "coverage": "_coverage",
    "to_float": "convert",
    "train": "_entry",
}


def __getattr__(name: str) -> Any:
    """Import what is named when it is first used."""
    if name == "optim":
        return importlib.import_module("postrain.optim")
    if name not in _HOMES:
        raise AttributeError(f"module 'postrain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"postrain.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted([*globals(), *_HOMES, "optim"])


class _Package(ModuleType):
    """A package in which the functions `convert` and `accumulate` are not hidden by the modules that hold them."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (
            name in _HOMES and isinstance(value, ModuleType)
        ):  # importing a module sets it in its package
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
