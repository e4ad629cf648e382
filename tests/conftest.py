"""Before any test: an empty cache for Numba, one thread per worker, and data that may not be there."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# Kernels compile on first use, and machines are noisy: no time limit per example, and the same examples every run.
hypothesis.settings.register_profile("postrain", deadline=None, derandomize=True)
hypothesis.settings.load_profile("postrain")

if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # the workers already fill the cores


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a Numba cache of its own, shared by its workers.

    A kernel cached by an earlier run does not notice that a function in another file was edited. A developer
    may set NUMBA_CACHE_DIR to keep a cache; `make test` unsets it.
    """
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="postrain-numba-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture
def shared_data() -> Path:
    """The folder of data sets that is not part of the project; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the data sets in {SHARED_DATA}")
    return SHARED_DATA
