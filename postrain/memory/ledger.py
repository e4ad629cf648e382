"""The ledger: every buffer that tensors and posit's kernels make, its purpose, and when it comes and goes.

What is written down is a list of events, +bytes and -bytes, with the number of the buffer.  The purpose of a
buffer may be set until the end (a gradient is known to be one only when the backward pass is over), and the
peak and its parts are read off the finished list: the parts are those *at the moment of the peak*, each byte
once.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ga import _register
from posit import _buffers
from posit.torch import PositTensor
from postrain.report.schema import Account

ACTIVATIONS, WORKSPACE, WEIGHTS = "activations", "workspace", "weights"
GRADIENTS, OPTIMIZER_STATE, INPUTS, COMM = "gradients", "optimizer_state", "inputs", "comm"

_purpose: ContextVar[str] = ContextVar("purpose", default=WORKSPACE)

#: operators that are themselves written in torch: their bodies run under the watch, which sees their buffers
_BODIES: dict[Any, Callable[..., Any]] = {
    torch.ops.ga.product.default: _register._product,
    torch.ops.ga.weighted_product.default: _register._weighted_product,
    torch.ops.ga.weighted_product_grad_weight.default: _register._grad_weight,
}

Sizes = Callable[[torch.Tensor], int]
Workspace = Callable[[Any, tuple[Any, ...], Any], int]


@contextmanager
def purpose(name: str) -> Iterator[None]:
    """Everything made meanwhile is for this: the name of a field of `Account`."""
    token = _purpose.set(name)
    try:
        yield
    finally:
        _purpose.reset(token)


class Ledger:
    """Buffers by purpose over time, while its context lasts.

    Sees the storages of all tensors that operators return (views share one; of a `PositTensor` the codes),
    and the NumPy buffers that posit makes.  Not what an operator of torch allocates and frees inside.

    Args:
        sizes: Bytes of a tensor's storage; for prediction with fake tensors.
        workspace: Bytes that an operator ``(op, arguments, result)`` holds besides its result; given for
            prediction, where operators are not run.

    >>> with Ledger() as ledger, purpose(ACTIVATIONS):
    ...     x = torch.zeros(100)
    ...     y = x + 1
    ...     del x, y
    >>> ledger.peak().activations
    800
    """

    def __init__(self, sizes: Sizes | None = None, workspace: Workspace | None = None) -> None:
        self._sizes = sizes
        self._workspace = workspace
        self._purposes: list[str] = []
        self._events: list[tuple[int, int]] = []
        self._arrays: dict[int, tuple[int, int, int]] = {}  # buffer number: first byte, end, and itself
        self._storages: dict[int, int] = {}  # identity of a storage: buffer number
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._lock = threading.RLock()  # reentrant: a finalizer may run while it is held
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_buffers.listening(self._add_array))
        self._stack.enter_context(_Watch(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def label(self, name: str, tensors: Iterable[torch.Tensor | None]) -> None:
        """These tensors' storages are for this purpose, now and before; unknown ones are written down."""
        for tensor in tensors:
            if tensor is not None:
                self._purposes[self._find_or_add(tensor)] = name

    def claim(self, result: Any, since: int) -> None:
        """Storages of an operator's result are for the purpose in force, if no older than buffer `since`."""
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                number = self._find_or_add(tensor)
                if number >= since:
                    self._purposes[number] = _purpose.get()

    def made(self) -> int:
        """How many buffers have been written down."""
        return len(self._purposes)

    def pass_through(self, op: Any, args: tuple[Any, ...], result: Any) -> None:
        """Write down workspace that came and went inside one operator, where a formula for it was given."""
        if self._workspace is not None and (size := self._workspace(op, args, result)):
            number = self._new(size, WORKSPACE)
            self._gone(number, size)

    def peak(self) -> Account:
        """The purposes of all buffers that lived when most bytes did."""
        with self._lock:
            live = largest = at = 0
            for index, (_, size) in enumerate(self._events):
                live += size
                if live > largest:
                    largest, at = live, index + 1
            parts: Counter[str] = Counter()
            for number, size in self._events[:at]:
                parts[self._purposes[number]] += size
        names = (WEIGHTS, GRADIENTS, OPTIMIZER_STATE, ACTIVATIONS, WORKSPACE, INPUTS, COMM)
        return Account(**{name: parts[name] for name in names})

    def _new(self, size: int, name: str) -> int:
        with self._lock:
            self._purposes.append(name)
            number = len(self._purposes) - 1
            self._events.append((number, size))
            return number

    def _gone(self, number: int, size: int) -> None:
        with self._lock:
            self._events.append((number, -size))
            self._watched.pop(number, None)
            self._arrays.pop(number, None)

    def _add_array(self, buffer: Any) -> None:
        size, start = buffer.nbytes, buffer.__array_interface__["data"][0]
        number = self._new(size, _purpose.get())
        with self._lock:
            self._arrays[number] = start, start + size, number
            self._watched[number] = weakref.ref(buffer, lambda _: self._gone(number, size))

    def _find_or_add(self, tensor: torch.Tensor) -> int:
        storage = (tensor.codes if isinstance(tensor, PositTensor) else tensor).untyped_storage()
        known = self._storages.get(storage._cdata)
        if known is None:
            known = self._array_under(storage)
        if known is not None:
            return known
        size = storage.nbytes() if self._sizes is None else self._sizes(tensor)
        number, key = self._new(size, _purpose.get()), storage._cdata

        def gone(_: object) -> None:
            self._storages.pop(key, None)
            self._gone(number, size)

        self._storages[key] = number
        self._watched[number] = weakref.ref(storage, gone)
        return number

    def _array_under(self, storage: torch.UntypedStorage) -> int | None:
        """The NumPy buffer whose memory a storage shares (torch.from_numpy), if there is one."""
        if self._sizes is not None or storage.nbytes() == 0:
            return None
        with self._lock:
            address = storage.data_ptr()
            return next((n for start, end, n in self._arrays.values() if start <= address < end), None)


class _Watch(TorchDispatchMode):
    """Shows a ledger the result of every operator, and what rules of PositTensor make on the way to it."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._ledger = ledger

    def __torch_dispatch__(
        self,
        op: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs, since, ledger = kwargs or {}, self._ledger.made(), self._ledger
        if any(issubclass(kind, PositTensor) for kind in types):
            with self, purpose(WORKSPACE):
                result = PositTensor.__torch_dispatch__(op, types, args, kwargs)
        elif op in _BODIES and ledger._workspace is None:
            with self, purpose(WORKSPACE):
                result = _BODIES[op](*args, **kwargs)
        else:
            result = op(*args, **kwargs)
        ledger.claim(result, since)
        ledger.pass_through(op, args, result)
        return result
