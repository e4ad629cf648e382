"""The exact oracle: posits as strings of bits and rationals.  Slow, obvious, and what decides.

Source: Posit Standard (2022), sections 3 and 4; arXiv 2603.01615 for bounded regimes.
"""

from fractions import Fraction
from functools import lru_cache

from posit.formats import Format


def value(code: int, fmt: Format) -> Fraction | None:
    """Exact value of a code, or None for NaR.

    Args:
        code: An integer in 0 .. 2**nbits - 1.

    Raises:
        ValueError: the code has more than nbits bits.

    >>> value(0x5A00, Format(16)), value(0x8000, Format(16))
    (Fraction(10, 1), None)
    """
    if not 0 <= code < 1 << fmt.nbits:
        raise ValueError(f"a code of {fmt} has {fmt.nbits} bits, got {code:#x}")
    return _value(code, fmt)


@lru_cache(maxsize=1 << 18)
def _value(code: int, fmt: Format) -> Fraction | None:
    if code == 0:
        return Fraction(0)
    if code == fmt.nar:
        return None
    if code > fmt.nar:
        return -_positive((1 << fmt.nbits) - code, fmt)
    return _positive(code, fmt)


def _positive(code: int, fmt: Format) -> Fraction:
    bits = format(code, f"0{fmt.nbits}b")[1:]
    run = len(bits) - len(bits.lstrip(bits[0]))
    if fmt.max_regime is not None:
        run = min(run, fmt.max_regime)
    regime = run - 1 if bits[0] == "1" else -run
    ended = fmt.max_regime is not None and run == fmt.max_regime
    rest = bits[run if ended else run + 1 :]
    exponent = int(rest[: fmt.es].ljust(fmt.es, "0") or "0", 2)
    fraction = rest[fmt.es :]
    significand = 1 + (Fraction(int(fraction, 2), 1 << len(fraction)) if fraction else 0)
    return significand * Fraction(2) ** (regime * (1 << fmt.es) + exponent)


def nearest(x: Fraction | int, fmt: Format) -> int:
    """Code of the posit that `x` rounds to: nearest on the encoding, ties to even, never to 0 or NaR.

    The point half-way between two neighbours is the (nbits + 1)-bit posit between them.

    >>> hex(nearest(Fraction(1, 10), Format(16)))
    '0x24cd'
    """
    x = Fraction(x)
    if x == 0:
        return 0
    if x < 0:
        return (1 << fmt.nbits) - nearest(-x, fmt)
    if x >= fmt.maxpos_value:
        return fmt.maxpos
    if x <= fmt.minpos_value:
        return fmt.minpos
    low, high = fmt.minpos, fmt.maxpos  # value(low) <= x < value(high)
    while high - low > 1:
        middle = (low + high) // 2
        if _positive(middle, fmt) <= x:
            low = middle
        else:
            high = middle
    if _positive(low, fmt) == x:
        return low
    half_way = boundary(low, fmt)
    return high if x > half_way or (x == half_way and low % 2) else low


def boundary(code: int, fmt: Format) -> Fraction:
    """The value at which rounding passes from positive `code` to ``code + 1``.

    >>> boundary(0x7E, Format(8)) == 2**22
    True
    """
    bits = format(code, f"0{fmt.nbits}b")[1:] + "1"
    return _positive_bits(bits, fmt)


def _positive_bits(bits: str, fmt: Format) -> Fraction:
    wide = _Wide(len(bits) + 1, fmt.es, fmt.max_regime)
    return _positive(int(bits, 2), wide)  # type: ignore[arg-type]


class _Wide:
    """A format one bit wider than any `Format` may be; only what `_positive` reads."""

    def __init__(self, nbits: int, es: int, max_regime: int | None) -> None:
        self.nbits, self.es, self.max_regime = nbits, es, max_regime


def dot(a: list[int], b: list[int], fmt: Format, addend: int = 0) -> int:
    """Code of the sum of products (plus `addend`), formed exactly and rounded once; NaR if any is NaR.

    >>> dot([0x7FFF, 0x4000], [0x4000, 0x4000], Format(16)) == 0x7FFF  # maxpos * 1 + 1 * 1
    True
    """
    total = value(addend, fmt)
    for x, y in zip(a, b, strict=True):
        left, right = value(x, fmt), value(y, fmt)
        if total is None or left is None or right is None:
            return fmt.nar
        total += left * right
    return fmt.nar if total is None else nearest(total, fmt)
