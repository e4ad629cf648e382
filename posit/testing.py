"""Property tests of accumulation: strategies for Hypothesis, and the question whether a function sums exactly.

A function is *exact* if its answer is the exact rational result rounded once to its format, for all operands; it
is *order independent* if permuting the terms changes no answer.  Any function can be asked: NumPy's, torch's, one
of `posit`, your own.  The failing message shows the smallest operands found, as values and codes, what was
returned and what is right.

The same from the shell: ``posit check-sum MODULE:FUNCTION``.  A guide is docs/testing.md.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from posit._array import PositArray
from posit.errors import FormatError, MissingReferenceError
from posit.formats import Format

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingReferenceError(
        "posit.testing draws its examples with Hypothesis, which is not installed: pip install hypothesis"
    ) from error

from posit._testing import strategies
from posit._testing.answers import Present
from posit._testing.cases import Kind
from posit._testing.numbers import PositNumbers, numbers_of
from posit._testing.options import Options
from posit._testing.report import message
from posit._testing.search import Question, search, trial
from posit.errors import CounterExample

__all__ = [
    "assert_accumulates_exactly",
    "assert_order_independent",
    "cancelling_sums",
    "factors",
    "near_ties",
    "posit_arrays",
    "posits",
    "range_ends",
    "summands",
]

Strategy = st.SearchStrategy
Number = int | float | Fraction


def posits(
    fmt: Format | str,
    *,
    min_value: Number | None = None,
    max_value: Number | None = None,
    allow_nar: bool = True,
) -> Strategy[PositArray]:
    """One posit, shape (): simple numbers, any power of two and fraction, the ends of the range, NaR.

    Shrinks to 0, 1 and small integers.

    Args:
        fmt: A posit format, or its name.
        min_value: Least value, itself included; NaR is not drawn where there is a bound.
        max_value: Greatest value.
        allow_nar: Whether NaR may be drawn.

    Raises:
        FormatError: no posit format, or no posit between the bounds.

    >>> import hypothesis
    >>> @hypothesis.given(posits("posit16", allow_nar=False))
    ... def test_twice_the_negative_is_the_posit(x):
    ...     assert -(-x) == x
    >>> test_twice_the_negative_is_the_posit()
    """
    numbers = _posit_numbers(fmt)
    return _codes(numbers, min_value, max_value, allow_nar).map(numbers.array)


def posit_arrays(
    fmt: Format | str,
    shape: "int | tuple[int, ...] | Strategy[int] | Strategy[tuple[int, ...]]",
    *,
    min_value: Number | None = None,
    max_value: Number | None = None,
    allow_nar: bool = True,
) -> Strategy[PositArray]:
    """Arrays of what `posits` draws.

    Args:
        fmt: A posit format, or its name.
        shape: A length, a shape, or a strategy of either.
        min_value: As for `posits`, and so are the others.
        max_value: Greatest value.
        allow_nar: Whether NaR may be among the elements.

    Raises:
        FormatError: no posit format, or no posit between the bounds.

    >>> import hypothesis
    >>> @hypothesis.given(posit_arrays("posit8", st.integers(0, 5), allow_nar=False))
    ... def test_opposites_cancel(x):
    ...     assert (x + -x == 0).all()
    >>> test_opposites_cancel()
    """
    numbers = _posit_numbers(fmt)
    elements = _codes(numbers, min_value, max_value, allow_nar)
    shapes = shape if isinstance(shape, Strategy) else st.just(shape)

    def filled(drawn: int | tuple[int, ...]) -> Strategy[PositArray]:
        final = (drawn,) if isinstance(drawn, int) else tuple(drawn)
        size = 1
        for length in final:
            size *= length
        flat = st.lists(elements, min_size=size, max_size=size)
        return flat.map(lambda codes: numbers.array(codes).reshape(final))

    return shapes.flatmap(filled)


def _posit_numbers(fmt: Format | str) -> PositNumbers:
    return PositNumbers(Format.parse(fmt))


def _codes(numbers: PositNumbers, low: Number | None, high: Number | None, allow_nar: bool) -> Strategy[int]:
    fmt = numbers.fmt
    if low is None and high is None:
        drawn = strategies.any_code(numbers)
        # of two equal ones a choice is drawn, as of the others: to Hypothesis the fewest choices are simplest
        return drawn | st.sampled_from((fmt.nar, fmt.nar)) if allow_nar else drawn
    first, last = _inside(low, fmt, -1), _inside(high, fmt, 1)
    if first > last:
        raise FormatError(f"no {fmt} lies between {low} and {high}")
    within = st.integers(first, last).map(lambda signed: signed & fmt.code_mask)
    small = [
        code for code in map(numbers.near, map(Fraction, range(-8, 9))) if first <= _signed(code, fmt) <= last
    ]
    small.sort(key=lambda code: (abs(_signed(code, fmt) - _signed(0, fmt)), code))
    return st.sampled_from(small) | within if small else within


def _signed(code: int, fmt: Format) -> int:
    return code - (fmt.code_mask + 1) if code > fmt.maxpos else code


def _inside(bound: Number | None, fmt: Format, side: int) -> int:
    """The signed code of the outermost posit within a bound (signed codes are in the order of values)."""
    if bound is None:
        return side * fmt.maxpos
    numbers = PositNumbers(fmt)
    code = numbers.near(Fraction(bound))
    value = numbers.value(code)
    beyond = value > bound if side > 0 else value < bound
    return _signed(code, fmt) - side * beyond


def summands(
    fmt: Format | str,
    *,
    min_size: int = 0,
    max_size: int = 40,
    long_size: int = 1000,
    special: bool = True,
) -> Strategy[Any]:
    """1-D arrays that find wrong sums: near ties, cancelling, range ends, plain and long ones, in several orders.

    Args:
        fmt: A posit format, whose arrays are `posit.PositArray`; or "float16", "bfloat16", "float32", "float64",
            whose arrays are NumPy's.
        min_size: Fewest elements.
        max_size: Most elements, but for one array in twelve, which has up to `long_size`.
        long_size: See above.
        special: Whether NaR, or NaN and infinities, may occur.

    Raises:
        FormatError: no such format.
    """
    options = Options(fmt, "sum", min_size=min_size, max_size=max_size, long_size=long_size, special=special)
    return strategies.cases(options).map(lambda case: case.operands(options.numbers)[0])


def factors(
    fmt: Format | str,
    *,
    min_size: int = 0,
    max_size: int = 40,
    long_size: int = 1000,
    special: bool = True,
) -> Strategy[Any]:
    """Pairs (a, b) of 1-D arrays of one length that find wrong dot products; arguments as for `summands`."""
    options = Options(fmt, "dot", min_size=min_size, max_size=max_size, long_size=long_size, special=special)
    return strategies.cases(options).map(lambda case: tuple(case.operands(options.numbers)))


def cancelling_sums(fmt: Format | str, *, max_size: int = 40) -> Strategy[Any]:
    """1-D arrays of numbers, small remainders and the numbers' opposites; `fmt` as for `summands`."""
    return _of_pattern(strategies.cancelling, fmt, max_size)


