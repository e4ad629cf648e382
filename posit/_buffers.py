"""The one place where posit's NumPy buffers are made, so that whoever counts memory hears of each.

A listener gets every new buffer, an array that owns its memory; it may attach a weak reference and so learn
when the buffer goes.  It is called in the thread that makes the buffer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = int | tuple[int, ...]
Listener = Callable[[Array], None]

_listener: Listener | None = None


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every buffer made meanwhile, in any thread.

    >>> with listening(lambda buffer: print(buffer.nbytes)):
    ...     x = empty((2, 3))
    48
    """
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def empty(shape: Shape, dtype: npt.DTypeLike = np.float64) -> Array:
    """A buffer of undefined content."""
    return _made(np.empty(shape, dtype))


def zeros(shape: Shape, dtype: npt.DTypeLike = np.float64) -> Array:
    """A buffer of zeros."""
    return _made(np.zeros(shape, dtype))


def full(shape: Shape, value: float, dtype: npt.DTypeLike = np.float64) -> Array:
    """A buffer filled with one value."""
    return _made(np.full(shape, value, dtype))


def contiguous(x: Array) -> Array:
    """`x` itself where it is in C order, else a copy that is.

    >>> x = np.zeros((2, 3))
    >>> contiguous(x) is x, contiguous(x.T).flags.c_contiguous
    (True, True)
    """
    if x.flags.c_contiguous:
        return x
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def _made(buffer: Array) -> Array:
    if _listener is not None:
        _listener(buffer)
    return buffer
