"""What quires must hold, in Fractions, and codes that are hard to sum."""

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

import posit
from posit.formats import Format
from posit.reference import exact


def value(code: int, fmt: Format) -> Fraction | None:
    return exact.value(int(code), fmt)


def total(terms: list[tuple[int, int]], fmt: Format) -> Fraction | None:
    """Sum of products of codes; None for NaR."""
    result = Fraction(0)
    for a, b in terms:
        x, y = value(a, fmt), value(b, fmt)
        if x is None or y is None:
            return None
        result += x * y
    return result


def rounded(x: Fraction | None, fmt: Format) -> int:
    return fmt.nar if x is None else exact.nearest(x, fmt)


def codes(fmt: Format, nar: bool = True) -> st.SearchStrategy[int]:
    """Any code, the corners often: zero, NaR, minpos, maxpos, one, and their negatives."""
    one = 1 << (fmt.nbits - 2)
    corners = (0, 1, fmt.maxpos, one, fmt.code_mask, fmt.nar + 1, fmt.code_mask + 1 - one)
    drawn = st.sampled_from((*corners, fmt.nar) if nar else corners) | st.integers(0, fmt.code_mask)
    return drawn if nar else drawn.filter(lambda code: code != fmt.nar)


def terms(fmt: Format, nar: bool = False, most: int = 12) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Products to add; half of the time they are followed by their negatives, shuffled, and one more."""
    pairs = st.lists(st.tuples(codes(fmt, nar), codes(fmt, nar)), max_size=most)

    def cancelled(items: list[tuple[int, int]]) -> st.SearchStrategy[list[tuple[int, int]]]:
        negated = [((-a) & fmt.code_mask, b) for a, b in items]
        return st.permutations(items + negated + items[:1])

    return pairs | pairs.flatmap(cancelled)


def posits(items: list[int], fmt: Format) -> posit.PositArray:
    return posit.from_codes(np.array(items, fmt.storage), fmt)


def scalar(code: int, fmt: Format) -> posit.PositArray:
    return posit.from_codes(np.array(code, fmt.storage), fmt)
