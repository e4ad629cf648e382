"""add, sub, mul, div of 16-bit posits on all 2**32 pairs: our array kernels against SoftPosit.

    python -m tests.exhaustive.pairs [--part 1/64] [--output pairs.json]

Both es = 1 (``p16``) and es = 2 (``pX2`` at n = 16).  Where the two differ, `posit.reference.exact` decides,
and the pair is written out with the right answer.  The exit code is 1 if ours was wrong anywhere.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from posit import Format, arithmetic, get_num_threads
from posit.reference import exact, softposit

SIZE = 1 << 16
FORMATS = (Format(16, 2), Format(16, 1))
OPERATIONS = {"add": arithmetic.add, "sub": arithmetic.sub, "mul": arithmetic.mul, "div": arithmetic.div}
LISTED = 1000  # differing pairs kept per operation; all are counted

Codes = npt.NDArray[np.uint16]
Compare = Callable[[int, Codes, npt.NDArray[np.uint32]], int]


@dataclass
class Outcome:
    """What one operation of one format gave."""

    operation: str
    format: str
    pairs: int = 0
    differences: int = 0
    ours_wrong: int = 0
    seconds: float = 0.0
    listed: list[dict[str, str]] = field(default_factory=list)  #: a, b, ours, softposit, exact


def compare_row(binding: softposit.Binding) -> Compare:
    """Compiled function (a, ours, found): compare a with every b; count the differences, keep the first."""
    function, shift = binding.function, binding.shift
    width = binding.width or 0

    @numba.njit(nogil=True)
    def with_width(a: int, ours: Codes, found: npt.NDArray[np.uint32]) -> int:
        count = 0
        for b in range(SIZE):
            theirs = function(np.uint32(a << shift), np.uint32(b << shift), np.int32(width)) >> np.uint32(
                shift
            )
            if theirs != ours[b]:
                if count < len(found):
                    found[count, 0], found[count, 1] = b, theirs
                count += 1
        return count

    @numba.njit(nogil=True)
    def without(a: int, ours: Codes, found: npt.NDArray[np.uint32]) -> int:
        count = 0
        for b in range(SIZE):
            theirs = function(np.uint16(a), np.uint16(b))
            if theirs != ours[b]:
                if count < len(found):
                    found[count, 0], found[count, 1] = b, theirs
                count += 1
        return count

    chosen: Compare = without if binding.width is None else with_width
    return chosen


def exactly(operation: str, a: int, b: int, fmt: Format) -> int:
    """The code that the definition demands."""
    x, y = exact.value(a, fmt), exact.value(b, fmt)
    if x is None or y is None or (operation == "div" and y == 0):
        return fmt.nar
    results = {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y if y else x}
    return exact.nearest(results[operation], fmt)


def rows(part: int, parts: int) -> list[int]:
    """A deterministic selection of first operands that spreads over all codes."""
    return list(range(part - 1, SIZE, parts))


def run(operation: str, fmt: Format, chosen: list[int], step: Callable[[int], None]) -> Outcome:
    """Compare every pair whose first operand is chosen."""
    outcome = Outcome(operation, str(fmt))
    compare = compare_row(softposit.bind(operation, fmt))
    ours = OPERATIONS[operation]
    every = np.arange(SIZE, dtype=np.uint16)
    compare(0, every, np.empty((0, 2), np.uint32))  # compiled before the clock starts
    start = time.perf_counter()

    def one_row(a: int) -> tuple[int, int, npt.NDArray[np.uint32], Codes]:
        answers = ours(np.full(SIZE, a, np.uint16), every, fmt).astype(np.uint16)
        found = np.empty((LISTED, 2), np.uint32)
        count = compare(a, answers, found)
        return a, count, found[:count], answers

    with ThreadPoolExecutor(get_num_threads()) as pool:
        for batch in _batches(chosen, 256):
            for a, count, found, answers in pool.map(one_row, batch):
                outcome.pairs += SIZE
                outcome.differences += count
                _settle(outcome, a, found, answers, fmt)
            step(len(batch))
    outcome.seconds = time.perf_counter() - start
    return outcome


def _batches(chosen: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(chosen), size):
        yield chosen[start : start + size]


def _settle(outcome: Outcome, a: int, found: Any, answers: Codes, fmt: Format) -> None:
    for b, theirs in found.tolist():
        right = exactly(outcome.operation, a, b, fmt)
        outcome.ours_wrong += int(answers[b]) != right
        if len(outcome.listed) < LISTED:
            values = {"a": a, "b": b, "ours": int(answers[b]), "softposit": theirs, "exact": right}
            outcome.listed.append({name: f"{value:#06x}" for name, value in values.items()})


def main(argv: list[str] | None = None) -> int:
    """Run all operations on all pairs, or on a part of the first operands."""
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive.pairs", description=__doc__)
    parser.add_argument(
        "--part", default="1/1", help="k/m: every m-th first operand, from the k-th on (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("softposit-pairs.json"), help="where the results go"
    )
    given = parser.parse_args(argv)
    part, parts = (int(number) for number in given.part.split("/"))
    chosen = rows(part, parts)
    outcomes = []
    columns = (TextColumn("{task.description:24}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for fmt in FORMATS:
            for operation in OPERATIONS:
                task = progress.add_task(f"{fmt} {operation}", total=len(chosen))
                outcome = run(operation, fmt, chosen, partial(progress.advance, task))
                outcomes.append(outcome)
                progress.console.print(
                    f"{outcome.format} {outcome.operation}: {outcome.pairs} pairs, "
                    f"{outcome.differences} differences, ours wrong in {outcome.ours_wrong}, "
                    f"{outcome.seconds:.1f} s"
                )
    given.output.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return 1 if any(outcome.ours_wrong for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
