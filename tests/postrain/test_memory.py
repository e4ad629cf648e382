"""Memory measured in fresh processes: the ledger, a meter that knows no purposes, and the prediction."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from posit.errors import FormatError
from postrain.data import load
from postrain.errors import MeasurementError, RecipeError
from postrain.memory import Case, footprint
from postrain.memory.networks import Workload, case_for, mlp
from postrain.memory.predict import predict
from postrain.memory.steps import build, require_options
from postrain.tasks import classification, volumes
from postrain.tasks import mlp as task_mlp

SMALL = ("postrain.memory.networks:mlp", {"sizes": [64, 128, 64, 10]}, 64)
LARGE = ("postrain.memory.networks:mlp", {"sizes": [784, 512, 256, 10]}, 128)
GEOMETRIC = ("postrain.memory.networks:signed_volume", {"hidden": 16}, 128)


FEW = pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        pytest.param(LARGE, "posit16", id="784-512-256-10 posit16"),
        pytest.param(GEOMETRIC, "posit16", id="ga posit16"),
        pytest.param(GEOMETRIC, "float32", id="ga float32"),
        pytest.param(LARGE, "float32", id="784-512-256-10 float32", marks=FEW),
        pytest.param(SMALL, "posit16", id="64-128-64-10 posit16", marks=FEW),
        pytest.param(SMALL, "float32", id="64-128-64-10 float32", marks=FEW),
    ],
)
def test_ledger_meter_and_prediction_agree(network: tuple[str, dict[str, object], int], recipe: str) -> None:
    factory, arguments, batch = network
    found = footprint(Case(factory, arguments, recipe, batch))
    width = 4 if recipe == "float32" else 2
    for memory in (found.inference, found.training):
        assert abs(memory.unattributed) <= 0.02 * memory.measured_peak, memory
        assert memory.predicted.total == pytest.approx(memory.measured_peak, rel=0.02)
        assert memory.measured.weights == memory.predicted.weights == width * found.parameters
    assert found.inference.measured.optimizer_state == 0
    assert found.training.measured.optimizer_state == width * found.parameters
    assert found.measured_ratio > 1


def test_large_prediction_is_what_the_process_grows_by() -> None:
    case = Case("postrain.memory.networks:mlp", {"sizes": [1024, 4096, 1024, 10]}, "float32", batch=64)
    found = footprint(case)
    if found.process_training is None:
        pytest.skip("Linux does not let this process reset its peak")
    assert found.training.predicted.total > 64 * 2**20
    assert found.process_training == pytest.approx(found.training.predicted.total, rel=0.1)


class Hidden(torch.nn.Module):
    """Holds a NumPy buffer that nobody tells the ledger of, while it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        buffer = np.ones(100_000)
        return x + float(buffer[0])


def hidden(batch: int, seed: int) -> Workload:
    work = mlp([64, 10], batch, seed)
    return Workload(torch.nn.Sequential(Hidden(), work.model), work.loss, work.inputs, work.targets)


def test_a_buffer_that_the_ledger_does_not_know_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    found = footprint(Case(f"{__name__}:hidden", {}, "float32", batch=8))
    assert found.inference.unattributed == pytest.approx(800_000, rel=0.02)


METER = """
import os
import numpy as np, torch
from postrain.memory.meter import Meter
with Meter() as meter:
    held = np.ones(1000), torch.ones(1000)
    with meter.window("together"):
        a = np.empty(100_000); b = torch.empty(100_000); del a, b
    with meter.window("one after the other"):
        a = np.empty(100_000); del a; b = torch.empty(100_000); del b
    with meter.window("the other way round"):
        b = torch.empty(100_000); a = np.zeros(50_000); del b; b = torch.empty(300_000); del a, b
print(*meter.peaks().values(), flush=True)
os._exit(0)
"""


def test_the_meter_has_one_time_line() -> None:
    done = subprocess.run([sys.executable, "-c", METER], capture_output=True, text=True, check=True)
    held = 8000 + 4000
    assert [int(peak) - held for peak in done.stdout.split()] == [1_200_000, 800_000, 1_600_000]


def test_prediction_needs_no_memory() -> None:
    training = predict(Case(LARGE[0], {"sizes": [2**20, 2**20, 10]}, "posit16", batch=2))["training"]
    assert training.weights == training.optimizer_state == 2 * (2**40 + 2**20 + 10 * 2**20 + 10)


def test_prediction_grows_with_the_batch_where_it_should() -> None:
    small, large = (predict(Case(*SMALL[:2], "float32", batch))["training"] for batch in (64, 128))
    assert large.inputs == 2 * small.inputs
    assert large.weights == small.weights


def test_a_case_is_its_task() -> None:
    task = classification(load("digits"), epochs=1)
    case = case_for(task, "posit16", seed=3)
    assert (case.arguments, case.batch, case.momentum) == (SMALL[1], 64, 0.9)
    assert (
        str(mlp([64, 128, 64, 10], 1, 0).model) == str(task_mlp((64, 128, 64, 10), 0)) == str(task.build(0))
    )
    assert case_for(volumes(0, 1, samples=4, hidden=5), "float32").arguments == {"hidden": 5}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("nowhere:mlp", {}, "float32", 1), "'nowhere:mlp' names no function"),
        (Case("postrain.memory.networks:absent", {}, "float32", 1), "names no function"),
        (
            Case("builtins:dict", {}, "float32", 1),
            "must return a Workload, or model, inputs and targets; got dict",
        ),
        (Case(*SMALL[:2], "posit99", 8), "nbits must be an integer from 3 to 64, got 99"),
    ],
)
def test_a_case_that_cannot_be_built(case: Case, message: str) -> None:
    def checked() -> None:
        require_options(case)
        build(case)

    with pytest.raises((MeasurementError, RecipeError, FormatError), match=message):
        checked()


def test_the_process_that_measures_says_why_it_could_not() -> None:
    with pytest.raises(
        MeasurementError, match="mode reverse, ended with code 2; it said last: .*names no function"
    ):
        footprint(Case("postrain.memory.networks:absent", {}, "float32", 1))
