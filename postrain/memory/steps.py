"""What is measured, one inference and one training step, and what each byte in them is for.

* *weights*, *optimizer state*: as they are named; the state exists before the step, and not in inference.
* *inputs*: the batch, and for training its targets.
* *activations*: what operators return in the forward pass, saved for the backward pass or not; output and
  loss too.
* *gradients*: of parameters, from the moment they are computed.
* *residual stream*: the two halves of a `postrain.nn.ReversibleStack`.
* *tangents*: random directions of modes that draw them.
* *quires*: exact sums of gradients over micro-batches.
* *workspace*: everything else: what operators use inside (decoded factors, float64 products) and what the
  backward pass makes on its way, gradients of activations included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import set_checkpoint_early_stop

from posit._bands import LIMBS, reading_workspace
from posit.torch import PositTensor
from postrain import optim
from postrain._step import Step
from postrain._train import rounded
from postrain.convert import convert
from postrain.errors import MeasurementError
from postrain.memory._account import INFERENCE, Case
from postrain.memory._ledger import Ledger
from postrain.memory.networks import Workload
from postrain.memory.planned import PlannedOptimizer
from postrain.memory.purposes import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    OPTIMIZER_STATE,
    QUIRES,
    WEIGHTS,
    purpose,
)
from postrain.modes import MODES, Settings, forward_in_parts, stepper
from postrain.nn import ReversibleStack
from postrain.nn.passage import parts
from postrain.recipe import Recipe

_RATE = 2.0**-6  # learning rate; any will do
OPTIMIZERS = ("sgd", "adam", "adafactor")


@dataclass(frozen=True)
class Inference:
    """A forward pass without gradients; there is no optimizer and no target."""

    model: nn.Module
    inputs: Tensor
    micro_batch: int | None = None

    def enter(self, ledger: Ledger) -> None:
        """Write down what is there before it runs."""
        ledger.label(WEIGHTS, [*self.model.parameters(), *self.model.buffers()])
        ledger.label(INPUTS, [self.inputs])

    def run(self, ledger: Ledger | None = None) -> None:
        """Run it."""
        size = self.micro_batch
        with torch.no_grad(), purpose(ACTIVATIONS):
            if size is None:
                self.model(self.inputs)
            elif any(isinstance(module, ReversibleStack) for module in self.model.children()):
                forward_in_parts(self.model, self.inputs, size)
            else:
                torch.cat([self.model(self.inputs[rows]) for rows in parts(len(self.inputs), size)])


class Training:
    """One training step of a mode; gradients do not exist before it and are gone at its end."""

    def __init__(self, work: Workload, optimizer: torch.optim.Optimizer, case: Case) -> None:
        self.work, self.optimizer, self.number = work, optimizer, 0
        settings = Settings(micro_batch=case.micro_batch, tangents=case.tangents)
        self.step = stepper(case.mode, work.model, self._loss, optimizer, settings)
        self.samples: Any = _Samples(range(len(work.inputs)))

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
        self.number += 1
        parameters = [each for each in self.work.model.parameters() if each.requires_grad]
        hooks = [
            each.register_post_accumulate_grad_hook(lambda held: ledger.label(GRADIENTS, [held.grad]))
            for each in parameters
            if ledger is not None
        ]
        with set_checkpoint_early_stop(False):  # which would raise where the meter runs Python
            if (
                isinstance(self.optimizer, PlannedOptimizer)
                and isinstance(self.step, Step)
                and self.step.micro_batch
            ):
                self._in_quires(parameters)
            else:
                self.step(self.number, self.samples, self.work.inputs, self.work.targets, count=False)
        for hook in hooks:
            hook.remove()
        self.optimizer.zero_grad()

    def _in_quires(self, parameters: list[nn.Parameter]) -> None:
        """Of a walk: gradients go to quires, and are rounded when all are there."""
        assert isinstance(self.optimizer, PlannedOptimizer)
        with purpose(QUIRES):
            held = [torch.empty(LIMBS * each.numel(), dtype=torch.float64) for each in parameters]
        hooks = [each.register_post_accumulate_grad_hook(_drop) for each in parameters]
        self.step(self.number, self.samples, self.work.inputs, self.work.targets, count=False)
        for hook in hooks:
            hook.remove()
        for each in parameters:
            with purpose(GRADIENTS):
                each.grad = torch.empty(each.shape)
            torch.empty(reading_workspace(each.numel()), dtype=torch.uint8)
        del held
        self.optimizer.step()

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with purpose(ACTIVATIONS):
            return self.work.loss(outputs, targets)


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


class _Samples(list[int]):
    """Numbers of samples, as modes read them, without a tensor."""

    def tolist(self) -> list[int]:
        return list(self)

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Samples(found) if isinstance(place, slice) else found


def default_loss(micro_batch: int | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy: the mean, or the sum where a batch is worked on in parts."""
    return (
        functional.cross_entropy
        if micro_batch is None
        else partial(functional.cross_entropy, reduction="sum")
    )


