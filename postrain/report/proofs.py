"""The tables of what the run proves: exact sums, the same bits again, equivariance, grades, step time."""

from postrain.report import units
from postrain.report.check import kept, wrong
from postrain.report.schema import PERMUTED, ExactnessRow, Repeat, Results
from postrain.report.tables import BAD, GOOD, Row, Table


def exactness_summary(results: Results) -> Table:
    """Counts by model and kind of sum: few enough rows for the terminal."""
    keys = dict.fromkeys((row.model, row.kind) for row in results.exactness.rows)
    groups = [([r for r in results.exactness.rows if (r.model, r.kind) == key], key) for key in keys]
    rows = [_exactness_row(f"{model}, {kind}", group) for group, (model, kind) in groups]
    rows.append(_exactness_row("all", results.exactness.rows))
    return _exactness_table(results, rows)


def exactness_details(results: Results) -> Table:
    """Counts by model, layer and kind of sum."""
    rows = [_exactness_row(f"{row.model} {row.layer}, {row.kind}", [row]) for row in results.exactness.rows]
    return _exactness_table(results, rows)


def _exactness_table(results: Results, rows: list[Row]) -> Table:
    proof = results.exactness
    head = (
        "sums",
        "formed",
        "equal of\nchecked",
        "left\nopen",
        "equal of\nchecked",
        "float32 differ\nof checked",
    )
    note = (
        f"Operands captured in training steps {', '.join(map(str, proof.steps))}; a sample drawn with seed "
        f"{proof.seed} recomputed with exact rationals and rounded once to {proof.format}. Left open: sums "
        "whose rounding the certificate did not settle, so that a slower exact method decided; at most "
        f"{units.count(proof.fallback_cap)} of them checked per layer and kind. float32: the same checker on "
        "the same operands accumulated in float32."
    )
    return Table("Exact sums", head, tuple(rows), note)


def _exactness_row(label: str, rows: list[ExactnessRow]) -> Row:
    def total(name: str) -> int:
        return sum(getattr(row, name) for row in rows)

    def of(part: int, whole: int) -> str:
        return f"{units.count(part)} / {units.count(whole)}"

    cells = (
        units.count(total("elements")),
        of(total("equal"), total("checked")),
        units.count(total("fallback_elements")),
        of(total("fallback_equal"), total("fallback_checked")),
        of(total("float32_checked") - total("float32_equal"), total("float32_checked")),
    )
    return Row(label, cells, BAD if any(map(wrong, rows)) else GOOD)


def repeats(results: Results) -> Table:
    """The same training with another order or thread count."""
    head = ("training again with", "first", "again", "equal", "largest\ndifference")
    note = (
        "Final weights, as the first 8 digits of the SHA-256 of their bytes (results.json holds all 64), and "
        f"their largest difference. {PERMUTED.capitalize()}: the samples of each batch in another order."
    )
    return Table("The same bits", head, tuple(map(_repeat_row, results.repeats)), note)


def _repeat_row(repeat: Repeat) -> Row:
    cells = (
        repeat.sha256[:8],
        repeat.repeat_sha256[:8],
        "yes" if repeat.equal else "no",
        units.significant(repeat.max_abs_difference),
    )
    mark = "" if repeat.arithmetic == "float32" else GOOD if repeat.equal else BAD
    return Row(f"{repeat.variation}: {repeat.model} {repeat.arithmetic}", cells, mark)


def equivariance(results: Results) -> Table:
    """The equivariance error before and after training."""
    geometry = results.geometry
    rows = [
        Row(
            f"{each.model}, {each.arithmetic}",
            (
                units.significant(each.before),
                units.significant(each.after),
                units.count(each.transformations),
            ),
        )
        for each in geometry.equivariance
    ]
    head = ("equivariance error", "before training", "after", "transformations")
    return Table("Equivariance", head, tuple(rows), geometry.definition)


def grades(results: Results) -> Table:
    """The grades that each weight was declared with and has after training."""
    rows = [
        Row(
            f"{each.parameter} ({each.model}, {each.arithmetic})",
            (_grade_list(each.declared), _grade_list(each.found)),
            GOOD if kept(each) else BAD,
        )
        for each in results.geometry.grades
    ]
    return Table("Grades", ("weight", "declared", "after training"), tuple(rows))


def _grade_list(grades: list[int]) -> str:
    return ", ".join(map(str, grades)) or "none"


def step_times(results: Results) -> Table:
    """One training step timed in both arithmetics."""
    rows = [
        Row(
            f"{each.network}, batch {each.batch}",
            (
                each.arithmetic,
                units.seconds(each.seconds),
                units.seconds(each.float32_seconds),
                units.ratio(each.ratio),
            ),
        )
        for each in results.step_times
    ]
    head = ("one training step", "format", "posit", "float32", "posit / float32")
    return Table("Time of a step", head, tuple(rows), "Medians of this run.")
