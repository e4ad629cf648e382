"""Operands of `postrain bench quire`: normal random ones, and such that every result is as hard as can be."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

import posit
from posit import Format, PositArray
from posit.codec import Codes
from posit.reference import exact
from postrain.bench.numbers_peers import exact_codes, exact_values

Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 20


def normal(shape: tuple[int, ...], fmt: Format, random: np.random.Generator) -> PositArray:
    """Normally distributed numbers, rounded."""
    return posit.array(random.standard_normal(shape), fmt)


def worst_case(n: int, fmt: Format, random: np.random.Generator) -> tuple[PositArray, PositArray, Codes]:
    """Square matrices whose product lies on rounding boundaries in all n**2 elements, or minpos**2 beside them.

    Row i of A is (p, p, c, h, e), column j of B is (q, -q, 1, 1, minpos): p·q - p·q cancels exactly from terms of many
    magnitudes; c + h is half-way between two posits, e is 0, minpos or -minpos, and the row may be negated.

    Args:
        n: Rows and columns, at least 5.
        fmt: Format of the operands.
        random: Where the numbers come from.

    Returns:
        A, B and the right codes, which the exact oracle finds from boundaries and not from sums.

    >>> a, b, codes = worst_case(5, posit.posit16, np.random.default_rng(0))
    >>> bool((posit.matmul(a, b).codes == codes).all())
    True
    """
    pairs = (n - 3) // 2
    wide = random.standard_normal((n, pairs)) * 2.0 ** random.integers(-12, 13, (n, pairs))
    columns = random.standard_normal((pairs, n)) * 2.0 ** random.integers(-12, 13, (pairs, n))
    p, q = posit.array(wide, fmt).codes, posit.array(columns, fmt)
    one, two = (int(posit.array(value, fmt).codes) for value in (1.0, 2.0))
    codes = random.integers(one, two, n).astype(fmt.storage)
    half = _value(exact.boundary(one, fmt)) - 1.0  # of the gaps between 1 and 2
    signs, sides = random.choice([-1, 1], n), random.integers(-1, 2, n)
    tail = [_signed(codes, signs, fmt), posit.array(half * signs, fmt).codes]
    tail.append(_signed(np.where(sides != 0, fmt.minpos, 0).astype(fmt.storage), signs * sides, fmt))
    gap = np.zeros((n, n - 3 - 2 * pairs), fmt.storage)
    a = np.concatenate([p, p, gap, np.stack(tail, axis=1)], axis=1)
    ones = np.full((2, n), one, fmt.storage)
    b = np.concatenate([q.codes, (-q).codes, gap.T, ones, np.full((1, n), fmt.minpos, fmt.storage)])
    tiny = exact.value(fmt.minpos, fmt)
    assert tiny is not None
    wanted = [
        exact.nearest(int(sign) * (exact.boundary(int(code), fmt) + int(side) * tiny * tiny), fmt)
        for code, sign, side in zip(codes, signs, sides, strict=True)
    ]
    right = np.repeat(np.array(wanted, fmt.storage)[:, None], n, axis=1)
    return posit.from_codes(a, fmt), posit.from_codes(b, fmt), right


def exact_dot(length: int, fmt: Format, random: np.random.Generator) -> tuple[Codes, Codes, Fraction]:
    """Codes of two vectors of float32's normal random numbers, and their dot product as a rational.

    Formats of 16 bits are rounded and read by the exact oracle's tables, so nothing is compiled for them.
    """
    drawn = [random.standard_normal(length, np.float32).astype(np.float64) for _ in range(2)]
    if fmt.nbits == 16:
        a, b = (exact_codes(values, fmt) for values in drawn)
        x, y = exact_values(a, fmt), exact_values(b, fmt)
    else:
        left, right = (posit.array(values, fmt) for values in drawn)
        a, b, x, y = left.codes, right.codes, left.to_float(), right.to_float()
    high = x.astype(np.float32).astype(np.float64)  # 24 bits times 28, and what is left: exact in float64
    return a, b, exact_total(high * y) + exact_total((x - high) * y)


def exact_total(terms: Floats) -> Fraction:
    """The sum of finite float64 numbers as a rational: integers, added up by their exponents."""
    total = Fraction(0)
    for first in range(0, terms.size, _CHUNK):
        fractions, exponents = np.frexp(terms[first : first + _CHUNK])
        integers = np.ldexp(fractions, 53).astype(np.int64)
        lowest = int(exponents.min())
        for part, weight in ((integers >> 26, 26), (integers & ((1 << 26) - 1), 0)):
            # at most 2**20 numbers below 2**28: bincount's float64 sums are exact
            sums = np.bincount(exponents - lowest, part)
            total += sum(int(s) * Fraction(2) ** (lowest + t - 53 + weight) for t, s in enumerate(sums))
    return total


def _value(exactly: Any) -> float:
    found = float(exactly)
    assert found == exactly
    return found


def _signed(codes: Codes, signs: npt.NDArray[Any], fmt: Format) -> Codes:
    """The codes, negated where a sign is."""
    return np.where(signs < 0, (-posit.from_codes(codes, fmt)).codes, codes)
