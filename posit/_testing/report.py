"""What is said of a counter-example."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

from posit._testing.answers import Answer, same
from posit._testing.cases import Case
from posit._testing.numbers import Numbers, Value
from posit._testing.options import Options
from posit._testing.search import Finding

_WHOLE = 24  # longer sequences are written with repetitions


def name_of(fn: Callable[..., Any]) -> str:
    """What to call a function in a message."""
    return getattr(fn, "__name__", None) or repr(fn)[:60]


def message(fn: Callable[..., Any], finding: Finding, options: Options) -> str:
    """A headline and the description."""
    return f"{headline(name_of(fn), finding, options)}\n{description(finding, options)}"


def headline(name: str, finding: Finding, options: Options) -> str:
    """What is wrong, in a sentence."""
    on = f"on {options.numbers.name}"
    if finding.answer.problem or (finding.reordered and finding.reordered.problem):
        hint = "; where an empty sum has no meaning, ask from one term on (min_size 1)"
        return f"{name} gives no answer {on}{hint if not finding.case.length else ''}:"
    if finding.reordered:
        return f"{name} depends on the order of its terms {on}:"
    what = "sum" if options.kind == "sum" else "sum of products"
    return f"{name} is not exact {on}: the exact {what}, rounded once to {options.target.name}, is another"


def description(finding: Finding, options: Options) -> str:
    """The operands as values and codes, what was returned, and what is right, one indented line each.

    Where several results came at once (a matrix product), all are given, in C order.
    """
    lines = _operands(finding.case, options.numbers)
    exact = finding.case.exact(options.numbers)
    if finding.order is not None and finding.reordered is not None:
        lines.append(("returned", _answer(finding.answer, options.target)))
        lines.append(("in order", f"[{', '.join(map(str, finding.order))}]"))
        lines.append(("returned", _answer(finding.reordered, options.target)))
    else:
        lines.append(("returned", _answer(finding.answer, options.target)))
    target = options.target
    lines.append(("expected", _all([_coded(target.nearest(value), target) for value in exact])))
    lines.append(("exactly", _all([written(value) for value in exact])))
    return "\n".join(f"  {label:9} {text}" for label, text in lines)


def _operands(case: Case, numbers: Numbers) -> list[tuple[str, str]]:
    if case.kind == "sum":
        return _vector("x", case.rows[0], numbers)
    if case.kind == "dot":
        return _vector("a", case.rows[0], numbers) + _vector("b", case.columns[0], numbers)
    lines = []
    for i, row in enumerate(case.rows):
        lines += _vector(f"A[{i}]", row, numbers)
    for j, column in enumerate(case.columns):
        lines += _vector(f"B[:, {j}]", column, numbers)
    return lines


def _vector(label: str, codes: Sequence[int], numbers: Numbers) -> list[tuple[str, str]]:
    return [
        (label, _listed([numbers.text(code) for code in codes])),
        ("codes", _listed([_hex(code, numbers) for code in codes])),
    ]


def _listed(parts: list[str]) -> str:
    runs = [(part, len(list(group))) for part, group in groupby(parts)]
    if len(parts) > _WHOLE and 3 * len(runs) < len(parts):
        return " + ".join(f"[{part}] * {count}" for part, count in runs) + f"  ({len(parts)} terms)"
    return f"[{', '.join(parts)}]"


def _hex(code: int, numbers: Numbers) -> str:
    return f"0x{code:0{(numbers.nbits + 3) // 4}x}"


def _coded(code: int, numbers: Numbers) -> str:
    return f"{numbers.text(code)} = {_hex(code, numbers)}"


def _all(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else "; ".join(texts)


def _answer(answer: Answer, target: Numbers) -> str:
    if answer.problem:
        return answer.problem.removeprefix("returned ")
    return _all([_returned(value, answer.kind, target) for value in answer.values])


def _returned(value: Value, kind: str, target: Numbers) -> str:
    code = target.nearest(value)
    if same(target.value(code), value):
        return _coded(code, target)
    return f"{written(value)}, not a {target.name} number" + (f" (a {kind})" if kind else "")


def written(value: Value) -> str:
    """A dyadic rational in full: decimal where that is short, else powers of two.

    >>> written(Fraction(5, 4)), written(Fraction(2)**80 - 1), written(Fraction(0x123456789ABCDEF, 2**200))
    ('1.25', '2**80 - 1', '81985529216486895 * 2**-200')
    """
    if isinstance(value, float):
        return str(value)
    top = max(abs(value.numerator).bit_length(), value.denominator.bit_length())
    if top <= 64:
        places = value.denominator.bit_length() - 1
        digits = f"{abs(value.numerator) * 5**places:0{places + 1}d}"  # times 10**places
        plain = f"{digits[:-places]}.{digits[-places:]}" if places else digits
        if len(plain) <= 24:
            return "-" + plain if value < 0 else plain
    powers = " ".join(_signed_powers(value)).removeprefix("+ ")
    twos = (value.numerator & -value.numerator).bit_length() - 1
    product = f"{value.numerator >> twos} * 2**{twos + 1 - value.denominator.bit_length()}"
    return min(powers.replace("- ", "-", 1) if powers[0] == "-" else powers, product, key=len)


def _signed_powers(value: Fraction) -> list[str]:
    """The value as few signed powers of two, largest first (non-adjacent form)."""
    low = 1 - value.denominator.bit_length()
    rest, parts, exponent = value.numerator, [], low
    while rest:
        if rest & 1:
            digit = 2 - rest % 4
            rest -= digit
            power = "1" if exponent == 0 else f"2**{exponent}"
            parts.append(f"{'+' if digit > 0 else '-'} {power}")
        rest >>= 1
        exponent += 1
    return parts[::-1]
