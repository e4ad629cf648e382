"""What a measurement of numbers ran on: processor, versions, and the kernels that were chosen."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from posit import Format

_PACKAGES = ("numpy", "numba", "llvmlite", "ml_dtypes", "softposit", "qtorch-plus")
_WAYS = {"lane_kernel": "32-bit lanes", "float_kernel": "float64 to odd"}


def machine() -> dict[str, str]:
    """Processor, cores that this process may use, how busy they are with everything that runs, and versions."""
    from posit._kernels import foreign

    found = {
        "CPU": _processor(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "code for": str(foreign.target_cpu()),
        "system": platform.platform(),
        "load average": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
    }
    return found | versions(_PACKAGES)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Which version of each package is there, if any."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def kernels(formats: Iterable[Format]) -> dict[str, str]:
    """How mul and add of each format are computed."""
    from posit._kernels import arithmetic

    ways = {}
    for fmt in formats:
        for name, operation in (("mul", arithmetic.MUL), ("add", arithmetic.ADD)):
            kernel = arithmetic.binary(operation, fmt.nbits, fmt.es, fmt.max_regime or 0)
            ways[f"{fmt} {name}"] = _WAYS.get(kernel.__name__, "integers")
    return ways


def _processor() -> str:
    """The model name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
