"""add, sub, mul, div of wide formats on many pairs, each result checked against exact integers.

    python -m tests.exhaustive.wide_pairs [--pairs 10000000] [--formats posit32,bposit32,posit64,bposit64]

Half of the pairs are random codes, the others are built to be hard (`wide_inputs`); all pairs of corner codes come on
top.  What decides is `wide_oracle`, in C; before it does, it must agree with the Python oracle, which is the definition,
on all pairs of corners and on 50 000 others in every operation, with right results and with results of which one bit was
flipped.  Without a C compiler the Python oracle checks fewer pairs, and the output says so.  The exit code is 1 if a
result was wrong or the oracles disagreed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

import posit
from posit import Format, arithmetic
from tests.exhaustive.wide_inputs import Pairs, corner_pairs, pairs
from tests.exhaustive.wide_oracle import Verdicts, Words, judge_in_c, judge_in_python

OPERATIONS: dict[str, Callable[..., npt.NDArray[np.integer]]] = {
    "add": arithmetic.add,
    "sub": arithmetic.sub,
    "mul": arithmetic.mul,
    "div": arithmetic.div,
}
BLOCK = 50_000
COMPARED = 50_000  # pairs on which the two oracles must agree
WITHOUT_COMPILER = 100_000  # pairs that the Python oracle checks

Count = tuple[int, list[str]]  #: results looked at, and complaints


def compute(operation: str, a: Words, b: Words, fmt: Format) -> Words:
    """What the library answers."""
    return OPERATIONS[operation](a.astype(fmt.storage), b.astype(fmt.storage), fmt).astype(np.uint64)


def flipped(results: Words, seed: int, fmt: Format) -> Words:
    """Each second result with a random one of its bits flipped."""
    rng = np.random.default_rng(seed)
    bits = np.uint64(1) << rng.integers(0, fmt.nbits, results.size, np.uint64)
    bits[::2] = 0
    return results ^ bits


def check(codes: Pairs, fmt: Format) -> Count:
    """Check pairs in all operations; the number of results and the wrong ones."""
    found: list[str] = []
    for operation in OPERATIONS:
        results = compute(operation, *codes, fmt)
        judge = judge_in_c() or judge_in_python
        found += _listed("gave", operation, codes, results, judge(operation, *codes, results, fmt), fmt)
    return 4 * codes[0].size, found


def compare_oracles(codes: Pairs, seed: int, fmt: Format) -> Count:
    """Give both oracles right results and flipped ones; the number of verdicts, and where they differ.

    Raises:
        ValueError: there is no C compiler, so nothing to compare.
    """
    judge = judge_in_c()
    if judge is None:
        raise ValueError("there is one oracle only without a C compiler")
    found: list[str] = []
    for operation in OPERATIONS:
        results = flipped(compute(operation, *codes, fmt), seed, fmt)
        fast, slow = (decide(operation, *codes, results, fmt) for decide in (judge, judge_in_python))
        found += _listed("the oracles disagree on", operation, codes, results, fast != slow, fmt)
    return 4 * codes[0].size, found


def _listed(
    what: str, operation: str, codes: Pairs, results: Words, chosen: Verdicts, fmt: Format
) -> list[str]:
    return [
        f"{fmt} {operation} {int(codes[0][i]):#x} {int(codes[1][i]):#x}: {what} {int(results[i]):#x}"
        for i in np.flatnonzero(chosen).tolist()
    ]


def check_block(block: tuple[str, int, int]) -> Count:
    """`check` of `count` pairs drawn from `seed`."""
    name, seed, count = block
    posit.set_num_threads(1)  # the processes fill the cores
    return check(pairs(count, seed, Format.parse(name)), Format.parse(name))


def compare_block(block: tuple[str, int, int]) -> Count:
    """`compare_oracles` on `count` pairs drawn from `seed`; on all corners if `count` is 0."""
    name, seed, count = block
    fmt = Format.parse(name)
    posit.set_num_threads(1)
    return compare_oracles(pairs(count, seed, fmt) if count else corner_pairs(fmt), seed, fmt)


def blocks(name: str, count: int, size: int) -> list[tuple[str, int, int]]:
    """Blocks (format, seed, pairs) of `count` pairs in all."""
    sizes = [min(size, count - start) for start in range(0, count, size)]
    return [(name, seed, pairs_in) for seed, pairs_in in enumerate(sizes)]


def _run(
    name: str,
    what: str,
    task: Callable[[tuple[str, int, int]], Count],
    todo: list[tuple[str, int, int]],
    pool: ProcessPoolExecutor,
    progress: Progress,
) -> int:
    """Do the blocks, show what was found, return the number of complaints."""
    start, results, found = time.perf_counter(), 0, list[str]()
    bar = progress.add_task(f"{name} {what}", total=len(todo))
    for done, complaints in pool.map(task, todo):
        progress.advance(bar)
        results += done
        found += complaints
    taken = time.perf_counter() - start
    progress.console.print(f"{name} {what}: {results} results, {len(found)} wrong, {taken:.0f} s")
    progress.console.print(*found[:20], sep="\n", end="\n" * bool(found))
    return len(found)


def main(argv: Iterable[str] | None = None) -> int:
    """Run the check; 0 if every result was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--formats", default="posit32,bposit32,posit64,bposit64")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args(None if argv is None else list(argv))
    count, failed = options.pairs, 0
    with Progress() as progress, ProcessPoolExecutor(options.workers) as pool:
        compiled = judge_in_c() is not None
        if not compiled:
            count = min(count, WITHOUT_COMPILER)
            progress.console.print(f"no C compiler: the Python oracle checks {count} pairs of each format")
        for name in options.formats.split(","):
            if compiled:
                todo = [(name, 0, 0), *blocks(name, min(count, COMPARED), 5_000)]
                failed += _run(name, "C oracle beside Python's", compare_block, todo, pool, progress)
            corners = check(corner_pairs(Format.parse(name)), Format.parse(name))
            progress.console.print(f"{name} corners: {corners[0]} results, {len(corners[1])} wrong")
            failed += len(corners[1])
            failed += _run(name, f"{count} pairs", check_block, blocks(name, count, BLOCK), pool, progress)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
