"""`report.html`: one file, readable without network and without scripts."""

from dataclasses import asdict
from importlib import resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from postrain.report import proofs, units
from postrain.report.check import failures, pairs
from postrain.report.figures import loss_figure, memory_figure
from postrain.report.schema import Model, Results
from postrain.report.tables import main_table, score


class Card(NamedTuple):
    """A title with a few labelled figures."""

    title: str
    lines: list[tuple[str, str]]


def page(results: Results) -> str:
    """The whole page as HTML text; every figure in it comes from `results`, and all text is escaped."""
    folder = resources.files("postrain.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        css=Markup(folder.joinpath("page.css").read_text("utf-8")),  # noqa: S704 (our own file)
        loss_svg=Markup(loss_figure(results)),  # noqa: S704 (matplotlib has escaped its text)
        memory_svg=Markup(memory_figure(results)),  # noqa: S704
        format=results.run.format,
        run=results.run,
        pairs=list(pairs(results.models).values()),
        failures=failures(results),
        verdict=_verdict(results),
        cards=[_card(*pair) for pair in pairs(results.models).values()],
        main=main_table(results),
        exactness=proofs.exactness_summary(results),
        exactness_details=proofs.exactness_details(results),
        proofs=[
            make(results) for make in (proofs.repeats, proofs.equivariance, proofs.grades, proofs.step_times)
        ],
        facts=_facts(results),
    )


def _verdict(results: Results) -> str:
    """The counts behind the claims, in one sentence each."""
    rows = results.exactness.rows
    checked = sum(row.checked + row.fallback_checked for row in rows)
    control = sum(row.float32_checked for row in rows)
    differ = control - sum(row.float32_equal for row in rows)
    again = sum(repeat.arithmetic != "float32" for repeat in results.repeats)
    return (
        f"{units.count(checked)} checks of this training's sums against exact rationals: all equal to "
        f"the bit. The same checker on sums accumulated in float32: {units.count(differ)} of "
        f"{units.count(control)} differ. Trainings repeated in {results.run.format}, with other orders or "
        f"threads: {again}, all with the same weights to the bit."
    )


def _card(float32: Model, posit: Model) -> Card:
    both = (float32, posit)
    return Card(
        f"{posit.network}, {posit.task}",
        [
            *((f"{m.score_name}, {m.arithmetic}", score(m, m.final.score)) for m in both),
            *((f"weights, {m.arithmetic}", f"{units.kib(m.training.measured.weights)} KiB") for m in both),
            *((f"training / inference, {m.arithmetic}", units.ratio(m.measured_ratio)) for m in both),
        ],
    )


def _command(results: Results) -> str:
    run = results.run
    return f"postrain compare --data {run.data} --format {run.format} --epochs {run.epochs} --seed {run.seed}"


def _facts(results: Results) -> list[tuple[str, str]]:
    """Everything needed to run it again."""
    run, environment = results.run, results.environment
    recipes = [
        (f"{m.model}, {m.arithmetic}", "; ".join(f"{key} {value}" for key, value in m.recipe.items()))
        for m in results.models
    ]
    files = [
        (f"weights of {m.model}, {m.arithmetic}", f"{m.weights_file}, SHA-256 {m.weights_sha256}")
        for m in results.models
    ]
    return [
        ("command", _command(results)),
        ("started", f"{run.started}, took {units.seconds(run.seconds)}"),
        *recipes,
        *files,
        *((key, str(value)) for key, value in asdict(environment).items() if key != "versions"),
        ("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
    ]
