"""Where SoftPosit differs from the exact oracle: searched function by function, and written as a page of the docs.

    python -m tests.exhaustive.survey [--pairs softposit-pairs.json] [--output docs/softposit.md]

Every function that `posit.reference.softposit` binds is called on corners (codes near 0, NaR, ±1 and the ends of the
range) and on random codes; answers that differ are grouped by where the operands and the right answer lie.  The page
holds what these runs found and nothing else; --pairs adds the result of the exhaustive run of `tests.exhaustive.pairs`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np

from posit import Format
from posit.reference import exact, softposit

SEED = 2022
RANDOM = 300
ENDS = 16  # codes from ±maxpos, ±minpos that count as an end of the range

PX2 = tuple(Format(n) for n in (5, 8, 10, 11, 12, 16, 20, 24, 31))
OWN = (Format(8, 0), Format(16, 1), Format(32))
CASES = [(operation, fmt) for operation in softposit.OPERATIONS for fmt in (*OWN, *PX2)]


@dataclass
class Finding:
    """One function of one format: how many inputs were tried, and how its wrong answers are distributed."""

    function: str
    fmt: Format
    tried: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  #: the first of each kind


def right_answer(operation: str, codes: tuple[int, ...], fmt: Format) -> int:
    """What the definition demands."""
    values = [exact.value(code, fmt) for code in codes]
    reals = [value for value in values if value is not None]
    if len(reals) < len(values):
        return fmt.nar
    if operation == "sqrt":
        return fmt.nar if reals[0] < 0 else _root(reals[0], fmt)
    if operation == "div" and reals[1] == 0:
        return fmt.nar
    return exact.nearest(_result(operation, reals), fmt)


def _result(operation: str, x: list[Fraction]) -> Fraction:
    if operation == "roundToInt":
        return Fraction(round(x[0]))
    if operation == "mulAdd":
        return x[0] * x[1] + x[2]
    return {"add": x[0] + x[1], "sub": x[0] - x[1], "mul": x[0] * x[1], "div": x[0] / (x[1] or 1)}[operation]


def _root(x: Fraction, fmt: Format) -> int:
    """Nearest code of sqrt(x), by comparing squares of rounding boundaries."""
    if x == 0:
        return 0
    low, high = 0, fmt.maxpos  # boundary(low)**2 < x
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exact.boundary(middle, fmt) ** 2 < x else (low, middle)
    code = high
    if code < fmt.maxpos and exact.boundary(code, fmt) ** 2 == x:
        code += code % 2
    return code


def inputs(fmt: Format, operands: int) -> Iterator[tuple[int, ...]]:
    """Corners in every combination, then random codes, half of them with one corner."""
    near_one = 1 << (fmt.nbits - 2)
    reach = 4 if operands < 3 else 2
    centres = (0, fmt.nar, near_one, fmt.code_mask + 1 - near_one)
    corners = sorted(
        {(centre + step) & fmt.code_mask for centre in centres for step in range(-reach, reach + 1)}
    )
    yield from product(corners, repeat=operands)
    random = np.random.default_rng(SEED)
    codes = random.integers(0, 1 << fmt.nbits, (RANDOM, operands))
    codes[::2, 0] = random.choice(corners, len(codes[::2]))
    yield from (tuple(int(code) for code in row) for row in codes)


def _region(code: int, fmt: Format) -> str:
    if code in (0, fmt.nar):
        return "0" if code == 0 else "NaR"
    magnitude = min(code, (1 << fmt.nbits) - code)
    if magnitude <= ENDS:
        return "near ±minpos"
    return "near ±maxpos" if magnitude >= fmt.nar - ENDS else "elsewhere"


def search(operation: str, fmt: Format) -> Finding:
    """Call one C function on all its inputs and sort what differs by the right answer's region."""
    binding = softposit.bind(operation, fmt)
    finding = Finding(f"{binding.function.__name__}", fmt)
    for codes in inputs(fmt, binding.operands):
        finding.tried += 1
        theirs, right = binding(*codes), right_answer(operation, codes, fmt)
        if theirs != right:
            kind = f"right answer {_region(right, fmt)}"
            finding.kinds[kind] += 1
            shown = ", ".join(f"{code:#x}" for code in codes)
            finding.examples.setdefault(kind, f"({shown}) gives {theirs:#x}, must be {right:#x}")
    return finding


PAGE = """# Where SoftPosit differs from the exact oracle

Written by `python -m tests.exhaustive.survey` (random seed {seed}); do not edit. The oracle is `posit.reference.exact`
(rational numbers); SoftPosit is the wheel `softposit` {version}, called through `posit.reference.softposit`.
"Near" an end means within {ends} codes of it. Functions are called on every combination of corner codes (near 0, NaR
and ±1) and on {random} random operands, half of them with one corner.

## Functions that differ

{differing}
## Functions that answered rightly on every input tried

{agreeing}
## All pairs of 16 bits

{pairs}"""


def render(findings: list[Finding], pairs: Path | None) -> str:
    """The page."""
    rows = ["| function | format | inputs | wrong | where | example |", "|---|---|---|---|---|---|"]
    for finding in findings:
        for kind, count in sorted(finding.kinds.items()):
            cells = [f"`{finding.function}`", str(finding.fmt), str(finding.tried), str(count), kind]
            rows.append(f"| {' | '.join(cells)} | {finding.examples[kind]} |")
    right = ["| function | format | inputs |", "|---|---|---|"]
    right += [f"| `{f.function}` | {f.fmt} | {f.tried} |" for f in findings if not f.kinds]
    return PAGE.format(
        seed=SEED,
        version=_version(),
        ends=ENDS,
        random=RANDOM,
        differing="\n".join(rows) + "\n",
        agreeing="\n".join(right) + "\n",
        pairs=_pairs(pairs),
    )


def _version() -> str:
    from importlib.metadata import version

    return version("softposit")


def _pairs(path: Path | None) -> str:
    if path is None or not path.exists():
        return "Not part of this run: `python -m tests.exhaustive.pairs` compares all 2³² pairs and writes a file for it.\n"
    rows = [
        "| operation | format | pairs | differences | ours wrong | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for outcome in json.loads(path.read_text()):
        cells = [outcome[key] for key in ("operation", "format", "pairs", "differences", "ours_wrong")]
        rows.append(f"| {' | '.join(str(cell) for cell in cells)} | {outcome['seconds']:.0f} |")
    return "\n".join(rows) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Search every function and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive.survey", description=__doc__)
    parser.add_argument("--pairs", type=Path, help="results of tests.exhaustive.pairs, to be shown too")
    parser.add_argument("--output", type=Path, default=Path("docs/softposit.md"))
    given = parser.parse_args(argv)
    findings = []
    for operation, fmt in CASES:
        findings.append(search(operation, fmt))
        wrong = sum(findings[-1].kinds.values())
        sys.stderr.write(f"{findings[-1].function} {fmt}: {wrong} of {findings[-1].tried} differ\n")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(render(findings, given.pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
