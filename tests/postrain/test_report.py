"""The report shows what was measured, all of it, and refuses results with a hole or a contradiction."""

import html.parser
import json
import re
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from postrain.errors import OutputError, ReportError
from postrain.report import results_json
from postrain.report.check import check, failures
from postrain.report.output import write_report
from postrain.report.page import page
from postrain.report.schema import Results
from postrain.report.tables import main_table
from postrain.report.terminal import print_results
from tests.postrain.example_results import example_results

RESULTS = example_results()


@cache
def example_page() -> str:
    """The example's page, drawn once for all tests that only read it."""
    return page(RESULTS)


def printed(results: Results, width: int = 80) -> str:
    console = Console(width=width, record=True, quiet=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    with console.file:
        print_results(results, console)
    return console.export_text()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in items for place in places(each, (*path, key)))]


def without(data: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    """A copy of `data` that lacks the value at `place`."""
    copy: dict[str, Any] = json.loads(json.dumps(data))
    parent: Any = copy
    for key in place[:-1]:
        parent = parent[key]
    del parent[place[-1]]
    return copy


def test_json_reads_back_equal() -> None:
    assert results_json.loads(results_json.dumps(RESULTS)) == RESULTS


def test_every_missing_field_is_an_error_that_names_it() -> None:
    data = asdict(RESULTS)
    fields = [
        p for p in places(data) if p and isinstance(p[-1], str) and not {"versions", "recipe"} & set(p[:-1])
    ]
    assert len(fields) > 300
    for place in {tuple(0 if isinstance(key, int) else key for key in place) for place in fields}:
        with pytest.raises(ReportError, match=str(place[-1])):
            results_json.from_dict(without(data, place))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True, [1.0]])
def test_a_value_of_another_kind_is_an_error_with_its_place(value: Any) -> None:
    data = asdict(RESULTS)
    data["models"][1]["epochs"][2]["score"] = value
    with pytest.raises(
        ReportError, match=r"results\.models\[1\]\.epochs\[2\]\.score must be a finite float, got"
    ):
        results_json.from_dict(data)


def test_a_bool_is_not_a_count() -> None:
    data = asdict(RESULTS)
    data["exactness"]["rows"][0]["equal"] = True
    with pytest.raises(ReportError, match=r"rows\[0\]\.equal must be of type int, got True of type bool"):
        results_json.from_dict(data)


def test_other_schemas_and_other_text_are_refused() -> None:
    with pytest.raises(ReportError, match="schema 99 cannot be read, wanted 2"):
        results_json.from_dict({**asdict(RESULTS), "schema": 99})
    with pytest.raises(ReportError, match="has unknown \\['extra'\\]"):
        results_json.from_dict({**asdict(RESULTS), "extra": 1})
    with pytest.raises(ReportError, match="not JSON"):
        results_json.loads("{")


ROW = RESULTS.exactness.rows[0]
CONTRADICTIONS = {
    "one arithmetic": replace(RESULTS, models=RESULTS.models[:3]),
    "wrong order": replace(RESULTS, models=RESULTS.models[1::-1]),
    "no model": replace(RESULTS, models=[]),
    "no proof": replace(RESULTS, exactness=replace(RESULTS.exactness, rows=[])),
    "no repeat": replace(RESULTS, repeats=[]),
    "no grades": replace(RESULTS, geometry=replace(RESULTS.geometry, grades=[])),
    "no epoch": replace(RESULTS, models=[replace(RESULTS.models[0], epochs=[]), *RESULTS.models[1:]]),
    "unknown model": replace(RESULTS, repeats=[replace(RESULTS.repeats[0], model="other")]),
    **{
        f"counts {changes}": replace(
            RESULTS,
            exactness=replace(RESULTS.exactness, rows=[replace(ROW, **changes)]),  # type: ignore[arg-type]
        )
        for changes in (
            {"equal": 513},
            {"checked": 0, "equal": 0},
            {"fallback_checked": 32},
            {"float32_equal": -1},
        )
    },
}


