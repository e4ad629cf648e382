"""Exact gradient sums of all ranks: integer limbs through fixed buffers, begun while the backward pass still runs.

Parameters are put into stages, the last ones first, as gradients are ready.  Each stage is one reduction by maximum
(which bits are in use, is there a NaR) and then sums of limbs, bucket by bucket.  Every rank issues the same reductions
in the same order, whatever was ready when: stage by stage, the maxima of a stage after the limbs of the one before it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from posit import _buffers, _quire_wire
from posit._quire_layout import THREE
from posit.torch import GradientSum
from postrain.distributed.team import Team
from postrain.errors import NaRError, OptionsError
from postrain.memory.purposes import COMM, purpose

BUCKET_BYTES = 1 << 20
_PER_SUM = 5  #: numbers about a sum: high, -low, NaR, terms, whether its quires are wide
_IN_FLIGHT = 2  #: buckets: one is filled while the other travels


@dataclass
class Traffic:
    """What one exchange sent, per rank and before the factor of the reduction's algorithm."""

    limbs: dict[str, int] = field(default_factory=dict)  #: of each parameter
    bits: dict[str, int] = field(
        default_factory=dict
    )  #: between the lowest bit in use and the sign, of each parameter
    payload: int = 0  #: bytes of limbs
    control: int = 0  #: bytes of maxima and whole numbers
    buckets: int = 0  #: sums of limbs that were begun


@dataclass(frozen=True)
class _Part:
    """Some elements of one sum in a bucket."""

    quires: Any
    start: int
    stop: int
    window: _quire_wire.Window
    at: int  #: place of the first limb in the bucket
    last: bool  #: the sum is complete when this part is back

    def limbs(self, bucket: Any) -> Any:
        """The part's limbs in the bucket, shape (limbs, elements)."""
        count, size = self.window.count, self.stop - self.start
        return bucket[self.at : self.at + count * size].reshape(count, size)


@dataclass
class _Bucket:
    """A buffer of constant size, and what is in it."""

    numbers: Any  #: int64, NumPy's view of `tensor`
    tensor: torch.Tensor
    device: torch.device
    parts: list[_Part] = field(default_factory=list)
    used: int = 0
    sent: torch.Tensor | None = None
    work: Any = None


