"""The loop: order of samples, micro-batches, counts, NaR, logs, figures and the command."""

import json
import sys
import types
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import posit8
from posit.torch import PositTensor, posit_tensor
from postrain import logs
from postrain._step import StepResult
from postrain._train import digest
from postrain.cli import main
from postrain.convert import convert
from postrain.counters import nars, saturated
from postrain.errors import DataError, NaRError, OptionsError
from postrain.feeds import Samples, Windows
from postrain.files import load_weights
from postrain.logs import RunLog
from postrain.loop import Plan, fit
from postrain.models import initialise
from postrain.optim import SGD

NAR = -(1 << 15)


def network(fmt: str = "posit16") -> nn.Module:
    return convert(initialise(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), seed=1), fmt)


def samples(count: int = 20, fmt: str = "posit16") -> Samples:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 4, generator=generator)
    return Samples(posit_tensor(x, fmt), torch.arange(count) % 3)


def summed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def run(model: nn.Module, plan: Plan, loss: Any = functional.cross_entropy, **options: Any) -> Any:
    optimizer = SGD(model.named_parameters(), lr=0.5, momentum=0.9)
    return fit(model, samples(), loss, optimizer, plan, **options)


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    seen: list[list[int]] = []

    class Feed(Samples):
        def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(indices.tolist())
            return super().take(indices)

    model, data = network(), samples()
    optimizer = SGD(model.named_parameters(), lr=0.1)
    fit(model, Feed(data.x, data.y), functional.cross_entropy, optimizer, Plan(epochs=2, batch=8))
    assert [len(each) for each in seen] == [8, 8, 4] * 2
    first, second = (list(chain.from_iterable(half)) for half in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_any_micro_batch_split_gives_the_same_bits() -> None:
    digests = set()
    for micro in (20, 10, 7, 1):
        model = network()
        run(model, Plan(iterations=3, batch=20, micro_batch=micro), summed)
        digests.add(digest(model))
    assert len(digests) == 1


def test_micro_batches_train_float32_too() -> None:
    weights = []
    for micro in (20, 7):
        model = initialise(nn.Linear(4, 3), seed=1)
        data = Samples(samples().x.to_float(), samples().y)  # type: ignore[attr-defined]  # a PositTensor
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        fit(model, data, summed, optimizer, Plan(iterations=3, batch=20, micro_batch=micro, clip=1.0))
        weights.append(model.get_parameter("weight").detach())
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_nar_stops_with_name_and_step() -> None:
    model = network()
    weight = model[2].weight  # type: ignore[index]  # a Sequential
    assert isinstance(weight, PositTensor)

    def poison(result: Any) -> None:
        if result.number == 2:
            weight.codes[0, 0] = NAR

    with pytest.raises(NaRError, match=r"NaR in the loss \(and in the weight 2.weight\) at step 3"):
        run(model, Plan(iterations=5, batch=4), callbacks=[poison])


def test_nar_in_an_input_names_the_first_layer_and_can_be_skipped(tmp_path: Path) -> None:
    data = samples()
    data.x.codes[7, 0] = NAR  # type: ignore[attr-defined]  # a PositTensor
    model = network()
    optimizer = SGD(model.named_parameters(), lr=0.5)
    with pytest.raises(NaRError, match=r"first in the output of Linear '0'\) at step 1"):
        fit(model, data, functional.cross_entropy, optimizer, Plan(iterations=1, batch=20))
    plan = Plan(epochs=1, batch=1, on_nar="skip", statistics_every=0)
    before = digest(model)
    result = fit(model, data, functional.cross_entropy, optimizer, plan, folder=tmp_path)
    assert sum(loss != loss for loss in result.losses) == 1
    assert sum(row["nar"] or 0 for row in logs.read(tmp_path / "steps.csv")) == 1
    assert digest(model) != before
    assert not any(nars(parameter) for parameter in model.parameters())


def test_lost_updates_and_saturations_are_counted() -> None:
    """At a rate of 2**-40 no posit8 weight moves, and a weight at maxpos is counted as saturated."""
    model = network("posit8")
    weight = model[0].weight  # type: ignore[index]  # a Sequential
    assert isinstance(weight, PositTensor)
    weight.codes[0, 0] = posit8.maxpos
    seen: list[StepResult] = []
    optimizer = SGD(model.named_parameters(), lr=2.0**-40)
    fit(
        model,
        samples(fmt="posit8"),
        functional.cross_entropy,
        optimizer,
        Plan(iterations=2, batch=20, statistics_every=2),
        callbacks=[seen.append],
    )
    assert seen[0].counts() == {}
    moved = [p.grad.codes.ne(0).sum() for p in model.parameters() if isinstance(p.grad, PositTensor)]
    assert seen[1].counts()["lost_updates"] == sum(moved) > 0
    assert seen[1].counts()["saturations"] >= saturated(weight) == 1
    assert seen[1].counts()["nar"] == 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"epochs": 1, "on_nar": "go"}, "on_nar must be"),
        ({"epochs": 1, "clip": -1.0}, "clip must be positive"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 1, "seed": -1}, "seed must be at least 0"),
    ],
)
def test_plans_refuse_what_cannot_be(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        Plan(**bad)


def test_feeds_refuse_what_cannot_be() -> None:
    with pytest.raises(DataError, match="0 inputs and 0 targets"):
        Samples(torch.zeros(0, 2), torch.zeros(0))
    with pytest.raises(DataError, match="a text of 5 symbols has no stretches of 5"):
        Windows(torch.arange(5), 5)
    rows = [row.tolist() for row in Windows(torch.arange(10), 3).in_a_row(9)]
    assert rows == [[0], [3], [6]]


def test_a_log_is_cut_back_to_its_checkpoint(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        for step in (1, 2, 3):
            log.step({"step": step, "epoch": 0, "loss": 0.5, "lr": 0.1, "seconds": 1.0})
        log.evaluation({"step": 3, "epoch": 0, "loss": 0.25})
    for name in (logs.STEPS, logs.LINES):
        with (tmp_path / name).open("a") as file:
            file.write("4,0,0.")  # killed in the middle of a row
    with RunLog(tmp_path, after=2, tensorboard=False) as log:
        log.step({"step": 3, "epoch": 0, "loss": 0.75, "lr": 0.1, "seconds": 1.0, "nar": 0})
    rows = logs.read(tmp_path / logs.STEPS)
    assert [(row["step"], row["loss"], row["nar"]) for row in rows] == [
        (1, 0.5, None),
        (2, 0.5, None),
        (3, 0.75, 0),
    ]
    assert logs.read(tmp_path / logs.EVALUATIONS) == []
    lines = [json.loads(line) for line in (tmp_path / logs.LINES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]


def test_tensorboard_is_told_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((Path(folder).name, purge_step))

        def add_scalar(self, *values: Any) -> None:
            told.append(values)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]  # that is all of it that is used
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with RunLog(tmp_path, after=4) as log:
        log.step({"step": 5, "epoch": 0, "loss": 0.5})
    assert told == [("tensorboard", 5), ("step/loss", 0.5, 5)]


def test_the_command_trains_writes_everything_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(
        '[data]\nname = "digits"\ntrain_limit = 128\ntest_limit = 50\n[model]\nname = "mlp"\nhidden = [16]\n'
        "[train]\nepochs = 2\n"
    )
    said = []
    for name in ("a", "b"):
        assert main(["train", str(config), "--out", str(tmp_path / name)]) == 0
        said.append(capsys.readouterr().out.splitlines()[:2])
    assert said[0] == said[1]
    assert "4 steps; on the test data: loss " in said[0][0]
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert {
        "weights.safetensors",
        "loss.png",
        "distributions.png",
        "steps.csv",
        "evaluations.csv",
        "log.jsonl",
    } <= files
    tensors, metadata = load_weights(tmp_path / "a" / "weights.safetensors")
    assert metadata["format"] == "posit16"
    assert json.loads(metadata["formats"]) == dict.fromkeys(tensors, "posit16")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.int16}
    assert (tmp_path / "a" / "distributions.png").read_bytes().startswith(b"\x89PNG")
    assert main(["train", str(config), "--out", str(tmp_path / "a"), "--new"]) == 2
    assert "holds the checkpoint step-00000004.safetensors" in capsys.readouterr().err