def near_ties(fmt: Format | str, *, max_size: int = 40) -> Strategy[Any]:
    """1-D arrays whose exact sum is, or lies just beside, a boundary of rounding; `fmt` as for `summands`."""
    return _of_pattern(strategies.near_ties, fmt, max_size)


def range_ends(fmt: Format | str, *, max_size: int = 40) -> Strategy[Any]:
    """1-D arrays of the smallest and the largest numbers, their neighbours and 1; `fmt` as for `summands`."""
    return _of_pattern(strategies.range_ends, fmt, max_size)


def _of_pattern(pattern: strategies.Pattern, fmt: Format | str, max_size: int) -> Strategy[Any]:
    numbers = numbers_of(fmt)
    return pattern(numbers, 1, max_size).map(lambda terms: numbers.array([term[0] for term in terms]))


def assert_accumulates_exactly(
    fn: Callable[..., Any],
    fmt: Format | str,
    *,
    kind: Kind = "sum",
    examples: int = 500,
    seed: int = 0,
    min_size: int = 0,
    max_size: int = 40,
    special: bool = True,
    operands: str | Present = "array",
    result: Format | str | None = None,
) -> None:
    """Assert that a function gives the exact sum, or sum of products, rounded once.

    Answers are compared by value: -0 equals 0.  NaN or NaR is right where an operand is NaR or NaN (for IEEE
    formats also for 0·inf and inf - inf) and nowhere else.  An exact IEEE result that rounds beyond the largest
    number is an infinity; a posit one saturates.  A function that raises on legal operands fails.

    Args:
        fn: Called as ``fn(x)``, ``fn(a, b)`` or ``fn(A, B)``; returns a number: Python's, NumPy's, a 0-d array,
            a posit of the right format, a torch scalar; for "matmul" an array.
        fmt: Of the operands: a posit format, or "float16", "bfloat16", "float32", "float64".
        kind: "sum" of one array (k,), "dot" of two, or "matmul" of (m, k) and (k, n).
        examples: How many operands are drawn before the function is believed.
        seed: The same seed draws the same examples in the same program.
        min_size: Fewest terms; 1 for a function to which an empty sum has no meaning (it is 0).
        max_size: Most terms, but for a few sums of up to 1000.
        special: Whether NaR, or NaN and infinities, are among the operands.
        operands: "array" (`posit.PositArray` or a NumPy array), "list" of their scalars, "torch" (`PositTensor`
            or a tensor), or your function of the array.
        result: Format of the answer, where it is not `fmt`.

    Raises:
        CounterExample: (an AssertionError) it does not; the message holds the smallest operands found.
        CheckError: the function cannot be called so, or an argument makes no sense.
        FormatError: no such format.

    >>> import posit, numpy
    >>> assert_accumulates_exactly(posit.sum, "posit8", examples=20)
    >>> assert_accumulates_exactly(numpy.sum, "float32")
    Traceback (most recent call last):
        ...
    posit.errors.CounterExample: sum is not exact on float32: ...
      x         [1.0, 5.9604645e-08, -1.0]
      codes     [0x3f800000, 0x33800000, 0xbf800000]
      returned  0.0 = 0x00000000
      expected  5.9604645e-08 = 0x33800000
      exactly   2**-24
    """
    options = Options(
        fmt, kind, examples, seed, min_size, max_size, max(max_size, 1000), special, operands, result
    )
    _assert(fn, options, "exact")