class Buckets:
    """Two buffers through which limbs of any number of tensors travel.

    Args:
        team: The ranks.
        nbytes: Of one buffer; at least 1 KiB.

    Raises:
        OptionsError: smaller buffers.
    """

    def __init__(self, team: Team, nbytes: int = BUCKET_BYTES) -> None:
        if nbytes < 1024:
            raise OptionsError(f"a bucket must have at least 1024 bytes, got {nbytes}")
        self.team = team
        self._free = deque(self._made(nbytes // 8) for _ in range(_IN_FLIGHT))
        self._travelling: deque[_Bucket] = deque()
        self.nbytes = _IN_FLIGHT * 8 * (nbytes // 8)  #: of both, for the memory account
        self.traffic = Traffic()

    def _made(self, length: int) -> _Bucket:
        with purpose(COMM):
            numbers = _buffers.empty(length, "int64")
        return _Bucket(numbers, torch.from_numpy(numbers), self.team.device)

    def send(self, quires: Any, at: _quire_wire.Window) -> None:
        """Put a sum's limbs into buckets; full ones travel at once."""
        start, size = 0, quires.size
        while start < size and at.count:
            bucket = self._current()
            room = (len(bucket.numbers) - bucket.used) // at.count
            if room == 0:
                self.flush()
                continue
            stop = min(start + room, size)
            part = _Part(quires, start, stop, at, bucket.used, stop == size)
            _quire_wire.pack(quires, start, stop, at, part.limbs(bucket.numbers))
            bucket.parts.append(part)
            bucket.used += at.count * (stop - start)
            start = stop

    def _current(self) -> _Bucket:
        """The bucket that is being filled: the first free one."""
        while not self._free:
            self._arrive()
        return self._free[0]

    def flush(self) -> None:
        """Let the bucket that is being filled travel."""
        if not self._free or not self._free[0].used:
            return
        bucket = self._free.popleft()
        bucket.sent = bucket.tensor[: bucket.used].to(bucket.device)
        bucket.work = self.team.summed(bucket.sent)
        self._travelling.append(bucket)
        self.traffic.buckets += 1
        self.traffic.payload += 8 * bucket.used

    def _arrive(self) -> None:
        """Wait for the bucket that travels longest, and put its sums where its limbs came from."""
        bucket = self._travelling.popleft()
        self.team.wait(bucket.work)
        if bucket.sent is not None and bucket.device.type != "cpu":
            bucket.tensor[: bucket.used].copy_(bucket.sent)
        for part in bucket.parts:
            _quire_wire.unpack(part.quires, part.start, part.stop, part.window, part.limbs(bucket.numbers))
            if part.last:
                _quire_wire.settle(part.quires)
        bucket.parts, bucket.used, bucket.work, bucket.sent = [], 0, None, None
        self._free.append(bucket)

    def finish(self) -> None:
        """Send and receive what is left."""
        self.flush()
        while self._travelling:
            self._arrive()

    def drop(self) -> None:
        """Forget what is in the buckets, after an error."""
        for bucket in (*self._travelling, *self._free):
            if bucket.work is not None:
                with suppress(RuntimeError):
                    bucket.work.wait()  # it may still write to the buffer
            bucket.parts, bucket.used, bucket.work, bucket.sent = [], 0, None, None
        self._free.extend(self._travelling)
        self._travelling.clear()


class Reducer:
    """Brings the sums of one step together, stage by stage.

    Args:
        sums: Of this rank, those of the model's first layers first.
        names: Of their parameters.
        buckets: The buffers.
    """

    def __init__(self, sums: Sequence[GradientSum], names: Sequence[str], buckets: Buckets) -> None:
        self._buckets, self._team = buckets, buckets.team
        self._names = {id(each): name for each, name in zip(sums, names, strict=True)}
        self._stages = list(_stages(sums, 8 * len(buckets._free[0].numbers)))
        self._place = {
            id(each.parameter): place for place, stage in enumerate(self._stages) for each in stage
        }
        self._waiting = [{id(each.parameter) for each in stage} for stage in self._stages]
        self._asked: deque[tuple[Sequence[GradientSum], torch.Tensor, Any]] = deque()
        self._next = 0
        self._error: BaseException | None = None
        self.step = 0  #: for messages
        buckets.traffic = Traffic()

    def ready(self, parameter: torch.Tensor) -> None:
        """The gradient of a parameter is complete on this rank; begins what can begin."""
        self._waiting[self._place[id(parameter)]].discard(id(parameter))
        while self._next < len(self._stages) and not self._waiting[self._next]:
            self._ask(None)

    def finish(self, numbers: Sequence[int] = (), error: BaseException | None = None) -> list[int]:
        """Bring together what is left, and sum whole numbers besides.

        Args:
            numbers: Of this rank, each below 2**31 in magnitude.
            error: What this rank failed with: then all ranks raise.

        Returns:
            The sums of the numbers over the ranks.

        Raises:
            NaRError: a gradient, or what `error` says, is NaR, with rank, step and parameter.
            WorkerError: a rank failed or was lost.
        """
        try:
            while self._next < len(self._stages):
                self._ask(error)
            self._send()
            self._buckets.finish()
            self._team.agree(error)
            summed = torch.tensor([*numbers, 0], dtype=torch.int64, device=self._team.device)
            self._team.wait(self._team.summed(summed))
        except BaseException:
            self._buckets.drop()
            raise
        self._buckets.traffic.control += 8 * (len(summed) + 1)
        return [int(number) for number in summed[:-1].cpu()]

    def _ask(self, error: BaseException | None) -> None:
        """Begin the maxima of the next stage, after the limbs of the one before it."""
        self._send()
        stage = self._stages[self._next]
        self._next += 1
        code = self._team.size - self._team.rank  # the largest is that of the lowest rank
        told = [0 if error is None else code]
        for each in stage:
            found = _quire_wire.extent(each.quires)
            told += [
                found.high,
                found.minus_low,
                code if found.nar else 0,
                each.terms,
                each.quires.variant == THREE,
            ]
        numbers = torch.tensor(told, dtype=torch.int64, device=self._team.device)
        self._buckets.traffic.control += 8 * len(told)
        self._asked.append((stage, numbers, self._team.largest(numbers)))
        self._error = error

    def _send(self) -> None:
        """Wait for the maxima that were asked for, and begin the sums of limbs."""
        if not self._asked:
            return
        stage, numbers, work = self._asked.popleft()
        self._team.wait(work)
        failed, *told = (int(number) for number in numbers.cpu())
        if failed:
            self._team.raise_from(self._team.size - failed, self._error)
        for place, each in enumerate(stage):
            high, minus_low, nar, each.terms, wide = told[_PER_SUM * place : _PER_SUM * (place + 1)]
            if wide:
                each.widen()  # as on the rank that added products of three factors
            name = self._names[id(each)]
            if nar:
                raise NaRError(f"the gradient of {name} on rank {self._team.size - nar}", self.step)
            window = _quire_wire.window(high, minus_low, self._team.size)
            self._buckets.traffic.limbs[name] = window.count
            self._buckets.traffic.bits[name] = high + minus_low if window.count else 0
            self._buckets.send(each.quires, window)
        self._buckets.flush()


def _stages(sums: Sequence[GradientSum], nbytes: int) -> Iterator[list[GradientSum]]:
    """The sums, last first, in runs that fill a bucket if each element has two limbs."""
    stage: list[GradientSum] = []
    size = 0
    for each in reversed(sums):
        if stage and size + 16 * each.quires.size > nbytes:
            yield stage
            stage, size = [], 0
        stage.append(each)
        size += 16 * each.quires.size
    if stage:
        yield stage
