"""The process in which a case is measured: a `Case` as JSON on stdin, its footprint as JSON on stdout.

Run by `postrain.memory.account`.  Everything is built and run once and thrown away, so that kernels, tables
and thread pools exist; then the meter starts, and everything is built again.
"""

import gc
import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from postrain.errors import PostrainError
from postrain.memory._account import Case
from postrain.memory._ledger import Ledger
from postrain.memory.meter import Meter, process_peak, reset_process_peak
from postrain.memory.predict import predict
from postrain.memory.steps import Training, actions, build, real, require_options
from postrain.report.schema import Bytes

_TIMED = 3  # training steps
_WORTH_READING = 64 * 2**20  # predicted bytes above which the process' own peak says something


def measure(case: Case) -> dict[str, Any]:
    """Predict and measure a case in this process, which must be fresh and must end with `os._exit`."""
    started = time.perf_counter()
    require_options(case)
    predicted = predict(case)
    seconds = []
    for _, action in actions(lambda: real(build(case), case), case):
        for _ in range(_TIMED if isinstance(action, Training) else 1):
            begun = time.perf_counter()
            action.run()
            seconds.append(time.perf_counter() - begun)
    del action
    gc.collect()
    gc.disable()
    grown = _process_peaks(case) if predicted["training"].total >= _WORTH_READING else {}
    by_purpose, peaks = _peaks(case)
    found: dict[str, Any] = {
        name: {
            "predicted": asdict(predicted[name]),
            "measured": asdict(by_purpose[name]),
            "measured_peak": peaks[name],
        }
        for name in predicted
    }
    found.setdefault("inference_in_parts", None)
    found |= {f"process_{name}": grown.get(name) for name in ("inference", "training")}
    found["parameters"] = sum(parameter.numel() for parameter in build(case).model.parameters())
    found["step_seconds"] = min(seconds[-_TIMED:])
    return found | {"seconds": time.perf_counter() - started}


def _peaks(case: Case) -> tuple[dict[str, Bytes], dict[str, int]]:
    """By the ledger, and in a run without it by the meter, whose count starts before the model is built."""
    by_purpose = {}
    with Meter() as meter:
        for name, action in actions(lambda: real(build(case), case), case):
            with meter.window(name):
                action.run()
            with Ledger() as ledger:
                action.enter(ledger)
                action.run(ledger)
            by_purpose[name] = ledger.peak()
            del action, ledger
    return by_purpose, meter.peaks()


def _process_peaks(case: Case) -> dict[str, int]:
    """Growth of the resident memory from before the model is built to the peak of each action."""
    grown: dict[str, int] = {}
    before = reset_process_peak()
    if before is not None:
        for name, action in actions(lambda: real(build(case), case), case):
            reset_process_peak()
            action.run()
            grown[name] = process_peak() - before
            del action
    return grown


def main() -> int:
    """Read a case, write its footprint; errors are one line on stderr."""
    try:
        found = measure(Case(**json.load(sys.stdin)))
    except PostrainError as error:
        print(error, file=sys.stderr)  # noqa: T201  # the way out of this process
        return 2
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # arrays that live on must not be freed through the meter's allocator
