r"""The elementary functions of the Posit Standard (2022), and those of training, correctly rounded.

Every function rounds the exact real result once: to nearest on the encoding, ties to even, never to 0 or NaR.
 NaR operands give NaR, and so does every argument where the function has no real value.  The names are the
 standard's in
snake_case (section 5); `erf`, `sigmoid`, `silu`, `gelu` and `softplus` are not in the standard.
Names such as `pow` hide built-ins, so write ``posit.pow(x, y)`` rather than importing them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from posit import _elementary
from posit._elementary.registry import FUNCTIONS
from posit._functions_of_several import arc_tan2, arc_tan2_pi, call, compound, fmm, hypot, pow, root_n  # noqa: A004

if TYPE_CHECKING:
    from posit._array import PositArray

__all__ = [
    "BY_UFUNC",
    "arc_cos",
    "arc_cos_pi",
    "arc_cosh",
    "arc_sin",
    "arc_sin_pi",
    "arc_sinh",
    "arc_tan",
    "arc_tan2",
    "arc_tan2_pi",
    "arc_tan_pi",
    "arc_tanh",
    "compound",
    "cos",
    "cos_pi",
    "cosh",
    "erf",
    "exp",
    "exp2",
    "exp2_minus_1",
    "exp10",
    "exp10_minus_1",
    "exp_minus_1",
    "fmm",
    "gelu",
    "hypot",
    "log",
    "log2",
    "log2_plus_1",
    "log10",
    "log10_plus_1",
    "log_plus_1",
    "pow",
    "root_n",
    "rsqrt",
    "sigmoid",
    "silu",
    "sin",
    "sin_pi",
    "sinh",
    "softplus",
    "sqrt",
    "tan",
    "tan_pi",
    "tanh",
]

OneArgument = Callable[["PositArray"], "PositArray"]

_STANDARD = "Posit Standard (2022), section 5 (elementary functions of one posit)."
_TRAINING = "Not in the standard; the usual definition, needed for training."
_IN_TRAINING = ("erf", "sigmoid", "silu", "gelu", "softplus")

_DOCUMENTATION = r"""Correctly rounded :math:`{formula}`.

Args:
    x: Posits of any shape.

Returns:
    Posits of the same format and shape; NaR for NaR{undefined}.

Raises:
    FormatMismatch: `x` is not a PositArray.

Source:
    {source}

>>> import posit
>>> float(posit.functions.{name}(posit.array({x}, posit.posit16)))
{y}
"""


def _one(name: str, x: float, y: float) -> OneArgument:
    """The public function of a registered one, documented with the example f(x) = y in posit16."""
    known = FUNCTIONS[name]

    def function(x: "PositArray", /) -> "PositArray":
        return call(_elementary.evaluate, name, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _DOCUMENTATION.format(
        formula=known.formula,
        undefined=f", and unless {known.where}" if known.where else "",
        source=_TRAINING if name in _IN_TRAINING else _STANDARD,
        name=name,
        x=x,
        y=y,
    )
    return function


sqrt = _one("sqrt", 9.0, 3.0)
rsqrt = _one("rsqrt", 4.0, 0.5)
exp = _one("exp", 1.0, 2.71875)
exp_minus_1 = _one("exp_minus_1", 1.0, 1.71826171875)
exp2 = _one("exp2", 3.0, 8.0)
exp2_minus_1 = _one("exp2_minus_1", 3.0, 7.0)
exp10 = _one("exp10", 2.0, 100.0)
exp10_minus_1 = _one("exp10_minus_1", 2.0, 99.0)
log = _one("log", 2.0, 0.693115234375)
log_plus_1 = _one("log_plus_1", 1.0, 0.693115234375)
log2 = _one("log2", 8.0, 3.0)
log2_plus_1 = _one("log2_plus_1", 7.0, 3.0)
log10 = _one("log10", 1000.0, 3.0)
log10_plus_1 = _one("log10_plus_1", 99.0, 2.0)
sin = _one("sin", 1.0, 0.841552734375)
sin_pi = _one("sin_pi", 0.25, 0.70703125)
cos = _one("cos", 1.0, 0.540283203125)
cos_pi = _one("cos_pi", 0.25, 0.70703125)
tan = _one("tan", 1.0, 1.5576171875)
tan_pi = _one("tan_pi", 0.25, 1.0)
arc_sin = _one("arc_sin", 0.5, 0.523681640625)
arc_sin_pi = _one("arc_sin_pi", 0.5, 0.16668701171875)
arc_cos = _one("arc_cos", 0.5, 1.04736328125)
arc_cos_pi = _one("arc_cos_pi", 0.5, 0.3333740234375)
arc_tan = _one("arc_tan", 1.0, 0.785400390625)
arc_tan_pi = _one("arc_tan_pi", 1.0, 0.25)
sinh = _one("sinh", 1.0, 1.17529296875)
cosh = _one("cosh", 1.0, 1.54296875)
tanh = _one("tanh", 1.0, 0.761474609375)
arc_sinh = _one("arc_sinh", 1.0, 0.88134765625)
arc_cosh = _one("arc_cosh", 2.0, 1.31689453125)
arc_tanh = _one("arc_tanh", 0.5, 0.54931640625)
erf = _one("erf", 1.0, 0.8427734375)
sigmoid = _one("sigmoid", 1.0, 0.73095703125)
silu = _one("silu", 1.0, 0.73095703125)
gelu = _one("gelu", 1.0, 0.84130859375)
softplus = _one("softplus", 1.0, 1.3134765625)


#: NumPy's function for each of ours that has one there.
BY_UFUNC: dict[np.ufunc, Callable[..., "PositArray"]] = {
    np.sqrt: sqrt,
    np.exp: exp,
    np.expm1: exp_minus_1,
    np.exp2: exp2,
    np.log: log,
    np.log1p: log_plus_1,
    np.log2: log2,
    np.log10: log10,
    np.sin: sin,
    np.cos: cos,
    np.tan: tan,
    np.arcsin: arc_sin,
    np.arccos: arc_cos,
    np.arctan: arc_tan,
    np.sinh: sinh,
    np.cosh: cosh,
    np.tanh: tanh,
    np.arcsinh: arc_sinh,
    np.arccosh: arc_cosh,
    np.arctanh: arc_tanh,
    np.hypot: hypot,
    np.power: pow,
    np.arctan2: arc_tan2,
}
