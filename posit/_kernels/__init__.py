"""Numba kernels: integers and arrays only, no objects.  The rest of `posit` chooses, checks and allocates.

``from posit._kernels import convert`` outside this package gives a stand-in that imports the module when it
is first used: importing Numba takes most of a second (and brings SciPy where that is installed), which
reading a format or showing a number does not need.  Kernels import from each other by full name, ``from
posit._kernels.codec import …`` or ``import posit._kernels.wide as wide``, since Numba must see the modules
themselves.
"""

import importlib
from typing import Any


class _Later:
    """A module that is imported when an attribute of it is first read or set."""

    __slots__ = ("__dict__", "_module", "_name")

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", f"{__name__}.{name}")
        object.__setattr__(self, "_module", None)

    def _imported(self) -> Any:
        """The module; kept only when its import has ended, since another thread may be in the middle of it."""
        module = object.__getattribute__(self, "_module")
        if module is None:
            module = importlib.import_module(object.__getattribute__(self, "_name"))
            object.__setattr__(self, "_module", module)
            object.__setattr__(self, "__dict__", vars(module))  # what is read later is found without a call
        return module

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._imported(), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(self._imported(), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(self._imported(), attribute)


arithmetic: Any = _Later("arithmetic")
attention: Any = _Later("attention")
combine: Any = _Later("combine")
certificate: Any = _Later("certificate")
convert: Any = _Later("convert")
elementary: Any = _Later("elementary")
exact_sums: Any = _Later("exact_sums")
fused: Any = _Later("fused")
limbs: Any = _Later("limbs")
norms: Any = _Later("norms")
panels: Any = _Later("panels")
philox: Any = _Later("philox")
planes: Any = _Later("planes")
pointwise: Any = _Later("pointwise")
patches: Any = _Later("patches")
product: Any = _Later("product")
quire: Any = _Later("quire")
quotients: Any = _Later("quotients")
quire_products: Any = _Later("quire_products")
polynomials: Any = _Later("polynomials")
segments: Any = _Later("segments")
scalar_quires: Any = _Later("scalar_quires")
scalars: Any = _Later("scalars")
settle: Any = _Later("settle")
small: Any = _Later("small")
softmax: Any = _Later("softmax")
stochastic: Any = _Later("stochastic")
streams: Any = _Later("streams")
