"""Predict a case's memory: walk its operators on fake tensors, which have shapes and no bytes.

In posits every operator's result takes the bytes of its codes, and what the operator holds inside is computed
from shapes by `postrain.memory.formulas`.
"""

from contextlib import ExitStack

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from postrain.memory.account import Case
from postrain.memory.formulas import posit_workspace
from postrain.memory.layer_formulas import NOT_KEPT
from postrain.memory.ledger import Ledger
from postrain.memory.planned import PlannedFunctions
from postrain.memory.steps import Inference, Training, actions, build
from postrain.recipe import Recipe
from postrain.report.schema import Bytes


def predict(case: Case) -> tuple[Bytes, Bytes]:
    """Bytes by purpose at the peak of one inference and of one training step; no tensor is allocated.

    >>> inference, training = predict(
    ...     Case("postrain.memory.networks:mlp", {"sizes": [10**6, 10**6]}, "posit16", batch=1))
    >>> training.weights
    2000002000000
    """
    with FakeTensorMode():
        inference, training = (_peak(action, case) for _, action in actions(lambda: build(case), case))
    return inference, training


def _peak(action: Inference | Training, case: Case) -> Bytes:
    recipe = Recipe(case.recipe)
    with ExitStack() as stack:
        if recipe.is_posit:
            fmt = recipe.format
            width = fmt.storage.itemsize
            ledger = Ledger(
                sizes=lambda tensor: _bytes(tensor, width),
                workspace=lambda op, args, result: posit_workspace(op, args, result, fmt),
                not_kept=NOT_KEPT,
            )
            stack.enter_context(PlannedFunctions(fmt, ledger.passing))
        else:
            ledger = Ledger(sizes=lambda tensor: tensor.untyped_storage().nbytes())
        stack.enter_context(ledger)
        action.enter(ledger)
        action.run(ledger)
    return ledger.peak()


def _bytes(tensor: torch.Tensor, width: int) -> int:
    """Bytes of a storage where float32 stands for codes."""
    stored = tensor.untyped_storage().nbytes()
    return stored // 4 * width if tensor.dtype == torch.float32 else stored
