"""Training on several ranks ends in the bits of one process: here the ranks are threads, the loop is the real one."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from posit.torch import PositTensor, posit_tensor
from postrain import checkpoint, logs, run
from postrain._train import digest
from postrain.config import Config, parse
from postrain.convert import convert
from postrain.distributed import DataParallel, Team, handshake, simulate, train
from postrain.errors import DataError, NaRError, OptionsError, OutputError, RecipeError, WorkerError
from postrain.memory._ledger import Ledger
from tests.postrain.test_resume import rows

CONFIG = """
[data]
name = "digits"
train_limit = 44
test_limit = 20
[model]
name = "mlp"
hidden = [8]
[optimizer]
lr = 0.05
momentum = 0.9
[train]
epochs = 1
batch = 20
evaluate_every = 2
checkpoint_every = 2
statistics_every = 2
clip = 0.5
"""  # the last step has 4 samples: fewer than 8 ranks


def config(*settings: str) -> Config:
    return parse(CONFIG, settings=settings)


def trained(folder: Path, ranks: int, given: Config, **options: Any) -> run.Outcome:
    found = simulate(ranks, lambda team: train(given, folder, team, figures=False, **options))
    for each in found:
        if isinstance(each, Exception):
            raise each
    assert found[1:] == [None] * (ranks - 1)  # rank 0 alone writes, and says what it wrote
    assert isinstance(found[0], run.Outcome)
    return found[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> run.Outcome:
    """One process, one pass a step: `postrain train` as everyone runs it."""
    return run.train(config("train.micro_batch=20"), tmp_path_factory.mktemp("alone"), figures=False)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_number_of_ranks_changes_no_bit(
    ranks: int, alone: run.Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTRAIN_BUCKET_BYTES", str({1: 1 << 20, 2: 1024, 3: 4096, 8: 1 << 16}[ranks]))
    settings = [f"train.micro_batch={3}"] if ranks == 3 else []
    outcome = trained(tmp_path, ranks, config(*settings))
    assert outcome.digest == alone.digest
    ours, theirs = (checkpoint.load(checkpoint.all_of(each)[-1]).state for each in (tmp_path, alone.folder))
    for name, tensor in ours["model"].items():
        assert torch.equal(tensor.codes, theirs["model"][name].codes)
    assert rows(tmp_path, logs.EVALUATIONS) == rows(alone.folder, logs.EVALUATIONS)
    assert outcome.fitted.steps == 3


@pytest.mark.exhaustive
def test_dropout_and_an_attention_model_follow_the_sample(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 12)
    given = parse(
        f"""
        [data]
        name = "text"
        path = "{text}"
        context = 6
        [model]
        name = "transformer"
        layers = 1
        heads = 2
        width = 8
        dropout = 0.25
        [optimizer]
        name = "adamw"
        lr = 0.01
        [train]
        iterations = 2
        batch = 5
        evaluate_every = 9
        """
    )
    digests = {trained(tmp_path / str(ranks), ranks, given).digest for ranks in (1, 3)}
    assert len(digests) == 1
    other = replace(given, plan=replace(given.plan, seed=1))
    assert trained(tmp_path / "seed", 1, other).digest not in digests


def test_stop_on_three_ranks_and_go_on_with_one_or_two(alone: run.Outcome, tmp_path: Path) -> None:
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        trained(folder, 3, config("train.micro_batch=20"))
        for path in checkpoint.all_of(folder)[1:]:
            path.unlink()  # as if stopped after step 2
        outcome = trained(folder, ranks, config("train.micro_batch=20"), resume=True)
        assert (outcome.fitted.resumed_at, outcome.digest) == (2, alone.digest)


def failures(ranks: int, given: Any, folder: Path, **options: Any) -> Sequence[Exception]:
    """What each rank raised; none may be left waiting."""
    found = simulate(
        ranks,
        lambda team: train(given[team.rank] if isinstance(given, list) else given, folder, team, **options),
    )
    errors = [each for each in found if isinstance(each, Exception)]
    assert len(errors) == ranks, found
    return errors


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "recipe.name=posit8",
            'the ranks differ in recipe.weights: ranks 0, 2: "posit16"; rank 1: "posit8"; start all of them',
        ),
        ("data.train_limit=43", "the ranks differ in data"),
        ("train.seed=5", "the ranks differ in train.seed: ranks 0, 2: 0; rank 1: 5"),
        ("train.batch=19", "the ranks differ in train.batch: ranks 0, 2: 20; rank 1: 19"),
        ("model.hidden=[9]", "the ranks differ in config.model.hidden: ranks 0, 2: [8]; rank 1: [9]"),
    ],
)
def test_ranks_that_differ_are_named_on_every_rank(setting: str, said: str, tmp_path: Path) -> None:
    for error in failures(3, [config(), config(setting), config()], tmp_path):
        assert isinstance(error, RecipeError)
        assert said in str(error)


def test_another_version_of_the_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "code_digest", lambda: threading.current_thread().name)
    for error in simulate(2, lambda team: handshake.require_equal(team, {})):
        assert 'the ranks differ in code.digest: rank 0: "rank-0"; rank 1: "rank-1"' in str(error)


def test_what_fails_on_one_rank_stops_all(tmp_path: Path) -> None:
    missing = config("data.name=npz", f"data.path={tmp_path / 'none.npz'}")
    errors = failures(2, [config(), missing], tmp_path / "data")
    assert isinstance(errors[0], WorkerError)
    assert str(errors[0]).startswith("rank 1 of 2 stopped: ")
    assert isinstance(errors[1], DataError)
    first, second = failures(2, config(), tmp_path / "none", resume=True)  # only rank 0 looks into its folder
    assert isinstance(first, OutputError)
    assert "there is no checkpoint" in str(second)
    for error in failures(2, config("recipe.name=ieee_fp32"), tmp_path / "float"):
        assert "sums of floating-point gradients depend on the number of workers" in str(error)


def test_nar_on_one_rank_stops_all_with_rank_step_and_parameter() -> None:
    def run_(team: Team) -> None:
        model = DataParallel(convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), "posit16"), team=team)
        for step in range(2):
            x = posit_tensor(torch.ones(3, 2), "posit16")
            if step and team.rank == 1:
                x.codes[1, 1] = -0x8000
            model(x).sum().backward()
            model.zero_grad()

    for error in simulate(3, run_):
        assert isinstance(error, NaRError)
        assert error.step == 2
        assert error.where.endswith(" on rank 1")
        assert error.where.startswith("the gradient of ")


def test_data_parallel_gives_the_gradients_of_one_process() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(13, 6), torch.randint(0, 4, (13,))

    def run_(team: Team, cuts: int = 1) -> tuple[list[Any], Any]:
        torch.manual_seed(team.rank)  # rank 0's weights are taken
        net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape) * (1 + team.rank))
        model = DataParallel(convert(net, "posit16"), team=team, bucket_bytes=1024)
        mine = slice(team.rank * 13 // team.size, (team.rank + 1) * 13 // team.size)
        parts = [part for part in zip(x[mine].split(cuts), y[mine].split(cuts), strict=True) if len(part[0])]
        if not parts:
            model.synchronize()
        for place, (inputs, targets) in enumerate(parts):
            last = place == len(parts) - 1
            if last:
                nn.functional.cross_entropy(model(inputs), targets, reduction="sum").backward()
            else:
                with model.no_sync():
                    nn.functional.cross_entropy(model(inputs), targets, reduction="sum").backward()
        grads = []
        for each in model.parameters():
            assert isinstance(each.grad, PositTensor)
            grads += each.grad.codes.reshape(-1).tolist()
        return grads, model._sync.traffic

    whole, _ = run_(simulate(1, lambda team: team)[0], cuts=13)  # type: ignore[arg-type]
    assert any(whole)
    for ranks, cuts in ((2, 13), (3, 2), (14, 1)):
        for result in simulate(ranks, lambda team, cuts=cuts: run_(team, cuts)):  # type: ignore[misc]
            assert not isinstance(result, Exception)
            assert result[0] == whole
    assert not isinstance(result, Exception)
    traffic = result[1]
    assert max(traffic.limbs.values()) <= 3
    assert traffic.payload == 8 * sum(
        count * size for count, size in zip(traffic.limbs.values(), (4, 20, 5, 30), strict=True)
    )


def test_data_parallel_refuses_what_depends_on_the_split() -> None:
    def run_(team: Team, model: nn.Module, **options: Any) -> None:
        wrapped = DataParallel(convert(model, "posit16"), team=team, **options)
        wrapped(torch.ones(2, 2)).sum().backward()

    for model, options, said in (
        (nn.Sequential(nn.BatchNorm1d(2)), {}, "statistics of each part of a batch"),
        (nn.Linear(2, 2), {"divisor": 0}, "divisor must be"),
        (nn.Linear(2, 2), {"bucket_bytes": 1}, "a bucket must have at least 1024 bytes, got 1"),
    ):
        (error,) = simulate(1, lambda team, m=model, o=options: run_(team, m, **o))  # type: ignore[misc]
        assert isinstance(error, (RecipeError, OptionsError))
        assert said in str(error)


def test_the_buffers_are_a_constant_of_the_memory_account() -> None:
    def run_(team: Team) -> tuple[int, int]:
        with Ledger() as ledger:
            model = DataParallel(convert(nn.Linear(40, 50), "posit16"), team=team, bucket_bytes=4096)
            for _ in range(3):
                model(torch.ones(2, 40)).sum().backward()
                model.zero_grad()
        return ledger.peak().comm, model.comm_bytes

    assert list(simulate(1, run_)) == [(8192, 8192)]


def test_weights_are_those_of_rank_0() -> None:
    def run_(team: Team) -> str:
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        with torch.no_grad():
            model.weight.fill_(team.rank)
        return digest(DataParallel(convert(model, "posit16"), team=team))

    assert len(set(map(str, simulate(2, run_)))) == 1