@pytest.mark.parametrize("results", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_holes_and_contradictions_are_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(ReportError):
        check(results)
    with pytest.raises(ReportError):
        write_report(results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


REFUTED = {
    "one wrong sum": (
        replace(RESULTS, exactness=replace(RESULTS.exactness, rows=[replace(ROW, equal=511)])),
        "1 sums of mlp fc1 (forward) are not the exact sum rounded once",
    ),
    "one wrong fallback": (
        replace(RESULTS, exactness=replace(RESULTS.exactness, rows=[replace(ROW, fallback_equal=30)])),
        "1 sums of mlp fc1 (forward) are not the exact sum rounded once",
    ),
    "other bits": (
        replace(RESULTS, repeats=[replace(RESULTS.repeats[1], repeat_sha256="c3" * 32)]),
        "mlp in posit16 gave other weights with permuted batches",
    ),
    "grade left": (
        replace(
            RESULTS,
            geometry=replace(RESULTS.geometry, grades=[replace(RESULTS.geometry.grades[0], found=[0, 1])]),
        ),
        "embed.weight of ga in float32 left its grades",
    ),
}


@pytest.mark.parametrize(("results", "sentence"), REFUTED.values(), ids=REFUTED)
def test_a_refuted_claim_is_said_everywhere(results: Results, sentence: str) -> None:
    assert failures(results) == [sentence]
    assert f"refuted: {sentence}" in printed(results)
    text = page(results)
    assert sentence in text
    assert "Every claim below held" not in text
    assert 'class="bad"' in text


def test_no_claim_is_refuted_by_the_example() -> None:
    assert failures(RESULTS) == []
    assert "refuted" not in printed(RESULTS)
    assert "Every claim below held" in example_page()


def test_the_main_table_holds_every_figure() -> None:
    table = main_table(RESULTS)
    rows = {row.label: row.cells for row in table.rows}
    assert rows["test accuracy"] == ("97.00 %", "97.00 %", "", "")
    assert rows["test error"][2:] == ("0.0500", "0.0500")
    assert rows["training/inference"] == ("2.45 / 2.45", "2.43 / 2.43", "1.88 / 1.88", "1.92 / 1.93")
    assert [row.label for row in table.rows].count("weights") == 2
    assert rows["optimizer state"] == ("67.3 / 67.3", "33.6 / 33.6", "4.3 / 4.3", "2.2 / 2.2")


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_it_unbroken(width: int) -> None:
    text = printed(RESULTS, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert re.search(
        r"^ training/inference +2\.45 / 2\.45 +2\.43 / 2\.43 +1\.88 / 1\.88 +1\.92 / 1\.93", text, re.M
    )
    assert re.search(r"^ all +442.368 +9.216 / 9.216 +558 +558 / 558 +414 / 9.216", text, re.M)
    assert re.search(r"^ permuted batches: mlp posit16 +a1a1a1a1 +a1a1a1a1 +yes +0 ", text, re.M)
    assert re.search(r"^ ga, posit16 +0\.000520 +0\.000610 +64", text, re.M)


class Outline(html.parser.HTMLParser):
    """Collects what a browser would load or run, and checks that tags are balanced."""

    VOID = frozenset({"meta", "br", "path", "use", "rect", "link", "img", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [
            v for k in ("src", "href", "xlink:href") if (v := values.get(k)) and not v.startswith("#")
        ]
        self.loads += [tag] * (tag in {"script", "link", "iframe"})
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_one_file_that_loads_nothing() -> None:
    text = example_page()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.loads == []
    assert len(outline.ids) == len(set(outline.ids))
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<svg") == 2


def test_figures_take_their_colours_from_the_page() -> None:
    drawn = example_page().split("</style>", 1)[1]
    used = set(re.findall(r"var\((--[\w-]+)\)", drawn))
    assert {"--float32", "--posit", "--weights", "--optimizer-state", "--unattributed", "--ink"} <= used
    assert "#0000" not in drawn


def test_the_page_is_the_same_for_the_same_results() -> None:
    assert page(example_results()) == example_page()


def test_text_is_escaped() -> None:
    nasty = "<script>alert(1)</script>[bold]&amp;"
    models = [replace(model, network=nasty, task=nasty) for model in RESULTS.models]
    results = replace(RESULTS, models=models, run=replace(RESULTS.run, data=nasty))
    assert "<script" not in page(results)
    assert "[bold]" in printed(results, 300)


def test_report_is_written_whole(tmp_path: Path) -> None:
    files = write_report(RESULTS, tmp_path / "new" / "out")
    assert results_json.loads(files.results.read_text("utf-8")) == RESULTS
    assert files.page.read_text("utf-8") == example_page()
    assert sorted(path.name for path in files.page.parent.iterdir()) == ["report.html", "results.json"]


def test_report_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="choose another folder"):
        write_report(RESULTS, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
