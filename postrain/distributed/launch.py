"""Start the ranks of a run on this machine, as torchrun does, and bring all of them down when one fails."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postrain.errors import WorkerError

_GRACE = 25.0  #: seconds that the other ranks have after one has failed, to say why they stop
_POLL = 0.02


@dataclass(frozen=True)
class Finished:
    """How one rank ended."""

    code: int  #: exit code; negative for a signal
    out: str
    err: str


def run_ranks(
    count: int,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 3600.0,
    watch: Callable[[Sequence["subprocess.Popen[str]"]], object] | None = None,
) -> list[Finished]:
    """Run a command as ranks 0 … count - 1 of one group and wait for all.

    The store of the group lives in this process, as with torchrun's agent, so that ranks find it whoever dies.

    Args:
        count: How many processes.
        command: Program and arguments, the same for all; ``sys.executable`` for Python.
        environment: Variables besides this process's own.
        seconds: After which all are killed.
        watch: Called with the processes between looks at them.

    Raises:
        WorkerError: time is up.
    """
    from torch import distributed

    server: Any = distributed.TCPStore  # type: ignore[attr-defined]  # torch exports it all the same
    store = server("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        **(environment or {}),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    with tempfile.TemporaryDirectory(prefix="postrain-ranks-") as folder:
        processes = [_started(command, rank, shared, Path(folder)) for rank in range(count)]
        try:
            _wait(processes, time.monotonic() + seconds, watch)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
        return [
            Finished(process.returncode, _read(folder, f"out-{rank}"), _read(folder, f"err-{rank}"))
            for rank, process in enumerate(processes)
        ]


def run_python(count: int, arguments: Sequence[str], **options: object) -> list[Finished]:
    """`run_ranks` of this Python with arguments, our packages on its path."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))))
    environment = {"PYTHONPATH": path, **options.pop("environment", {})}  # type: ignore[dict-item]
    return run_ranks(count, [sys.executable, *arguments], environment=environment, **options)  # type: ignore[arg-type]


def require_success(ranks: Sequence[Finished], what: str) -> None:
    """Refuse a run of which a rank failed.

    Raises:
        WorkerError: with the last line that the first such rank wrote.
    """
    for rank, each in enumerate(ranks):
        if each.code:
            said = each.err.strip().splitlines()
            raise WorkerError(
                f"{what}: rank {rank} of {len(ranks)} ended with code {each.code} ({said[-1] if said else 'silent'})"
            )


def _started(
    command: Sequence[str], rank: int, shared: Mapping[str, str], folder: Path
) -> "subprocess.Popen[str]":
    with (folder / f"out-{rank}").open("w") as out, (folder / f"err-{rank}").open("w") as err:
        return subprocess.Popen(  # noqa: S603 (the caller's own command)
            list(command),
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=out,
            stderr=err,
            text=True,
        )


def _read(folder: str, name: str) -> str:
    return (Path(folder) / name).read_text(errors="replace")


def _wait(
    processes: Sequence["subprocess.Popen[str]"],
    end: float,
    watch: Callable[[Sequence["subprocess.Popen[str]"]], object] | None,
) -> None:
    while any(process.poll() is None for process in processes):
        now = time.monotonic()
        if now > end:
            alive = [rank for rank, process in enumerate(processes) if process.poll() is None]
            raise WorkerError(f"ranks {', '.join(map(str, alive))} were still at work when their time was up")
        if any(process.poll() for process in processes):
            end = min(end, now + _GRACE)
            if now + _POLL > end:
                break
        if watch is not None:
            watch(processes)
        time.sleep(_POLL)
    if watch is not None:
        watch(processes)
