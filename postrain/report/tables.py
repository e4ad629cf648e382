"""The report's tables as rows of text, the same for the terminal and the page."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from postrain.report import units
from postrain.report.check import pairs
from postrain.report.schema import Bytes, Memory, Model, Results

GOOD, BAD, HEAD = "good", "bad", "head"  #: marks of a row: claim held, claim refuted, heading of those below


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its label, a cell per column, and a mark."""

    label: str
    cells: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: title, column headings (the first above the labels), rows, and a sentence below."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


def main_table(results: Results) -> Table:
    """The one table of the run: quality, time, and memory predicted and measured, a column per model."""
    models = [model for pair in pairs(results.models).values() for model in pair]

    def row(label: str, cell: Callable[[Model], str]) -> Row:
        return Row(label, tuple(map(cell, models)))

    rows = [
        row("parameters", lambda m: units.count(m.parameters)),
        *_score_rows(models),
        row("test loss", lambda m: units.significant(m.final.test_loss)),
        row("time per epoch", lambda m: units.seconds(m.seconds_per_epoch)),
        *_memory_rows("inference, KiB", models, lambda m: m.inference),
        *_memory_rows("training, KiB", models, lambda m: m.training),
        row(
            "training/inference",
            lambda m: f"{m.predicted_ratio:.2f} / {m.measured_ratio:.2f}",
        ),
    ]
    head = ("", *(f"{model.network}\n{model.arithmetic}" for model in models))
    batches = ", ".join(f"{m.model} {m.batch}" for m in models[::2])
    note = (
        "Memory: predicted / measured, at the peak; training is one step; samples in the batch: "
        f"{batches}. The ratio's denominator is the same model's own inference with the same batch."
    )
    return Table("Results", head, tuple(rows), note)


def _score_rows(models: list[Model]) -> list[Row]:
    """A row for each kind of score, filled where the model has it."""
    names = dict.fromkeys(model.score_name for model in models)
    return [
        Row(n, tuple(score(m, m.final.score) if m.score_name == n else "" for m in models)) for n in names
    ]


def score(model: Model, value: float) -> str:
    """A score in the unit of its name: an accuracy in per cent, an error as a number."""
    return units.percent(value) if "accuracy" in model.score_name else units.significant(value)


def _memory_rows(title: str, models: list[Model], memory: Callable[[Model], Memory]) -> list[Row]:
    rows = [Row(title, ("",) * len(models), HEAD)]
    for field in fields(Bytes):
        cells = [
            (getattr(memory(m).predicted, field.name), getattr(memory(m).measured, field.name))
            for m in models
        ]
        if any(any(cell) for cell in cells):
            rows.append(Row(purpose(field.name), tuple(map(_both, cells))))
    rows.append(Row("unattributed", tuple(f"– / {units.kib(memory(m).unattributed)}" for m in models)))
    peaks = ((memory(m).predicted.total, memory(m).measured_peak) for m in models)
    rows.append(Row("peak", tuple(map(_both, peaks))))
    return rows


def purpose(name: str) -> str:
    """A `Bytes` field's name as words."""
    return name.replace("_", " ")


def _both(pair: tuple[int, int]) -> str:
    return f"{units.kib(pair[0])} / {units.kib(pair[1])}"
