"""The log of a training run: a CSV file of steps, one of evaluations, both as JSON lines, and TensorBoard's files.

Rows are appended as they come. Before a checkpoint is saved they are brought to the disk, and a run that resumes cuts
away what came after its checkpoint, so a killed run neither loses nor repeats a row.
"""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from postrain.errors import DataError, OutputError
from postrain.files import write_atomic

STEP_COLUMNS = ("step", "epoch", "loss", "lr", "seconds", "lost_updates", "saturations", "nar")
STEPS, EVALUATIONS, LINES = "steps.csv", "evaluations.csv", "log.jsonl"


class RunLog:
    """The log files in a folder, opened for appending.

    Args:
        folder: Where they lie; it must exist.
        after: The step of the checkpoint that the run goes on from, 0 for a new run: later rows are cut away.
        tensorboard: Also write TensorBoard's event files, where that package is installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with RunLog(Path(folder)) as log:
    ...         log.step({"step": 1, "epoch": 0, "loss": 0.5, "lr": 0.1, "seconds": 0.01})
    ...     print((Path(folder) / "log.jsonl").read_text())
    {"kind": "step", "step": 1, "epoch": 0, "loss": 0.5, "lr": 0.1, "seconds": 0.01}
    """

    def __init__(self, folder: Path, after: int = 0, *, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        for name in (STEPS, EVALUATIONS):
            _rewind(self.folder / name, after, _step_of_csv)
        _rewind(self.folder / LINES, after, _step_of_json)
        try:
            self._files = {
                name: (self.folder / name).open("a", encoding="utf-8", newline="")
                for name in (STEPS, EVALUATIONS, LINES)
            }
        except OSError as error:
            raise OutputError(
                f"cannot write the log in {folder}: {error.strerror}; choose another folder with --out"
            ) from error
        self._board = _summary_writer(self.folder / "tensorboard", after) if tensorboard else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self, row: Mapping[str, Any]) -> None:
        """Append the row of a step; columns of `STEP_COLUMNS` that are not there stay empty."""
        self._append(STEPS, STEP_COLUMNS, row)
        self._line("step", row)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Append the row of an evaluation: step, epoch and scores."""
        self._append(EVALUATIONS, tuple(row), row)
        self._line("evaluation", row)

    def sync(self) -> None:
        """Bring all rows to the disk: called before a checkpoint is saved."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        if self._board is not None:
            self._board.close()

    def _append(self, name: str, columns: tuple[str, ...], row: Mapping[str, Any]) -> None:
        file = self._files[name]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(columns)
        writer.writerow([row.get(column, "") for column in columns])
        file.write(text.getvalue())

    def _line(self, kind: str, row: Mapping[str, Any]) -> None:
        self._files[LINES].write(json.dumps({"kind": kind, **row}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name not in ("step", "epoch") and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, row["step"])


def read(path: Path) -> list[dict[str, float | None]]:
    """The rows of a CSV log; an empty field is None.

    Raises:
        DataError: the file cannot be read or is none of ours.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return [
                {key: float(value) if value else None for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read the log {path} ({error}); check that it is whole") from error


def _rewind(path: Path, after: int, step_of: Any) -> None:
    """Cut away the rows of later steps, and a last row that a killed process left incomplete."""
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is not a whole row
    kept = [line for line in lines if (step := step_of(line)) is not None and step <= after]
    if after == 0:
        kept = []
    whole = b"".join(line + b"\n" for line in kept)
    if whole != path.read_bytes():
        write_atomic(path, whole)


def _step_of_csv(line: bytes) -> int | None:
    """The step of a row; 0 for the row of names."""
    first = line.split(b",", 1)[0]
    return 0 if first == b"step" else int(first) if first.isdigit() else None


def _step_of_json(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _summary_writer(folder: Path, after: int) -> Any:
    """TensorBoard's writer, or None where that package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after + 1)
