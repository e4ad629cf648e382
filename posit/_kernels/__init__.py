"""Numba kernels: integers and arrays only, no objects.  The rest of `posit` chooses, checks and allocates.

``from posit._kernels import convert`` outside this package gives a stand-in that imports the module when it
is first used: importing Numba takes most of a second (and brings SciPy where that is installed), which
reading a format or showing a number does not need.  Kernels import from each other by full name, ``from
posit._kernels.codec import …`` or ``import posit._kernels.wide as wide``, since Numba must see the modules
themselves.
"""

import importlib
import sys
from typing import Any


class _Later:
    """A module that is imported when an attribute of it is first read or set."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", f"{__name__}.{name}")

    def __getattr__(self, attribute: str) -> Any:
        name = object.__getattribute__(self, "_name")
        return getattr(sys.modules.get(name) or importlib.import_module(name), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(importlib.import_module(object.__getattribute__(self, "_name")), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(importlib.import_module(object.__getattribute__(self, "_name")), attribute)


arithmetic: Any = _Later("arithmetic")
convert: Any = _Later("convert")
elementary: Any = _Later("elementary")
exact_sums: Any = _Later("exact_sums")
fused: Any = _Later("fused")
limbs: Any = _Later("limbs")
product: Any = _Later("product")
scalars: Any = _Later("scalars")
stochastic: Any = _Later("stochastic")
