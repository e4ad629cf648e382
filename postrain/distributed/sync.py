"""One model's gradients over all ranks: exact sums opened before a step's passes, brought together at its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from posit.torch import GradientSum, PositTensor
from posit.torch.accumulation import into
from postrain.accumulate import Sums, open_sums, round_sums, watched
from postrain.distributed.buckets import Buckets, Traffic
from postrain.distributed.reducer import Reducer, filling
from postrain.errors import RecipeError


class GradientSync:
    """Sums a model's gradients exactly over passes and ranks, and rounds each once.

    Stages of parameters travel while the backward pass that was announced by `arm` is still at work on the layers
    before them: a hook on each parameter's node in the graph says when its gradient is complete.

    Args:
        model: A converted model, the same on all ranks.
        buckets: What limbs travel in, between the ranks.

    Raises:
        RecipeError: the model is not in posits, or sums its products in float32.
    """

    def __init__(self, model: nn.Module, buckets: Buckets) -> None:
        require_exact(model)
        self.model, self.buckets = model, buckets
        self.sums: Sums | None = None
        self._reducer: Reducer | None = None
        self._armed = False
        self._nodes = watched(model, self._ready)

    def _ready(self, parameter: torch.Tensor) -> None:
        if self._armed and self._reducer is not None:
            self._reducer.ready(parameter)

    @property
    def traffic(self) -> Traffic:
        """What the last step sent."""
        return self.buckets.traffic

    def open(self, step: int = 0, *extra: tuple[str, GradientSum]) -> Sums:
        """Begin a step: sums of 0.

        Args:
            step: For messages.
            extra: Other sums that are to be brought together, with their names; complete at the end.
        """
        self.sums = open_sums(self.model)
        named = [*extra, *((self.sums.names[id(each.parameter)], each) for each in self.sums.sums)]
        stages = list(filling([each for _, each in named], self.buckets.each))
        self._reducer = Reducer(stages, {id(each): name for name, each in named}, self.buckets, step)
        self._armed = False
        return self.sums

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Forward passes in this context add to the sums when they run backward."""
        assert self.sums is not None
        with into(self.sums.sums):
            yield

    def arm(self, on: bool = True) -> None:
        """Say that the next backward pass is the last of the step: what is complete may travel."""
        self._armed = on

    def close(self, numbers: Sequence[int] = (), error: BaseException | None = None) -> list[int]:
        """End the step: the sums of all ranks, in place, and the sums of whole numbers; nothing is rounded yet.

        Raises:
            NaRError: a NaR on any rank, on all of them.
            WorkerError: a rank failed or was lost.
        """
        assert self._reducer is not None
        reducer, self._reducer, self._armed = self._reducer, None, False
        return reducer.finish(numbers, error)

    def round(self, divisor: int) -> None:
        """Write the gradients: each sum divided by a whole number and rounded once."""
        assert self.sums is not None
        self.sums.divisor = divisor
        sums, self.sums = self.sums, None
        round_sums(sums)


def require_exact(model: nn.Module) -> None:
    """Refuse a model whose gradients depend on the number of workers.

    Raises:
        RecipeError: it is not in posits, or sums its products in float32.
    """
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, PositTensor):
            raise RecipeError(
                f"{name} is no PositTensor: sums of floating-point gradients depend on the number of workers; convert "
                "the model to a posit recipe, or use torch's DistributedDataParallel"
            )
        if parameter.policy is not None and parameter.policy.simulate:
            raise RecipeError(
                f'{name} has the recipe accumulate="float32", whose products depend on how a batch is cut; use '
                'accumulate="quire" for training on several workers'
            )
