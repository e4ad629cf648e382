"""Pairs of codes on which wide formats go wrong, as arrays; each family is a function (rng, count, format).

A significand below has p + 1 bits, p = nbits - 3 - es: that of the values from 1 to 2**2**es, whose regime is two bits.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from posit import Format
from posit.reference import exact
from tests.exhaustive.inputs import corners

Generator = np.random.Generator
Words = npt.NDArray[np.uint64]
Pairs = tuple[Words, Words]
Family = Callable[[Generator, int, Format], Pairs]


def _uniform(rng: Generator, count: int, fmt: Format) -> Words:
    return rng.integers(0, 1 << fmt.nbits, count, np.uint64, endpoint=False)


def _step(rng: Generator, count: int) -> Words:
    """-2 .. 2, as two's complement."""
    return rng.integers(-2, 3, count).view(np.uint64)


def _signed(rng: Generator, codes: Words) -> Words:
    """Half of the codes negated."""
    return np.where(rng.integers(0, 2, codes.size) == 1, np.uint64(0) - codes, codes)


def _few_bits(fmt: Format) -> np.uint64:
    """Mask that leaves a code its upper half."""
    return np.uint64(fmt.code_mask ^ ((1 << (fmt.nbits // 2)) - 1))


def uniform(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Random codes."""
    return _uniform(rng, count, fmt), _uniform(rng, count, fmt)


def opposite(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Sums that cancel: -a, and codes next to it."""
    a = _uniform(rng, count, fmt)
    return a, _step(rng, count) - a


def equal(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Differences that cancel, quotients next to 1: a, and codes next to it; b of few bits."""
    a = _uniform(rng, count, fmt)
    return a, (a + _step(rng, count)) & _few_bits(fmt)


def neighbours(rng: Generator, count: int, fmt: Format) -> Pairs:
    """As `equal`, with all bits of b."""
    a = _uniform(rng, count, fmt)
    return a, a + _step(rng, count)


def reciprocal(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Products next to 1: a of few bits, b the code that mirrors it at 1, and codes next to it."""
    a = _uniform(rng, count, fmt) & _few_bits(fmt)
    return a, np.uint64(fmt.nar) - a + _step(rng, count)


def short(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Low bits cleared at random places: products and sums are often ties."""
    a, b = (
        _uniform(rng, count, fmt) >> cut << cut
        for cut in (rng.integers(0, fmt.nbits - 1, count, np.uint64) for _ in range(2))
    )
    return a, b


def ends(rng: Generator, count: int, fmt: Format) -> Pairs:
    """One operand within 8 codes of 0, maxpos or their negatives, the other random."""
    near = rng.integers(1, 9, count, np.uint64)
    b = _uniform(rng, count, fmt)
    return _signed(rng, np.where(b & np.uint64(1), near, np.uint64(fmt.nar) - near)), b


def long_regimes(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Every length of the regime as often, in both operands: results all over the range and beyond its ends."""
    operands = []
    for _ in range(2):
        inner = rng.integers(0, fmt.nar, count, np.uint64)
        inner >>= rng.integers(0, fmt.nbits - 1, count, np.uint64)
        large = rng.integers(0, 2, count) == 1
        operands.append(_signed(rng, np.where(large, np.uint64(fmt.maxpos) - inner, inner)))
    return operands[0], operands[1]


def half_last_places(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Sums next to a tie: a in 1 .. 2**2**es, b half its last place, and codes next to that."""
    p = fmt.nbits - 3 - fmt.es
    inner = rng.integers(0, fmt.nar >> 2, count, np.uint64)  # exponent and fraction
    half = np.array([_power(exponent - p - 1, fmt) for exponent in range(1 << fmt.es)], np.uint64)
    a, b = inner + np.uint64(fmt.nar >> 1), half[inner >> np.uint64(p)] + _step(rng, count)
    return _signed(rng, a), _signed(rng, b)


@cache
def _power(scale: int, fmt: Format) -> int:
    return exact.nearest(Fraction(2) ** scale, fmt)


def _code(significand: Words, rng: Generator, fmt: Format) -> Words:
    """Code with this significand, its leading bit left out, and a random exponent; random sign."""
    p = np.uint64(fmt.nbits - 3 - fmt.es)
    exponent = rng.integers(0, 1 << fmt.es, significand.size, np.uint64)
    fraction = significand & ((np.uint64(1) << p) - np.uint64(1))
    return _signed(rng, np.uint64(fmt.nar >> 1) + (exponent << p) + fraction)


def _odd(rng: Generator, count: int, bits: int) -> Words:
    """Odd numbers of so many bits, the highest set."""
    return rng.integers(1 << (bits - 1), 1 << bits, count, np.uint64) | np.uint64(1)


def _inverse(x: Words) -> Words:
    """Inverse of odd numbers modulo 2**64; each step of Newton's doubles the bits that are right, x itself has 3."""
    inverse = x.copy()
    for _ in range(5):
        inverse *= np.uint64(2) - x * inverse
    return inverse


def products_near_ties(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Significands whose product ends in the bits of a tie, give or take 2, by the inverse of one modulo a power of 2."""
    p = fmt.nbits - 3 - fmt.es
    a = _odd(rng, count, p + 1)
    end = np.uint64(1 << (p - 1)) + _step(rng, count)
    b = (_inverse(a) * end) & np.uint64((1 << p) - 1)
    return _code(a, rng, fmt), _code(b, rng, fmt)


def quotients_near_ties(rng: Generator, count: int, fmt: Format) -> Pairs:
    """Quotients a / b = (q + s / b) / 2**(p + 1) with q odd, so half way between two posits, and s = ±1, ±3.

    Where q * b is so large that a has one bit more than a significand, the pair is merely random.
    """
    p = fmt.nbits - 3 - fmt.es
    b = _odd(rng, count, p + 1)
    s = rng.choice(np.array([-3, -1, 1, 3]), count)
    mask = np.uint64((1 << (p + 1)) - 1)
    q = ((np.uint64(0) - s.view(np.uint64)) * _inverse(b)) & mask | np.uint64(1 << (p + 1))
    a = (b.astype(object) * q.astype(object) + s.astype(object)) >> (p + 1)  # Python integers: 128 bits
    return _code((a & ((1 << 64) - 1)).astype(np.uint64), rng, fmt), _code(b, rng, fmt)


FAMILIES: tuple[Family, ...] = (
    opposite, equal, neighbours, reciprocal, short, ends, long_regimes,
    half_last_places, products_near_ties, quotients_near_ties,
)  # fmt: skip


def pairs(count: int, seed: int, fmt: Format) -> Pairs:
    """Half of them random, the other half from all families in equal parts."""
    rng = np.random.Generator(np.random.Philox(seed))
    hard = [count // (2 * len(FAMILIES))] * len(FAMILIES)
    parts = [uniform(rng, count - sum(hard), fmt)]
    parts += [family(rng, part, fmt) for family, part in zip(FAMILIES, hard, strict=True)]
    mask = np.uint64(fmt.code_mask)
    a, b = (np.concatenate(operand) & mask for operand in zip(*parts, strict=True))
    return a, b


def corner_pairs(fmt: Format, reach: int = 16) -> Pairs:
    """All pairs of codes within `reach` of 0, NaR, 1 and -1."""
    codes = np.array(corners(fmt, reach), np.uint64)
    return np.repeat(codes, codes.size), np.tile(codes, codes.size)
