"""What a run of `postrain compare` is asked to do, and how it tells its caller where it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from postrain.errors import OptionsError


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """The options of `postrain compare`; the defaults here are the command line's.

    >>> CompareOptions(epochs=0)
    Traceback (most recent call last):
        ...
    postrain.errors.OptionsError: epochs must be at least 1, got 0
    """

    data: str = "digits"  #: a name from `postrain.data.NAMES`
    data_dir: Path | None = None  #: where data sets lie that are not part of the package
    format: str = "posit16"  #: text for `posit.Format.parse`
    epochs: int = 10  #: passes over the training data, at least 1
    seed: int = 0  #: initial weights, batches and samples follow from it
    out: Path = Path("postrain-report")  #: folder for report, results and weights

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise OptionsError(f"{name} must be at least {least}, got {getattr(self, name)}")


class Progress(Protocol):
    """Told by a long run where it is; the command line draws bars from it.

    Several stages may be open at once; a stage ends when `total` units of it have been advanced.
    """

    def start(self, name: str, total: int) -> None:
        """Begin stage `name`, which has `total` units (for training: steps)."""

    def advance(self, name: str, n: int = 1, **info: float | str) -> None:
        """Count `n` more units of stage `name`; `info` is shown beside it, e.g. ``loss=0.31``."""

    def saved(self, path: Path) -> None:
        """Hear that a complete file of weights now lies at `path`."""


class NoProgress:
    """A `Progress` that shows nothing, for library use and tests."""

    def start(self, name: str, total: int) -> None:
        """Ignore the beginning of a stage."""

    def advance(self, name: str, n: int = 1, **info: float | str) -> None:
        """Ignore the advance of a stage."""

    def saved(self, path: Path) -> None:
        """Ignore a saved file."""
