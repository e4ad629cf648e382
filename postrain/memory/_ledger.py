"""The ledger: every buffer that tensors and posit's kernels make, its purpose, and when it comes and goes.

What is written down is a list of events, +bytes and -bytes, with the number of the buffer.  The purpose of a
buffer may be set until the end (a gradient is known to be one only when the backward pass is over), and the
peak and its parts are read off the finished list: the parts are those *at the moment of the peak*, each byte
once.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ga import _register
from posit import _buffers
from posit.torch import PositTensor
from posit.torch.registry import fused_rule
from postrain.memory.purposes import (
    ACTIVATIONS,
    INPUTS,
    OPTIMIZER_STATE,
    WEIGHTS,
    WORKSPACE,
    current_purpose,
    purpose,
)
from postrain.report.schema import Bytes

_BACKWARD = (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad)

#: operators that are themselves written in torch: their bodies run under the watch, which sees their buffers
_BODIES: dict[Any, Callable[..., Any]] = {
    torch.ops.ga.product.default: _register._product,
    torch.ops.ga.weighted_product.default: _register._weighted_product,
    torch.ops.ga.weighted_product_grad_weight.default: _register._grad_weight,
}

Sizes = Callable[[torch.Tensor], int]
Workspace = Callable[[Any, tuple[Any, ...], Any], int]


#: how long a buffer is held, by whom
STACK, SAVED, RETURNED, REFERENCE = "stack-scoped", "closure-captured", "return-escaping", "by-reference"


@dataclass(frozen=True, slots=True)
class Buffer:
    """One buffer of a ledger.

    Its escape class is that of the place where it was made: *stack-scoped*, gone before its operator returned;
    *closure-captured*, kept by a forward pass for the backward pass; *return-escaping*, handed on as a result;
    *by-reference*, there before: weights, inputs, what the optimizer holds.
    """

    nbytes: int
    purpose: str  #: the name of a field of `Bytes`
    escape: str
    made: int  #: number of the event, from 0, that made it
    gone: int | None  #: that freed it; None where it outlived the ledger


class Ledger:
    """Buffers by purpose over time, while its context lasts.

    What was made as workspace in a forward pass and is still there when a backward pass begins was saved for it: it
    belongs to the activations.

    Sees the storages of all tensors that operators return (views share one; of a `PositTensor` the codes),
    and the NumPy buffers that posit makes.  Not what an operator of torch allocates and frees inside.

    Args:
        sizes: Bytes of a tensor's storage; for prediction with fake tensors.
        workspace: Bytes that an operator ``(op, arguments, result)`` holds besides its result; given for
            prediction, where operators are not run.
        not_kept: Of operators, the places of results that are not counted, since what is predicted has no such results.

    >>> with Ledger() as ledger, purpose(ACTIVATIONS):
    ...     x = torch.zeros(100)
    ...     y = x + 1
    ...     del x, y
    >>> ledger.peak().activations
    800
    """

    def __init__(
        self,
        sizes: Sizes | None = None,
        workspace: Workspace | None = None,
        not_kept: Mapping[Any, tuple[int, ...]] | None = None,
    ) -> None:
        self._sizes = sizes
        self._workspace = workspace
        self._not_kept = not_kept or {}
        self._purposes: list[str] = []
        self._escapes: list[str] = []
        self._events: list[tuple[int, int]] = []
        self._arrays: dict[int, tuple[int, int, int]] = {}  # buffer number: first byte, end, and itself
        self._storages: dict[int, int] = {}  # identity of a storage: buffer number
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._lock = threading.RLock()  # reentrant: a finalizer may run while it is held
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_buffers.listening(self._add_array))
        self._stack.enter_context(_Functions(self))
        self._stack.enter_context(_Watch(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def label(self, name: str, tensors: Iterable[torch.Tensor | None]) -> None:
        """These tensors' storages are for this purpose, now and before; unknown ones are written down."""
        for tensor in tensors:
            if tensor is not None:
                number = self._find_or_add(tensor)
                self._purposes[number] = name
                if name in (WEIGHTS, INPUTS, OPTIMIZER_STATE):
                    self._escapes[number] = REFERENCE

    def claim(self, result: Any, since: int) -> None:
        """Storages of an operator's result are for the purpose in force, if no older than buffer `since`."""
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                number = self._find_or_add(tensor)
                if number >= since:
                    self._purposes[number] = current_purpose()

    def saved(self) -> None:
        """A backward pass begins: workspace that lives was saved for it."""
        with self._lock:
            for number in [*self._watched]:
                if self._escapes[number] != REFERENCE:
                    self._escapes[number] = SAVED
                if self._purposes[number] == WORKSPACE:
                    self._purposes[number] = ACTIVATIONS

    def made(self) -> int:
        """How many buffers have been written down."""
        return len(self._purposes)

    def pass_through(self, op: Any, args: tuple[Any, ...], result: Any) -> None:
        """Write down workspace that came and went inside one operator, where a formula for it was given."""
        if self._workspace is not None:
            self.passing(self._workspace(op, args, result))

    def leave_out(self, op: Any, result: Any) -> None:
        """Do not count those of an operator's results that posits do not have."""
        for place in self._not_kept.get(op, ()):
            self._find_or_add(result[place], 0)

    def passing(self, size: int) -> None:
        """Write down workspace of so many bytes that came and went."""
        if size:
            number = self._new(size, WORKSPACE)
            self._escapes[number] = STACK
            self._gone(number, size)

    def peak(self) -> Bytes:
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
        return Bytes(**{field.name: parts[field.name] for field in fields(Bytes)})

    def buffers(self) -> tuple[Buffer, ...]:
        """Every buffer that was written down, in the order in which they were made."""
        with self._lock:
            made: dict[int, tuple[int, int]] = {}
            gone: dict[int, int] = {}
            for index, (number, size) in enumerate(self._events):
                if number in made:
                    gone[number] = index
                else:
                    made[number] = index, size
            return tuple(
                Buffer(size, self._purposes[number], self._escapes[number], index, gone.get(number))
                for number, (index, size) in made.items()
            )

    def _new(self, size: int, name: str) -> int:
        with self._lock:
            self._purposes.append(name)
            self._escapes.append(RETURNED)
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
        number = self._new(size, current_purpose())
        with self._lock:
            self._arrays[number] = start, start + size, number
            self._watched[number] = weakref.ref(buffer, lambda _: self._gone(number, size))

    def _find_or_add(self, tensor: torch.Tensor, size: int | None = None) -> int:
        storage = (tensor.codes if isinstance(tensor, PositTensor) else tensor).untyped_storage()
        known = self._storages.get(storage._cdata)
        if known is None:
            known = self._array_under(storage)
        if known is not None:
            return known
        if size is None:
            size = storage.nbytes() if self._sizes is None else self._sizes(tensor)
        number, key = self._new(size, current_purpose()), storage._cdata

        def gone(_: object, size: int = size) -> None:
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


class _Functions(TorchFunctionMode):
    """Shows a ledger what functions that posits answer whole return; what else they make is workspace."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def __torch_function__(
        self,
        function: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _BACKWARD:
            self._ledger.saved()
        if fused_rule(function) is None or not any(issubclass(kind, PositTensor) for kind in types):
            return function(*args, **kwargs)
        since = self._ledger.made()
        with purpose(WORKSPACE):
            result = function(*args, **kwargs)
        self._ledger.claim(result, since)
        return result


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
        ledger.leave_out(op, result)
        ledger.claim(result, since)
        ledger.pass_through(op, args, result)
        return result
