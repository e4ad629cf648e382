"""A run killed with SIGKILL at any moment ends in the bits of one never stopped, with the same rows in its log."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postrain import checkpoint, logs
from postrain.config import parse
from postrain.run import train

CONFIG = """
[data]
name = "digits"
train_limit = 200
test_limit = 50
[model]
name = "mlp"
hidden = [16]
[recipe]
name = "posit16"
[optimizer]
lr = 0.05
momentum = 0.9
[schedule]
name = "cosine"
[train]
iterations = {iterations}
batch = 16
statistics_every = 3
evaluate_every = 20
checkpoint_every = 3
"""
PROGRAM = """
import sys
from pathlib import Path
from postrain.config import parse
from postrain.run import train
print(train(parse(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), figures=False).digest)
"""


def rows(folder: Path, name: str) -> list[dict[str, float | None]]:
    """A log without the one column that depends on the clock."""
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in logs.read(folder / name)
    ]


def killed_and_resumed(tmp_path: Path, iterations: int, kills: int, seed: int) -> None:
    """Compare a run killed `kills` times, at moments drawn from `seed`, with one never stopped."""
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(iterations=iterations))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    wanted = train(parse(config.read_text()), whole, figures=False).digest
    moments = random.Random(seed)
    done = 0
    command = [sys.executable, "-c", PROGRAM, str(config), str(broken)]
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        start = _rows_so_far(broken)
        target = start + moments.randint(0, max((iterations - start) // (kills - number), 1))
        while process.poll() is None and _rows_so_far(broken) < target:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done += process.returncode == -signal.SIGKILL
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done >= kills // 2  # most kills found it running
    assert result.stdout.strip() == wanted
    for name in (logs.STEPS, logs.EVALUATIONS):
        assert rows(broken, name) == rows(whole, name)
    assert [row["step"] for row in rows(broken, logs.STEPS)] == list(range(1, iterations + 1))
    last = [checkpoint.latest(folder) for folder in (whole, broken)]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0].name == last[1].name
    assert last[0].read_bytes() == last[1].read_bytes()
    names = [sorted(path.name for path in folder.iterdir()) for folder in (whole, broken)]
    assert names[0] == names[1]  # nothing half-written is left


def _rows_so_far(folder: Path) -> int:
    """The step of the last checkpoint."""
    found = checkpoint.latest(folder)
    return int(found.stem.removeprefix("step-")) if found else 0


def test_killed_at_random_moments(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, iterations=60, kills=1, seed=1)


@pytest.mark.exhaustive
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, iterations=600, kills=50, seed=2)


def test_more_iterations_go_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    from postrain.errors import RecipeError

    text = CONFIG.format(iterations=6).replace("cosine", "constant")
    train(parse(text), tmp_path / "run", figures=False)
    outcome = train(parse(text.replace("= 6", "= 9")), tmp_path / "run", figures=False, resume=True)
    assert (outcome.fitted.resumed_at, outcome.fitted.steps) == (6, 9)
    whole = train(parse(text.replace("= 6", "= 9")), tmp_path / "whole", figures=False)
    assert outcome.digest == whole.digest
    for old, new, said in (
        ("posit16", "posit8", "was made with recipe.activations = 'posit16', this run has 'posit8'"),
        ("batch = 16", "batch = 8", "was made with run.batch = 16, this run has 8"),
        ("train_limit = 200", "train_limit = 100", "was made with data = "),
        ("lr = 0.05", "lr = 0.06", "was made with config.optimizer = "),
        ("[16]", "[17]", "was made with config.model = "),
    ):
        with pytest.raises(RecipeError) as caught:
            train(parse(text.replace(old, new)), tmp_path / "run", figures=False)
        assert said in str(caught.value)
