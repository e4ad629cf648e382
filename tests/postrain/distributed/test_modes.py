"""Modes on several workers: layer by layer or all at once, one digest; what fails on one rank stops all."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import postrain
from posit.torch import GradientSum, PositTensor, posit_tensor
from postrain import run
from postrain.config import Config, parse
from postrain.distributed import Team, simulate
from postrain.distributed.launch import require_success, run_ranks
from postrain.distributed.workers import Workers, share
from postrain.errors import ModeError, NaRError, RecipeError, StreamOverflow, WorkerError
from postrain.models import reversible_mlp
from postrain.modes import Settings, stepper
from postrain.modes._layered import Layered
from postrain.prepared import loss_of
from tests.postrain.distributed.test_processes import TRAIN, environment
from tests.postrain.distributed.test_training import CONFIG, failures, trained

PLAIN = CONFIG.replace("clip = 0.5", "")
STACK = PLAIN.replace('name = "mlp"\nhidden = [8]', 'name = "reversible-mlp"\nwidth = 8\ndepth = 2')
BUCKETS = {1: 1 << 20, 3: 1024, 8: 4096}


def config(mode: str, *settings: str) -> Config:
    return parse(STACK if mode == "reversible" else PLAIN, settings=[f"train.mode={mode}", *settings])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of one process, one pass a step; of modes that update later, which is the same for both networks."""
    found = {}
    for name, text in (("mlp", PLAIN), ("stack", STACK)):
        given = parse(text, settings=["train.mode=accumulate", "train.micro_batch=20"])
        found[name] = run.train(given, tmp_path_factory.mktemp(name), figures=False).digest
    return found


