"""The report in the terminal, drawn with rich."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from postrain.report import proofs
from postrain.report.check import failures
from postrain.report.schema import Results
from postrain.report.tables import BAD, GOOD, HEAD, Table, main_table

_STYLES = {GOOD: "green", BAD: "bold red", HEAD: "bold", "": ""}


def print_results(results: Results, console: Console) -> None:
    """Print the main table and the proofs, then what failed, if anything did."""
    for table in (main_table(results), proofs.exactness_summary(results), proofs.repeats(results)):
        _print(table, console)
    for table in (proofs.equivariance(results), proofs.grades(results), proofs.step_times(results)):
        if table.rows:
            _print(table, console)
    for sentence in failures(results):
        console.print(f"refuted: {sentence}", style="bold red", markup=False, highlight=False)


def _print(table: Table, console: Console) -> None:
    title = Text(table.title, style="bold")
    drawn = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for index, heading in enumerate(table.head):
        drawn.add_column(Text(heading), justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in table.rows:
        drawn.add_row(*map(Text, (row.label, *row.cells)), style=_STYLES[row.mark])
    console.print(drawn)
    if table.note:
        console.print(table.note, style="dim", markup=False, highlight=False)
    console.print()
