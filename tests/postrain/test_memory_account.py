"""Accounts of modes in this process, the walk without values, and the page of `postrain memory`."""

import html.parser
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from postrain.errors import MeasurementError, ModeError, OptionsError
from postrain.memory import account, ledger
from postrain.memory._account import Case, Footprint
from postrain.memory._ledger import REFERENCE, SAVED, STACK
from postrain.memory.families import stack
from postrain.memory.grid import GridOptions, Row, Study, Way, as_json, slope, ways
from postrain.memory.show import page, print_study, write
from postrain.memory.verdict import verdict
from postrain.report.schema import Bytes, Memory

LABELS = torch.zeros(32, dtype=torch.int64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


@pytest.mark.parametrize("mode", ["inference", "reverse", "fused", "checkpointed", "zeroth"])
def test_predictions_of_modes_are_what_the_ledger_sees(mode: str) -> None:
    x = torch.rand(32, 64)
    found = account(network(), x if mode == "inference" else (x, LABELS), mode=mode, recipe="posit16")
    assert found.difference is not None
    assert abs(found.difference) < 0.04  # a small network: 2 % is for those of the command
    assert found.measured is not None
    assert (
        found.measured.weights
        == found.predicted.weights
        == 2 * sum(p.numel() for p in network().parameters())
    )


def test_quires_of_micro_batches_and_the_stream_are_in_the_account() -> None:
    work = stack("mlp", depth=2, width=32, batch=16, seed=0)
    found = account(work.model, (work.inputs, work.targets), mode="reversible", measure=False, micro_batch=4)
    assert found.predicted.residual_stream == 16 * 32 * 4
    plain = account(network(), (torch.rand(32, 64), LABELS), mode="accumulate", micro_batch=8)
    assert plain.difference is not None
    assert abs(plain.difference) < 0.04
    assert plain.predicted.quires == 16 * sum(p.numel() for p in network().parameters())


def test_a_model_larger_than_the_machine_is_accounted_for() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10**6, 10**6), nn.ReLU(), nn.Linear(10**6, 10))
        example = torch.empty(4, 10**6), torch.empty(4, dtype=torch.int64)
    found = account(model, example, measure=False, optimizer="adam", state_format="posit8")
    parameters = sum(each.numel() for each in model.parameters())
    assert found.predicted.weights == found.predicted.optimizer_state == 2 * parameters
    assert found.measured is None
    assert found.difference is None


def test_buffers_have_lifetimes_and_escape_classes() -> None:
    found = account(network(), (torch.rand(32, 64), LABELS), measure=False)
    kinds = {
        kind: [each for each in found.buffers if each.escape == kind] for kind in (REFERENCE, SAVED, STACK)
    }
    assert {each.purpose for each in kinds[REFERENCE]} == {"weights", "inputs", "optimizer_state"}
    assert all(each.gone is None for each in kinds[REFERENCE])
    assert {each.purpose for each in kinds[STACK]} == {"workspace"}
    assert all(each.gone == each.made + 1 for each in kinds[STACK])
    assert {each.purpose for each in kinds[SAVED]} == {"activations"}


def test_the_ledger_of_ones_own_code() -> None:
    with ledger() as led:
        x = torch.zeros(1000)
        del x
    assert led.peak().total == 4000


class Branches(nn.Linear):
    """Drops samples by their values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x[x[:, 0] > 0])


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (Branches(4, 4), {}, MeasurementError, "needs values"),
        (nn.Linear(4, 4), {"mode": "backwards"}, MeasurementError, "unknown mode 'backwards'"),
        (nn.Linear(4, 4), {"optimizer": "lion"}, MeasurementError, "no prediction for optimizer 'lion'"),
        (nn.ReLU(), {}, MeasurementError, "no parameter to train"),
        (nn.Linear(4, 4), {"mode": "reversible"}, ModeError, "mode 'reversible' needs"),
        (
            nn.Sequential(nn.LayerNorm(4)),
            {"mode": "forward"},
            ModeError,
            "no forward derivative of LayerNorm",
        ),
    ],
)
def test_what_cannot_be_accounted_for(
    model: nn.Module, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        account(model, (torch.rand(4, 4), LABELS[:4]), measure=False, **options)


def test_inputs_alone_are_for_inference() -> None:
    with pytest.raises(MeasurementError, match="needs inputs and targets"):
        account(nn.Linear(4, 4), torch.rand(4, 4))


def study() -> Study:
    """Made-up figures in which nothing grows with depth but the baselines."""
    options = GridOptions(depths=(4, 8), modes=("reverse", "reversible", "forward"), tangents=(1,))
    rows = []
    for depth in options.depths:
        for way in ways(options):
            if way.mode == "forward":
                rows.append(Row(way, depth, None, "mode 'forward' has no <rule>"))
                continue
            grows = 300_000 * depth if way.mode == "reverse" else 0
            rows.append(Row(way, depth, footprint_of(way, 10**6, 10**6 + 200_000 + grows)))
    return Study(options, {"CPU": "made up"}, tuple(rows))


def footprint_of(way: Way, inference: int, training: int) -> Footprint:
    def memory(total: int) -> Memory:
        found = Bytes(1000, 2000, 3000, total - 10_000, 4000, 0)
        return Memory(found, found, total)

    parts = memory(inference) if way.micro_batch else None
    case = Case("", {}, way.recipe, 8, mode=way.mode)
    return Footprint(case, 250, memory(inference), parts, memory(training), None, None, 0.5, 1.0)


def test_the_verdict_is_made_of_the_measurements() -> None:
    said = {sentence.partition(":")[0]: sentence for sentence in verdict(study())}
    reversible = said["posit16 reversible, momentum, micro-batches of 32"]
    assert "1.20 × own inference (at most twice at every depth)" in reversible
    assert "does not depend on depth" in reversible
    reverse = said["posit16 reverse, momentum"]
    assert "2.40 to 3.60 × own inference (more than twice at every depth)" in reverse
    assert "293 KiB more for each layer" in reverse
    assert slope(study().of(ways(study().options)[0])) == pytest.approx(300_000)
    half = replace(study(), rows=tuple(row for row in study().rows if row.depth == 4))
    assert "One depth says nothing about growth" in verdict(half)[1]


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        self.found += [
            value or "" for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]


def test_the_page_needs_no_network_and_shows_every_row(tmp_path: Path) -> None:
    files = write(study(), tmp_path)
    text = files.page.read_text()
    links = _Links()
    links.feed(text)
    assert [link for link in links.found if not link.startswith("http://www.w3.org")] == []
    assert text.count("<svg") == 2
    assert "no &lt;rule&gt;" in text
    assert text.count('<th scope="row">posit16 reverse, momentum</th>') == 2
    assert json.loads(files.results.read_text())["rows"] == json.loads(json.dumps(as_json(study())))["rows"]
    console = Console(width=120, record=True, quiet=True)
    print_study(study(), console)


def test_the_page_is_drawn_by_a_browser_without_complaints(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs Debian's chromium")
    files = write(study(), tmp_path)
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1100,2200", f"--screenshot={picture}",
         files.page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    from matplotlib.image import imread

    pixels = imread(picture)
    assert len({tuple(colour) for colour in pixels[::7, ::7].reshape(-1, pixels.shape[-1]).tolist()}) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": ()}, "depths must be at least 1"),
        ({"micro_batch": 512}, "larger than the batch of 256"),
        ({"width": 0}, "width must be at least 1"),
    ],
)
def test_options_that_cannot_be_measured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        GridOptions(**options)


def test_page_escapes_text() -> None:
    assert "<rule>" not in page(study())
