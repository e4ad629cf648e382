"""The main job as its user runs it, once, at small size; and how it ends when something is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postrain.cli import main
from postrain.files import load_weights
from postrain.report import results_json
from postrain.report.check import failures
from postrain.report.schema import Results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one run of a single epoch."""
    out = tmp_path_factory.mktemp("compare") / "report"
    assert main(["compare", "--epochs", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return results_json.loads((folder / "results.json").read_text())


def test_it_writes_report_results_and_weights(folder: Path) -> None:
    names = {
        "report.html",
        "results.json",
        *(f"{m}-{a}.safetensors" for m in ("mlp", "ga") for a in ("float32", "posit16")),
    }
    assert {path.name for path in folder.iterdir()} == names
    tensors, metadata = load_weights(folder / "mlp-posit16.safetensors")
    assert metadata["format"] == "posit16"
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.int16"}


def test_no_claim_of_the_report_was_refuted(results: Results) -> None:
    assert failures(results) == []


def test_every_checked_sum_is_exact_and_float32_is_not(results: Results) -> None:
    rows = results.exactness.rows
    assert {row.model for row in rows} == {"mlp", "ga"}
    assert all(row.checked == row.equal > 0 and row.fallback_checked == row.fallback_equal for row in rows)
    assert sum(row.float32_checked - row.float32_equal for row in rows) > 0


def test_posit_repeats_agree_to_the_bit_and_float32_differs_when_permuted(results: Results) -> None:
    assert all(repeat.equal for repeat in results.repeats if repeat.arithmetic == "posit16")
    permuted = [r for r in results.repeats if r.arithmetic == "float32" and r.variation == "permuted batches"]
    assert len(permuted) == 2
    assert all(not repeat.equal and repeat.max_abs_difference > 0 for repeat in permuted)


def test_posit16_weights_take_two_bytes_and_memory_is_as_predicted(results: Results) -> None:
    for model in results.models:
        width = 4 if model.arithmetic == "float32" else 2
        for memory in (model.inference, model.training):
            assert memory.measured.weights == width * model.parameters
            assert memory.predicted.total == pytest.approx(memory.measured_peak, rel=0.02)
        assert model.training.measured.optimizer_state == width * model.parameters


def test_the_geometric_network_stays_equivariant_and_on_its_grades(results: Results) -> None:
    float32, posit16 = results.geometry.equivariance
    assert float32.before < 1e-4
    assert posit16.after < 0.05
    assert len(results.geometry.grades) == 14


def test_the_same_seed_gives_the_same_weights_again(results: Results, tmp_path: Path) -> None:
    from postrain._train import train
    from postrain.recipe import Recipe
    from postrain.tasks import volumes

    (model,) = [m for m in results.models if m.model == "ga" and m.arithmetic == "posit16"]
    assert train(volumes(0, 3), Recipe("posit16"), 0).sha256 == model.weights_sha256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "posit-16"], "unknown format 'posit-16'; write posit8"),
        (["--format", "posit64"], "at most 32 bits"),
        (["--data", "mnist"], "data-dir"),
        (["--data", "mnist", "--data-dir", "/nowhere"], "/nowhere"),
        (["--data", "letters"], "letters"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_an_output_folder_that_cannot_be_made_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["compare", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another folder with --out" in capsys.readouterr().err


def test_interrupting_leaves_the_last_complete_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "postrain", "compare", "--epochs", "5000", "--out", str(out)]
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    signal.signal(signal.SIGINT, inherited)
    weights = out / "mlp-float32.safetensors"
    deadline, written = time.monotonic() + 120, set[int]()
    while (
        len(written) < 2 and time.monotonic() < deadline
    ):  # a second time: of the first the command has heard
        time.sleep(0.05)
        if weights.exists():
            written.add(weights.stat().st_mtime_ns)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"interrupted; the last complete checkpoint is {weights}" in said
    assert load_weights(weights)[1]["format"] == "float32"
    assert [path.name for path in out.iterdir()] == [weights.name]
