"""`posit check-sum`, called as a function and as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

from posit._check_sum import CheckOptions, find_function
from posit.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "sums.py"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["check-sum", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_an_exact_function(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "posit:sum", "--examples", "40")
    assert (code, err) == (0, "")
    assert out == (
        "posit:sum on posit16, sum of one array, seed 0\n"
        "exact: yes, in 40 examples\n"
        "order independent: yes, in 40 examples\n"
    )


def test_an_inexact_function(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "numpy:sum", "--format", "float32", "--seed", "4")
    assert (code, err) == (1, "")
    assert "exact: NO\n  x " in out
    assert "order independent: NO\n  x " in out
    assert "  exactly   " in out


def test_a_file_and_a_dot_product(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, f"{EXAMPLE}:exact_dot", "--kind", "dot", "--examples", "20")
    assert code == 0
    assert "sum of products of two arrays" in out
    assert run(capsys, f"{EXAMPLE}:loop_sum")[0] == 1


def test_torch_functions_get_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "torch:sum", "--examples", "30")[0] == 0
    assert run(capsys, "torch:dot", "--format", "float32", "--kind", "dot")[0] == 1


def test_answers_of_another_format(capsys: pytest.CaptureFixture[str]) -> None:
    few = "--format", "float16", "--no-special", "--examples", "30"
    assert run(capsys, "math:fsum", *few, "--operands", "list", "--result", "float64")[0] == 0
    assert "not a float16 number" in run(capsys, "math:fsum", *few)[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["numpy:summ"], "numpy has no 'summ'; did you mean numpy:sum?"),
        (["nothere:total"], "no module 'nothere' here or installed"),
        (["numpy.nothere:total"], "no module 'numpy.nothere' here or installed"),
        (["nowhere/sums.py:total"], "no file nowhere/sums.py"),
        (["numpy:pi"], "numpy:pi is no function but a float"),
        (["numpy"], "write MODULE:FUNCTION"),
        (["numpy:"], "write MODULE:FUNCTION"),
        (["posit:sum", "--format", "float8"], "unknown format 'float8'"),
        (["posit:sum", "--format", "posit2"], "nbits must be an integer from 3 to 64, got 2"),
        (["posit:sum", "--kind", "product"], "one of sum, dot, matmul, got 'product'"),
        (["posit:sum", "--examples", "0"], "at least one example is needed, got 0"),
        (["posit:sum", "--examples", "many"], "Invalid value"),
        (
            ["posit:sum", "--kind", "dot"],
            "sum cannot be checked as a dot: called with two arrays (k,) of posit16",
        ),
        ([], "Missing argument"),
    ],
)
def test_bad_usage_is_one_sentence_on_stderr(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("posit: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothere_either", "raised ModuleNotFoundError: No module named 'nothere_either'"),
        ("def f(:", "raised SyntaxError"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("raise ValueError", "broken.py raised ValueError\n"),
    ],
)
def test_files_that_do_not_import(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    code, out, err = run(capsys, f"{tmp_path / 'broken.py'}:f")
    assert (code, out) == (2, "")
    assert message in err


def test_a_module_in_the_current_folder_and_attributes_of_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sums_found_here.py").write_text("class Sums:\n    total = staticmethod(sum)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert find_function("sums_found_here:Sums.total") is sum


def test_options_are_those_of_the_search() -> None:
    options = CheckOptions("torch.special:x", "posit8", "dot", 3, 4, 1, 2, False).search_options()
    assert (options.fmt, options.kind, options.examples, options.seed) == ("posit8", "dot", 3, 4)
    assert (options.min_size, options.max_size, options.special, options.operands) == (1, 2, False, "torch")


def test_as_a_process_without_a_terminal_nothing_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def first(x):\n    return x[0] if len(x) else 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "posit", "check-sum", "mine:first", "--format", "float64"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "exact: NO" in done.stdout
