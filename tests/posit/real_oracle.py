"""What the elementary functions must return: 320-bit values, compared with exact rounding boundaries.

Written from the functions' definitions, without a line of the implementation: other formulas, another
precision, domains in words of their own, and exact results recognised by their value, not by theory.
"""

from bisect import bisect_left
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import mpmath

from posit import Format
from posit.reference import exact

PRECISION = 320
mp: Any = mpmath.MPContext()
mp.prec = PRECISION


def _phi(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _logistic(x: Any) -> Any:
    return (1 + mp.tanh(x / 2)) / 2 if x > -1 else mp.exp(x) / (mp.exp(x) + 1)


def _wave_pi(x: Any) -> Any:
    y = mp.sin(mp.pi * (x - 2 * mp.nint(x / 2)))
    return y if abs(y) > mp.ldexp(1, -PRECISION - 64) * min(abs(x), 1) else mp.zero


def _softplus(x: Any) -> Any:
    return mp.ln(mp.exp(x) + 1) if x > -PRECISION else mp.exp(x) - mp.exp(2 * x) / 2


def _precisely(evaluate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """For formulas that cancel: with so many bits that 1 + x, 1 - x and 1 + x * x are exact."""

    def wide(x: Any) -> Any:
        with mp.workprec(PRECISION + 128 + 2 * abs(mp.mag(x)) if x else PRECISION):
            return evaluate(x)

    return wide


REAL: dict[str, Callable[[Any], Any]] = {
    "sqrt": lambda x: mp.root(x, 2),
    "rsqrt": lambda x: mp.root(1 / x, 2) if x < 2 else 1 / mp.root(x, 2),
    "exp": mp.exp,
    "exp_minus_1": _precisely(lambda x: mp.exp(x) - 1),
    "exp2": lambda x: mp.power(2, x),
    "exp2_minus_1": _precisely(lambda x: mp.power(2, x) - 1),
    "exp10": lambda x: mp.power(10, x),
    "exp10_minus_1": _precisely(lambda x: mp.power(10, x) - 1),
    "log": mp.ln,
    "log_plus_1": _precisely(lambda x: mp.ln(1 + x)),
    "log2": _precisely(lambda x: mp.log(x, 2)),
    "log2_plus_1": _precisely(lambda x: mp.log(1 + x, 2)),
    "log10": _precisely(lambda x: mp.log(x, 10)),
    "log10_plus_1": _precisely(lambda x: mp.log(1 + x, 10)),
    "sin": lambda x: mp.sin(x),
    "sin_pi": _precisely(_wave_pi),
    "cos": lambda x: mp.cos(x),
    "cos_pi": _precisely(lambda x: _wave_pi(mp.mpf(0.5) - abs(x))),
    "tan": _precisely(lambda x: mp.sin(x) / mp.cos(x)),
    "tan_pi": _precisely(lambda x: _wave_pi(x) / _wave_pi(mp.mpf(0.5) - abs(x))),
    "arc_sin": _precisely(lambda x: mp.atan2(x, mp.sqrt((1 - x) * (1 + x)))),
    "arc_sin_pi": _precisely(lambda x: mp.atan2(x, mp.sqrt((1 - x) * (1 + x))) / mp.pi),
    "arc_cos": _precisely(lambda x: mp.atan2(mp.sqrt((1 - x) * (1 + x)), x)),
    "arc_cos_pi": _precisely(lambda x: mp.atan2(mp.sqrt((1 - x) * (1 + x)), x) / mp.pi),
    "arc_tan": lambda x: mp.atan2(x, 1),
    "arc_tan_pi": lambda x: mp.atan2(x, 1) / mp.pi,
    "sinh": _precisely(lambda x: (mp.exp(x) - mp.exp(-x)) / 2),
    "cosh": lambda x: (mp.exp(x) + mp.exp(-x)) / 2,
    "tanh": _precisely(lambda x: 1 - 2 / (mp.exp(2 * x) + 1)),
    "arc_sinh": _precisely(lambda x: mp.sign(x) * mp.ln(abs(x) + mp.sqrt(x * x + 1))),
    "arc_cosh": _precisely(lambda x: mp.ln(x + mp.sqrt((x - 1) * (x + 1)))),
    "arc_tanh": _precisely(lambda x: (mp.ln(1 + x) - mp.ln(1 - x)) / 2),
    "erf": lambda x: 1 - mp.erfc(x) if x > 1 else mp.erf(x),
    "sigmoid": _logistic,
    "silu": lambda x: x * _logistic(x),
    "gelu": lambda x: x * _phi(x),
    "softplus": _precisely(_softplus),
}

UNDEFINED: dict[str, Callable[[Fraction], bool]] = {
    "sqrt": lambda x: x < 0,
    "tan_pi": lambda x: x % 1 == Fraction(1, 2),
    "arc_cosh": lambda x: x < 1,
    "arc_tanh": lambda x: not -1 < x < 1,
    **{name: lambda x: x <= 0 for name in ("rsqrt", "log", "log2", "log10")},
    **{name: lambda x: x <= -1 for name in ("log_plus_1", "log2_plus_1", "log10_plus_1")},
    **{name: lambda x: not -1 <= x <= 1 for name in ("arc_sin", "arc_sin_pi", "arc_cos", "arc_cos_pi")},
}

#: Functions that leave every range, or level off, so far out that their value there is settled by the sign
#: alone.
FAR = 4000
_HUGE, _TINY = Fraction(2) ** 3000, Fraction(1, 2**3000)
BEYOND: dict[str, tuple[Fraction | None, Fraction | None]] = {  # below -FAR, above FAR
    **dict.fromkeys(("exp", "exp2", "exp10"), (_TINY, _HUGE)),
    **dict.fromkeys(("exp_minus_1", "exp2_minus_1", "exp10_minus_1"), (-1 + _TINY, _HUGE)),
    "sinh": (-_HUGE, _HUGE),
    "cosh": (_HUGE, _HUGE),
    "tanh": (-1 + _TINY, 1 - _TINY),
    "erf": (-1 + _TINY, 1 - _TINY),
    "sigmoid": (_TINY, 1 - _TINY),
    "silu": (-_TINY, None),
    "gelu": (-_TINY, None),
    "softplus": (_TINY, None),
}


def number(x: Fraction) -> Any:
    """A dyadic rational, exactly."""
    return mp.ldexp(mp.mpf(x.numerator), 1 - x.denominator.bit_length())


def rational(y: Any) -> Fraction:
    """An mpmath number, exactly."""
    sign, mantissa, exponent, _ = y._mpf_
    result = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -result if sign else result


@cache
def _boundaries(fmt: Format) -> list[Fraction]:
    return [exact.boundary(code, fmt) for code in range(1, fmt.maxpos)]


def _round(y: Fraction, fmt: Format) -> int:
    """The oracle's rounding; by a table of all boundaries where there are few."""
    if fmt.nbits > 16:
        return exact.nearest(y, fmt)
    if y == 0:
        return 0
    edges = _boundaries(fmt)  # edges[k] lies between codes k + 1 and k + 2
    index = bisect_left(edges, abs(y))
    code = index + 1
    if index < len(edges) and edges[index] == abs(y):
        code += code % 2
    return code if y > 0 else (1 << fmt.nbits) - code


def round_real(y: Any, fmt: Format) -> int:
    """Code of a 320-bit number whose last 50 bits may be wrong.

    Where those bits decide, the number agrees with a rounding boundary to 270 bits and is taken to lie on it.
    """
    middle = rational(y)
    error = abs(middle) / 2 ** (PRECISION - 50)
    low, high = _round(middle - error, fmt), _round(middle + error, fmt)
    if low == high:
        return low
    with mp.workprec(160):
        return _round(rational(y * 1), fmt)


def expected(name: str, code: int, fmt: Format) -> int:
    """Code of a function of one argument."""
    x = exact.value(code, fmt)
    if x is None or (name in UNDEFINED and UNDEFINED[name](x)):
        return fmt.nar
    if abs(x) > FAR and name in BEYOND:
        far = BEYOND[name][x > 0]
        return _round(x if far is None else far, fmt)
    return round_real(REAL[name](number(x)), fmt)