@pytest.mark.parametrize("mode", ["fused", "reversible", "checkpointed"])
def test_modes_give_the_bits_of_one_process_on_any_number_of_ranks(
    mode: str, alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = alone["stack" if mode == "reversible" else "mlp"]
    one = run.train(config(mode, "train.micro_batch=7"), tmp_path / "alone", figures=False)
    assert one.digest == wanted
    for ranks, bucket in BUCKETS.items():
        monkeypatch.setenv("POSTRAIN_BUCKET_BYTES", str(bucket))
        settings = ["train.micro_batch=3"] if ranks == 3 else []
        outcome = trained(tmp_path / str(ranks), ranks, config(mode, *settings))
        assert outcome.digest == wanted, ranks
        assert outcome.fitted.losses == pytest.approx(
            one.fitted.losses, rel=1e-3
        )  # each pass's loss is rounded


class Backwards(nn.Module):
    """Layers that are defined in the order opposite to that of their calls; the last one's weight is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(6, 4), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Three layers."""
        found: Tensor = self.last(torch.relu(self.middle(torch.relu(self.first(x)))))
        return found + nn.functional.linear(x, self.last.weight)


def data(samples: int = 13) -> tuple[Tensor, Tensor]:
    return torch.randn(samples, 6, generator=torch.Generator().manual_seed(1)), torch.arange(samples) % 4


def train_here(team: Team | None, model: nn.Module, mode: str = "fused", **plan: Any) -> list[Any]:
    """Codes of the weights after three steps of 6, 6 and 1 samples."""
    with torch.no_grad():
        for place, each in enumerate(model.parameters()):
            numbers = torch.linspace(-1, 1, each.numel()).reshape(each.shape)
            each.copy_(numbers.roll(place) * (1 if team is None else 1 + team.rank))  # rank 0's are taken
    postrain.train(model, *data(), mode=mode, team=team, batch=6, epochs=1, **plan)
    return [each.codes.tolist() for each in model.parameters() if isinstance(each, PositTensor)]


def test_one_call_trains_on_all_ranks_and_frees_each_layer_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train_here(None, Backwards(), "accumulate", micro_batch=6)
    for ranks in (1, 2, 4):  # of four ranks, three have no sample in the last step
        for found in simulate(ranks, lambda team: train_here(team, Backwards())):
            assert found == whole
    held: list[int] = []
    update = Layered._update

    def watched(self: Layered, stage: Sequence[GradientSum]) -> None:
        sums = self._sums.values()
        held.append(sum(each.total is not None or each.nbytes > 0 for each in sums) - len(stage))
        update(self, stage)

    monkeypatch.setattr(Layered, "_update", watched)
    assert simulate(1, lambda team: train_here(team, Backwards())) == [whole]
    # weights and biases: in the first step, which goes from the module defined last to the first, two layers wait
    assert [count for count in held if count >= 0] == [4, 2, 0] + 2 * [0, 0, 0]


def stack() -> nn.Module:
    return reversible_mlp((6,), 4, width=8, depth=2)


@pytest.mark.parametrize(
    ("mode", "make", "value", "kinds"),
    [
        ("fused", Backwards, None, (NaRError, NaRError)),
        ("reversible", stack, None, (NaRError, NaRError)),
        ("reversible", stack, 1e9, (WorkerError, StreamOverflow)),
    ],
)
def test_what_goes_wrong_on_one_rank_stops_all_in_the_middle_of_a_step(
    mode: str, make: Callable[[], nn.Module], value: float | None, kinds: tuple[type[Exception], ...]
) -> None:
    models = [postrain.convert(make(), "posit16") for _ in range(2)]

    def run_(team: Team) -> None:
        x, y = data(12)
        mine = share(12, team.rank, 2)
        inputs = posit_tensor(x[mine] if value is None or team.rank == 0 else x[mine] * value, "posit16")
        if value is None and team.rank == 1:
            inputs.codes[2, 3] = -0x8000
        optimizer = postrain.optim.SGD(models[team.rank].named_parameters(), lr=0.125)
        workers = Workers(models[team.rank], team, 6)
        step = stepper(mode, models[team.rank], loss_of("sum"), optimizer, Settings(micro_batch=6), workers)
        step(1, torch.arange(6), inputs, y[mine], count=False)

    first, second = simulate(2, run_)
    assert isinstance(first, kinds[0])
    assert "rank 1" in str(first)
    assert isinstance(second, kinds[1])


def test_modes_that_estimate_and_ranks_with_other_data_are_refused(tmp_path: Path) -> None:
    for error in failures(2, config("zeroth"), tmp_path / "zeroth"):
        assert isinstance(error, ModeError)
        assert "mode 'zeroth' estimates gradients from float64 sums over samples" in str(error)

    def run_(team: Team) -> None:
        postrain.train(nn.Linear(6, 4), *data(12 + team.rank), team=team, mode="fused", epochs=1)

    for other in simulate(2, run_):
        assert isinstance(other, RecipeError)
        assert "the ranks differ in train.steps" in str(other) or "in data" in str(other)


@pytest.mark.exhaustive
def test_two_processes_run_a_stack_back_together(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN.replace("number == 3", "False"))
    (tmp_path / "run.toml").write_text(STACK + 'mode = "reversible"\n')
    command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "run.toml"), str(tmp_path / "run")]
    ended = run_ranks(2, command, environment=environment(POSTRAIN_TIMEOUT="120"))
    require_success(ended, "training")
    assert f"digest {alone['stack']}" in ended[0].out


@pytest.mark.exhaustive
def test_a_geometric_network_on_vectors(tmp_path: Path) -> None:
    """Products of three factors: quires become wide on ranks that have samples, and so on all."""
    text = (Path(__file__).parents[3] / "examples" / "configs" / "o5-vector-pairs.toml").read_text()
    small = [
        "data.train_limit=10",
        "data.test_limit=5",
        "model.hidden=4",
        "train.iterations=3",
        "train.batch=4",
    ]
    digests = set()
    for mode, ranks in (("fused", 1), ("fused", 5), ("reverse", 3)):
        given = parse(text, settings=[*small, f"train.mode={mode}"])
        outcome = trained(tmp_path / f"{mode}-{ranks}", ranks, given)
        digests.add(outcome.digest)
        assert list(outcome.scores) == ["loss"]
    assert len(digests) == 1
