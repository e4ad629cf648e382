"""What an import may load: the parts of DESIGN's table that only a running interpreter can show."""

import subprocess
import sys

import pytest


def loaded(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    probe = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import posit", {"torch", "ga", "postrain", "mpmath", "ml_dtypes", "softposit", "hypothesis"}),
        ("import posit.torch", {"ga", "postrain"}),
        ("import ga", {"posit", "postrain", "clifford", "matplotlib"}),
        ("import postrain", {"torch", "numba", "numpy", "typer"}),
        ("import postrain.data", {"torch", "numba", "sklearn"}),
        ("import postrain.files", {"torch", "numba", "numpy"}),
        ("import postrain.report.schema", {"torch", "numba", "matplotlib", "jinja2", "rich"}),
    ],
)
def test_an_import_does_not_load(statement: str, unwanted: set[str]) -> None:
    assert not loaded(statement) & unwanted


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("import posit.torch", "torch"),
        ("import postrain.report.output", "matplotlib"),
        ("import posit._kernels.codec", "numba"),
    ],
)
def test_the_probe_would_notice(statement: str, wanted: str) -> None:
    assert wanted in loaded(statement)
