"""Ranks that are processes: torch's process group, with failures that name the rank."""

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from postrain.distributed.team import Team, described
from postrain.errors import OptionsError, WorkerError

TIMEOUT = "POSTRAIN_TIMEOUT"  #: variable with the seconds that a rank waits for the others
_DEFAULT_TIMEOUT = 300.0
_ROLL_CALL = 5.0  #: seconds in which a rank that lives says so, after a failure
_STOPPED, _PRESENT = "postrain/stopped", "postrain/present"


def launched() -> bool:
    """Whether this process was started as one of several, by torchrun or in its way."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def timeout_from_environment() -> float:
    """Seconds that a rank waits for the others.

    Raises:
        OptionsError: the variable POSTRAIN_TIMEOUT is no positive number.

    >>> timeout_from_environment()
    300.0
    """
    text = os.environ.get(TIMEOUT, str(_DEFAULT_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise OptionsError(f"{TIMEOUT} must be a positive number of seconds, got {text!r}")
    return seconds


@dataclass(frozen=True, eq=False)
class ProcessGroup:
    """The default process group of torch, whatever its backend.

    A rank that is lost is noticed when the others wait for it: at once where its connections close, else after the
    group's timeout.  Those that are left then call the roll through the store, which takes at most 6 seconds more, and
    each of them raises a `WorkerError` with the ranks that did not answer.
    """

    rank: int
    size: int
    store: Any  #: torch's key-value store of the group
    device: torch.device

    def largest(self, numbers: torch.Tensor) -> Any:
        """Begin to replace numbers by their maxima."""
        return distributed.all_reduce(numbers, op=distributed.ReduceOp.MAX, async_op=True)

    def summed(self, numbers: torch.Tensor) -> Any:
        """Begin to replace numbers by their sums."""
        return distributed.all_reduce(numbers, op=distributed.ReduceOp.SUM, async_op=True)

    def gathered(self, data: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks."""
        every = [torch.empty_like(data) for _ in range(self.size)]
        distributed.all_gather(every, data)
        return every

    def broadcast(self, data: torch.Tensor, source: int) -> None:
        """Replace a tensor by that of rank `source`."""
        distributed.broadcast(data, source)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a failure of the network into an error that names the rank."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    def report(self, error: BaseException) -> None:
        """Leave word of an error that the others do not know, for their roll call."""
        try:
            self.store.set(_STOPPED, f"rank {self.rank} of {self.size} stopped: {described(error)['text']}")
        except RuntimeError:  # the store is gone: its host was lost
            return

    def linger(self) -> None:
        """Where this process holds the store, let the others ask it what happened, before it goes."""
        if self.rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            return
        end = time.monotonic() + _ROLL_CALL
        keys = [f"{_PRESENT}/{rank}" for rank in range(1, self.size)]
        while keys and time.monotonic() < end and not self.store.check(keys):
            time.sleep(0.02)
        time.sleep(0.2)  # and read the answer

    def _lost(self, error: RuntimeError) -> WorkerError:
        reason = str(error).strip().splitlines()[0]
        found: list[WorkerError] = []

        def ask() -> None:
            with suppress(RuntimeError):
                found.append(self._roll_call(reason))

        asking = threading.Thread(
            target=ask, daemon=True
        )  # where the network is cut, the store never answers
        asking.start()
        asking.join(_ROLL_CALL + 1.0)
        if found:
            return found[0]
        return WorkerError(
            f"rank {self.rank} of {self.size} lost the others, and the host of the store (that of rank 0, or "
            f"torchrun's) does not answer ({reason}); start again to go on from the last checkpoint"
        )

    def _roll_call(self, reason: str) -> WorkerError:
        self.store.set(f"{_PRESENT}/{self.rank}", "")
        missing: Sequence[int] = range(self.size)
        end = time.monotonic() + _ROLL_CALL
        while missing and time.monotonic() < end:
            if self.store.check([_STOPPED]):
                return WorkerError(self.store.get(_STOPPED).decode())
            missing = [rank for rank in missing if not self.store.check([f"{_PRESENT}/{rank}"])]
            time.sleep(0.02)
        if not missing:
            return WorkerError(
                f"the connection between the ranks broke ({reason}); all of them live: start again"
            )
        names = ", ".join(map(str, missing))
        which = (
            f"rank {names} of {self.size} does" if len(missing) == 1 else f"ranks {names} of {self.size} do"
        )
        return WorkerError(
            f"{which} not answer: killed, hanging, or cut off ({reason}); "
            "start again to go on from the last checkpoint"
        )


