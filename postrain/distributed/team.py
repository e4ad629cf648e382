"""The ranks that train together: what they tell one another, and how all of them stop when one does."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from postrain.errors import NaRError, PostrainError, WorkerError

T = TypeVar("T")


class Wire(Protocol):
    """What carries tensors between ranks; all ranks call the same methods in the same order."""

    @property
    def device(self) -> torch.device:
        """Of tensors that travel."""

    def largest(self, numbers: torch.Tensor) -> Any:
        """Begin to replace int64 numbers by their maxima over the ranks, in place; the work, to wait for."""

    def summed(self, numbers: torch.Tensor) -> Any:
        """Begin to replace int64 numbers by their sums over the ranks, in place; the work, to wait for."""

    def gathered(self, data: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, which have one shape."""

    def broadcast(self, data: torch.Tensor, source: int) -> None:
        """Replace a tensor by that of rank `source`."""

    def explained(self) -> AbstractContextManager[None]:
        """A context that turns a failure to reach another rank into a `WorkerError` that names it."""


@dataclass(frozen=True, eq=False)
class Team:
    """The ranks of one group; every method is called by all of them, in the same order.

    Raises:
        WorkerError: from every method, where a rank failed or was lost: on all ranks, naming it.
    """

    rank: int  #: of this process, from 0
    size: int  #: how many ranks there are
    wire: Wire

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes files."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Of tensors that travel: the CPU for gloo."""
        return self.wire.device

    def largest(self, numbers: torch.Tensor) -> Any:
        """Begin to replace int64 numbers by their maxima over the ranks, in place; returns what `wait` takes."""
        if self.size == 1:
            return None
        with self.wire.explained():
            return self.wire.largest(numbers)

    def summed(self, numbers: torch.Tensor) -> Any:
        """Begin to replace int64 numbers by their sums over the ranks, in place; returns what `wait` takes."""
        if self.size == 1:
            return None
        with self.wire.explained():
            return self.wire.summed(numbers)

    def wait(self, work: Any) -> None:
        """Wait for what was begun."""
        if work is None:  # one rank has nobody to wait for
            return
        with self.wire.explained():
            work.wait()

    def gather(self, value: Any) -> list[Any]:
        """The JSON values of all ranks, in the order of the ranks."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)], device=self.device)
        self.wait(self.largest(length))
        own = torch.zeros(8 + int(length), dtype=torch.uint8)
        own[:8] = torch.tensor([len(data)]).view(torch.uint8)
        own[8 : 8 + len(data)] = data
        with self.wire.explained():
            every = self.wire.gathered(own.to(self.device))
        return [json.loads(_content(each.cpu())) for each in every]

    def share(self, data: bytes | None, source: int = 0) -> bytes | None:
        """The bytes that rank `source` gives, on all ranks; None where it gives None."""
        length = torch.tensor([-1 if data is None else len(data)], device=self.device)
        with self.wire.explained():
            self.wire.broadcast(length, source)
        if int(length) <= 0:
            return None if int(length) < 0 else b""
        buffer = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if data is not None and self.rank == source:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with self.wire.explained():
            self.wire.broadcast(buffer, source)
        return buffer.cpu().numpy().tobytes()

    def together(self, task: Callable[[], T]) -> T:
        """Run a task on every rank; where it fails on one, all raise, so that none waits for it.

        The rank that failed raises the error itself.
        """
        try:
            result = task()
        except Exception as error:
            self.agree(error)
            raise
        self.agree(None)
        return result

    def agree(self, error: BaseException | None) -> None:
        """Raise on all ranks where one brings an error."""
        verdict = torch.tensor([0 if error is None else self.size - self.rank], device=self.device)
        self.wait(self.largest(verdict))
        if int(verdict):
            self.raise_from(self.size - int(verdict), error)

    def raise_from(self, source: int, error: BaseException | None) -> None:
        """Raise the error of rank `source` on all ranks: a NaR as such, with the rank, others as `WorkerError`."""
        told = None
        if self.rank == source:
            assert error is not None
            told = json.dumps(described(error)).encode()
        found = json.loads(self.share(told, source) or b"{}")
        if "where" in found:
            raise NaRError(f"{found['where']} on rank {source}", found["step"]) from error
        if self.rank == source and error is not None:
            raise error
        raise WorkerError(f"rank {source} of {self.size} stopped: {found['text']}")


def described(error: BaseException) -> dict[str, Any]:
    """An error in words, for the other ranks."""
    if isinstance(error, NaRError):
        return {"where": error.where, "step": error.step, "text": str(error)}
    kind = "" if isinstance(error, PostrainError) else f"{type(error).__name__}: "
    return {"text": " ".join(f"{kind}{error}".split())}


def _content(framed: torch.Tensor) -> bytes:
    length = int(framed[:8].view(torch.int64))
    return framed[8 : 8 + length].numpy().tobytes()
