"""What a user waits for before the first number: imports, the command, the first call of a kernel."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from postrain.errors import MeasurementError

_IMPORT = """
import sys, json, time
start = time.perf_counter()
import posit
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "loaded": sorted({"torch", "scipy"} & set(sys.modules))}))
"""

_FIRST_CALL = """
import json, time
import numpy as np
import posit
from posit import arithmetic, codec
start = time.perf_counter()
codes = codec.encode(np.ones(4, np.float32), posit.posit16)
arithmetic.mul(codes, codes, posit.posit16)
print(json.dumps({"seconds": time.perf_counter() - start}))
"""


@dataclass(frozen=True)
class Startup:
    """Seconds, each in a fresh process."""

    imports: list[float]  #: ``import posit``
    loaded: list[str]  #: of torch and scipy, those that it loaded
    shows: list[float]  #: ``posit show 0x5a00 --format posit16``, the whole process
    compiled: float  #: first encode and mul of posit16 with an empty Numba cache, and loading Numba
    cached: float  #: the same in the next process
    kernels: int  #: compiled kernels in the cache after the first process
    compiled_again: int  #: compiled kernels that the second process added


def measure_startup(repeats: int) -> Startup:
    """Start Python several times.

    Raises:
        MeasurementError: a process failed.
    """
    imported = [json.loads(_python("-c", _IMPORT)) for _ in range(repeats)]
    shows = []
    for _ in range(repeats):
        start = perf_counter()
        _python("-m", "posit", "show", "0x5a00", "--format", "posit16")
        shows.append(perf_counter() - start)
    with tempfile.TemporaryDirectory(prefix="postrain-bench-") as cache:
        compiled = _first_call(cache)
        kernels = _kernels(cache)
        cached = _first_call(cache)
        again = _kernels(cache) - kernels
    seconds = [each["seconds"] for each in imported]
    return Startup(seconds, imported[0]["loaded"], shows, compiled, cached, kernels, again)


def _first_call(cache: str) -> float:
    answer: dict[str, Any] = json.loads(_python("-c", _FIRST_CALL, NUMBA_CACHE_DIR=cache))
    return float(answer["seconds"])


def _kernels(cache: str) -> int:
    return len(list(Path(cache).rglob("*.nbc")))


def _python(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(  # noqa: S603 (our own interpreter and texts)
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise MeasurementError(
            f"the process {arguments[0]} {arguments[1].split()[0]} … ended with code {done.returncode}: {reason}; "
            "run it by hand to see the whole message"
        )
    return done.stdout
