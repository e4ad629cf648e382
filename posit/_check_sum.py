"""`posit check-sum`: find a function by name, ask whether it sums exactly, and say what was found."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from posit._testing.options import Options
from posit._testing.report import description
from posit._testing.search import Question, search, trial
from posit.errors import CheckError

QUESTIONS: tuple[Question, ...] = ("exact", "order independent")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The command line of `posit check-sum`; see `Options` for what the fields mean."""

    function: str  #: MODULE:FUNCTION or path/to/file.py:FUNCTION
    format: str = "posit16"
    kind: str = "sum"
    examples: int = 500
    seed: int = 0
    min_size: int = 0
    max_size: int = 40
    special: bool = True
    operands: str | None = None  #: None: "torch" for torch's own functions, else "array"
    result: str | None = None

    def search_options(self) -> Options:
        """The same for the search.

        Raises:
            CheckError: a value that makes no sense.
            FormatError: no such format.
        """
        ours = "torch" if self.function.split(":")[0].split(".")[0] == "torch" else "array"
        return Options(
            fmt=self.format,
            kind=self.kind,  # type: ignore[arg-type]  # checked there
            examples=self.examples,
            seed=self.seed,
            min_size=self.min_size,
            max_size=self.max_size,
            long_size=max(self.max_size, 1000),
            special=self.special,
            operands=self.operands or ours,
            result=self.result,
        )


def check_sum(asked: CheckOptions, out: TextIO) -> int:
    """Ask both questions of a function and write the findings.

    Returns:
        0 if it is exact and the order of its terms does not matter, else 1.

    Raises:
        CheckError: the function is not found or cannot be checked.
        FormatError: no such format.
    """
    options = asked.search_options()
    fn = find_function(asked.function)
    trial(fn, options)
    out.write(f"{asked.function} on {options.numbers.name}, {_MEANING[options.kind]}, seed {options.seed}\n")
    failed = False
    for question in QUESTIONS:
        with _bar(question, options.examples) as advance:
            finding = search(fn, options, question, advance)
        if finding is None:
            out.write(f"{question}: yes, in {options.examples} examples\n")
        else:
            failed = True
            out.write(f"{question}: NO\n{description(finding, options)}\n")
    return int(failed)


_MEANING = {
    "sum": "sum of one array",
    "dot": "sum of products of two arrays",
    "matmul": "matrix product",
}


@contextmanager
def _bar(question: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal; past the last example a failure is being made smaller."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(question, total=total)
        yield lambda: progress.advance(task)


def find_function(text: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION or path/to/file.py:FUNCTION names; FUNCTION may have dots.

    Modules are looked for in the current folder, too, and a file may import its neighbours.

    Raises:
        CheckError: no such module, file or function, or an import that fails.

    >>> find_function("math:fsum")([0.5, 0.25])
    0.75
    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise CheckError(f"write MODULE:FUNCTION, as in numpy:sum or path/to/file.py:total, got {text!r}")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError:
        close = difflib.get_close_matches(name, dir(module), 1)
        hint = f"; did you mean {place}:{close[0]}?" if close else ""
        raise CheckError(f"{place} has no {name!r}{hint}") from None
    if not callable(found):
        raise CheckError(f"{text} is no function but a {type(found).__name__}")
    return found


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise CheckError(
                f"no module {name!r} here or installed; for a file write path/to/file.py:FUNCTION"
            ) from None
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CheckError(f"no file {path}")
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(f"check_sum_{path.stem}", path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(str(path), error) from error
    return module


def _failed(what: str, error: BaseException) -> CheckError:
    text = " ".join(str(error).split())
    return CheckError(f"importing {what} raised {type(error).__name__}: {text}"[:500].rstrip(": "))
