"""The command `posit`, called as a function; and once as a process, for its time and its imports."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from posit.cli import main
from posit.plot import curve_of


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_show_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "0x5a00", "--format", "posit16")
    assert (code, err) == (0, "")
    for part in (
        "posit16 0x5a00 = 10.0",
        "0 10 11 01000000000",
        "(1 + 1/4) * 2**3",
        "0x59ff = 9.996",
        "0x5a01 = 10.004",
    ):
        assert part in out


def test_show_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "3.14159", "--format", "bposit32")
    assert code == 0
    assert "0x41921f9f = 3.14159" in out
    assert "exact     3.14158999919891357421875" in out
    assert "rounding  -8.01E-10" in out or "rounding  -8.01e-10" in out


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("-0.1", "0xdb33 = -0.1"), ("NaR", "NaR: not a real number"), ("0", "value     zero"),
        ("0b1", "0x0001 = 1e-17"),
        ("1e99999", "0x7fff"), ("-1e-99999", "0xffff"),
    ],
)  # fmt: skip
def test_show_special_values(capsys: pytest.CaptureFixture[str], value: str, part: str) -> None:
    code, out, _ = run(capsys, "show", value)
    assert code == 0
    assert part in out


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "formats")
    assert code == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["posit16"][1:] == ["16", "2", "-", "1e-17", "7e+16", "11", "3.6", "256"]
    assert lines["bposit32"][-1] == "840"
    assert run(capsys, "formats", "posit<12,1>")[1].splitlines()[1].startswith("posit<12,1>")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_writes_a_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"accuracy.{suffix}"
    code, out, err = run(capsys, "plot", "posit8", "fp8_e4m3", "takum16", "--output", str(path))
    assert (code, err) == (0, "")
    assert str(path) in out.replace("\n", "")
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_curves_have_known_accuracies() -> None:
    for name, digits in (
        ("float16", 3.5),
        ("bfloat16", 2.6),
        ("posit16", 3.8),
        ("posit8", 1.4),
        ("takum16", 3.8),
    ):
        near_one = min(curve_of(name), key=lambda point: abs(point[0]))
        assert near_one[1] == pytest.approx(digits, abs=0.06), name
    assert max(curve_of("posit16"))[0] == pytest.approx(16.7, abs=0.1)
    assert min(curve_of("float16"))[0] == pytest.approx(-7.0, abs=0.1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["show", "0x5a000"], "a code of posit16 is from 0 to 0xffff, got 0x5a000"),
        (["show", "0xzz"], "is not a code"),
        (["show", "ten"], "'ten' is not a decimal number"),
        (["show", "1", "--format", "float16"], "unknown format 'float16'"),
        (["show"], "Missing argument"),
        (["formats", "posit99"], "nbits must be an integer from 3 to 64, got 99"),
        (["plot", "float17"], "one of float16, bfloat16"),
        (["plot", "--output", "figure.txt"], "must end in .png, .svg, .pdf"),
        (["plot", "--output", "/nowhere/figure.png"], "does not exist"),
        (["divide"], "No such command"),
    ],
)
def test_errors_are_one_sentence_on_stderr(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("posit: ")
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], []):
        code, out, _ = run(capsys, *argv)
        assert code == 0
        assert "formats" in out


def test_show_answers_quickly_and_imports_nothing_heavy() -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "posit", "show", "0x5a00"], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert seconds < 6  # 0.6 s alone on one core; the bound leaves room for a machine at work
    heavy = "numba scipy torch matplotlib mpmath ml_dtypes hypothesis"
    probe = f"import sys, posit; sys.exit(' '.join(m for m in {heavy.split()} if m in sys.modules) or 0)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).stderr == b""
    noticed = subprocess.run(
        [sys.executable, "-c", f"import numba; {probe}"], capture_output=True, check=False
    )
    assert b"numba" in noticed.stderr
