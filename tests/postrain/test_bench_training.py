"""`postrain bench training`: what it times is a real step, and bits that depend on threads stop it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import posit
from postrain.bench import training
from postrain.bench.training_peers import NumpyMlp
from postrain.cli import main
from postrain.errors import MeasurementError
from postrain.options import NoProgress
from postrain.recipe import Recipe
from postrain.tasks import mlp


def small() -> Iterator[training._Network]:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(8, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)
    recipes = ((Recipe("posit16"), 2.5), (Recipe("posit16", accumulate="float32"), None))
    yield training._Network("small perceptron", lambda: mlp((6, 5, 3), 0), images, labels, False, recipes)


def test_the_command_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "networks", small)
    before = posit.get_num_threads(), torch.get_num_threads()
    file = tmp_path / "training.json"
    assert main(["bench", "training", "--repeats", "2", "--json", str(file)]) == 0
    assert (posit.get_num_threads(), torch.get_num_threads()) == before
    rows = json.loads(file.read_text())["rows"]
    names = ["small perceptron: posit16", "small perceptron: posit16, float32 sums"]
    assert [(row["operation"], row["threads"]) for row in rows] == [(n, t) for n in names for t in (1, 2)]
    assert all(row["value"] > 0 and row["peer"] == "torch float32" for row in rows)
    assert "proved to end" in " ".join(capsys.readouterr().out.split())


def test_bits_that_depend_on_threads_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter(["one", "another"])
    monkeypatch.setattr(training, "networks", small)
    monkeypatch.setattr(training, "digest", lambda model: next(ends))
    with pytest.raises(MeasurementError, match="on 1 and on 2 threads gave different weights"):
        training.measure_training(1, NoProgress())


def test_the_numpy_step_is_the_same_step() -> None:
    network = next(iter(training.networks()))
    by_hand = NumpyMlp(network.build(), network.x, network.y)
    torch_step = network.stepper(Recipe.named("ieee_fp32"))
    for _ in range(3):
        by_hand(1)
        torch_step(1)
    for ours, theirs in zip(by_hand.weights, list(torch_step.model.parameters())[::2], strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)
