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
from postrain.distributed.verify import FLOAT, POSIT, VerifyOptions, lines, verify
from tests.postrain.distributed.test_processes import TRAIN, environment
from tests.postrain.distributed.test_training import CONFIG, config

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"


#: configurations, the folder of their data, and settings that make two hundred steps affordable
NETWORKS = {
    "fashion-lenet5": ("fashion-mnist", ["data.train_limit=20000"]),
    "shakespeare-transformer": ("", ["data.context=16", "model.layers=2", "model.width=32"]),
    "o5-vector-pairs": ("", []),  # geometric algebra
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NETWORKS)
def test_two_hundred_steps_on_up_to_eight_processes(name: str, shared_data: Path) -> None:
    folder, more = NETWORKS[name]
    options = VerifyOptions(
        CONFIGS / f"{name}.toml",
        worlds=(1, 2, 3, 4, 8),
        steps=200,
        data_dir=shared_data / folder,
        settings=("train.batch=8", *more),
    )
    found = verify(options)
    assert found.same, lines(found)
    assert len(found.digests(FLOAT)) > 1, lines(found)
    (sha,) = found.digests(POSIT)
    for micro_batches, bucket in (((1, 3), 1024), ((2, 8), 1 << 22)):
        others = replace(options, worlds=(3,), micro_batches=micro_batches, buckets=(bucket,), contrast=False)
        assert verify(others).digests(POSIT) == {sha}


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
