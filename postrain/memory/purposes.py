"""What bytes are for: the names of `postrain.report.schema.Bytes`, and the one in force."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ACTIVATIONS, WORKSPACE, WEIGHTS = "activations", "workspace", "weights"
GRADIENTS, OPTIMIZER_STATE, INPUTS = "gradients", "optimizer_state", "inputs"
STREAM, TANGENTS, QUIRES, COMM = "residual_stream", "tangents", "quires", "comm"

_purpose: ContextVar[str] = ContextVar("purpose", default=WORKSPACE)


@contextmanager
def purpose(name: str) -> Iterator[None]:
    """Everything made meanwhile is for this: the name of a field of `Bytes`.

    >>> with purpose(QUIRES):
    ...     current_purpose()
    'quires'
    """
    token = _purpose.set(name)
    try:
        yield
    finally:
        _purpose.reset(token)


def current_purpose() -> str:
    """What is in force; `WORKSPACE` where nothing else was said."""
    return _purpose.get()
