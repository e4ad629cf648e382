"""Writing a run's results and report into its output folder."""

from pathlib import Path
from typing import NamedTuple

from postrain.files import prepare_output, write_atomic
from postrain.report import results_json
from postrain.report.page import page
from postrain.report.schema import Results


class ReportFiles(NamedTuple):
    """Where the report lies."""

    page: Path
    results: Path


def write_report(results: Results, folder: Path) -> ReportFiles:
    """Write ``results.json`` and ``report.html`` into `folder`; both are made before either is written.

    Raises:
        ReportError: The results are incomplete or contradict themselves.
        OutputError: `folder` cannot be written to.
    """
    text, html = results_json.dumps(results), page(results)
    folder = prepare_output(folder)
    files = ReportFiles(folder / "report.html", folder / "results.json")
    write_atomic(files.results, text.encode())
    write_atomic(files.page, html.encode())
    return files
