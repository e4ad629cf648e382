"""Run what is measured under a ledger."""

import gc
from collections.abc import Callable

from postrain.memory._account import INFERENCE, Case
from postrain.memory._ledger import Ledger
from postrain.memory.networks import Workload
from postrain.memory.steps import Inference, Training, inference, real, training
from postrain.report.schema import Bytes


def measured(work: Callable[[], Workload], case: Case) -> Bytes:
    """Bytes by purpose at the peak of one run, after one that is not counted."""

    def made() -> Workload:
        return real(work(), case)

    action: Inference | Training
    if case.mode == INFERENCE:
        action = inference(made, case.micro_batch)
        action.run()
    else:
        action = training(made, case)
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        with Ledger() as ledger:
            action.enter(ledger)
            action.run(ledger)
    finally:
        if enabled:
            gc.enable()
    return ledger.peak()
