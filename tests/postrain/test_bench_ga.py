"""`postrain bench ga`: every row is there, and a wrong result, ours or a peer's, stops it before it is timed."""

import importlib
import importlib.util
import json
import os
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga import PGA3, VGA3, Layout, Multivector
from postrain.bench import ga as bench
from postrain.bench import ga_libraries as libraries
from postrain.bench import ga_peers as peers
from postrain.cli import main
from postrain.errors import MeasurementError

needs_c = pytest.mark.skipif(peers.c_compiler() is None, reason="needs a C compiler: cc, or $CC")
OPTIONS = bench.GaOptions(size=21, repeats=1)


def operations() -> list[str]:
    return [operation.name for operation in bench._operations(OPTIONS)]


def test_the_command_measures_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "clifford_loop", lambda x, y: None)  # it compiles for half a minute
    monkeypatch.setattr(libraries, "_cpp_compiler", lambda: None)  # and so would torch.compile
    monkeypatch.setattr(bench, "_ALGEBRAS", {"VGA3": VGA3, "PGA3": PGA3})  # the others go the same way
    before = torch.get_num_threads(), os.environ.get("NUMBA_CACHE_DIR")
    file = tmp_path / "ga.json"
    assert main(["bench", "ga", "--size", "21", "--repeats", "1", "--json", str(file)]) == 0
    assert (torch.get_num_threads(), os.environ.get("NUMBA_CACHE_DIR")) == before
    found = json.loads(file.read_text())
    assert found["options"] == {"size": 21, "repeats": 1, "seed": 0}
    timed = {(row["operation"], row["threads"], row["peer"]) for row in found["rows"] if row["threads"]}
    assert {
        (f"PGA3 full · full, {fmt}", threads, peer)
        for fmt in ("posit16", "posit32")
        for threads in (1, 2)
        for peer in ("", "ours, float32")
    } <= timed
    assert {
        (name, threads, peer) for name in operations() for threads in (1, 2) for peer in ("einsum", "C")
    } <= timed
    assert len(operations()) == 8
    layers = [row for row in found["rows"] if row["unit"] == "ms" and row["threads"]]
    assert {row["peer"] for row in layers} == {"CGENN's way", "GATr's way"}
    calls = [row["operation"] for row in found["rows"] if row["measure"] == "seconds"]
    assert len(calls) == (4 if found["machine"]["products by"].startswith("LLVM") else 0)
    for row in found["rows"]:
        assert 0 < row["best"] <= row["median"]
        if row["peer"] == "einsum":
            assert row["value"] == pytest.approx(row["peer_best"] / row["best"])
            assert row["target"] == 50
    absent = {row["note"] for row in found["rows"] if row["peer"] == "clifford"}
    assert absent == {"not installed: not measured"}
    assert "products by" in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("sandwich", [False, True])
def test_the_reference_would_notice(sandwich: bool) -> None:
    operation = list(bench._operations(OPTIONS))[-1 if sandwich else 1]
    x, y = operation.x, operation.y
    result = peers.dense(operation.compute())
    peers.prove("a product", result, x, y, sandwich)
    result[17, 2] *= 1.001
    with pytest.raises(MeasurementError, match="a product: 1 of .* the first is e1 of element 17"):
        peers.prove("a product", result, x, y, sandwich)
    result[17, 2] = float("nan")
    with pytest.raises(MeasurementError, match="element 17: nan"):
        peers.prove("a product", result, x, y, sandwich)


