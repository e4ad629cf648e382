"""Ziv's strategy for one element: evaluate, bound, retry in higher precision until the rounding is sure."""

import threading
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

from posit._elementary.precise import GUARD, Context, Real
from posit._elementary.registry import Function
from posit._elementary.rounding import round_enclosed, round_fraction, value
from posit.formats import Format

#: What a function's value is, for exact arguments: NaR, a rational number, or a number to evaluate.
Solution = Fraction | Callable[[Context], Real] | None

_LIMIT = 1 << 17  # bits; posit64 with es = 5 needs less than 2**13
_lock = threading.Lock()  # one context, whose precision is changed


@cache
def _context() -> Context:
    import mpmath

    return mpmath.MPContext()


def number(ctx: Context, x: Fraction) -> Real:
    """A dyadic rational as an mpmath number, exactly (its significand is shorter than any precision used)."""
    return ctx.ldexp(ctx.mpf(x.numerator), 1 - x.denominator.bit_length())


def settle(solution: Solution, fmt: Format) -> int:
    """Code (unsigned) of a solution: NaR for None, else the number rounded once.

    A number to evaluate must not be rational, nor lie on a rounding boundary: the loop ends because every
    other number has a positive distance from the nearest boundary.
    """
    if solution is None:
        return fmt.nar
    if isinstance(solution, Fraction):
        return round_fraction(solution, fmt)
    precision = fmt.nbits + 32
    with _lock:
        ctx = _context()
        while True:
            ctx.prec = precision + GUARD
            code = _enclose(solution(ctx), precision, fmt)
            if code is not None:
                return code
            precision *= 2
            assert precision < _LIMIT, "a rational result that posit._elementary.exact_cases does not list"


def _enclose(x: Any, precision: int, fmt: Format) -> int | None:
    sign, mantissa, exponent, _ = x._mpf_
    if not mantissa:
        return None  # cancelled to nothing; the exact zeros are settled before
    return round_enclosed(bool(sign), int(mantissa), int(exponent), precision, fmt)


def solve(function: Function, x: Fraction | None) -> Solution:
    """The value of a function of one argument; None for NaR."""
    if x is None or not function.domain(x):
        return None
    if function.lowest is not None:
        x = max(x, function.lowest)
    if function.highest is not None:
        x = min(x, function.highest)
    rational = function.exact(x)
    return rational if rational is not None else lambda ctx: function.precise(ctx, number(ctx, x))


def settle_code(function: Function, code: int, fmt: Format) -> int:
    """Code of a function of one argument at a code, without any float."""
    return settle(solve(function, value(code, fmt)), fmt)
