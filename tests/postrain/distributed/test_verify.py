"""`postrain verify-parallel`: what it trains, what it prints, and its exit code."""

import json
from pathlib import Path

import pytest

from postrain import cli
from postrain.distributed import simulate, train
from postrain.distributed.launch import Finished, require_success
from postrain.distributed.ranked import configured, train_float32
from postrain.distributed.verify import FLOAT, POSIT, VerifyOptions, lines, verify
from postrain.errors import OptionsError, WorkerError
from tests.postrain.distributed.test_training import CONFIG


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path / "run.toml"


def in_threads(options: VerifyOptions, world: int, micro: int | None, bucket: int | None) -> str:
    """The same trainings with threads for ranks; float32 needs no more than one of its own here."""
    given = {
        "config": options.config, "settings": [], "data_dir": None, "steps": options.steps, "micro_batch": micro,
    }  # fmt: skip
    if bucket is None:
        return f"float32 on {world}"
    found = simulate(
        world,
        lambda team: train(
            configured(given), options.config.parent / f"{world}-{micro}", team, figures=False
        ),
    )[0]
    assert found is not None
    assert not isinstance(found, Exception)
    return found.digest


def test_all_worlds_and_micro_batches_end_in_one_digest(file: Path) -> None:
    found = verify(VerifyOptions(file, (1, 3), (None, 2), steps=2), train=in_threads)
    assert found.same
    assert [row.arithmetic for row in found.rows] == [POSIT] * 4 + [FLOAT] * 2
    said = lines(found)
    (sha,) = found.digests(POSIT)
    assert said[3].startswith(f"{sha}  posits, exact sums: 3 ranks, micro-batch 2 (")
    assert said[-2:] == ["posits: the same bits after 2 steps", "float32: 2 different digests"]


def test_a_bit_that_differs_is_exit_code_1(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = iter("aab")
    monkeypatch.setattr("postrain.distributed.verify.in_processes", lambda *_: next(digests))
    assert cli.main(["verify-parallel", str(file), "--world", "1,2,4", "--no-float32"]) == 1
    assert "posits: 2 different digests: something depends on the split" in capsys.readouterr().out
    monkeypatch.setattr("postrain.distributed.verify.in_processes", lambda *_: "a")
    assert cli.main(["verify-parallel", str(file), "--world", "1,2"]) == 0
    assert cli.main(["verify-parallel", str(file), "--world", "two"]) == 2
    assert cli.main(["verify-parallel", str(file.parent / "none.toml")]) == 2


def test_options_and_failures_are_explained(file: Path) -> None:
    for wrong in ({"worlds": (0,)}, {"worlds": ()}, {"steps": 0}, {"micro_batches": (0,)}):
        with pytest.raises(OptionsError, match="must be positive"):
            VerifyOptions(file, **wrong)
    with pytest.raises(
        WorkerError,
        match="training: rank 1 of 2 ended with code 2 (postrain: it is full)".replace("(", r"\(").replace(
            ")", r"\)"
        ),
    ):
        require_success([Finished(0, "", ""), Finished(2, "", "x\npostrain: it is full\n")], "training")


@pytest.mark.exhaustive
def test_processes_over_gloo(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command as everyone runs it, and float32 beside it, which the number of ranks does change."""
    assert cli.main(["verify-parallel", str(file), "--world", "1,2,3", "--steps", "30"]) == 0
    said = capsys.readouterr().out
    assert "posits: the same bits after 30 steps" in said
    assert "different digests" in said.splitlines()[-1]


def test_the_text_for_a_rank_is_json(file: Path) -> None:
    given = json.loads(
        json.dumps(
            {
                "config": str(file),
                "settings": ["train.batch=7"],
                "data_dir": None,
                "steps": 3,
                "micro_batch": 2,
            }
        )
    )
    plan = configured(given).plan
    assert (plan.batch, plan.iterations, plan.epochs, plan.micro_batch) == (7, 3, None, 2)
    assert callable(train_float32)
