"""The two things that are measured, one inference and one training step, and what each byte in them is for.

* *weights*, *optimizer state*: as they are named; the momentum exists before the step, and not in inference.
* *inputs*: the batch, and for training its targets.
* *activations*: what operators return in the forward pass, saved for the backward pass or not; output and
  loss too.
* *gradients*: of parameters, from the moment they are computed.
* *workspace*: everything else: what operators use inside (decoded factors, float64 products) and what the
  backward pass makes on its way, gradients of activations included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor, nn

from posit.torch import PositTensor, posit_tensor
from postrain.convert import convert
from postrain.errors import MeasurementError
from postrain.memory.account import Case
from postrain.memory.ledger import Ledger
from postrain.memory.networks import Workload
from postrain.memory.purposes import ACTIVATIONS, GRADIENTS, INPUTS, OPTIMIZER_STATE, WEIGHTS, purpose
from postrain.optim.sgd import SGD
from postrain.recipe import Recipe

_RATE = 2.0**-6  # learning rate; any will do


@dataclass(frozen=True)
class Inference:
    """One forward pass without gradients; there is no optimizer and no target."""

    model: nn.Module
    inputs: Tensor

    def enter(self, ledger: Ledger) -> None:
        """Write down what is there before it runs."""
        ledger.label(WEIGHTS, [*self.model.parameters(), *self.model.buffers()])
        ledger.label(INPUTS, [self.inputs])

    def run(self, ledger: Ledger | None = None) -> None:
        """Run it."""
        with torch.no_grad(), purpose(ACTIVATIONS):
            self.model(self.inputs)


@dataclass(frozen=True)
class Training:
    """One training step; gradients do not exist before it and are gone at its end."""

    work: Workload
    optimizer: torch.optim.Optimizer

    def enter(self, ledger: Ledger) -> None:
        """Write down what is there before it runs."""
        ledger.label(WEIGHTS, [*self.work.model.parameters(), *self.work.model.buffers()])
        ledger.label(INPUTS, [self.work.inputs, self.work.targets])
        states = self.optimizer.state.values()
        ledger.label(
            OPTIMIZER_STATE, (x for state in states for x in state.values() if isinstance(x, Tensor))
        )

    def run(self, ledger: Ledger | None = None) -> None:
        """Run it."""
        with purpose(ACTIVATIONS):
            loss = self.work.loss(self.work.model(self.work.inputs), self.work.targets)
        loss.backward()
        if ledger is not None:
            ledger.label(GRADIENTS, (parameter.grad for parameter in self.work.model.parameters()))
        self.optimizer.step()
        self.optimizer.zero_grad()


def build(case: Case) -> Workload:
    """Call the case's factory.

    Raises:
        MeasurementError: there is no such factory, or it makes something else.
    """
    module, _, name = case.factory.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MeasurementError(
            f"{case.factory!r} names no function ({error}); write module:function of an importable module"
        ) from error
    work = factory(**case.arguments, batch=case.batch, seed=case.seed)
    if not isinstance(work, Workload):
        raise MeasurementError(f"{case.factory} must return a Workload, got {type(work).__name__}")
    return work


def real(case: Case) -> Workload:
    """Build a case with its numbers rounded to its format."""
    work, recipe = build(case), Recipe(case.recipe)
    if not recipe.is_posit:
        return work
    import postrain.geometric  # noqa: F401  (rules for geometric products)

    def rounded(x: Tensor) -> Tensor:
        return posit_tensor(x, recipe.activations) if x.is_floating_point() else x

    model = convert(work.model, recipe)
    return Workload(model, work.loss, rounded(work.inputs), rounded(work.targets))


def actions(work: Callable[[], Workload], case: Case) -> Iterator[tuple[str, Inference | Training]]:
    """Name and make what is measured, in turn; the caller drops each before it asks for the next."""
    whole = work()
    inference = Inference(whole.model, whole.inputs)
    del whole  # the targets go
    yield "inference", inference
    del inference
    training = Training(*_with_optimizer(work(), case))
    training.run()  # makes the momentum
    yield "training", training


def _with_optimizer(work: Workload, case: Case) -> tuple[Workload, torch.optim.Optimizer]:
    if any(isinstance(parameter, PositTensor) for parameter in work.model.parameters()):
        return work, SGD(work.model.named_parameters(), lr=_RATE, momentum=case.momentum)
    return work, torch.optim.SGD(work.model.parameters(), lr=_RATE, momentum=case.momentum)
