"""The command line: exit codes, one sentence on stderr, nothing half-written."""

import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from postrain import __version__
from postrain.cli import main
from postrain.errors import DataError, NaRError, OutputError
from postrain.options import CompareOptions, Progress
from postrain.report.schema import Results
from tests.postrain.example_results import example_results

Compare = Callable[[CompareOptions, Progress], Results]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Compare], None]:
    """Put a function in the place of `postrain.compare.compare`, and work in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def install(compare: Compare) -> None:
        module = types.ModuleType("postrain.compare")
        module.compare = compare  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "postrain.compare", module)

    return install


def never(options: CompareOptions, progress: Progress) -> Results:
    raise AssertionError(f"compare must not be called with {options}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"postrain {__version__}\n"


def test_help_names_the_command_and_its_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "compare" in capsys.readouterr().out
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    for shown in ("--data ", "--data-dir", "--format", "--epochs", "--seed", "--out", "posit16", "digits"):
        assert shown in text


def test_help_and_version_load_nothing_heavy() -> None:
    probe = (
        "import sys; from postrain.cli import main; main(['--version']); main(['compare', '--help']); "
        "print(sorted({'torch', 'numba', 'numpy', 'matplotlib', 'posit', 'ga'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv", [["compare", "--epochs", "many"], ["compare", "--no-such-option"], ["no-such-command"]]
)
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert argv[-1] in captured.err or "--epochs" in captured.err


def test_the_options_reach_compare_and_the_report_is_written(
    fake: Callable[[Compare], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[CompareOptions] = []

    def compare(options: CompareOptions, progress: Progress) -> Results:
        seen.append(options)
        progress.start("mlp posit16", 2)
        progress.advance("mlp posit16", loss=0.5)
        progress.advance("mlp posit16")
        return example_results()

    fake(compare)
    argv = ["compare", "--data", "mnist", "--data-dir", "d", "--format", "posit8"]
    argv += ["--epochs", "3", "--seed", "7", "--out", "o/p"]
    assert main(argv) == 0
    assert seen == [CompareOptions("mnist", Path("d"), "posit8", 3, 7, Path("o/p"))]
    assert sorted(path.name for path in (tmp_path / "o" / "p").iterdir()) == ["report.html", "results.json"]
    captured = capsys.readouterr()
    assert "training/inference" in captured.out
    assert captured.out.rstrip().endswith("o/p/report.html")
    assert "mlp posit16" in captured.err


def test_without_options_the_defaults_are_used(fake: Callable[[Compare], None]) -> None:
    seen: list[CompareOptions] = []

    def compare(options: CompareOptions, progress: Progress) -> Results:
        seen.append(options)
        return example_results()

    fake(compare)
    assert main(["compare"]) == 0
    assert seen == [CompareOptions()]


def test_a_refuted_claim_is_exit_code_1(fake: Callable[[Compare], None], tmp_path: Path) -> None:
    results = example_results()
    wrong = replace(results.exactness.rows[0], equal=0)
    fake(lambda options, progress: replace(results, exactness=replace(results.exactness, rows=[wrong])))
    assert main(["compare", "--out", "o"]) == 1
    assert (tmp_path / "o" / "report.html").exists()


ERRORS = {
    "data": (DataError("no such\nfolder; make it"), "postrain: no such folder; make it\n"),
    "nar": (
        NaRError("fc1.weight", 3),
        "postrain: NaR in fc1.weight at step 3, so training stopped; lower the ",
    ),
    "output": (OutputError("cannot write"), "postrain: cannot write\n"),
}


@pytest.mark.parametrize(("error", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_on_purpose_is_one_line_on_stderr(
    error: Exception,
    message: str,
    fake: Callable[[Compare], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def compare(options: CompareOptions, progress: Progress) -> Results:
        raise error

    fake(compare)
    assert main(["compare"]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines(keepends=True)[-1]
    assert last.startswith(message)
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "name"), [("posit", "PositError"), ("ga", "GAError")])
def test_errors_of_the_other_packages_count_too(
    package: str, name: str, fake: Callable[[Compare], None], capsys: pytest.CaptureFixture[str]
) -> None:
    base: type[Exception] = getattr(pytest.importorskip(f"{package}.errors"), name)

    def compare(options: CompareOptions, progress: Progress) -> Results:
        raise base("said by another package")

    fake(compare)
    assert main(["compare"]) == 2
    assert capsys.readouterr().err.endswith("postrain: said by another package\n")


def test_a_mistake_of_ours_keeps_its_traceback(fake: Callable[[Compare], None]) -> None:
    fake(never)
    with pytest.raises(AssertionError, match="must not be called"):
        main(["compare"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--format", "float7"], "float7"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_bad_options_are_reported_before_anything_is_done(
    argv: list[str],
    message: str,
    fake: Callable[[Compare], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    fake(never)
    assert main(["compare", "--data-dir", "nowhere", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([], "postrain: interrupted; no weights had been saved yet\n"),
        (["a.safetensors", "b.safetensors"], "interrupted; the last complete checkpoint is b.safetensors\n"),
    ],
)
def test_an_interrupt_names_the_last_checkpoint(
    saved: list[str],
    message: str,
    fake: Callable[[Compare], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def compare(options: CompareOptions, progress: Progress) -> Results:
        for name in saved:
            progress.saved(Path(name))
        raise KeyboardInterrupt

    fake(compare)
    assert main(["compare"]) == 130
    assert capsys.readouterr().err.endswith(message)
    assert list(tmp_path.iterdir()) == []
