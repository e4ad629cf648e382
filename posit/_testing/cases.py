"""The operands of one call, their exact result, and the orders in which they may be taken."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import permutations
from operator import add
from typing import Any, Literal

from posit._testing.numbers import Numbers, Value

Kind = Literal["sum", "dot", "matmul"]
KINDS: tuple[Kind, ...] = ("sum", "dot", "matmul")

Vector = tuple[int, ...]
Term = tuple[int, ...]  #: one code, or two that are multiplied


@dataclass(frozen=True, slots=True)
class Case:
    """Codes of the operands: `rows` of the first and, where products are summed, `columns` of the second.

    A sum has one row and no column, a dot product one of each, a matrix product any number.
    """

    kind: Kind
    rows: tuple[Vector, ...]
    columns: tuple[Vector, ...] = ()

    @property
    def length(self) -> int:
        """How many terms each sum has."""
        return len(self.rows[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (len(self.rows), len(self.columns)) if self.kind == "matmul" else ()

    def take(self, order: Sequence[int]) -> "Case":
        """The case with these terms, in this order.

        >>> Case("dot", ((1, 2, 3),), ((4, 5, 6),)).take([2, 0])
        Case(kind='dot', rows=((3, 1),), columns=((6, 4),))
        """

        def moved(vectors: tuple[Vector, ...]) -> tuple[Vector, ...]:
            return tuple(tuple(vector[i] for i in order) for vector in vectors)

        return Case(self.kind, moved(self.rows), moved(self.columns))

    def operands(self, numbers: Numbers) -> list[Any]:
        """Fresh arrays: one of shape (k,); two of shape (k,); or (m, k) and (k, n)."""
        if self.kind == "matmul":
            second = [list(row) for row in zip(*self.columns, strict=True)]
            return [
                numbers.array(self.rows),
                _reshaped(numbers.array(second), self.length, len(self.columns)),
            ]
        return [numbers.array(vector) for vector in self.rows + self.columns]

    def exact(self, numbers: Numbers) -> list[Value]:
        """The exact results, in C order."""
        if self.kind == "sum":
            return [exact_sum([(code,) for code in self.rows[0]], numbers)]
        return [
            exact_sum(list(zip(row, column, strict=True)), numbers)
            for row in self.rows
            for column in self.columns
        ]

    def orders(self, seed: int) -> Iterator[tuple[int, ...]]:
        """Permutations worth trying: all of up to four terms, otherwise a few regular and random ones."""
        n = self.length
        if n <= 4:
            yield from list(permutations(range(n)))[1:]
            return
        yield tuple(range(n))[::-1]
        yield (*range(1, n), 0)
        yield (*range(0, n, 2), *range(1, n, 2))
        shuffled = list(range(n))
        rng = random.Random(seed * 1000003 + n)
        for _ in range(3):
            rng.shuffle(shuffled)
            yield tuple(shuffled)


def _reshaped(array: Any, *shape: int) -> Any:
    return array.reshape(shape)


def exact_sum(terms: Sequence[Term], numbers: Numbers) -> Value:
    """Sum of the terms: a rational, or nan or an infinity by IEEE's rules (0 * inf, inf - inf are nan).

    >>> from posit._testing.numbers import numbers_of
    >>> exact_sum([(0x4000,), (0x4000,)], numbers_of("posit16"))
    Fraction(2, 1)
    """
    values = [exact_product(term, numbers) for term in terms]
    unreal = [value for value in values if isinstance(value, float)]
    if unreal:
        return reduce(add, unreal)
    rationals = [value for value in values if isinstance(value, Fraction)]
    places = max((value.denominator.bit_length() - 1 for value in rationals), default=0)
    whole = sum(value.numerator << (places + 1 - value.denominator.bit_length()) for value in rationals)
    return Fraction(whole, 1 << places)


def exact_product(term: Term, numbers: Numbers) -> Value:
    """The value of one term."""
    values = [numbers.value(code) for code in term]
    if all(isinstance(value, Fraction) for value in values):
        return math.prod(values)
    signs = [value if isinstance(value, float) else float((value > 0) - (value < 0)) for value in values]
    return math.prod(signs)
