"""The elementary functions of one argument as data: how each is approximated and settled."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from posit._elementary import approximate as fast
from posit._elementary import exact_cases as exact
from posit._elementary.precise import ONE, Evaluate

Floats = npt.NDArray[np.float64]
Approximate = Callable[[Floats], Floats | tuple[Floats, Floats]]

_STEEP = Fraction(1 << 14)


@dataclass(frozen=True, slots=True)
class Function:
    """A real function of one argument that can be rounded correctly to any posit format."""

    name: str  #: the standard's name in snake_case
    formula: str  #: TeX, in x
    approximate: Approximate  #: float64 values, or values and relative bounds
    precise: Evaluate  #: multiple precision
    exact: exact.Rule  #: the rational results
    domain: Callable[[Fraction], bool]  #: outside it the result is NaR
    where: str = ""  #: the domain in words, for the documentation
    lowest: Fraction | None = None  #: below it the rounded result no longer changes
    highest: Fraction | None = None  #: above it the rounded result no longer changes


def _everywhere(_: Fraction) -> bool:
    return True


def _function(
    name: str,
    formula: str,
    approximate: Approximate,
    rule: exact.Rule,
    domain: Callable[[Fraction], bool] = _everywhere,
    where: str = "",
    limits: tuple[Fraction | None, Fraction | None] = (None, None),
) -> Function:
    return Function(name, formula, approximate, ONE[name], rule, domain, where, *limits)


def _positive(x: Fraction) -> bool:
    return x > 0


def _above_minus_1(x: Fraction) -> bool:
    return x > -1


def _up_to_1(x: Fraction) -> bool:
    return abs(x) <= 1


_BOTH = (-_STEEP, _STEEP)
_POSITIVE = (_positive, "x > 0")
_ABOVE = (_above_minus_1, "x > -1")
_UNIT = (_up_to_1, "|x| <= 1")
_REAL = (_everywhere, "")

_ALL = (
    _function("sqrt", r"\sqrt{x}", np.sqrt, exact.sqrt, lambda x: x >= 0, "x >= 0"),
    _function("rsqrt", r"1 / \sqrt{x}", fast.rsqrt, exact.rsqrt, *_POSITIVE),
    _function("exp", "e^x", fast.exp, exact.one_at_0, *_REAL, _BOTH),
    _function("exp_minus_1", "e^x - 1", np.expm1, exact.zero_at_0, *_REAL, _BOTH),
    _function("exp2", "2^x", fast.exp2, exact.exp2, *_REAL, _BOTH),
    _function("exp2_minus_1", "2^x - 1", fast.exp2_minus_1, exact.minus_1(exact.exp2), *_REAL, _BOTH),
    _function("exp10", "10^x", fast.exp10, exact.exp10, *_REAL, _BOTH),
    _function("exp10_minus_1", "10^x - 1", fast.exp10_minus_1, exact.minus_1(exact.exp10), *_REAL, _BOTH),
    _function("log", r"\ln x", fast.log, exact.zero_at_1, *_POSITIVE),
    _function("log_plus_1", r"\ln(1 + x)", fast.log_plus_1, exact.zero_at_0, *_ABOVE),
    _function("log2", r"\log_2 x", fast.log2, exact.log2, *_POSITIVE),
    _function("log2_plus_1", r"\log_2(1 + x)", fast.log2_plus_1, exact.plus_1(exact.log2), *_ABOVE),
    _function("log10", r"\log_{10} x", fast.log10, exact.log10, *_POSITIVE),
    _function("log10_plus_1", r"\log_{10}(1 + x)", fast.log10_plus_1, exact.plus_1(exact.log10), *_ABOVE),
    _function("sin", r"\sin x", fast.sin, exact.zero_at_0),
    _function("sin_pi", r"\sin \pi x", fast.sin_pi, exact.sin_pi),
    _function("cos", r"\cos x", fast.cos, exact.one_at_0),
    _function("cos_pi", r"\cos \pi x", fast.cos_pi, exact.cos_pi),
    _function("tan", r"\tan x", fast.tan, exact.zero_at_0),
    _function(
        "tan_pi",
        r"\tan \pi x",
        fast.tan_pi,
        exact.tan_pi,
        lambda x: x.denominator != 2,
        "x is not an odd multiple of 1/2",
    ),
    _function("arc_sin", r"\arcsin x", np.arcsin, exact.zero_at_0, *_UNIT),
    _function("arc_sin_pi", r"\arcsin(x) / \pi", fast.arc_sin_pi, exact.arc_sin_pi, *_UNIT),
    _function("arc_cos", r"\arccos x", fast.arc_cos, exact.zero_at_1, *_UNIT),
    _function("arc_cos_pi", r"\arccos(x) / \pi", fast.arc_cos_pi, exact.arc_cos_pi, *_UNIT),
    _function("arc_tan", r"\arctan x", np.arctan, exact.zero_at_0),
    _function("arc_tan_pi", r"\arctan(x) / \pi", fast.arc_tan_pi, exact.arc_tan_pi),
    _function("sinh", r"\sinh x", np.sinh, exact.zero_at_0, *_REAL, _BOTH),
    _function("cosh", r"\cosh x", np.cosh, exact.one_at_0, *_REAL, _BOTH),
    _function("tanh", r"\tanh x", np.tanh, exact.zero_at_0, *_REAL, _BOTH),
    _function("arc_sinh", r"\operatorname{arsinh} x", np.arcsinh, exact.zero_at_0),
    _function(
        "arc_cosh", r"\operatorname{arcosh} x", fast.arc_cosh, exact.zero_at_1, lambda x: x >= 1, "x >= 1"
    ),
    _function(
        "arc_tanh",
        r"\operatorname{artanh} x",
        fast.arc_tanh,
        exact.zero_at_0,
        lambda x: abs(x) < 1,
        "|x| < 1",
    ),
    _function("erf", r"\operatorname{erf} x", fast.erf, exact.zero_at_0, *_REAL, _BOTH),
    _function("sigmoid", "1 / (1 + e^{-x})", fast.sigmoid, exact.half_at_0, *_REAL, _BOTH),
    _function("silu", "x / (1 + e^{-x})", fast.silu, exact.zero_at_0, *_REAL, (-_STEEP, None)),
    _function("gelu", r"x \Phi(x)", fast.gelu, exact.zero_at_0, *_REAL, (-_STEEP, None)),
    _function("softplus", r"\ln(1 + e^x)", fast.softplus, exact.nowhere, *_REAL, (-_STEEP, None)),
)

FUNCTIONS: dict[str, Function] = {function.name: function for function in _ALL}
