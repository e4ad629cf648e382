"""The checks that results must pass before a report is made of them: complete, and free of contradictions."""

from itertools import pairwise

from postrain.errors import ReportError
from postrain.report.schema import Equivariance, ExactnessRow, Grades, Model, Repeat, Results


def check(results: Results) -> None:
    """Raise unless every part of the report has what it shows.

    Raises:
        ReportError: A network lacks one of its two arithmetics, a list that must be filled is empty, or
            counts contradict each other.
    """
    _check_pairs(results.models)
    for name, part in (
        ("exactness.rows", results.exactness.rows),
        ("repeats", results.repeats),
        ("geometry.equivariance", results.geometry.equivariance),
        ("geometry.grades", results.geometry.grades),
    ):
        if not part:
            raise ReportError(f"results.{name} is empty; a report needs it")
    for row in results.exactness.rows:
        _check_counts(row)
    known = {model.model for model in results.models}
    parts: tuple[ExactnessRow | Repeat | Equivariance | Grades, ...] = (
        *results.exactness.rows,
        *results.repeats,
        *results.geometry.equivariance,
        *results.geometry.grades,
    )
    unknown = {part.model for part in parts} - known
    if unknown:
        raise ReportError(f"results speak of models {sorted(unknown)}, but only {sorted(known)} were trained")


def failures(results: Results) -> list[str]:
    """One sentence for each claim of the report that this run has refuted; empty if all of them held."""
    return [
        *(
            f"{wrong(row)} sums of {row.model} {row.layer} ({row.kind}) are not the exact sum rounded once"
            for row in results.exactness.rows
            if wrong(row)
        ),
        *(
            f"{repeat.model} in {repeat.arithmetic} gave other weights with {repeat.variation}"
            for repeat in results.repeats
            if repeat.arithmetic != "float32" and not repeat.equal
        ),
        *(
            f"{grades.parameter} of {grades.model} in {grades.arithmetic} left its grades"
            for grades in results.geometry.grades
            if not kept(grades)
        ),
    ]


def wrong(row: ExactnessRow) -> int:
    """How many checked sums of a row differ from the exact sum rounded once."""
    return row.checked - row.equal + row.fallback_checked - row.fallback_equal


def kept(grades: Grades) -> bool:
    """Whether a weight has only grades that it was declared with."""
    return set(grades.found) <= set(grades.declared)


def pairs(models: list[Model]) -> dict[str, tuple[Model, Model]]:
    """Each network's float32 model and posit model, by the network's short name."""
    names = dict.fromkeys(model.model for model in models)
    found = {name: [model for model in models if model.model == name] for name in names}
    return {name: (both[0], both[1]) for name, both in found.items()}


def _check_pairs(models: list[Model]) -> None:
    names = dict.fromkeys(model.model for model in models)
    if not names:
        raise ReportError("results.models is empty; a report needs it")
    for name in names:
        arithmetics = [model.arithmetic for model in models if model.model == name]
        if len(arithmetics) != 2 or arithmetics[0] != "float32" or arithmetics[1] == "float32":
            raise ReportError(
                f"model {name!r} must come in float32, then in a posit format; got {arithmetics}"
            )
    for model in models:
        if not model.epochs or not model.step_losses:
            raise ReportError(f"model {model.model!r} in {model.arithmetic} has no epochs or no step losses")


def _check_counts(row: ExactnessRow) -> None:
    chains = (
        (row.equal, row.checked, row.elements),
        (row.fallback_equal, row.fallback_checked, row.fallback_elements, row.elements),
        (row.float32_equal, row.float32_checked),
    )
    if any(small < 0 or small > large for chain in chains for small, large in pairwise(chain)):
        raise ReportError(f"the counts of {row.model} {row.layer} ({row.kind}) contradict each other: {row}")
    if row.checked == 0 or row.float32_checked == 0:
        raise ReportError(
            f"nothing was checked in {row.model} {row.layer} ({row.kind}); a proof needs a sample"
        )
