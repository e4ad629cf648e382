"""The long runs: 200 steps on 1, 2, 3, 4 and 8 processes, and twenty kills."""

import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest

from postrain import checkpoint, run
from postrain.distributed.launch import run_ranks
from postrain.distributed.verify import FLOAT, VerifyOptions, lines, verify
from tests.postrain.distributed.test_processes import TRAIN, environment
from tests.postrain.distributed.test_training import CONFIG, config

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "data"), [("fashion-lenet5", "fashion-mnist"), ("shakespeare-transformer", "tinyshakespeare")]
)
def test_two_hundred_steps_on_up_to_eight_processes(name: str, data: str, shared_data: Path) -> None:
    options = VerifyOptions(
        CONFIGS / f"{name}.toml",
        worlds=(1, 2, 3, 4, 8),
        steps=200,
        data_dir=shared_data / data,
        settings=("data.train_limit=20000",),
    )
    found = verify(options)
    assert found.same, lines(found)
    assert len(found.digests(FLOAT)) > 1, lines(found)
    (sha,) = {row.sha256 for row in found.rows if row.arithmetic != FLOAT}
    others = VerifyOptions(
        options.config, (2,), (1, 8), (4096, 1 << 22), 200, options.data_dir, options.settings, contrast=False
    )
    assert {row.sha256 for row in verify(others).rows} == {sha}


@pytest.mark.exhaustive
def test_twenty_kills_of_random_ranks_at_random_moments(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(CONFIG.replace("epochs = 1", "iterations = 600"))
    (tmp_path / "train.py").write_text(TRAIN.replace("number == 3", "False"))
    plain = config("train.micro_batch=20")
    given = replace(plain, plan=replace(plain.plan, epochs=None, iterations=600))
    wanted = run.train(given, tmp_path / "alone", figures=False).digest
    draw, folder = random.Random(0), tmp_path / "run"
    command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "run.toml"), str(folder)]
    killed = 0
    for turn in range(21):
        before = step_of(folder)
        target = before + draw.randint(1, max(1, (600 - before) // (21 - turn)))
        victim = draw.randrange(2)

        def watch(
            processes: Sequence["Popen[str]"],
            target: int = target,
            victim: int = victim,
            last: bool = turn == 20,
        ) -> None:
            if not last and step_of(folder) >= target and processes[victim].poll() is None:
                processes[victim].send_signal(signal.SIGKILL)

        found = run_ranks(2, command, environment=environment(POSTRAIN_TIMEOUT="60"), watch=watch)
        killed += any(each.code == -signal.SIGKILL for each in found)
        if all(each.code == 0 for each in found):
            break
    assert killed >= 10
    assert wanted in found[0].out


def step_of(folder: Path) -> int:
    """The step of the last checkpoint."""
    path = checkpoint.latest(folder)
    return int(path.stem.removeprefix("step-")) if path else 0