@contextmanager
def joined(timeout: float | None = None, backend: str | None = None) -> Iterator[Team]:
    """Join the processes that torchrun started, as its environment variables say, and leave them at the end.

    Args:
        timeout: Seconds to wait for another rank; by default POSTRAIN_TIMEOUT, else 300.
        backend: ``"gloo"`` or ``"nccl"``; by default NCCL where there is a GPU, else gloo.

    Raises:
        WorkerError: the others do not come.
    """
    seconds = timeout_from_environment() if timeout is None else timeout
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    group = _joined(seconds, backend)
    try:
        yield Team(group.rank, group.size, group)
    except Exception as error:
        if not isinstance(error, WorkerError):  # those the others know, or find out
            group.report(error)
        distributed.destroy_process_group()
        group.linger()
        raise
    distributed.destroy_process_group()


def _joined(seconds: float, backend: str) -> ProcessGroup:
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    wait = timedelta(seconds=seconds)
    try:
        whole, rank, size = next(rendezvous("env://", timeout=wait))
        whole.set_timeout(wait)
        prefixed: Any = distributed.PrefixStore  # type: ignore[attr-defined]  # torch exports it all the same
        store = prefixed(f"postrain/{_round(whole, rank, size, seconds)}", whole)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, WorkerError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise WorkerError(
            f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')} did not meet the others within "
            f"{seconds:g} s ({reason}); check that all were started, and MASTER_ADDR and MASTER_PORT"
        ) from error
    return ProcessGroup(rank, size, store, device)


def _round(store: Any, rank: int, size: int, seconds: float) -> str:
    """A name for this start of the ranks, the same on all: what a start before this one left in the store is not ours.

    torchrun keeps one store over its restarts, and gloo would try the addresses of processes that are dead.  Rank 0
    makes up a name; the others greet it under that name, each with a word of its own; rank 0 answers with all words.  A
    rank that reads the name of an earlier start does not find its word in the answer, and waits for the next name.
    """
    own, end = secrets.token_hex(8), time.monotonic() + seconds
    waiting, words = set(range(1, size)), ""
    if rank == 0:
        store.set("postrain/round", own)
    while time.monotonic() < end:
        name = own if rank == 0 else _text(store, "postrain/round")
        if rank == 0:
            for other in sorted(waiting):
                word = _text(store, f"postrain/hello/{name}/{other}")
                waiting -= {other} if word else set()
                words += f" {word}"
            if not waiting:
                store.set(f"postrain/go/{name}", words)
                return name
        elif name:
            store.set(f"postrain/hello/{name}/{rank}", own)
            if own in _text(store, f"postrain/go/{name}"):
                return name
        time.sleep(0.02)
    missing = f"ranks {', '.join(map(str, sorted(waiting)))} of {size}" if rank == 0 else f"rank 0 of {size}"
    raise WorkerError(
        f"{missing} did not come within {seconds:g} s; check that all were started, and MASTER_ADDR"
    )


def _text(store: Any, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def current() -> Team:
    """The team of the process group that the caller has initialised with torch.

    Raises:
        WorkerError: there is none.
    """
    if not distributed.is_initialized():
        raise WorkerError(
            "there is no process group; call torch.distributed.init_process_group, "
            "or run under torchrun with postrain.distributed.joined()"
        )
    device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
    store = distributed.distributed_c10d._get_default_store()
    rank, size = distributed.get_rank(), distributed.get_world_size()
    return Team(rank, size, ProcessGroup(rank, size, store, device))
