"""`postrain verify-parallel`: train a configuration on several numbers of ranks and compare the weights, bit by bit."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from postrain.distributed.launch import require_success, run_python
from postrain.errors import OptionsError, WorkerError
from postrain.options import NoProgress, Progress

POSIT, FLOAT = "posits, exact sums", "float32, torch's DistributedDataParallel"
_STAGE = "trainings"


@dataclass(frozen=True)
class VerifyOptions:
    """What to compare.

    Raises:
        OptionsError: a number that is not positive.
    """

    config: Path
    worlds: tuple[int, ...] = (1, 2, 4)  #: numbers of ranks
    micro_batches: tuple[int | None, ...] = (None,)  #: samples a backward pass; None: a rank's whole share
    buckets: tuple[int, ...] = (1 << 20,)  #: bytes of a buffer of the exchange
    steps: int = 20
    data_dir: Path | None = None
    settings: tuple[str, ...] = ()
    contrast: bool = True  #: also train in float32

    def __post_init__(self) -> None:
        numbers = [
            self.steps,
            *self.worlds,
            *self.buckets,
            *(each for each in self.micro_batches if each is not None),
        ]
        if not self.worlds or not self.micro_batches or min(numbers) < 1:
            raise OptionsError(
                "numbers of ranks, samples, bytes and steps must be positive, and at least one of each"
            )


@dataclass(frozen=True)
class Training:
    """One training and what it ended in."""

    arithmetic: str
    world: int
    micro_batch: int | None
    bucket: int | None
    sha256: str
    seconds: float  #: with the start of the processes


@dataclass(frozen=True)
class Verified:
    """All trainings of a comparison."""

    options: VerifyOptions
    rows: tuple[Training, ...]

    def digests(self, arithmetic: str) -> set[str]:
        """The different weights that an arithmetic ended in."""
        return {row.sha256 for row in self.rows if row.arithmetic == arithmetic}

    @property
    def same(self) -> bool:
        """Whether all trainings in posits ended in the same bits."""
        return len(self.digests(POSIT)) == 1


def verify(
    options: VerifyOptions,
    progress: Progress | None = None,
    train: Callable[[VerifyOptions, int, int | None, int | None], str] | None = None,
) -> Verified:
    """Train on every number of ranks, with every micro-batch and bucket, each in processes of its own.

    Args:
        options: What to compare.
        progress: Told of every training.
        train: (options, ranks, micro-batch, bucket or None for float32) to the digest of the weights; by default
            processes over gloo on this machine.

    Raises:
        WorkerError: a training failed, with the error of its rank.
    """
    progress, run = progress or NoProgress(), train or in_processes
    asked: list[tuple[str, int, int | None, int | None]] = [
        (POSIT, world, micro, bucket)
        for world in options.worlds
        for micro in options.micro_batches
        for bucket in options.buckets
    ]
    if options.contrast:
        asked += [(FLOAT, world, None, None) for world in options.worlds]
    progress.start(_STAGE, len(asked))
    rows = []
    for arithmetic, world, micro, bucket in asked:
        started = perf_counter()
        sha = run(options, world, micro, bucket)
        rows.append(Training(arithmetic, world, micro, bucket, sha, perf_counter() - started))
        progress.advance(_STAGE)
    return Verified(options, tuple(rows))


def in_processes(options: VerifyOptions, world: int, micro: int | None, bucket: int | None) -> str:
    """Train in `world` processes, started as torchrun starts them; the digest that rank 0 printed."""
    given: dict[str, Any] = asdict(options) | {"micro_batch": micro, "float32": bucket is None}
    text = json.dumps(given, default=str)
    environment = {} if bucket is None else {"POSTRAIN_BUCKET_BYTES": str(bucket)}
    ranks = run_python(world, ["-m", "postrain.distributed.ranked", text], environment=environment)
    require_success(ranks, f"training on {world} ranks")
    try:
        return str(json.loads(ranks[0].out.strip().splitlines()[-1])["sha256"])
    except (IndexError, ValueError, KeyError) as error:
        raise WorkerError(
            f"training on {world} ranks said nothing of its weights: {ranks[0].out!r}"
        ) from error


def lines(found: Verified) -> list[str]:
    """The comparison as text: a line a training, then the verdicts."""
    said = []
    for row in found.rows:
        micro = "" if row.micro_batch is None else f", micro-batch {row.micro_batch}"
        bucket = (
            "" if row.bucket is None or len(found.options.buckets) == 1 else f", bucket {row.bucket} bytes"
        )
        ranks = f"{row.world} rank{'s' if row.world > 1 else ''}"
        said.append(f"{row.sha256}  {row.arithmetic}: {ranks}{micro}{bucket} ({row.seconds:.1f} s)")
    count = len(found.digests(POSIT))
    steps = found.options.steps
    verdict = "the same bits" if found.same else f"{count} different digests: something depends on the split"
    said.append(f"posits: {verdict} after {steps} steps")
    if found.options.contrast:
        count = len(found.digests(FLOAT))
        said.append(f"float32: {'the same bits' if count == 1 else f'{count} different digests'}")
    return said
