"""`postrain bench memory`: every mode is timed beside the one whose bits it has, and other bits stop it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import posit
from postrain.bench import memory
from postrain.cli import main
from postrain.errors import MeasurementError
from postrain.options import NoProgress


def small() -> Iterator[memory.Network]:
    yield memory.Network("mlp", depth=2, width=8, batch=4, micro_batch=2)


def test_the_command_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "networks", small)
    before = posit.get_num_threads(), torch.get_num_threads()
    file = tmp_path / "memory.json"
    assert main(["bench", "memory", "--repeats", "1", "--json", str(file)]) == 0
    assert (posit.get_num_threads(), torch.get_num_threads()) == before
    rows = json.loads(file.read_text())["rows"]
    parts = "reversible, micro-batches of 2"
    wanted = [
        ("fused", "reverse", 1.2),
        ("reversible", "reverse", 1.8),
        (parts, "reverse", 1.8),
        (parts, "accumulate", None),
        ("checkpointed", "reverse", 1.5),
    ]
    found = [(row["operation"].partition(": ")[2], row["peer"], row["target"]) for row in rows]
    assert [each for each in found if each[0] != parts][::2] == [wanted[0], wanted[1], wanted[4]]
    assert {each for each in found if each[0] == parts} == set(wanted[2:4])
    assert all(row["value"] > 0 and (row["met"] is None) == (row["target"] is None) for row in rows)
    assert "proved to end" in " ".join(capsys.readouterr().out.split())


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", ["cnn", "transformer"])
def test_every_mode_has_the_bits_of_stored_activations(family: str) -> None:
    network = memory.Network(family, depth=1, width=8, batch=2, micro_batch=1)
    for pairing in memory._pairings(network):
        memory._prove(network, pairing)


def test_other_bits_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter(["one", "another"])
    monkeypatch.setattr(memory, "networks", small)
    monkeypatch.setattr(memory, "digest", lambda model: next(ends))
    with pytest.raises(MeasurementError, match="2 steps of fused ended in other weights"):
        memory.measure_memory(1, NoProgress())
