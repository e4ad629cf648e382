"""Where SoftPosit differs from the exact oracle: searched function by function, written as a page of docs.

    python -m tests.exhaustive.survey [--pairs softposit-pairs.json] [--output docs/softposit.md]

Every function that `posit.reference.softposit` offers is called on the inputs of `tests.exhaustive.inputs`;
wrong answers are grouped by where the right one lies.  The page holds what these runs found and nothing else;
--pairs adds the result of the exhaustive run of `tests.exhaustive.pairs`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from posit import Format
from posit.reference import exact, softposit
from tests.exhaustive.inputs import corners, mixed, operands

SEED = 2022
RANDOM = 3000
ENDS = 16  # codes from ±maxpos, ±minpos that count as an end of the range

PX2 = tuple(Format(n) for n in (5, 8, 10, 11, 12, 16, 20, 24, 31))
OWN = (Format(8, 0), Format(16, 1), Format(32))


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


def _region(code: int, fmt: Format) -> str:
    if code in (0, fmt.nar):
        return "0" if code == 0 else "NaR"
    magnitude = min(code, (1 << fmt.nbits) - code)
    if magnitude <= ENDS:
        return "near ±minpos"
    return "near ±maxpos" if magnitude >= fmt.nar - ENDS else "elsewhere"


def _note(finding: Finding, kind: str, example: str) -> None:
    finding.kinds[kind] += 1
    finding.examples.setdefault(kind, example)


def search(operation: str, fmt: Format, *, generic: bool = False) -> Finding:
    """Call one arithmetic function on all its inputs and sort what differs by the right answer's region."""
    binding = softposit.bind(operation, fmt, generic=generic)
    finding = Finding(binding.function.__name__, fmt)
    count = 6 * RANDOM if fmt in OWN else RANDOM
    for codes in operands(fmt, count, binding.operands, SEED):
        finding.tried += 1
        theirs, right = binding(*codes), right_answer(operation, codes, fmt)
        if theirs != right:
            shown = ", ".join(f"{code:#x}" for code in codes)
            kind = f"right answer {_region(right, fmt)}"
            _note(finding, kind, f"({shown}) gives {theirs:#x}, must be {right:#x}")
    return finding


def search_conversion(conversion: str, fmt: Format) -> Finding:
    """Compare a conversion with the oracle; integers that do not fit have no answer and are left out."""
    finding = Finding(conversion, fmt)
    bits = 32 if conversion.endswith("32") else 64
    for operand in _conversion_inputs(conversion, fmt, bits):
        right = _converted(conversion, operand, fmt, bits)
        if right is None:
            continue
        finding.tried += 1
        theirs = softposit.convert(conversion, operand, fmt)
        if theirs != right and not np.isnan([theirs, right]).all():
            given = f"{int(operand):#x}" if conversion.startswith("to") else f"{operand!r}"
            kind = "NaR" if operand == fmt.nar and conversion.startswith("to") else "a real number"
            _note(finding, kind, f"{given} gives {_text(theirs)}, must be {_text(right)}")
    return finding


def _text(answer: float) -> str:
    return hex(answer) if isinstance(answer, int) else repr(answer)


def _conversion_inputs(conversion: str, fmt: Format, bits: int) -> list[float]:
    random = np.random.default_rng(SEED)
    if conversion.startswith("to"):
        return [*corners(fmt, 8), *mixed(random, RANDOM, fmt)]
    if conversion == "from_double":
        exponents = random.integers(fmt.min_scale - 8, fmt.max_scale + 9, RANDOM)
        drawn = np.ldexp(random.uniform(-2, 2, RANDOM), exponents).tolist()
        return [0.0, float("nan"), float("inf"), -float("inf"), *np.ldexp(1.0, exponents).tolist(), *drawn]
    edges = [sign * (2**k + step) for k in range(bits - 1) for sign in (1, -1) for step in (-1, 0, 1)]
    drawn = random.integers(-(2**30), 2**30, RANDOM).tolist()
    return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, *edges, *drawn]


def _converted(conversion: str, operand: float, fmt: Format, bits: int) -> float | None:
    if conversion.startswith("to"):
        real = exact.value(int(operand), fmt)
        if conversion == "to_double":
            return float("nan") if real is None else float(real)
        whole = -(2 ** (bits - 1)) if real is None else round(real)
        return whole if -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1) else None
    if not np.isfinite(operand) or (conversion != "from_double" and operand == -(2 ** (bits - 1))):
        return fmt.nar
    return exact.nearest(Fraction(operand), fmt)


def search_quire(fmt: Format) -> Finding:
    """Sums of three products in SoftPosit's quire."""
    finding = Finding(f"q{fmt.nbits}_fdp_add", fmt)
    random = np.random.default_rng(SEED)
    columns = [mixed(random, 6 * RANDOM, fmt) for _ in range(6)]
    for a, b, c, x, y, z in zip(*columns, strict=True):
        finding.tried += 1
        right, theirs = exact.dot([a, b, c], [x, y, z], fmt), softposit.fused_dot([a, b, c], [x, y, z], fmt)
        if theirs != right:
            shown = ", ".join(f"{p:#x}·{q:#x}" for p, q in ((a, x), (b, y), (c, z)))
            kind = f"right answer {_region(right, fmt)}"
            _note(finding, kind, f"{shown} gives {theirs:#x}, must be {right:#x}")
    return finding


def search_all() -> Iterator[Finding]:
    """Every function of every format."""
    for operation in softposit.OPERATIONS:
        for fmt in (*OWN, *PX2):
            yield search(operation, fmt)
        yield search(operation, Format(32), generic=True)
    for conversion in softposit.CONVERSIONS:
        for fmt in (*OWN, Format(8), Format(16)):
            yield search_conversion(conversion, fmt)
    for fmt in (Format(16, 1), Format(32)):
        yield search_quire(fmt)


PAGE = """# Where SoftPosit differs from the exact oracle

Written by `python -m tests.exhaustive.survey` (random seed {seed}); do not edit. The oracle is
`posit.reference.exact` (rational numbers); SoftPosit is the wheel `softposit` {version}, called through
`posit.reference.softposit`. "Near" an end means within {ends} codes of it. Each function is called on every
combination of corner codes and on drawn inputs (random codes, codes with few significant bits, codes next to
the ends of the range and ±1; for fused multiply-add as many again with a tiny addend). The counts are counts
of wrong answers among these inputs, which are chosen to be hard: they are no error rates.

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
        differing="\n".join(rows) + "\n",
        agreeing="\n".join(right) + "\n",
        pairs=_pairs(pairs),
    )


def _version() -> str:
    from importlib.metadata import version

    return version("softposit")


def _pairs(path: Path | None) -> str:
    if path is None or not path.exists():
        return "Not part of this run: `python -m tests.exhaustive.pairs` compares all 2³² pairs.\n"
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
    for finding in search_all():
        findings.append(finding)
        wrong = sum(finding.kinds.values())
        sys.stderr.write(f"{finding.function} {finding.fmt}: {wrong} of {finding.tried} differ\n")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(render(findings, given.pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