def assert_order_independent(
    fn: Callable[..., Any],
    fmt: Format | str,
    *,
    kind: Kind = "sum",
    examples: int = 500,
    seed: int = 0,
    min_size: int = 0,
    max_size: int = 40,
    special: bool = True,
    operands: str | Present = "array",
    result: Format | str | None = None,
) -> None:
    """Assert that the order of the terms changes no answer; it may be inexact.

    Up to four terms are tried in every order, more of them reversed, turned, sorted by place and shuffled.

    Args:
        fn: As for `assert_accumulates_exactly`, and so are the others.
        fmt: Format of the operands.
        kind: "sum", "dot" or "matmul".
        examples: How many operands are drawn, each tried in several orders.
        seed: The same seed draws the same examples.
        min_size: Fewest terms.
        max_size: Most terms, but for a few long sums.
        special: Whether NaR, or NaN and infinities, are among the operands.
        operands: How they are handed over.
        result: Format of the answer, where it is not `fmt`.

    Raises:
        CounterExample: (an AssertionError) it does; the message holds operands, both orders and both answers.
        CheckError: the function cannot be called so, or an argument makes no sense.
        FormatError: no such format.

    >>> import math
    >>> assert_order_independent(max, "float64", operands="list", examples=20, min_size=1, special=False)
    """
    options = Options(
        fmt, kind, examples, seed, min_size, max_size, max(max_size, 1000), special, operands, result
    )
    _assert(fn, options, "order independent")


def _assert(fn: Callable[..., Any], options: Options, question: Question) -> None:
    trial(fn, options)
    finding = search(fn, options, question)
    if finding is not None:
        raise CounterExample(message(fn, finding, options))
