"""Hypothesis strategies for operands: plain ones, and those that find wrong accumulators.

Every pattern is a list of terms, (x,) for a sum and (a, b) for a sum of products.  Drawn integers are arranged
so that the small ones, to which Hypothesis shrinks, are the simple values: 0, 1, small integers.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from hypothesis import strategies as st

from posit._testing.cases import Case, Term, exact_product, exact_sum
from posit._testing.numbers import Numbers, floor_log2
from posit._testing.options import Options

Draw = st.DrawFn
_SIMPLE = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, 7, 8, 16)


@st.composite
def codes(draw: Draw, numbers: Numbers, spread: int | None = None) -> int:
    """A real number: sign, power of two and fraction, of any size or within 2**±spread; zero now and then."""
    low, high = scales(numbers)
    if spread is not None:
        low, high = max(low, -spread), min(high, spread)
    rest = draw(st.integers(0, 2 * (high - low + 1) * (1 << numbers.nbits) - 1))
    rest, negative = divmod(rest, 2)
    fraction, step = divmod(rest, high - low + 1)
    scale = min(max(0, low), high) + _zigzag(step, low, high)
    significand = 1 + Fraction(int(f"{fraction:b}"[::-1], 2), 1 << max(1, fraction.bit_length()))
    if fraction == 0 and step == 0 and negative:
        return 0
    return real(significand * Fraction(2) ** scale * (-1) ** negative, numbers)


def _zigzag(step: int, low: int, high: int) -> int:
    """0, 1, -1, 2, -2, … within low .. high, then what is left of the longer side (0 is between them)."""
    if low > 0 or high < 0:
        return step if low > 0 else -step
    short = min(-low, high)
    if step <= 2 * short:
        return (step + 1) // 2 * (1 if step % 2 else -1)
    return (step - short) * (1 if high > -low else -1)


@lru_cache(maxsize=64)
def scales(numbers: Numbers) -> tuple[int, int]:
    """Powers of two of the smallest and the largest positive number."""
    return floor_log2(value_of(1, numbers)), floor_log2(value_of(numbers.maxpos, numbers))


def value_of(code: int, numbers: Numbers) -> Fraction:
    """The value of a code that is known to be a real number."""
    value = numbers.value(code)
    assert isinstance(value, Fraction)
    return value


def real(value: Fraction, numbers: Numbers) -> int:
    """Code of the nearest real number, never an infinity."""
    code = numbers.near(value)
    if code not in numbers.special:
        return code
    largest = value_of(numbers.maxpos, numbers)
    return numbers.near(largest if value > 0 else -largest)


@lru_cache(maxsize=64)
def simple(numbers: Numbers) -> st.SearchStrategy[int]:
    """Small integers."""
    return st.sampled_from(list(dict.fromkeys(real(Fraction(i), numbers) for i in _SIMPLE)))


@lru_cache(maxsize=64)
def ends(numbers: Numbers) -> st.SearchStrategy[int]:
    """Both ends of the range with their neighbours, and 1."""
    positive = [value_of(code, numbers) for code in (1, numbers.maxpos, 2, numbers.maxpos - 1)]
    both = [numbers.near(sign * value) for value in positive for sign in (1, -1)]
    return st.sampled_from([real(Fraction(1), numbers), *both])


@lru_cache(maxsize=64)
def any_code(numbers: Numbers) -> st.SearchStrategy[int]:
    """Any real number, simple ones and corners often."""
    return st.one_of(simple(numbers), codes(numbers, 8), codes(numbers), ends(numbers))


def _terms(elements: st.SearchStrategy[int], width: int, size: int) -> st.SearchStrategy[list[Term]]:
    term: st.SearchStrategy[Term] = st.tuples(*[elements] * width)
    return st.integers(0, max(size, 0)).flatmap(lambda n: st.lists(term, min_size=n, max_size=n))


@st.composite
def plain(draw: Draw, numbers: Numbers, width: int, size: int) -> list[Term]:
    """Numbers of similar size, of any size, or small integers."""
    elements = draw(st.sampled_from([simple(numbers), codes(numbers, 8), codes(numbers), any_code(numbers)]))
    return draw(_terms(elements, width, size))


@st.composite
def cancelling(draw: Draw, numbers: Numbers, width: int, size: int) -> list[Term]:
    """Terms and their opposites, and a few small ones that are left over."""
    small = draw(st.sampled_from([codes(numbers, 2), codes(numbers, 8), ends(numbers)]))
    left = draw(_terms(small, width, min(3, size)))
    half = draw(_terms(any_code(numbers), width, (size - len(left)) // 2))
    return half + left + [_opposite(term, numbers) for term in half]


def _opposite(term: Term, numbers: Numbers) -> Term:
    return (numbers.near(-value_of(term[0], numbers)), *term[1:])


@st.composite
def near_ties(draw: Draw, numbers: Numbers, width: int, size: int) -> list[Term]:
    """Terms whose exact sum is a rounding boundary, or one beside it by any power of two, however small."""
    fixing = min(size, 8)
    terms = draw(_terms(draw(st.sampled_from([simple(numbers), codes(numbers, 8)])), width, size - fixing))
    near = draw(st.one_of(codes(numbers, 8), codes(numbers)))
    magnitude = abs(value_of(near, numbers))
    code = min(max(numbers.near(magnitude), 1), numbers.maxpos - 1)
    target = numbers.boundary(code)
    deepest = max(1, floor_log2(target) - scales(numbers)[0] * width)
    depth = draw(st.sampled_from([0, deepest, deepest - 1])) or draw(st.integers(0, deepest))
    if depth:
        target += draw(st.sampled_from([1, -1])) * Fraction(2) ** (floor_log2(target) - depth)
    target *= draw(st.sampled_from([1, -1]))
    so_far = exact_sum(terms, numbers)
    assert isinstance(so_far, Fraction)  # all terms are real
    return terms + remainder(target - so_far, numbers, width, fixing)


def remainder(target: Fraction, numbers: Numbers, width: int, limit: int) -> list[Term]:
    """At most `limit` terms whose sum comes close to `target`: exact wherever the format can."""
    terms: list[Term] = []
    low, high = scales(numbers)
    while target and len(terms) < limit:
        term: Term = (_not_beyond(target, numbers),)
        if width == 2:
            factor = Fraction(1)
            if numbers.value(term[0]) != target:
                factor = Fraction(2) ** min(max(floor_log2(abs(target)), low), high)
            term = (_not_beyond(target / factor, numbers), real(factor, numbers))
        value = exact_product(term, numbers)
        assert isinstance(value, Fraction)  # `real` gives no other
        terms.append(term)
        target -= value
    return terms


def _not_beyond(value: Fraction, numbers: Numbers) -> int:
    """Code of a number near `value` and, but for the smallest ones, no further from 0."""
    code = real(value, numbers)
    lower = real(abs(value), numbers) - 1  # positive codes are in the order of values
    if abs(value_of(code, numbers)) > abs(value) and lower > 0:
        return real(value_of(lower, numbers) * (1 if value > 0 else -1), numbers)
    return code


@st.composite
def range_ends(draw: Draw, numbers: Numbers, width: int, size: int) -> list[Term]:
    """The largest and the smallest numbers together."""
    return draw(_terms(ends(numbers), width, draw(st.sampled_from([min(size, 5), size]))))


@st.composite
def _repeated(draw: Draw, numbers: Numbers, width: int, size: int) -> list[Term]:
    """A few terms over and over: long sequences that are short to draw, with others in front and behind."""
    base = draw(_terms(st.one_of(simple(numbers), codes(numbers, 4)), width, 4))
    around = [draw(_terms(codes(numbers, 12), width, 2)) for _ in range(2)]
    times = draw(st.sampled_from([2, 5, 12, 35, 80, 140, 300]))
    room = max(size - len(around[0]) - len(around[1]), 0)
    return (around[0] + (base * times)[:room] + around[1])[:size]


Pattern = Callable[[Numbers, int, int], st.SearchStrategy[list[Term]]]
PATTERNS: tuple[Pattern, ...] = (plain, near_ties, cancelling, range_ends)


@st.composite
def terms(draw: Draw, numbers: Numbers, width: int, sizes: tuple[int, int, int], special: bool) -> list[Term]:
    """A mix of all patterns, arranged in several ways.

    Args:
        sizes: Fewest terms, most terms, and most in the few long sequences.
        special: Whether NaR, NaN and infinities may occur (in about one list of ten).
    """
    fewest, most, longest = sizes
    turn = draw(st.integers(0, 11))
    if turn == 11 and longest > most:
        drawn = draw(_repeated(numbers, width, longest))
    else:
        drawn = draw(PATTERNS[(0, 1, 1, 1, 2, 2, 2, 3, 3, 0, 1, 2)[turn]](numbers, width, most))
    drawn = _arranged(drawn, draw(st.integers(0, 4)))
    if special and drawn and draw(st.integers(0, 9)) == 9:
        where = draw(st.integers(0, len(drawn) - 1))
        drawn[where] = (draw(st.sampled_from(numbers.special)), *drawn[where][1:])
    zero = real(Fraction(0), numbers)
    return drawn + [(zero,) * width] * (fewest - len(drawn))


def _arranged(terms: list[Term], way: int) -> list[Term]:
    """As drawn, reversed, even places first, front and back in turn, or begun in the middle."""
    middle = len(terms) // 2
    if way == 3:
        return _inwards(terms)
    return [terms, terms[::-1], terms[::2] + terms[1::2], [], terms[middle:] + terms[:middle]][way]


def _inwards(terms: list[Term]) -> list[Term]:
    middle = (len(terms) + 1) // 2
    front, back = terms[:middle], terms[middle:][::-1]
    return [term for i in range(middle) for term in (front[i : i + 1] + back[i : i + 1])]


@st.composite
def cases(draw: Draw, options: Options) -> Case:
    """Operands of one call of a function of this kind."""
    kind, numbers = options.kind, options.numbers
    sizes = options.min_size, options.max_size, max(options.long_size, options.max_size)
    drawn = draw(terms(numbers, 1 if kind == "sum" else 2, sizes, options.special))
    vectors = tuple(zip(*drawn, strict=True)) or ((),) * (1 if kind == "sum" else 2)
    if kind != "matmul":
        return Case(kind, vectors[:1], vectors[1:])
    m, n = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return Case(kind, _turned(vectors[0], m), _turned(vectors[1], n))


def _turned(vector: tuple[int, ...], count: int) -> tuple[tuple[int, ...], ...]:
    """The vector, and itself begun later."""
    return tuple(vector[i:] + vector[:i] for i in range(count))
