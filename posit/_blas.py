"""The BLAS that NumPy multiplies with, found among the loaded libraries: OpenBLAS, under the names of its builders."""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

_AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))  # of OpenBLAS's functions, by builder


def function(name: str) -> Any:
    """OpenBLAS's function of this name in NumPy's library, or None.

    >>> function("openblas_no_such_function") is None
    True
    """
    return _found(name, _AFFIXES)


@cache
def gemm_address() -> int:
    """Address of the ``cblas_dgemm`` of NumPy's OpenBLAS, built for 64-bit integers, for kernels to call; or 0.

    Any order of summation will do, so which BLAS multiplies changes no bit of a posit product.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return 0  # Python functions have no use for it
    gemm = _found("cblas_dgemm", tuple(pair for pair in _AFFIXES if pair[1]))
    return 0 if gemm is None else ctypes.cast(gemm, ctypes.c_void_p).value or 0


def _found(name: str, affixes: tuple[tuple[str, str], ...]) -> Any:
    library = _library()
    names = (f"{before}{name}{after}" for before, after in affixes)
    return next((getattr(library, each) for each in names if hasattr(library, each)), None)


@cache
def _library() -> ctypes.CDLL | None:
    """The OpenBLAS that is loaded; NumPy's own where another package has brought one too."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    loaded = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    ordered = sorted(loaded, key=lambda path: ("numpy" not in path, path))
    return ctypes.CDLL(ordered[0]) if ordered else None
