"""Ranks that are threads of one process: the same program as on many machines, for tests and rehearsals."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from postrain.distributed.team import Team
from postrain.errors import WorkerError

T = TypeVar("T")


class _Gone(RuntimeError):
    """A rank ended, and will not answer."""


@dataclass
class _Table:
    """What all threads see: the tensors of each exchange, by its number and rank."""

    size: int
    given: dict[int, dict[int, torch.Tensor]] = field(default_factory=dict)
    taken: Counter[int] = field(default_factory=Counter)
    gone: list[int] = field(default_factory=list)  #: ranks that ended, in that order
    changed: threading.Condition = field(default_factory=threading.Condition)

    def exchanged(self, rank: int, number: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Copies of the tensors that all ranks bring to the exchange of this number."""
        with self.changed:
            given = self.given.setdefault(number, {})
            given[rank] = tensor.clone()
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(given) == self.size or any(r not in given for r in self.gone))
            if len(given) < self.size:
                raise _Gone
            self.taken[number] += 1
            if self.taken[number] == self.size:
                del self.given[number], self.taken[number]
            return [given[each] for each in range(self.size)]

    def leave(self, rank: int) -> None:
        """Say that a rank ended."""
        with self.changed:
            self.gone.append(rank)
            self.changed.notify_all()


class _Done:
    """Work that is over when it begins."""

    def wait(self) -> None:
        """Nothing is left to do."""


class _Threads:
    """One rank's end of the table."""

    device = torch.device("cpu")

    def __init__(self, rank: int, table: _Table) -> None:
        self.rank, self.table = rank, table
        self.exchanges = 0

    def _exchanged(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.exchanges += 1
        return self.table.exchanged(self.rank, self.exchanges, tensor)

    def largest(self, numbers: torch.Tensor) -> Any:
        """Replace numbers by their maxima."""
        numbers.copy_(torch.stack(self._exchanged(numbers)).amax(0))
        return _Done()

    def summed(self, numbers: torch.Tensor) -> Any:
        """Replace numbers by their sums."""
        numbers.copy_(torch.stack(self._exchanged(numbers)).sum(0))
        return _Done()

    def gathered(self, data: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks."""
        return self._exchanged(data)

    def broadcast(self, data: torch.Tensor, source: int) -> None:
        """Replace a tensor by that of rank `source`."""
        if self.rank == source:
            self._exchanged(data)
        else:
            data.copy_(self._exchanged(data)[source])

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Name the rank that ended first."""
        try:
            yield
        except _Gone as error:
            raise WorkerError(
                f"rank {self.table.gone[0]} of {self.table.size} stopped, and the others wait for it"
            ) from error


def simulate(ranks: int, run: Callable[[Team], T]) -> Sequence[T | Exception]:
    """Run a function as every rank of a team, each in a thread of this process.

    Exact sums need no more than integers that are added, so a rehearsal in threads ends in the bits that processes on
    several machines end in.

    Args:
        ranks: How many.
        run: Called with each rank's team; it must make its own model.

    Returns:
        What it returned, or raised, by rank.

    >>> def largest(team):
    ...     number = torch.tensor([team.rank])
    ...     team.wait(team.largest(number))
    ...     return int(number)
    >>> simulate(3, largest)
    [2, 2, 2]
    """
    table = _Table(ranks)
    results: list[Any] = [None] * ranks

    def work(rank: int) -> None:
        try:
            results[rank] = run(Team(rank, ranks, _Threads(rank, table)))
        except Exception as error:
            results[rank] = error
        finally:
            table.leave(rank)

    threads = [threading.Thread(target=work, args=(rank,), name=f"rank-{rank}") for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
