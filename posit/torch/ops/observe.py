"""Look over the shoulder of exact products: what went in, what came out, and which elements needed the quire."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from posit._explain import Explanation
from posit.formats import Format


class Observation(Protocol):
    """One exact contraction as it happened; the arrays are the operation's own and must be copied to be kept."""

    @property
    def op(self) -> str:
        """Name of the operator."""

    @property
    def format(self) -> Format:
        """Format of operands and result."""

    @property
    def operands(self) -> tuple[torch.Tensor, ...]:
        """Codes of the operands, as tensors."""

    @property
    def sources(self) -> tuple[torch.Tensor, ...]:
        """Codes that the operands are or were gathered from; their storage identifies them."""

    @property
    def target(self) -> int:
        """Address of the memory of which the result is or becomes a part."""

    @property
    def result(self) -> npt.NDArray[np.integer]:
        """Codes of the result, signed."""

    @property
    def tiers(self) -> Explanation:
        """How many elements were settled how."""

    @property
    def open(self) -> npt.NDArray[np.int64]:
        """Flat indices of the elements that float64 did not decide."""

    def terms(self, index: int) -> list[tuple[int, ...]]:
        """The products whose exact sum, rounded once, is result element `index`: tuples of signed codes."""

    def in_float32(self) -> npt.NDArray[np.integer]:
        """The result as float32 accumulation of the same operands would give it (for comparison)."""


Observer = Callable[[Observation], None]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call `observer` with every exact contraction made in this context (in this thread)."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def current() -> Observer | None:
    """The observer in force, or None; a rule builds its observation only for one."""
    return _observer.get()


@dataclass(frozen=True)
class Observed:
    """What every `Observation` holds, of operands and a result that are the operation's own."""

    op: str
    format: Format
    operands: tuple[Any, ...]
    result: npt.NDArray[np.integer]
    tiers: Explanation
    open: npt.NDArray[np.int64]

    @property
    def sources(self) -> tuple[Any, ...]:
        """The operands."""
        return self.operands

    @property
    def target(self) -> int:
        """Address of the result."""
        return int(self.result.ctypes.data)


@dataclass(frozen=True)
class MatrixObservation(Observed):
    """An exact matrix product ``a @ b (+ addend)`` in one format; those of mixed formats are not observed.

    b may be a stack of matrices; then so is the result.
    """

    gathered_from: tuple[Any, ...] = ()  #: where operands are copies
    within: npt.NDArray[np.integer] | None = None  #: where the result is copied to

    @property
    def sources(self) -> tuple[Any, ...]:
        """The operands, or what they were gathered from."""
        return self.gathered_from or self.operands

    @property
    def target(self) -> int:
        """Address of the result, or of what it is copied to."""
        return int((self.result if self.within is None else self.within).ctypes.data)

    def terms(self, index: int) -> list[tuple[int, ...]]:
        """The k products of one element, and the addend times 1."""
        *stack, row, column = (int(at) for at in np.unravel_index(index, self.result.shape))
        a, b = self.operands[0][row].tolist(), self.operands[1][(*stack, slice(None), column)].tolist()
        terms: list[tuple[int, ...]] = list(zip(a, b, strict=True))
        if len(self.operands) > 2:
            terms.append((int(self.operands[2].expand(self.result.shape)[(*stack, row, column)]),))
        return terms

    def in_float32(self) -> npt.NDArray[np.integer]:
        """Torch's float32 product of the same matrices, rounded to the format afterwards."""
        from posit.codec import encode, signed_storage
        from posit.torch.tensor import PositTensor

        a, b, *addend = (PositTensor(codes, self.format).to_float() for codes in self.operands)
        product = a @ b + addend[0] if addend else a @ b
        return encode(product.numpy(), self.format, signed_storage(self.format))


@dataclass(frozen=True)
class SumObservation(Observed):
    """Exact sums of the rows of a matrix of codes."""

    rows: npt.NDArray[np.integer]

    def terms(self, index: int) -> list[tuple[int, ...]]:
        """The elements of one row, each a term of one factor."""
        return [(code,) for code in self.rows[index].tolist()]

    def in_float32(self) -> npt.NDArray[np.integer]:
        """NumPy's float32 sums of the same rows, rounded to the format afterwards."""
        from posit.codec import decode, encode, signed_storage

        sums = decode(self.rows, self.format, np.float32).sum(axis=1, dtype=np.float32)
        return encode(sums, self.format, signed_storage(self.format))
