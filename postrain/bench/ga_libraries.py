"""The peers of ``postrain bench ga`` that are libraries: clifford, kingdon, PyPose; None where one is missing."""

import importlib
import importlib.util
import os
import shutil
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ga import VGA3, Multivector
from ga.conversions import rotor_from_quaternion, to_quaternion
from postrain.bench.ga_peers import Compute, dense

_LOOP = 200  #: products in one turn of a library that multiplies one pair at a time
PACKAGES = ("clifford", "kingdon", "pypose")


def clifford_loop(x: Multivector, y: Multivector) -> Compute | None:
    """The product of clifford in a Python loop, as its users write it."""
    if importlib.util.find_spec("clifford") is None:
        return None
    clifford: Any = importlib.import_module("clifford")
    layout, _ = clifford.Cl(x.algebra.p, x.algebra.q, x.algebra.r)
    count = min(_LOOP, x.shape[0])
    pairs = [
        tuple(clifford.MultiVector(layout, value.double().numpy()) for value in pair)
        for pair in zip(dense(x[:count]), dense(y[:count]), strict=True)
    ]

    def run(threads: int) -> None:
        for a, b in pairs:
            a * b

    return Compute(
        run, lambda: torch.stack([torch.from_numpy((a * b).value) for a, b in pairs]).float(), count
    )


def kingdon(x: Multivector, y: Multivector, sandwich: bool, compiled: bool = False) -> Compute | None:
    """The product that kingdon generates over the same planes, in eager torch or given to torch.compile.

    The note says how long the first call took, of which each number of threads has one: kingdon forms the expression,
    and torch.compile, which needs a C++ compiler, its code.
    """
    if importlib.util.find_spec("kingdon") is None or (compiled and not _cpp_compiler()):
        return None
    library: Any = importlib.import_module("kingdon")
    options = {"wrapper": _compiled} if compiled else {}
    algebra = library.Algebra(x.algebra.p, x.algebra.q, x.algebra.r, **options)
    a, b = (algebra.multivector(keys=mv.layout.blades, values=list(mv.planes)) for mv in (x, y))

    def product() -> Any:
        return a.sw(b) if sandwich else a * b

    def result() -> Tensor:
        found = product()
        out = torch.zeros((*x.shape, x.algebra.size))
        for key, plane in zip(found.keys(), found.values(), strict=True):
            out[..., x.algebra.blades.index(key)] = plane
        return out

    def run(threads: int) -> None:
        product()

    start = perf_counter()
    product()
    return Compute(run, result, note=f"first call {perf_counter() - start:.2g} s")


def _compiled(function: Any) -> Any:
    """One graph for exactly these shapes: what torch.compile does best."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def _cpp_compiler() -> str | None:
    """What torch.compile would build its kernels with."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def pypose(x: Multivector, y: Multivector, sandwich: bool) -> Compute | None:
    """The same rotation by PyPose's SO3: the product of two, or one that acts on a vector; None for all else."""
    if x.algebra != VGA3 or x.layout.grades != (0, 2) or importlib.util.find_spec("pypose") is None:
        return None
    if y.layout.grades != ((1,) if sandwich else (0, 2)):
        return None
    library: Any = importlib.import_module("pypose")
    first = library.SO3(_imaginary_first(x))
    second = y.coefficients.contiguous() if sandwich else library.SO3(_imaginary_first(y))

    def product() -> Any:
        return first.Act(second) if sandwich else first @ second

    def result() -> Tensor:
        found = product()
        if sandwich:
            return dense(Multivector(found.movedim(-1, 0), y.layout))
        return dense(rotor_from_quaternion(found.tensor().roll(1, -1)))

    def run(threads: int) -> None:
        product()

    return Compute(run, result)


def _imaginary_first(rotor: Multivector) -> Tensor:
    """Quaternions (x, y, z, w), as PyPose has them."""
    return to_quaternion(rotor).roll(-1, -1).contiguous()
