"""One model's gradients over all ranks: exact sums opened before a step's passes, brought together at its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from posit.torch import GradientSum, PositTensor
from posit.torch.accumulation import into
from postrain.accumulate import Sums, open_sums, round_sums
from postrain.distributed.reducer import BUCKET_BYTES, Buckets, Reducer, Traffic
from postrain.distributed.team import Team
from postrain.errors import RecipeError


class GradientSync:
    """Sums a model's gradients exactly over passes and ranks, and rounds each once.

    Stages of parameters travel while the backward pass that was announced by `arm` is still at work on the layers
    before them: a hook on each parameter's node in the graph says when its gradient is complete.

    Args:
        model: A converted model, the same on all ranks.
        team: The ranks.
        bucket_bytes: Of a buffer; there are two.

    Raises:
        RecipeError: the model is not in posits, or sums its products in float32.
    """

    def __init__(self, model: nn.Module, team: Team, bucket_bytes: int = BUCKET_BYTES) -> None:
        _require_exact(model)
        self.model, self.team = model, team
        self.buckets = Buckets(team, bucket_bytes)
        self.sums: Sums | None = None
        self._extra: tuple[GradientSum, ...] = ()
        self._reducer: Reducer | None = None
        self._armed = False
        self._nodes = [self._watched(each) for each in model.parameters() if each.requires_grad]

    def _watched(self, parameter: torch.Tensor) -> Any:
        """The parameter's node in the graph, with our hook; it lives as long as someone holds it."""
        node = torch.autograd.graph.get_gradient_edge(parameter).node
        node.register_hook(lambda *_: self._ready(parameter))
        return node

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
        names, sums = [name for name, _ in named], [each for _, each in named]
        self._reducer = Reducer(sums, names, self.buckets)
        self._reducer.step = step
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


def _require_exact(model: nn.Module) -> None:
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
