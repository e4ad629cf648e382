"""The `Progress` that the command line shows: a bar per stage, on stderr."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress


class Bars:
    """A `postrain.options.Progress` drawn with rich, shown while it is open as a context manager.

    >>> with Bars() as bars:
    ...     bars.start("training", 2)
    ...     bars.advance("training", loss=0.5)
    ...     bars.saved(Path("mlp.safetensors"))
    >>> bars.last_saved
    PosixPath('mlp.safetensors')
    """

    def __init__(self) -> None:
        self.last_saved: Path | None = None
        self._interrupted = False
        self._stages: dict[str, TaskID] = {}
        self._progress = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[info]}", markup=False),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._interrupt)
        self._progress.start()
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: remember it, since what Python code raises within a callback of the compiler is lost."""
        self._interrupted = True
        raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(self, name: str, total: int) -> None:
        """Begin a bar of `total` units called `name`."""
        self._stages[name] = self._progress.add_task(name, total=total, info="")

    def advance(self, name: str, n: int = 1, **info: float | str) -> None:
        """Move the bar `name` on by `n`; `info` stands at its end.

        Raises:
            KeyboardInterrupt: Ctrl-C came before, and was lost where it came.
        """
        if self._interrupted:
            raise KeyboardInterrupt
        shown = "  ".join(f"{key} {_short(value)}" for key, value in info.items())
        changed = {"info": shown} if shown else {}
        self._progress.update(self._stages[name], advance=n, **changed)  # type: ignore[arg-type]  # rich's **fields

    def saved(self, path: Path) -> None:
        """Remember the last complete file of weights, for a run that is interrupted."""
        self.last_saved = path


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
