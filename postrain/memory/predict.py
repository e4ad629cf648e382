"""Predict memory: walk the operators of a step on fake tensors, which have shapes and no bytes.

In posits every operator's result takes the bytes of its codes, and what the operator holds inside is computed
from shapes by `postrain.memory.formulas`.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from postrain.errors import MeasurementError
from postrain.memory._account import INFERENCE, Case
from postrain.memory._ledger import Ledger
from postrain.memory.layer_formulas import NOT_KEPT
from postrain.memory.networks import Workload
from postrain.memory.planned import PlannedFunctions, Values
from postrain.memory.steps import Inference, Training, actions, build, inference, training
from postrain.recipe import Recipe
from postrain.report.schema import Bytes


def predict(case: Case) -> dict[str, Bytes]:
    """Bytes by purpose at the peak of inference and of one training step; no tensor is allocated.

    >>> found = predict(Case("postrain.memory.networks:mlp", {"sizes": [10**6, 10**6]}, "posit16", batch=1))
    >>> found["training"].weights
    2000002000000
    """
    with _no_values():
        return {name: _walk(action, case).peak() for name, action in actions(lambda: build(case), case)}


def walked(work: Callable[[], Workload], case: Case) -> Ledger:
    """The ledger of a walk through one step; `work` is called where tensors are fake.

    Raises:
        MeasurementError: the model needs values to go on.
    """
    with _no_values():
        try:
            made = inference(work, case.micro_batch) if case.mode == INFERENCE else training(work, case)
            return _walk(made, case)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise MeasurementError(
                f"this model cannot be accounted for without running it: {error.func} needs values, so its "
                "control flow or its shapes depend on data; make them depend on shapes only"
            ) from error


def _no_values() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(FakeTensorMode())
    stack.enter_context(Values())  # type: ignore[no-untyped-call]  # torch leaves it so
    return stack


def faked(work: Workload) -> Workload:
    """A workload of the same shapes, under the fake mode in force; nothing is read or copied."""
    memo: dict[int, object] = {}
    for tensor in (*work.model.parameters(), *work.model.buffers()):
        made = torch.empty(tensor.shape, dtype=tensor.dtype)
        memo[id(tensor)] = (
            nn.Parameter(made, requires_grad=tensor.requires_grad)
            if isinstance(tensor, nn.Parameter)
            else made
        )
    return Workload(copy.deepcopy(work.model, memo), work.loss, _like(work.inputs), _like(work.targets))


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype)


def _walk(action: Inference | Training, case: Case) -> Ledger:
    recipe = Recipe(case.recipe)
    with ExitStack() as stack:
        if recipe.is_posit:
            fmt = recipe.format
            width = fmt.storage.itemsize
            planned = PlannedFunctions(fmt, lambda size: ledger.passing(size))
            ledger = Ledger(lambda tensor: _bytes(tensor, width), planned.workspace, NOT_KEPT)
            stack.enter_context(planned)
        else:
            ledger = Ledger(sizes=lambda tensor: tensor.untyped_storage().nbytes())
        stack.enter_context(ledger)
        action.enter(ledger)
        action.run(ledger)
    return ledger


def _bytes(tensor: Tensor, width: int) -> int:
    """Bytes of a storage where float32 stands for codes."""
    stored = tensor.untyped_storage().nbytes()
    return stored // 4 * width if tensor.dtype == torch.float32 else stored
