"""Making a counter-example smaller after Hypothesis: fewer terms, then simpler numbers.

Hypothesis shrinks what was drawn.  Terms computed from others (opposites, the one that completes a tie) do not
shrink one by one, so here all numbers of one magnitude change together.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from posit._testing.cases import Case, Kind, Vector
from posit._testing.numbers import Numbers, floor_log2

if TYPE_CHECKING:
    from posit._testing.search import Finding

_MOST_CALLS = 1000  # a bound on the time that a slow function may take

Ask = Callable[[Case], "Finding | None"]


def simplified(finding: "Finding", ask: Ask, numbers: Numbers, min_size: int) -> "Finding":
    """A finding of the same kind whose case cannot be made smaller by the steps here."""
    calls, improved = 0, True
    while improved:
        improved = False
        for smaller in _smaller(finding.case, numbers, min_size):
            calls += 1
            if calls > _MOST_CALLS:
                return finding
            found = ask(smaller)
            if found is not None and bool(found.answer.problem) == bool(finding.answer.problem):
                finding, improved = found, True
                break
    return finding


def tiny_cases(kind: Kind, numbers: Numbers, min_size: int) -> Iterator[Case]:
    """Every sum of up to three terms from a few telling numbers, shortest and simplest first.

    Most wrong accumulators fail on one of them, and no counter-example reads better.
    """
    one = numbers.near(Fraction(1))
    half_unit = numbers.boundary(one) - 1
    values = [Fraction(i) for i in (1, 0, -1)] + [half_unit, -half_unit, 1 / half_unit, half_unit / 2**12]
    codes = list(dict.fromkeys([*map(numbers.near, values), numbers.maxpos]))
    for length in range(min_size, 4):
        for row in product(codes, repeat=length):
            yield Case(kind, (row,), () if kind == "sum" else ((one,) * length,))


def _smaller(case: Case, numbers: Numbers, min_size: int) -> Iterator[Case]:
    yield from _shorter(case, min_size)
    if case.kind == "matmul":
        for i in range(len(case.rows) if len(case.rows) > 1 else 0):
            yield Case(case.kind, case.rows[:i] + case.rows[i + 1 :], case.columns)
        for j in range(len(case.columns) if len(case.columns) > 1 else 0):
            yield Case(case.kind, case.rows, case.columns[:j] + case.columns[j + 1 :])
    yield from _turned(case, numbers, min_size)
    yield from _rescaled(case, numbers)
    yield from _simpler(case, numbers)


def _shorter(case: Case, min_size: int) -> Iterator[Case]:
    """Without a half, a quarter, … or one of the terms."""
    n = case.length
    chunk = n // 2 or n
    while chunk:
        for start in range(0, n, chunk):
            kept = [i for i in range(n) if not start <= i < start + chunk]
            if len(kept) >= min_size:
                yield case.take(kept)
        chunk //= 2


def _turned(case: Case, numbers: Numbers, min_size: int) -> Iterator[Case]:
    """Without its zeros, begun elsewhere: a function that groups terms by place may need another order."""
    vectors = case.rows + case.columns
    kept = [i for i in range(case.length) if any(numbers.value(vector[i]) != 0 for vector in vectors)]
    if min_size <= len(kept) < case.length:
        for start in range(len(kept)):
            yield case.take(kept[start:] + kept[:start])


def _rescaled(case: Case, numbers: Numbers) -> Iterator[Case]:
    """All numbers times a power of two, so that one of them comes to 2**0."""
    real = [abs(value) for value in _values(case, numbers) if value]
    for shift in sorted({floor_log2(value) for value in real}):
        if shift == 0:
            continue
        factor = Fraction(2) ** -shift
        moved = _mapped(case, lambda value, factor=factor: value * factor, numbers)  # type: ignore[misc]
        if moved is not None and _weight(moved, numbers) < _weight(case, numbers):
            yield moved


def _simpler(case: Case, numbers: Numbers) -> Iterator[Case]:
    """One magnitude replaced wherever it occurs; then one number at one place."""
    magnitudes = sorted({abs(value) for value in _values(case, numbers)}, key=_cost, reverse=True)
    for old in magnitudes:
        for new in _simpler_numbers(old):
            change = {old: new, -old: -new}
            moved = _mapped(case, lambda value, change=change: change.get(value, value), numbers)  # type: ignore[misc]
            if moved is not None:
                yield moved
    vectors = case.rows + case.columns
    for v, vector in enumerate(vectors):
        for i, code in enumerate(vector):
            for value in _replacements(code, numbers):
                new_code = numbers.near(value)
                if numbers.value(new_code) == value:
                    changed = (*vector[:i], new_code, *vector[i + 1 :])
                    yield _of_vectors(case, (*vectors[:v], changed, *vectors[v + 1 :]))


def _replacements(code: int, numbers: Numbers) -> Iterator[Fraction]:
    value = numbers.value(code)
    if isinstance(value, float):
        yield from (Fraction(1), Fraction(0))
        return
    if value < 0:
        yield -value
    for new in _simpler_numbers(abs(value)):
        yield new if value > 0 else -new


def _simpler_numbers(old: Fraction) -> list[Fraction]:
    """Numbers that cost less than `old`, cheapest first."""
    candidates = [Fraction(i) for i in (0, 1, 2, 3, 4)]
    if old:
        scale = floor_log2(old)
        power = Fraction(2) ** scale
        candidates += [power, 2 * power, power / 2, Fraction(2) ** (scale // 2)]
        for bits in (1, 2, 3, 5, 8, 12):
            candidates.append(int(old / power * 2**bits) * power / 2**bits)
        candidates.append(old * 2 if scale < 0 else old / 2)
    return sorted({c for c in candidates if _cost(c) < _cost(old)}, key=_cost)


def _cost(value: Fraction) -> tuple[int, int, bool]:
    """Zero is simplest, then 1, then numbers of few bits and small exponents."""
    if not value:
        return 0, 0, False
    magnitude = abs(value)
    odd = magnitude.numerator // (magnitude.numerator & -magnitude.numerator)
    return odd.bit_length(), abs(floor_log2(magnitude)), value < 0


def _weight(case: Case, numbers: Numbers) -> tuple[int, int]:
    costs = [_cost(value) for value in _values(case, numbers)]
    return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)


def _values(case: Case, numbers: Numbers) -> list[Fraction]:
    every = [numbers.value(code) for vector in case.rows + case.columns for code in vector]
    return [value for value in every if isinstance(value, Fraction)]


def _mapped(case: Case, change: Callable[[Fraction], Fraction], numbers: Numbers) -> Case | None:
    """The case with every real number changed, or None where one is not representable."""
    vectors = []
    for vector in case.rows + case.columns:
        codes: list[int] = []
        for code in vector:
            value = numbers.value(code)
            if isinstance(value, Fraction):
                wanted = change(value)
                code = numbers.near(wanted)
                if numbers.value(code) != wanted:
                    return None
            codes.append(code)
        vectors.append(tuple(codes))
    return _of_vectors(case, tuple(vectors))


def _of_vectors(case: Case, vectors: tuple[Vector, ...]) -> Case:
    rows = len(case.rows)
    return Case(case.kind, vectors[:rows], vectors[rows:])
