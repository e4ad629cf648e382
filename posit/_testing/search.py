"""The search: draw cases with Hypothesis, take the smallest that fails, make it smaller still."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Any, Literal

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity

from posit._testing.answers import Answer, ask, same
from posit._testing.cases import Case, Kind
from posit._testing.options import Options
from posit._testing.simplify import simplified, tiny_cases
from posit._testing.strategies import cases
from posit.errors import CheckError

_MOST_SHRINKS = 200  # calls in which Hypothesis makes a failure smaller

Question = Literal["exact", "order independent"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A wrong answer: the case, what was returned and, where the order matters, the order and the other answer."""

    case: Case
    answer: Answer
    order: tuple[int, ...] | None = None
    reordered: Answer | None = None


def trial(fn: Callable[..., Any], options: Options) -> None:
    """One harmless call, so that a function that cannot be checked is not called inexact.

    Raises:
        CheckError: it is no function, raises, or answers with no number of the right shape.
    """
    if not callable(fn):
        raise CheckError(f"a function is checked, got {type(fn).__name__} {fn!r}"[:300])
    numbers = options.numbers
    ones = (numbers.nearest(Fraction(1)),) * max(2, options.min_size)
    case = Case(options.kind, (ones,), () if options.kind == "sum" else (ones,))
    answer = call(fn, case, options)
    if answer.problem:
        name = getattr(fn, "__name__", "the function")
        raise CheckError(
            f"{name} cannot be checked as a {options.kind}: called with {_CALLS[options.kind]} of {numbers.name}, "
            f"all ones, it {answer.problem}"
        )


def call(fn: Callable[..., Any], case: Case, options: Options) -> Answer:
    """The function's answer to a case, from fresh operands."""
    operands = [options.present(array) for array in case.operands(options.numbers)]
    return ask(fn, operands, case.shape, options.target)


def wrong_value(fn: Callable[..., Any], case: Case, options: Options) -> Finding | None:
    """What is wrong with the answer to a case, if anything."""
    answer = call(fn, case, options)
    target = options.target
    if answer.problem:
        return Finding(case, answer)
    wanted = [target.value(target.nearest(value)) for value in case.exact(options.numbers)]
    right = all(same(x, y) for x, y in zip(answer.values, wanted, strict=True))
    return None if right else Finding(case, answer)


def order_matters(fn: Callable[..., Any], case: Case, options: Options) -> Finding | None:
    """Two orders of the same terms with two answers, if there are."""
    first = call(fn, case, options)
    if first.problem:
        return Finding(case, first)
    for order in case.orders(options.seed):
        other = call(fn, case.take(order), options)
        if other.problem or not all(same(x, y) for x, y in zip(first.values, other.values, strict=True)):
            return Finding(case, first, order, other)
    return None


_QUESTIONS: dict[Question, Callable[..., Finding | None]] = {
    "exact": wrong_value,
    "order independent": order_matters,
}


_CALLS: dict[Kind, str] = {
    "sum": "one array (k,)",
    "dot": "two arrays (k,)",
    "matmul": "arrays (1, k) and (k, 1)",
}


class _Found(Exception):
    """Carries a failure through Hypothesis, which makes it smaller."""


class _Enough(BaseException):
    """Leaves Hypothesis at once: no Exception, so that it is not taken for a failure to be made smaller."""


def search(
    fn: Callable[..., Any], options: Options, question: Question, on_example: Callable[[], None] | None = None
) -> Finding | None:
    """The smallest counter-example found, or None; `trial` has shown that the function can be called.

    After the first failure a few hundred tiny cases are tried; where they all pass, Hypothesis shrinks the
    failure, and `simplified` what it leaves.

    Args:
        on_example: Called before each example, for a progress bar; also while a failure is made smaller.
    """
    found: list[Finding] = []
    shrinking = count()

    def ask_about(case: Case) -> Finding | None:
        return _QUESTIONS[question](fn, case, options)

    def attempt(case: Case) -> None:
        if on_example:
            on_example()
        finding = ask_about(case)
        tiny = _first_tiny(ask_about, options) if finding and not found else None
        if finding:
            found[:] = [tiny or finding]
        if tiny or (found and next(shrinking) > _MOST_SHRINKS):
            raise _Enough
        if finding:
            raise _Found  # in one place only: Hypothesis tells failures apart by their line

    try:
        _examples(options)(attempt)()
    except (_Found, _Enough):
        return simplified(found[0], ask_about, options.numbers, options.min_size)
    except hypothesis.errors.Flaky:  # other answers to the same operands: one of them was wrong
        return found[0]
    return None


def _first_tiny(ask_about: Callable[[Case], Finding | None], options: Options) -> Finding | None:
    findings = map(ask_about, tiny_cases(options.kind, options.numbers, options.min_size))
    return next(filter(None, findings), None)


def _examples(options: Options) -> Callable[[Callable[[Case], None]], Callable[[], None]]:
    """The decorator that runs a test on cases."""

    def decorate(test: Callable[[Case], None]) -> Callable[[], None]:
        return hypothesis.seed(options.seed)(
            _settings(options.examples)(hypothesis.given(cases(options))(test))
        )

    return decorate


def _settings(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        derandomize=False,  # the seed decides
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
