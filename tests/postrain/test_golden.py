"""The same bits on other machines: a short training under other BLAS kernels, vector widths and denormal modes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = "46b2815d4d196beccbba24869fc76479edd8aa73ce1959b59ddecdbf47ea8b57"

TRAINING = """
import sys
from dataclasses import replace
import torch
from postrain._train import train
from postrain.data import load
from postrain.recipe import Recipe
from postrain.tasks import classification
if sys.argv[1] == "flush":
    assert torch.set_flush_denormal(True)
task = classification(load("digits"), epochs=1)
task = replace(task, x_train=task.x_train[:320], y_train=task.y_train[:320])
print(train(task, Recipe("posit16"), seed=0).sha256)
"""


@pytest.mark.parametrize(
    ("denormals", "machine"),
    [
        ("keep", {}),
        ("flush", {"MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Prescott", "OMP_NUM_THREADS": "1"}),
        pytest.param(  # compiles every kernel again
            "keep",
            {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "MKL_CBWR": "AVX2"},
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["as it is", "old BLAS kernels and flushed denormals", "generic kernels"],
)
def test_a_short_training_has_the_golden_digest(
    denormals: str, machine: dict[str, str], tmp_path: Path
) -> None:
    own_cache = {"NUMBA_CACHE_DIR": str(tmp_path)} if "NUMBA_CPU_NAME" in machine else {}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, denormals],
        env={**os.environ, **machine, **own_cache},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == GOLDEN, done.stderr[-500:]
