"""Two buffers of constant size through which the limbs of exact sums travel between ranks."""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from posit import _buffers, _quire_wire
from posit._quire_totals import Total
from posit.torch import GradientSum
from postrain.distributed.team import Team
from postrain.errors import OptionsError
from postrain.memory.purposes import COMM, QUIRES, purpose

BUCKET_BYTES = 1 << 20
_IN_FLIGHT = 2  #: buckets: one is filled while the other travels


@dataclass
class Traffic:
    """What one exchange sent, per rank and before the factor of the reduction's algorithm."""

    limbs: dict[str, int] = field(default_factory=dict)  #: of each parameter
    bits: dict[str, int] = field(
        default_factory=dict
    )  #: between the lowest bit in use and the sign, of each parameter
    payload: int = 0  #: bytes of limbs; none where there is one rank
    control: int = 0  #: bytes of maxima and whole numbers
    buckets: int = 0  #: sums of limbs that were begun


@dataclass(frozen=True, slots=True)
class _Part:
    """Some elements of one sum in a bucket."""

    at: int  #: place of the first limb in the bucket
    into: Any  #: where its sums over the ranks go, shape (limbs, elements)

    def limbs(self, bucket: Any) -> Any:
        """The part's limbs in the bucket, shaped as `into`."""
        return bucket[self.at : self.at + self.into.size].reshape(self.into.shape)


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

    def empty(self) -> None:
        """Forget what was in it."""
        self.parts, self.used, self.work, self.sent = [], 0, None, None


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
        self.each = 8 * (nbytes // 8)  #: bytes of a buffer
        self._free = deque(self._made(nbytes // 8) for _ in range(_IN_FLIGHT))
        self._travelling: deque[_Bucket] = deque()
        self.traffic = Traffic()

    @property
    def nbytes(self) -> int:
        """Of both buffers, for the memory account."""
        return _IN_FLIGHT * self.each

    def _made(self, length: int) -> _Bucket:
        with purpose(COMM):
            numbers = _buffers.empty(length, "int64")
        return _Bucket(numbers, torch.from_numpy(numbers), self.team.device)

    def send(self, given: GradientSum, at: _quire_wire.Window) -> None:
        """Put a sum's limbs into buckets, full ones travel at once; it becomes the total, complete after `finish`."""
        if self.team.size == 1:  # there is nobody to send them to
            return
        size = given.parameter.numel()
        with purpose(QUIRES):
            limbs = _buffers.empty((at.count, size), "int64")
        start = 0
        while start < size and at.count:
            start = self._put(given, start, at, limbs)
        given.replace(Total(limbs, at, given.layout))

    def _put(self, given: GradientSum, start: int, at: _quire_wire.Window, limbs: Any) -> int:
        """Limbs of elements from `start` on, as many as there is room for; returns where they end."""
        bucket = self._current()
        room = (len(bucket.numbers) - bucket.used) // at.count
        if room == 0:
            self.flush()
            return start
        stop = min(start + room, int(limbs.shape[1]))
        part = _Part(bucket.used, limbs[:, start:stop])
        given.pack(start, stop, at, part.limbs(bucket.numbers))
        bucket.parts.append(part)
        bucket.used += at.count * (stop - start)
        return stop

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
        """Wait for the bucket that travels longest, and put its sums where they belong."""
        bucket = self._travelling.popleft()
        self.team.wait(bucket.work)
        if bucket.sent is not None and bucket.device.type != "cpu":
            bucket.tensor[: bucket.used].copy_(bucket.sent)
        for part in bucket.parts:
            part.into[...] = part.limbs(bucket.numbers)
        bucket.empty()
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
            bucket.empty()
        self._free.extend(self._travelling)
        self._travelling.clear()
