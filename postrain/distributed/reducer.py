"""Exact gradient sums of all ranks, stage by stage, while the backward pass still runs.

Parameters are put into stages.  Each stage is one reduction by maximum (which bits are in use, is there a NaR) and then
sums of limbs, bucket by bucket.  Every rank issues the same reductions in the same order, whatever was ready when:
stage by stage, the maxima of a stage after the limbs of the one before it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

from posit import _quire_wire
from posit.torch import GradientSum
from postrain.distributed.buckets import Buckets, Traffic
from postrain.errors import NaRError

Stage = Sequence[GradientSum]
_PER_SUM = 5  #: numbers about a sum: high, -low, NaR, terms, whether its quires are wide


class Reducer:
    """Brings the sums of one step together, stage by stage; each sum becomes its `posit._quire_totals.Total`.

    Args:
        stages: Of this rank's sums, in the order in which they are ready.
        names: Of their parameters, by identity of the sum.
        buckets: The buffers.
        number: Of the step, for messages.
        complete: Called with each stage as soon as it came together, and before the next is begun.  Without it, stages
            travel while the backward pass is at work on the next, and are complete after `finish`.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        names: dict[int, str],
        buckets: Buckets,
        number: int = 0,
        complete: Callable[[Stage], object] | None = None,
    ) -> None:
        self._buckets, self._team = buckets, buckets.team
        self._names, self._stages, self._number, self._complete = names, stages, number, complete
        self._place = {id(each.parameter): place for place, stage in enumerate(stages) for each in stage}
        self._waiting = [{id(each.parameter) for each in stage} for stage in stages]
        self._asked: deque[tuple[Stage, torch.Tensor, object]] = deque()
        self._next = 0
        self._error: BaseException | None = None
        self._failure: BaseException | None = None
        buckets.traffic = Traffic()

    def ready(self, parameter: torch.Tensor) -> None:
        """The gradient of a parameter is complete on this rank; begins what can begin."""
        self._waiting[self._place[id(parameter)]].discard(id(parameter))
        while self._next < len(self._stages) and not self._waiting[self._next]:
            self._bring(None)

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
        if self._failure is not None:  # all ranks met it together, when a stage came together
            raise self._failure
        try:
            while self._next < len(self._stages):
                self._bring(error)
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

    def _bring(self, error: BaseException | None) -> None:
        """Begin the next stage; where stages are completed one by one, end it too."""
        try:
            self._ask(error)
            if self._complete is None:
                return
            stage, *_ = self._asked[0]
            self._send()
            self._buckets.finish()
        except BaseException as failure:
            self._failure = failure
            self._buckets.drop()
            raise
        self._complete(stage)

    def _ask(self, error: BaseException | None) -> None:
        """Begin the maxima of the next stage, after the limbs of the one before it."""
        self._send()
        stage = self._stages[self._next]
        self._next += 1
        code = self._team.size - self._team.rank  # the largest is that of the lowest rank
        told = [0 if error is None else code]
        for each in stage:
            found = each.extent()
            wide = each.wide
            told += [found.high, found.minus_low, code if found.nar else 0, each.terms, wide]
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
                raise NaRError(f"the gradient of {name} on rank {self._team.size - nar}", self._number)
            window = _quire_wire.window(high, minus_low, self._team.size)
            self._buckets.traffic.limbs[name] = window.count
            self._buckets.traffic.bits[name] = high + minus_low if window.count else 0
            self._buckets.send(each, window)
        self._buckets.flush()


def filling(sums: Sequence[GradientSum], nbytes: int) -> Iterator[list[GradientSum]]:
    """Stages of the sums, last first, that fill a bucket if each element has two limbs."""
    stage: list[GradientSum] = []
    size = 0
    for each in reversed(sums):
        more = 16 * each.parameter.numel()
        if stage and size + more > nbytes:
            yield stage
            stage, size = [], 0
        stage.append(each)
        size += more
    if stage:
        yield stage
