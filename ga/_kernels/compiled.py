"""Compiles the text of a kernel to machine code, loads it, and keeps it on disk for the next process.

LLVM is the copy that Numba brings (``llvmlite``).  Numba itself is not used: it would compile scalar loops and
leave them to a vectoriser, which gives up on a conformal product, and importing it takes a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from ga._kernels import source
from ga._kernels.source import Machine
from ga.plan import Plan

Kernel = Callable[..., None]

_MAGIC = b"ga kernel 1\n"
_lock = threading.Lock()
_alive: list[Any] = []  # engines own the code of their kernels


@cache
def machine() -> Machine:
    """The processor's vector registers."""
    features = llvm.get_host_cpu_features()
    arm = llvm.get_default_triple().startswith(("aarch64", "arm64"))
    if features.get("avx512f"):
        return Machine(vector_bytes=64, registers=32, fused=True)
    if arm:
        return Machine(vector_bytes=16, registers=32, fused=True)
    wide, fused = features.get("avx", False), features.get("fma", False)
    return Machine(vector_bytes=32 if wide else 16, registers=16, fused=fused)


def description() -> str:
    """The compiler and the vectors it is asked for."""
    found = machine()
    version = ".".join(map(str, llvm.llvm_version_info))
    fused = "fused multiply-add" if found.fused else "multiply and add"
    return f"LLVM {version}, vectors of {8 * found.vector_bytes} bits, {fused}"


def check() -> None:
    """Raise unless the code that this LLVM makes can be run."""
    with _lock:
        _initialise()
        llvm.check_jit_execution()
        llvm.parse_assembly("define void @product(ptr %x) { ret void }").verify()


def compiled(plans: tuple[Plan, ...], scalar: str, splat: tuple[bool, bool]) -> Kernel:
    """The kernel that :func:`ga._kernels.source.kernel` writes, from the cache on disk if it is there.

    Raises:
        RuntimeError: LLVM refuses the text.
    """
    with _lock:
        _initialise()
        path = cache_folder() / f"{_digest(plans, scalar, splat)}.o"
        code = _read(path)
        if code is None:
            code = _machine_code(source.kernel(plans, scalar, splat, machine()))
            _write(path, code)
        return _loaded(code)


def cache_folder() -> Path:
    """Where machine code is kept: in Numba's cache folder if one is set, else in the user's.

    >>> cache_folder().name
    'ga-kernels'
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "ga-kernels"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "postrain" / "ga-kernels"


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _digest(plans: tuple[Plan, ...], scalar: str, splat: tuple[bool, bool]) -> str:
    """Name of a kernel: everything that decides on its machine code, without writing its text."""
    terms = [(plan.first.blades, plan.second.blades, plan.out.blades, plan.terms) for plan in plans]
    parts = (_writer(), terms, scalar, splat, machine(), llvmlite.__version__, _processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


@cache
def _writer() -> str:
    """The text of the file that writes kernels: other instructions, other names."""
    return inspect.getsource(source)


@cache
def _processor() -> tuple[str, str, str]:
    features = llvm.get_host_cpu_features().flatten()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features


def _target() -> Any:
    triple, name, features = _processor()
    made = llvm.Target.from_triple(triple)
    return made.create_target_machine(cpu=name, features=features, opt=2, codemodel="jitdefault", jit=True)


def _machine_code(text: str) -> bytes:
    module = llvm.parse_assembly(text)
    module.verify()
    code: bytes = _target().emit_object(module)
    return code


def _loaded(code: bytes) -> Kernel:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _alive.append(engine)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 6)  # releases the GIL
    return signature(engine.get_function_address("product"))


def _read(path: Path) -> bytes | None:
    """Machine code from disk; None where there is none, or the file is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, code = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    return code if head == _MAGIC + hashlib.sha256(code).digest() else None


def _write(path: Path, code: bytes) -> None:
    """Store machine code, whole or not at all; a folder that refuses it costs only time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(code).digest() + code)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
