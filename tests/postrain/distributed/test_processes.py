"""Real processes over gloo: torchrun, a rank killed and restarted to the same bits, ranks that die, hang or fail."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from postrain import logs, run
from postrain.distributed.launch import Finished, require_success, run_python, run_ranks
from tests.postrain.distributed.test_training import CONFIG, config
from tests.postrain.test_resume import rows

TRAIN = """
import os, signal, sys
from pathlib import Path
from postrain import _step
from postrain.config import read
from postrain.distributed import joined, train

step = _step.Step.__call__
def dies(self, number, *rest, **named):
    if number == 3 and os.environ["RANK"] == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, *rest, **named)
_step.Step.__call__ = dies
with joined() as team:
    outcome = train(read(Path(sys.argv[1])), Path(sys.argv[2]), team, figures=False)
if outcome:
    print("resumed at", outcome.fitted.resumed_at, "digest", outcome.digest)
"""
WAIT = """
import sys, time, torch
from postrain.distributed.group import joined
with joined() as team:
    for turn in range(10**9):
        number = torch.ones(1, dtype=torch.int64)
        team.wait(team.summed(number))
        if turn == 3:
            print("at work", flush=True)
            if team.rank == 1 and sys.argv[1] == "fails":
                raise ValueError("a disk is full")
        time.sleep(0.005)
"""


def environment(**more: str) -> dict[str, str]:
    root = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **more}


def torchrun(
    script: Path, *arguments: str, ranks: int = 2, restarts: int = 1
) -> "subprocess.CompletedProcess[str]":
    options = ["--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(script), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(POSTRAIN_TIMEOUT="120"),
        timeout=500,
        check=False,
    )


def test_two_processes_end_in_the_bits_of_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN.replace("number == 3", "False"))
    (tmp_path / "run.toml").write_text(CONFIG)
    alone = run.train(config("train.micro_batch=20"), tmp_path / "alone", figures=False)
    command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "run.toml"), str(tmp_path / "run")]
    ended = run_ranks(2, command, environment=environment(POSTRAIN_TIMEOUT="120"))
    require_success(ended, "training")
    assert f"digest {alone.digest}" in ended[0].out


@pytest.mark.exhaustive
def test_torchrun_restarts_a_killed_rank_to_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "run.toml").write_text(CONFIG)
    alone = run.train(config("train.micro_batch=20"), tmp_path / "alone", figures=False)
    ended = torchrun(tmp_path / "train.py", str(tmp_path / "run.toml"), str(tmp_path / "run"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert f"resumed at 2 digest {alone.digest}" in ended.stdout
    assert [row["step"] for row in rows(tmp_path / "run", logs.STEPS)] == [1, 2, 3]
    assert rows(tmp_path / "run", logs.EVALUATIONS) == rows(alone.folder, logs.EVALUATIONS)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", "rank 1 of 3 does not answer: killed, hanging, or cut off"),
        ("hangs", "rank 1 of 3 does not answer: killed, hanging, or cut off"),
        ("fails", "rank 1 of 3 stopped: ValueError: a disk is full"),
    ],
)
def test_a_lost_rank_is_named_by_all_others(how: str, said: str) -> None:
    """Within the timeout and the roll call's 5 seconds."""
    started: list[float] = []

    def watch(processes: Any) -> None:
        if not started and processes[0].poll() is None and _at_work(processes[0].pid):
            started.append(time.monotonic())
            if how != "fails":
                processes[1].send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        if len(started) == 1 and all(each.poll() is not None for each in (processes[0], processes[2])):
            started.append(time.monotonic())
            if processes[1].poll() is None:
                processes[1].kill()

    seconds = 4.0
    found = run_python(
        3, ["-c", WAIT, how], environment={"POSTRAIN_TIMEOUT": str(seconds)}, watch=watch, seconds=120
    )
    for rank in (0, 2):
        assert said in last_line(found[rank]), found[rank].err
    assert started[1] - started[0] < seconds + 5 + 30  # the last for a busy machine


def _at_work(pid: int) -> bool:
    """Whether a process has said so in the file that is its standard output."""
    return "at work" in Path(f"/proc/{pid}/fd/1").read_text()


def last_line(rank: Finished) -> str:
    return rank.err.strip().splitlines()[-1]
