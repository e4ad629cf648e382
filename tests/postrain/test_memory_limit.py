"""A network that does not fit with stored activations is trained in `reversible`, in processes of limited memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits the address space on Linux only")
def test_reversible_trains_where_reverse_runs_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = ROOT / "examples/memory-limit/limit.py"
    options = ["--steps", "2", "--modes", "reversible", "reverse", "--out", str(tmp_path)]
    subprocess.run([sys.executable, str(script), *options], check=True)
    ours, theirs = json.loads((tmp_path / "results.json").read_text())["runs"]
    for run in (ours, theirs):
        assert run["limit"] - run["warm"] == int(1.3 * ours["predicted"])
    assert ours["out_of_memory"] == ""
    assert ours["losses"][1] < ours["losses"][0]  # the same batch twice
    assert theirs["predicted"] > ours["limit"] - ours["warm"]
    assert "MemoryError" in theirs["out_of_memory"] or "memory" in theirs["out_of_memory"]
    assert theirs["blocks_forward"] >= 1
    assert theirs["losses"] == []
