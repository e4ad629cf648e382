"""The BLAS that NumPy multiplies with: its name, the kernel it chose for this processor, its number of threads."""

import ctypes

import numpy as np

from posit import _blas


def facts() -> dict[str, str]:
    """What a report says of it."""
    told = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found = {"BLAS": f"{told.get('name', 'unknown')} {told.get('version', '')}".strip()}
    name = _blas.function("openblas_get_corename")
    if name is None:
        return found | {
            "BLAS kernel": "it does not say",
            "BLAS threads": "as the environment says, in every row",
        }
    name.restype = ctypes.c_char_p
    return found | {"BLAS kernel": name().decode()}


def get_num_threads() -> int | None:
    """Threads that NumPy's products use, or None where that cannot be asked."""
    count = _blas.function("openblas_get_num_threads")
    return None if count is None else int(count())


def set_num_threads(count: int | None) -> None:
    """Let NumPy's products use `count` threads; does nothing for None, or where that cannot be set."""
    change = _blas.function("openblas_set_num_threads")
    if change is not None and count is not None:
        change(ctypes.c_int(count))
