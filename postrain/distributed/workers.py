"""What the training loop does differently on several ranks; see `postrain.loop.fit`."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from postrain import checkpoint
from postrain.accumulate import add_loss, loss_sum, mean_loss
from postrain.counters import Counts
from postrain.distributed.buckets import BUCKET_BYTES, Buckets
from postrain.distributed.reducer import Reducer, Stage
from postrain.distributed.sync import GradientSync, require_exact
from postrain.distributed.team import Team

Part = tuple[float, int, int]


class Workers:
    """The ranks that train one model together.

    The samples of a step are a run of sample numbers that every rank draws from the seed; rank r of R takes those from
    place floor(r B / R) to floor((r + 1) B / R) of the B.  Shares differ by one at most, and may be empty.

    Args:
        model: A converted model, the same on all ranks.
        team: The ranks.
        micro_batch: Samples in one backward pass.
        bucket_bytes: Of a buffer of the exchange; there are two.
    """

    def __init__(
        self, model: nn.Module, team: Team, micro_batch: int, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        require_exact(model)
        self.model, self.team, self.micro_batch = model, team, micro_batch
        self.buckets = Buckets(team, bucket_bytes)

    @cached_property
    def sync(self) -> GradientSync:
        """Of modes whose gradients are all there before the update."""
        return GradientSync(self.model, self.buckets)

    def share(self, indices: Tensor) -> Tensor:
        """This rank's part of a step's samples."""
        return indices[share(len(indices), self.team.rank, self.team.size)]

    def gradients(
        self,
        one_pass: Callable[[slice], float],
        number: int,
        samples: int,
        targets: int,
    ) -> float:
        """The loss of the whole batch, per target; leaves its gradients in the parameters of every rank.

        Args:
            one_pass: Forward and backward of a part of this rank's samples; returns the sum of their losses.
            number: Of the step.
            samples: How many this rank has.
            targets: How many targets they have.

        Raises:
            NaRError: a NaR on any rank, on all of them.
            WorkerError: a rank failed or was lost.
        """
        losses = loss_sum(self.model)
        self.sync.open(number, ("the loss", losses))
        error: Exception | None = None
        try:
            with self.sync.adding():
                for start in range(0, samples, self.micro_batch):
                    self.sync.arm(start + self.micro_batch >= samples)
                    loss = one_pass(slice(start, start + self.micro_batch))
                    add_loss(losses, loss)
        except Exception as caught:
            error = caught
        (total,) = self.sync.close([targets], error)
        self.sync.round(total)
        return mean_loss(losses, total)

    def total(self, number: int) -> int:
        """The sum of a whole number over the ranks."""
        summed = torch.tensor([number], device=self.team.device)
        self.team.wait(self.team.summed(summed))
        return int(summed)

    def layers(
        self, stages: Sequence[Stage], names: dict[int, str], number: int, complete: Callable[[Stage], object]
    ) -> Reducer:
        """What brings the layers of a step together one by one; see `postrain.distributed.reducer.Reducer`."""
        return Reducer(stages, names, self.buckets, number, complete)

    def add_up(self, counts: Counts) -> None:
        """Add the counts of all ranks' activations."""
        numbers = torch.tensor([counts.saturations, counts.nar], device=self.team.device)
        self.team.wait(self.team.summed(numbers))
        counts.saturations, counts.nar = (int(number) for number in numbers.cpu())

    def evaluated(self, evaluate: Callable[[int], Part], parts: int) -> list[Part]:
        """What `evaluate` returns for parts 0, 1, …: each part is evaluated by one rank, all get all, in order."""
        mine = range(self.team.rank, parts, self.team.size)
        found = self.team.together(lambda: [evaluate(part) for part in mine])
        every = [iter(each) for each in self.team.gather(found)]
        return [tuple(next(every[part % self.team.size])) for part in range(parts)]

    def newest(self, folder: Path | None) -> tuple[Path, checkpoint.Checkpoint] | None:
        """The newest checkpoint of rank 0's folder, read there and sent to the others, with its path."""

        def found() -> tuple[str, bytes] | None:
            if folder is None:
                return None
            checkpoint.clean(folder)
            path = checkpoint.latest(folder)
            return None if path is None else (str(path), path.read_bytes())

        here = self.team.together(found if self.team.first else lambda: None)
        name = self.team.share(None if here is None else here[0].encode())
        data = self.team.share(None if here is None else here[1])
        if name is None or data is None:
            return None
        return Path(name.decode()), self.team.together(lambda: _loaded(Path(name.decode()), data))


def share(batch: int, rank: int, ranks: int) -> slice:
    """The part of a batch that a rank takes.

    >>> [share(10, rank, 3) for rank in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    return slice(rank * batch // ranks, (rank + 1) * batch // ranks)


def _loaded(path: Path, data: bytes) -> checkpoint.Checkpoint:
    """A checkpoint from its bytes, checked as any."""
    with tempfile.TemporaryDirectory(prefix="postrain-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(data)
        return checkpoint.load(copy)
