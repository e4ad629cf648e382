"""The BLAS that NumPy multiplies with: its name, the kernel it chose for this processor, its number of threads."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))  # of OpenBLAS's functions, by builder


def facts() -> dict[str, str]:
    """What a report says of it."""
    told = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found = {"BLAS": f"{told.get('name', 'unknown')} {told.get('version', '')}".strip()}
    name = _function("get_corename")
    if name is None:
        return found | {
            "BLAS kernel": "it does not say",
            "BLAS threads": "as the environment says, in every row",
        }
    name.restype = ctypes.c_char_p
    return found | {"BLAS kernel": name().decode()}


def get_num_threads() -> int | None:
    """Threads that NumPy's products use, or None where that cannot be asked."""
    count = _function("get_num_threads")
    return None if count is None else int(count())


def set_num_threads(count: int | None) -> None:
    """Let NumPy's products use `count` threads; does nothing for None, or where that cannot be set."""
    change = _function("set_num_threads")
    if change is not None and count is not None:
        change(ctypes.c_int(count))


def _function(name: str) -> Any:
    """OpenBLAS's function of this name in NumPy's library, or None."""
    library = _library()
    names = (f"{before}openblas_{name}{after}" for before, after in _AFFIXES)
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
