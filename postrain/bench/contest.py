"""Contests: something of ours and its peers, timed in turns in one process; the rows that come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import posit
from postrain.options import Progress

Run = Callable[[int], None]  #: does the work once, on so many threads

THREADS = (1, 2)
_UNITS = {"ns": 1e9, "µs": 1e6, "ms": 1e3}  #: of a second


@dataclass(frozen=True)
class Peer:
    """What a contestant is compared with; `measure` says how, and `target` what was promised."""

    name: str
    run: Run | None  #: None: it could not be measured, `note` says why
    measure: str  #: how the value comes about, see `Row`
    target: float | None
    note: str = ""
    bytes_ratio: float = 1.0  #: bytes that ours moves over those that the peer moves
    work: float | None = None  #: units of work in a run; None: as many as ours


@dataclass(frozen=True)
class Contest:
    """One operation of ours and its peers, all proved equal where they compute the same."""

    operation: str
    ours: Run
    peers: tuple[Peer, ...]
    work: float  #: units of work in a run, e.g. elements
    unit: str = "ns"  #: of time, for a unit of work
    threads: tuple[int, ...] = THREADS


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `measure` is "time": ours over the peer's, at most `target`; "speed": the peer's over ours, at least; "bandwidth":
    the same of bytes; "each": ours alone; "seconds": below; "memory", "growth", "share" (per cent): at most.
    """

    operation: str
    threads: int | None
    unit: str
    best: float
    median: float
    peer: str
    peer_best: float | None
    peer_median: float | None
    measure: str
    value: float | None  #: from the best times
    target: float | None
    met: bool | None
    note: str
    gigabytes_per_second: float | None = None  #: of the peer, where that is a copy


@dataclass(frozen=True)
class Measured:
    """All that one run of a bench found."""

    machine: dict[str, str]
    repeats: int
    rows: list[Row]


def set_threads(count: int) -> None:
    """Posit's threads and torch's."""
    import torch

    posit.set_num_threads(count)
    torch.set_num_threads(count)


def compete(
    contest: Contest,
    repeats: int,
    progress: Progress,
    use_threads: Callable[[int], object] = posit.set_num_threads,
) -> list[Row]:
    """Time a contest with each number of threads; the contestants take turns, the first turn does not count."""
    rows = []
    running = [peer for peer in contest.peers if peer.run]
    runs = [contest.ours, *(peer.run for peer in running if peer.run)]
    works = [contest.work, *(peer.work or contest.work for peer in running)]
    for threads in contest.threads:
        use_threads(threads)
        stage = f"{contest.operation}, {threads} thread{'s'[: threads - 1]}"
        progress.start(stage, repeats)
        times: list[list[float]] = [[] for _ in runs]
        for repeat in range(repeats + 1):
            for run, work, taken in zip(runs, works, times, strict=True):
                start = perf_counter()
                run(threads)
                taken.append((perf_counter() - start) * _UNITS[contest.unit] / work)
            if repeat:
                progress.advance(stage)
        for taken in times:
            del taken[0]
        measured = dict(zip((peer.name for peer in running), times[1:], strict=True))
        rows += [_row(contest, peer, threads, times[0], measured.get(peer.name)) for peer in contest.peers]
    return rows


def _row(contest: Contest, peer: Peer, threads: int, ours: list[float], theirs: list[float] | None) -> Row:
    """The row of a peer; without its times, of why there are none."""
    value = min(ours) if peer.measure == "each" else None
    bandwidth = None
    if theirs and peer.measure != "each":
        ratio = min(ours) / min(theirs)
        value = ratio if peer.measure == "time" else peer.bytes_ratio / ratio
        bandwidth = 8 / min(theirs) if peer.measure == "bandwidth" else None
    return Row(
        contest.operation,
        threads,
        contest.unit,
        min(ours),
        median(ours),
        peer.name,
        min(theirs) if theirs else None,
        median(theirs) if theirs else None,
        peer.measure,
        value,
        peer.target,
        met(peer.measure, value, peer.target),
        peer.note,
        bandwidth,
    )


def met(measure: str, value: float | None, target: float | None) -> bool | None:
    """Whether a target is reached; None where there is none or nothing was measured."""
    if value is None or target is None:
        return None
    shown = round(value, 3 if measure == "share" else 2)  # what the table shows; a half percent is noise
    return shown >= target if measure in ("speed", "bandwidth") else shown <= target
