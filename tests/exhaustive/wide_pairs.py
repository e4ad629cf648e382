"""add, sub, mul, div of wide formats on many pairs, each result checked against exact integers.

    python -m tests.exhaustive.wide_pairs [--pairs 10000000] [--formats posit32,bposit32,posit64]

Half of the pairs are random codes; the others are built to be hard: near cancellation, next to the ends of the range,
one operand 1 code from the other's reciprocal or negative, fractions of few bits.  The oracle is written for this file
alone, in Python integers: a result is right if the exact value lies between the two boundaries of its code, and on a
boundary only if the code is even.  The exit code is 1 if a result was wrong.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from posit import Format, arithmetic

OPERATIONS: dict[str, Callable[..., npt.NDArray[np.integer]]] = {
    "add": arithmetic.add,
    "sub": arithmetic.sub,
    "mul": arithmetic.mul,
    "div": arithmetic.div,
}
BLOCK = 50_000

Real = tuple[int, int]  #: m * 2**e


def split(body: int, width: int, es: int, bound: int) -> Real:
    """Value of a positive code without its sign bit, `width` bits of it."""
    rest = width
    if body >> (width - 1):
        run = width - (((1 << width) - 1) ^ body).bit_length()
        run = min(run, bound)
        regime = run - 1
    else:
        run = min(width - body.bit_length(), bound)
        regime = -run
    rest = max(width - run - (run < bound), 0)
    tail = body & ((1 << rest) - 1)
    if rest >= es:
        fraction = rest - es
        scale = (regime << es) + (tail >> fraction)
        return (1 << fraction) | (tail & ((1 << fraction) - 1)), scale - fraction
    return 1, (regime << es) + (tail << (es - rest))


def real(code: int, fmt: Format) -> Real:
    """Value of a code that is not NaR."""
    if code == 0:
        return 0, 0
    bound = fmt.max_regime or fmt.nbits
    if code >= fmt.nar:
        m, e = split((1 << fmt.nbits) - code, fmt.nbits - 1, fmt.es, bound)
        return -m, e
    return split(code, fmt.nbits - 1, fmt.es, bound)


def sign_of_difference(numerator: int, denominator: int, e: int, boundary: Real) -> int:
    """Sign of numerator / denominator * 2**e - boundary, for a positive denominator."""
    m, f = boundary
    shift = e - f
    left, right = (
        (numerator << shift, m * denominator) if shift >= 0 else (numerator, m * denominator << -shift)
    )
    return (left > right) - (left < right)


def is_rounded(code: int, numerator: int, denominator: int, e: int, fmt: Format) -> bool:
    """Whether `code` is numerator / denominator * 2**e, rounded by the Posit Standard (2022)."""
    if numerator == 0:
        return code == 0
    if code in (0, fmt.nar):
        return False
    if (numerator < 0) != (code > fmt.nar):
        return False
    if code > fmt.nar:
        code = (1 << fmt.nbits) - code
    bound = fmt.max_regime or fmt.nbits + 1
    for boundary, inside, least in ((2 * code - 1, 1, 1), (2 * code + 1, -1, fmt.maxpos)):
        if code == least:
            continue  # nothing rounds to 0 or beyond maxpos
        side = sign_of_difference(abs(numerator), denominator, e, split(boundary, fmt.nbits, fmt.es, bound))
        if side != inside and (side != 0 or code & 1):
            return False
    return True


def truth(operation: str, a: Real, b: Real) -> tuple[int, int, int]:
    """Exact result as numerator, positive denominator, power of two."""
    (m, e), (n, f) = a, b
    if operation == "mul":
        return m * n, 1, e + f
    if operation == "div":
        return (m if n > 0 else -m), abs(n), e - f
    if operation == "sub":
        n = -n
    low = min(e, f)
    return (m << (e - low)) + (n << (f - low)), 1, low


def wrong(operation: str, a: int, b: int, got: int, fmt: Format) -> bool:
    """Whether a result is not the exact one rounded."""
    if fmt.nar in (a, b) or (operation == "div" and b == 0):
        return got != fmt.nar
    return not is_rounded(got, *truth(operation, real(a, fmt), real(b, fmt)), fmt)


def pairs(count: int, seed: int, fmt: Format) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Codes of pairs: random, and built to be hard."""
    rng = np.random.Generator(np.random.Philox(seed))
    mask = np.uint64(fmt.code_mask)
    a, b = (rng.integers(0, 1 << 64, count, np.uint64, endpoint=False) & mask for _ in range(2))
    small = rng.integers(-2, 3, count).astype(np.int64).view(np.uint64)
    few = np.uint64(fmt.code_mask ^ ((1 << (fmt.nbits // 2)) - 1))
    kind = rng.integers(0, 8, count)
    one = np.uint64(fmt.nar >> 1)
    b = np.select(
        [kind == 0, kind == 1, kind == 2],
        [
            np.uint64(0) - a + small,
            np.uint64(2) * one - a + small,
            a + small,
        ],  # cancelling, reciprocal, equal
        b,
    )
    ends = rng.integers(1, 9, count).astype(np.uint64)
    a = np.where(
        kind == 3,
        np.where(b & np.uint64(1), ends, np.uint64(fmt.maxpos) - ends),
        a & np.where(kind == 1, few, mask),
    )
    b = np.where(kind == 2, b & few, b)
    return a & mask, b & mask


def check(block: tuple[str, int, int]) -> tuple[int, list[str]]:
    """Check one block of pairs in all operations; the number of results and the wrong ones."""
    name, seed, count = block
    fmt = Format.parse(name)
    a, b = pairs(count, seed, fmt)
    codes = a.astype(fmt.storage), b.astype(fmt.storage)
    left, right = a.tolist(), b.tolist()
    found = []
    for operation, run in OPERATIONS.items():
        results = run(*codes, fmt).tolist()
        for x, y, got in zip(left, right, results, strict=True):
            if wrong(operation, x, y, got, fmt):
                found.append(f"{name} {operation} {x:#x} {y:#x} gave {got:#x}")
    return 4 * count, found


def main(argv: list[str] | None = None) -> int:
    """Run the check; 0 if every result was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--formats", default="posit32,bposit32,posit64,bposit64")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args(argv)
    failed = 0
    with Progress() as progress, ProcessPoolExecutor(options.workers) as pool:
        for name in options.formats.split(","):
            task = progress.add_task(name, total=options.pairs)
            counts = [min(BLOCK, options.pairs - start) for start in range(0, options.pairs, BLOCK)]
            results, bad = 0, []
            for done, found in pool.map(check, [(name, seed, count) for seed, count in enumerate(counts)]):
                progress.advance(task, done / 4)
                results += done
                bad += found
            failed += len(bad)
            progress.console.print(
                f"{name}: {options.pairs} pairs, {results} results, {len(bad)} wrong", *bad[:20], sep="\n"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