def require_options(case: Case) -> None:
    """Refuse what cannot be measured.

    Raises:
        MeasurementError: naming the option.
    """
    Recipe(case.recipe)
    if case.mode not in (INFERENCE, *MODES):
        raise MeasurementError(f"unknown mode {case.mode!r}; there are {INFERENCE}, {', '.join(MODES)}")
    if case.optimizer not in OPTIMIZERS:
        raise MeasurementError(
            f"there is no prediction for optimizer {case.optimizer!r}; there are {', '.join(OPTIMIZERS)}"
        )
    if case.mode == "fused" and case.micro_batch is not None:
        raise MeasurementError(
            "there is no prediction for mode 'fused' with micro-batches; leave out micro_batch, or account for "
            "'accumulate' or 'reversible'"
        )
    if case.batch < 1:
        raise MeasurementError(f"a batch needs at least one sample, got {case.batch}")


def build(case: Case) -> Workload:
    """Call the case's factory.

    Raises:
        MeasurementError: there is no such factory, or it makes something else.
    """
    module, _, name = case.factory.rpartition(":")
    try:
        factory = getattr(_imported(module), name)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise MeasurementError(
            f"{case.factory!r} names no function ({error}); write module:function of an importable module, or "
            "FILE.py:function"
        ) from error
    work = factory(**case.arguments, batch=case.batch, seed=case.seed)
    if isinstance(work, tuple) and len(work) == 3 and isinstance(work[0], nn.Module):
        work = Workload(work[0], default_loss(case.micro_batch), work[1], work[2])
    if not isinstance(work, Workload):
        raise MeasurementError(
            f"{case.factory} must return a Workload, or model, inputs and targets; got {type(work).__name__}"
        )
    return work


def _imported(module: str) -> Any:
    if not module.endswith(".py"):
        return import_module(module)
    spec = spec_from_file_location("_postrain_memory_model", module)
    if spec is None or spec.loader is None:
        raise ImportError(f"{module} cannot be loaded")
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def real(work: Workload, case: Case) -> Workload:
    """A workload with its numbers rounded to the case's format; its model is converted in place."""
    recipe = Recipe(case.recipe)
    if not recipe.is_posit:
        return work
    import postrain.geometric  # noqa: F401  (rules for geometric products)

    model = convert(work.model, recipe)
    return Workload(model, work.loss, rounded(work.inputs, recipe), rounded(work.targets, recipe))


def actions(work: Callable[[], Workload], case: Case) -> Iterator[tuple[str, Inference | Training]]:
    """Name and make what is measured, in turn; the caller drops each before it asks for the next."""
    sizes = {INFERENCE: None} | ({"inference_in_parts": case.micro_batch} if case.micro_batch else {})
    for name, size in sizes.items():
        yield name, inference(work, size)
    if case.mode != INFERENCE:
        yield "training", training(work, case)


def inference(work: Callable[[], Workload], micro_batch: int | None = None) -> Inference:
    """The inference of a workload; the targets are not kept."""
    whole = work()
    return Inference(whole.model, whole.inputs, micro_batch)


def training(work: Callable[[], Workload], case: Case) -> Training:
    """The training step of a workload, once run, so that the optimizer's state exists."""
    made = work()
    if not any(each.requires_grad for each in made.model.parameters()):
        raise MeasurementError(
            f"{type(made.model).__name__} has no parameter to train; account for it with mode={INFERENCE!r}"
        )
    action = Training(made, _optimizer(made.model, case), case)
    action.run()
    return action


def _optimizer(model: nn.Module, case: Case) -> torch.optim.Optimizer:
    fake = any(isinstance(each, torch._subclasses.FakeTensor) for each in model.parameters())
    if fake and Recipe(case.recipe).is_posit:
        return PlannedOptimizer(model.parameters(), case)
    if any(isinstance(parameter, PositTensor) for parameter in model.parameters()):
        return _posit_optimizer(model, case)
    if case.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=_RATE)
    if case.optimizer == "adafactor":
        return torch.optim.Adafactor(model.parameters(), lr=_RATE)
    return torch.optim.SGD(model.parameters(), lr=_RATE, momentum=case.momentum)


def _posit_optimizer(model: nn.Module, case: Case) -> torch.optim.Optimizer:
    named = model.named_parameters()
    options: dict[str, Any] = {"state_format": case.state_format}
    if case.optimizer == "adam":
        return optim.Adam(named, lr=_RATE, **options)
    if case.optimizer == "adafactor":
        return optim.Adafactor(named, lr=_RATE, **options)
    return optim.SGD(named, lr=_RATE, momentum=case.momentum, **options)