@pytest.mark.parametrize(
    ("contestant", "message"),
    [
        ("ours", "VGA3 full · full, ours"),
        ("einsum", "full, einsum"),
        pytest.param("C", "full, C", marks=needs_c),
    ],
)
def test_a_wrong_result_stops_the_run(
    contestant: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(honest: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*given: Any) -> Any:
            made = honest(*given)
            if isinstance(made, Multivector):
                return made + 1.0
            return peers.Compute(made.run, lambda: made.result() + 1, made.work)

        return wrong

    monkeypatch.setattr(bench, "compete", lambda *given: pytest.fail("it was timed"))
    monkeypatch.setattr(bench, "_first_calls", lambda *given: [])
    place = {
        "ours": (bench._Operation, "compute"),
        "einsum": (peers, "einsum"),
        "C": (peers, "straight_line"),
    }
    owner, name = place[contestant]
    monkeypatch.setattr(owner, name, spoiled(getattr(owner, name)))
    assert main(["bench", "ga", "--size", "5", "--repeats", "1"]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert "so nothing was timed" in complaint


@needs_c
def test_c_computes_what_we_compute(tmp_path: Path) -> None:
    compiler = peers.c_compiler()
    assert compiler
    for count, operation in enumerate(bench._operations(OPTIONS)):
        if count not in (1, 9):
            continue
        (tmp_path / str(count)).mkdir()
        code = peers.straight_line(
            operation.plans(), operation.x, operation.y, tmp_path / str(count), compiler
        )
        torch.testing.assert_close(code.result(), peers.dense(operation.compute()), rtol=1e-4, atol=1e-4)
    with pytest.raises(MeasurementError, match="refused the C"):
        peers.straight_line(operation.plans(), operation.x, operation.y, tmp_path, "/bin/false")


def test_without_a_compiler_c_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(libraries, "clifford_loop", lambda x, y: None)
    contest = bench._contest(next(bench._operations(OPTIONS)), tmp_path)
    absent = {peer.name: peer.note for peer in contest.peers if peer.run is None}
    assert absent["C"] == absent["clifford"] == "not installed: not measured"


@pytest.mark.exhaustive  # clifford compiles its own functions for some ten seconds
def test_clifford_multiplies_the_same_pairs() -> None:
    pytest.importorskip("clifford")
    operation = next(bench._operations(OPTIONS))
    compute = libraries.clifford_loop(operation.x, operation.y)
    assert compute is not None
    peers.prove("clifford", compute.result(), operation.x, operation.y, False)


def test_dense_coefficients_and_the_table_are_those_of_the_algebra() -> None:
    vector = Multivector(torch.tensor([[2.0], [3.0], [5.0], [7.0]]), Layout.of_grades(PGA3, 1))
    assert peers.dense(vector)[0, :6].tolist() == [0, 2, 3, 5, 7, 0]
    table = peers.cayley(VGA3)
    e1, e2 = torch.eye(8)[1], torch.eye(8)[2]
    assert torch.equal(peers.multiplied(e2, e1, table), -torch.eye(8)[4])
    assert peers.reversed_(torch.ones(8), VGA3).tolist() == [1, 1, 1, 1, -1, -1, -1, -1]


def test_kingdon_is_asked_for_planes_by_bitmap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with kingdon's interface: keys are bitmaps, values a list of planes."""

    class Stand:
        def __init__(self, keys: tuple[int, ...], values: list[torch.Tensor]) -> None:
            self.mv = Multivector(torch.stack(values), Layout(VGA3, keys))

        def __mul__(self, other: "Stand") -> "Stand":
            made = self.mv * other.mv
            return Stand(made.layout.blades, list(made.planes))

        def keys(self) -> tuple[int, ...]:
            return self.mv.layout.blades

        def values(self) -> list[torch.Tensor]:
            return list(self.mv.planes)

    algebra = types.SimpleNamespace(multivector=lambda keys, values: Stand(keys, values))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(
        importlib, "import_module", lambda name: types.SimpleNamespace(Algebra=lambda *pqr: algebra)
    )
    operation = next(bench._operations(OPTIONS))
    compute = libraries.kingdon(operation.x, operation.y, False)
    assert compute is not None
    peers.prove("kingdon", compute.result(), operation.x, operation.y, False)


def rotations() -> list[bench._Operation]:
    return [each for each in bench._operations(OPTIONS) if each.rotations]


def test_pypose_is_asked_for_the_same_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with PyPose's interface: quaternions (x, y, z, w) and Hamilton's product."""

    class SO3:
        def __init__(self, values: torch.Tensor) -> None:
            self.values = values

        def tensor(self) -> torch.Tensor:
            return self.values

        def __matmul__(self, other: "SO3") -> "SO3":
            u, a, v, b = (*self.values.tensor_split([3], -1), *other.values.tensor_split([3], -1))
            imaginary = a * v + b * u + torch.linalg.cross(u, v)
            return SO3(torch.cat([imaginary, a * b - (u * v).sum(-1, keepdim=True)], -1))

        def Act(self, points: torch.Tensor) -> torch.Tensor:  # noqa: N802  # PyPose's name
            u, a = self.values.tensor_split([3], -1)
            turned = 2 * torch.linalg.cross(u, points)
            found: torch.Tensor = points + a * turned + torch.linalg.cross(u, turned)
            return found

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(SO3=SO3))
    found = rotations()
    assert [each.name for each in found] == ["VGA3 rotor · rotor", "VGA3 rotor >> vector"]
    for operation in found:
        compute = libraries.pypose(operation.x, operation.y, operation.sandwich)
        assert compute is not None
        peers.prove("PyPose", compute.result(), operation.x, operation.y, operation.sandwich)
    full = next(bench._operations(OPTIONS))
    assert libraries.pypose(full.x, full.y, False) is None


@pytest.mark.exhaustive  # torch.compile takes many seconds
@pytest.mark.parametrize("library", ["kingdon", "pypose"])
def test_libraries_compute_what_we_compute(library: str) -> None:
    pytest.importorskip(library)
    for operation in rotations():
        x, y, sandwich = operation.x, operation.y, operation.sandwich
        for options in ({}, {"compiled": True}) if library == "kingdon" else ({},):
            compute = getattr(libraries, library)(x, y, sandwich, **options)
            peers.prove(library, compute.result(), x, y, sandwich)
