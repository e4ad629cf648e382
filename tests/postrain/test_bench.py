"""`postrain bench numbers`: every row is there, and a wrong result stops it before it is timed."""

import importlib.util
import json
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posit
from posit import Format, arithmetic, bposit32, codec, posit16, posit32
from posit.reference import exact
from postrain.bench import contest, numbers, numbers_peers, numbers_startup
from postrain.cli import main
from postrain.errors import MeasurementError

needs_softposit = pytest.mark.skipif(
    importlib.util.find_spec("_softposit") is None and "CI" not in os.environ,
    reason="needs pip install 'postrain[reference]'",
)

BINARY = [f"{fmt} {operation}" for fmt in ("posit16", "posit32", "bposit32") for operation in ("mul", "add")]
STARTED = numbers_startup.Startup([0.2, 0.3], [], [0.4], 2.0, 0.5, 2, 0)
SMALL = ["bench", "numbers", "--elements", "2000", "--repeats", "1"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new processes."""
    monkeypatch.setattr(numbers, "measure_startup", lambda repeats: STARTED)


def test_the_command_measures_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = posit.get_num_threads()
    file = tmp_path / "numbers.json"
    assert main(["bench", "numbers", "--elements", "20000", "--repeats", "2", "--json", str(file)]) == 0
    assert posit.get_num_threads() == before
    found = json.loads(file.read_text())
    assert (found["elements"], found["repeats"], found["seed"]) == (20000, 2, 0)
    assert found["machine"]["numpy"] == np.__version__
    assert found["kernels"]["posit16 mul"] == "32-bit lanes"

    startup = [row for row in found["rows"] if row["threads"] is None]
    assert [row["operation"] for row in startup[:2]] == ["import posit", "posit show"]
    assert startup[0]["note"] == "loads neither torch nor scipy"
    assert "compiled, 0 again in the next process" in startup[3]["note"]
    assert startup[2]["value"] > startup[3]["value"] > 0

    wanted = {
        (conversion, peer)
        for conversion in ("encode float32 → posit16", "decode posit16 → float32")
        for peer in ("np.copyto float32", "ml_dtypes bfloat16")
    }
    wanted.add(("quantize float32 to posit16", "qtorch-plus quantizer"))
    for operation in BINARY:
        wanted |= {(operation, f"NumPy float32 {operation.split()[1]}"), (operation, "SoftPosit in C")}
    wanted |= {(operation, "our posit32") for operation in BINARY if operation.startswith("b")}
    timed = [row for row in found["rows"] if row["threads"]]
    for threads in (1, 2):
        assert {(row["operation"], row["peer"]) for row in timed if row["threads"] == threads} == wanted
    assert len(timed) == 2 * len(wanted)
    for row in timed:
        assert 0 < row["best"] <= row["median"]
        assert (row["value"] is None) == (row["peer_best"] is None)
        assert row["value"] or "not measured" in row["note"]
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Machine: CPU" in printed
    assert "posit16 mul 32-bit lanes" in printed
    assert f"llvmlite {found['machine']['llvmlite']}" in printed


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("operation", ["mul", "add"])
def test_a_wrong_result_of_ours_stops_the_run(
    operation: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(a: Any, b: Any, fmt: Format, out: Any) -> Any:
        getattr(arithmetic, operation)(a, b, fmt, out=out)
        out[1234] ^= 1
        return out

    monkeypatch.setitem(numbers._OPERATIONS, operation, spoiled)
    assert main(SMALL) == 2
    assert f"{operation} in posit16: 1 of 2000 results differ" in capsys.readouterr().err


@needs_softposit
@pytest.mark.usefixtures("started")
def test_a_wrong_result_of_softposit_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    honest = numbers_peers.softposit_loop

    def spoiled(*given: Any) -> Any:
        run, out = honest(*given)

        def run_wrongly(threads: int) -> None:
            run(threads)
            out[7] += 1

        return run_wrongly, out

    monkeypatch.setattr(numbers_peers, "softposit_loop", spoiled)
    file = tmp_path / "numbers.json"
    assert main([*SMALL, "--json", str(file)]) == 2
    message = capsys.readouterr().err
    assert "mul in posit16 beside SoftPosit: 1 of 2000 results differ, so nothing was timed" in message
    assert "the first is element 7" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("name", "what"), [("encode", "encode float32 to posit16"), ("decode", "decode posit16")]
)
def test_a_wrong_conversion_stops_the_run(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = getattr(codec, name)

    def spoiled(*given: Any, out: Any = None) -> Any:
        result = honest(*given, out=out)
        result[3] = result[4]
        return result

    monkeypatch.setattr(codec, name, spoiled)
    assert main(SMALL) == 2
    assert what in capsys.readouterr().err


@pytest.mark.usefixtures("started")
def test_absent_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from posit.reference import softposit

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    softposit.library.cache_clear()
    try:
        found = numbers.measure_numbers(500, 1, 0)
    finally:
        softposit.library.cache_clear()
    notes = {row.peer: row.note for row in found.rows if row.operation == "posit16 mul"}
    notes |= {row.peer: row.note for row in found.rows if row.operation.startswith(("encode", "quantize"))}
    assert notes["SoftPosit in C"] == "SoftPosit is not installed: not measured"
    assert notes["ml_dtypes bfloat16"] == notes["qtorch-plus quantizer"] == "not installed: not measured"
    assert not any(row.met for row in found.rows if row.peer == "SoftPosit in C")


def test_a_json_file_that_cannot_be_written_is_reported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(numbers, "measure_numbers", lambda *given: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    assert main([*SMALL, "--json", str(tmp_path / "file" / "numbers.json")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_exact_codes_at_every_boundary() -> None:
    ties = np.array([float(exact.boundary(code, posit16)) for code in range(1, posit16.maxpos)])
    values = np.concatenate(
        [ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), [0, np.inf, np.nan, 1e300]]
    )
    values = np.concatenate([values, -values])
    expected = codec.encode(values, posit16)
    assert np.array_equal(numbers_peers.exact_codes(values, posit16), expected)
    chosen = np.random.default_rng(0).integers(0, 3 * ties.size, 300)
    for position in chosen.tolist():
        assert expected[position] == exact.nearest(Fraction(float(values[position])), posit16)


@pytest.mark.parametrize("fmt", [posit16, posit32, bposit32], ids=str)
def test_the_float64_reference_rounds_once(fmt: Format) -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(0, 1 << fmt.nbits, 400).astype(fmt.storage) for _ in range(2))
    if fmt == posit32:
        a[0], b[0] = 0x40E4E1E1, 0x471D6663  # float64's product rounds twice
    for operation in ("mul", "add"):
        answers = numbers_peers.rounded_codes(operation, a, b, fmt)
        for left, right, answer in zip(a.tolist(), b.tolist(), answers.tolist(), strict=True):
            x, y = exact.value(left, fmt), exact.value(right, fmt)
            if x is None or y is None:
                assert answer == fmt.nar
            else:
                assert answer == exact.nearest(x * y if operation == "mul" else x + y, fmt)


def test_a_process_that_fails_is_named() -> None:
    with pytest.raises(MeasurementError, match=r"the process -c raise … ended with code 1: ValueError: no"):
        numbers_startup._python("-c", "raise ValueError('no')")


@pytest.mark.parametrize(
    ("measure", "value", "target", "met"),
    [
        ("time", 2.0, 2.0, True),
        ("time", 2.01, 2.0, False),
        ("speed", 9.99, 10.0, False),
        ("bandwidth", 0.6, 0.6, True),
        ("bandwidth", 0.59, 0.6, False),
        ("speed", None, 10.0, None),
        ("time", 3.0, None, None),
    ],
)
def test_met(measure: str, value: float | None, target: float | None, met: bool | None) -> None:
    assert contest.met(measure, value, target) is met
