"""A meter that knows nothing of purposes: bytes that NumPy and torch hold, on one time line.

NumPy is asked through its own allocator interface (NEP 49): a handler that writes down each call.  Torch's
allocator reports to the profiler.  Both give the time of every event in nanoseconds of the same clock, so the
peak of the sum is exact.  What neither sees (Python objects, scratch memory of BLAS, buffers inside Numba
kernels, code) is seen by `process_peak` only.
"""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # it has no stub
from torch.profiler import ProfilerActivity, profile

_SET_HANDLER = 304  # PyDataMem_SetHandler in NumPy's table of C functions, whose order is its ABI

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_MALLOC = ctypes.CFUNCTYPE(_POINTER, _POINTER, _SIZE)
_CALLOC = ctypes.CFUNCTYPE(_POINTER, _POINTER, _SIZE, _SIZE)
_REALLOC = ctypes.CFUNCTYPE(_POINTER, _POINTER, _POINTER, _SIZE)
_FREE = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _SIZE)

Event = tuple[int, int]  #: time in nanoseconds, bytes (negative where freed)


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("ctx", _POINTER),
        ("malloc", _MALLOC),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    )


class _Handler(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator))


class _NumpyEvents:
    """NumPy's allocations while installed; its arrays may be freed later, but not as the interpreter ends."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._sizes: dict[int, int] = {}
        self._libc = _libc()
        allocator = _Allocator(
            None, _MALLOC(self._malloc), _CALLOC(self._calloc), _REALLOC(self._realloc), _FREE(self._free)
        )
        self._handler = _Handler(b"postrain.memory.meter", 1, allocator)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [_POINTER, ctypes.c_char_p, _POINTER]
        self._capsule = new(ctypes.addressof(self._handler), b"mem_handler", None)
        self._before: Any = None

    def install(self) -> None:
        self._before = _set_handler()(self._capsule)

    def remove(self) -> None:
        _set_handler()(self._before)

    def _write(self, address: int | None, size: int) -> int | None:
        if address:
            self._sizes[address] = size
            self.events.append((time.time_ns(), size))
        return address

    def _drop(self, address: int | None) -> None:
        if address and (size := self._sizes.pop(address, None)) is not None:
            self.events.append((time.time_ns(), -size))

    def _malloc(self, _: int, size: int) -> int | None:
        return self._write(self._libc.malloc(max(size, 1)), size)

    def _calloc(self, _: int, count: int, each: int) -> int | None:
        return self._write(self._libc.calloc(max(count, 1), max(each, 1)), count * each)

    def _realloc(self, _: int, address: int | None, size: int) -> int | None:
        moved = self._libc.realloc(address, max(size, 1))
        if moved:
            self._drop(address)
        return self._write(moved, size)

    def _free(self, _: int, address: int | None, size: int) -> None:
        self._drop(address)
        self._libc.free(address)


def _libc() -> Any:
    libc = ctypes.CDLL(None)
    for name, arguments in (("malloc", [_SIZE]), ("calloc", [_SIZE] * 2), ("realloc", [_POINTER, _SIZE])):
        function = getattr(libc, name)
        function.restype, function.argtypes = _POINTER, arguments
    libc.free.restype, libc.free.argtypes = None, [_POINTER]
    return libc


def _set_handler() -> Any:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(_POINTER))
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[_SET_HANDLER] or 0)


class Meter:
    """Bytes allocated since its context began and not freed, and their peak in named windows of time.

    For a process of its own: end that with `os._exit`, since arrays that live on are freed through this.
    """

    def __init__(self) -> None:
        self._numpy = _NumpyEvents()
        self._profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._windows: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        self._profiler.__enter__()
        self._numpy.install()
        return self

    def __exit__(self, *error: object) -> None:
        self._numpy.remove()
        self._profiler.__exit__(*error)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Name the time until the context ends."""
        start = time.time_ns()
        yield
        self._windows[name] = start, time.time_ns()

    def peaks(self) -> dict[str, int]:
        """The largest number of bytes in each window; after the meter's context has ended."""
        events = sorted([*self._numpy.events, *self._torch_events()])
        return {name: _largest(events, *window) for name, window in self._windows.items()}

    def _torch_events(self) -> Iterator[Event]:
        kineto: Any = self._profiler.profiler
        for event in kineto.kineto_results.events():
            if event.name() == "[memory]":
                yield event.start_ns(), event.nbytes()


def _largest(events: list[Event], start: int, stop: int) -> int:
    """The largest running sum between two times, what was held at the first included.

    >>> _largest([(1, 5), (2, 7), (3, -7), (8, 1)], start=4, stop=9)
    6
    """
    live = largest = 0
    for when, size in events:
        if when > stop:
            break
        if when < start:
            live, largest = live + size, live + size
        else:
            live += size
            largest = max(largest, live)
    return largest


def reset_process_peak() -> int | None:
    """Forget the peak of this process' resident memory; returns the bytes resident now.

    None where Linux does not let it be forgotten.
    """
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def process_peak() -> int:
    """The most bytes of this process that were resident since `reset_process_peak`."""
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
