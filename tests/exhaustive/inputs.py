"""Inputs on which posit implementations go wrong: ends of the range, ties, tiny addends, cancellation."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from posit import Format

Generator = np.random.Generator


def corners(fmt: Format, reach: int) -> list[int]:
    """Codes within `reach` of 0, NaR, 1 and -1."""
    one = 1 << (fmt.nbits - 2)
    centres = (0, fmt.nar, one, -one)
    return sorted(
        {(centre + step) & fmt.code_mask for centre in centres for step in range(-reach, reach + 1)}
    )


def short(random: Generator, count: int, fmt: Format) -> list[int]:
    """Codes whose low bits are cleared at a random place: their products and sums are often ties."""
    codes = random.integers(0, 1 << fmt.nbits, count)
    cut = random.integers(0, fmt.nbits - 1, count)
    return [int(code) >> int(low) << int(low) for code, low in zip(codes, cut, strict=True)]


def mixed(random: Generator, count: int, fmt: Format) -> list[int]:
    """Codes of one operand: a third each of random ones, short ones and (wider) corners."""
    third = count // 3
    ends = random.choice(corners(fmt, min(8, fmt.nbits)), count - 2 * third).tolist()
    uniform = random.integers(0, 1 << fmt.nbits, third).tolist()
    codes = np.array([*uniform, *short(random, third, fmt), *ends], np.int64)
    return [int(code) for code in random.permutation(codes)]


def operands(fmt: Format, count: int, arity: int, seed: int) -> Iterator[tuple[int, ...]]:
    """All combinations of corners, then `count` drawn ones; for three also ties with a tiny addend."""
    yield from product(corners(fmt, 4 if arity < 3 else 2), repeat=arity)
    random = np.random.default_rng(seed)
    yield from zip(*(mixed(random, count, fmt) for _ in range(arity)), strict=True)
    if arity == 3:
        tiny = (random.integers(1, 64, count) * random.choice([-1, 1], count)) & fmt.code_mask
        pairs = zip(short(random, count, fmt), short(random, count, fmt), tiny.tolist(), strict=True)
        yield from pairs
