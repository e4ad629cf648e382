r"""Float64 approximations of the elementary functions of one argument, each with a proven relative error.

Each function takes values of posits (at most 32 significant bits, magnitude in 2**±992, NaN for NaR) and
returns values, or values and bounds.  Without a bound, `DEFAULT_BOUND` = 2**-44 holds: every formula below
combines at most four rounded operations and library calls without cancellation, and NumPy's float64 functions
are documented or measured to err by at most 4 units in the last place (2**-50) on every platform NumPy is
built for.  Eight such errors, amplified by a condition number of at most 2, stay below 2**-46; the rest is
reserve. `tests/posit/test_elementary_bounds.py` measures each formula against 2**-46 on the machine at hand.

Conventions: NaN outside the domain; 0 only where the exact result is 0; infinities and subnormal results
stand for "beyond maxpos" and "below minpos"; where float64 itself would underflow to 0, `_TINY` with the
right sign is given.
"""

import numpy as np
import numpy.typing as npt

from posit._elementary.reduction import modulo_half, modulo_half_pi
from posit._kernels import elementary

Floats = npt.NDArray[np.float64]
Bounded = tuple[Floats, Floats]

DEFAULT_BOUND = 2.0**-44
_TINY = 2.0**-1000
_LN2, _LN10 = float(np.log(2.0)), float(np.log(10.0))
_SQRT_HALF = 0.7071067811865476


def _only(inside: npt.NDArray[np.bool_], x: Floats) -> Floats:
    return np.where(inside, x, np.nan)


def exp(x: Floats) -> Floats:
    return np.maximum(np.exp(x), _TINY)


def exp2(x: Floats) -> Floats:
    return np.maximum(np.exp2(x), _TINY)


def exp10(x: Floats) -> Floats:
    return np.maximum(np.power(10.0, x), _TINY)


def exp2_minus_1(x: Floats) -> Floats:
    """2**x - 1: from |x| = 1 on the subtraction loses at most one bit."""
    return np.where(np.abs(x) < 1.0, np.expm1(x * _LN2), np.exp2(x) - 1.0)


def exp10_minus_1(x: Floats) -> Floats:
    """10**x - 1: from |x| = 1/4 on the subtraction loses at most two bits."""
    return np.where(np.abs(x) < 0.25, np.expm1(x * _LN10), np.power(10.0, x) - 1.0)


def rsqrt(x: Floats) -> Floats:
    return 1.0 / np.sqrt(_only(x > 0.0, x))


def log(x: Floats) -> Floats:
    """Near 1 by log1p of the exact difference, so that no library's log has to be accurate there."""
    near = np.abs(x - 1.0) < 0.5
    return np.where(near, np.log1p(np.where(near, x - 1.0, 0.0)), np.log(_only(x > 0.0, x)))


def log2(x: Floats) -> Floats:
    return log(x) / _LN2


def log10(x: Floats) -> Floats:
    return log(x) / _LN10


def log_plus_1(x: Floats) -> Floats:
    return np.log1p(_only(x > -1.0, x))


def log2_plus_1(x: Floats) -> Floats:
    return log_plus_1(x) / _LN2


def log10_plus_1(x: Floats) -> Floats:
    return log_plus_1(x) / _LN10


def _wave(r: Floats, q: npt.NDArray[np.int64]) -> Floats:
    """sin(q pi/2 + r) for q in 0..3."""
    size = np.where(q & 1, np.cos(r), np.sin(r))
    return np.where(q & 2, -size, size)


def _slope(r: Floats, q: npt.NDArray[np.int64]) -> Floats:
    """tan(q pi/2 + r); NaN at a pole."""
    t = np.tan(r)
    return np.where(q & 1, -1.0 / _only(t != 0.0, t), t)


def sin(x: Floats) -> Bounded:
    """By exact reduction.  The condition numbers of sin, cos and tan on [-pi/4, pi/4] are at most pi/2."""
    r, q, bound = modulo_half_pi(x)
    return _wave(r, q), 2.0 * bound + 2.0**-46


def cos(x: Floats) -> Bounded:
    """sin(x + pi/2): the same reduction, one quadrant on."""
    r, q, bound = modulo_half_pi(x)
    return _wave(r, q + 1 & 3), 2.0 * bound + 2.0**-46


def tan(x: Floats) -> Bounded:
    r, q, bound = modulo_half_pi(x)
    return _slope(r, q), 2.0 * bound + 2.0**-46


def sin_pi(x: Floats) -> Floats:
    return _wave(*modulo_half(x))


def cos_pi(x: Floats) -> Floats:
    r, q = modulo_half(x)
    return _wave(r, q + 1 & 3)


def tan_pi(x: Floats) -> Floats:
    return _slope(*modulo_half(x))


def arc_sin_pi(x: Floats) -> Floats:
    return np.arcsin(x) / np.pi


def arc_cos(x: Floats) -> Floats:
    """Near 1 by 2 arcsin(sqrt((1 - x) / 2)) with an exact difference: no arccos need be accurate there."""
    near = x > 0.5
    return np.where(near, 2.0 * np.arcsin(np.sqrt(np.where(near, 0.5 * (1.0 - x), 0.0))), np.arccos(x))


def arc_cos_pi(x: Floats) -> Floats:
    return arc_cos(x) / np.pi


def arc_tan_pi(x: Floats) -> Floats:
    return np.arctan(x) / np.pi


def arc_cosh(x: Floats) -> Floats:
    """Below 2 by log1p of the exact x - 1; no cancellation anywhere."""
    over = np.where(x < 2.0, _only(x >= 1.0, x) - 1.0, 0.0)
    return np.where(x < 2.0, np.log1p(over + np.sqrt(over * (over + 2.0))), np.arccosh(np.maximum(x, 1.0)))


def arc_tanh(x: Floats) -> Floats:
    """From 1/2 on by log1p(2x / (1 - x)) / 2 with the exact 1 - x."""
    size = _only(np.abs(x) < 1.0, np.abs(x))
    far = np.where(size < 0.5, 0.0, size)
    result = np.where(
        size < 0.5, np.arctanh(np.where(size < 0.5, size, 0.0)), 0.5 * np.log1p(2.0 * far / (1.0 - far))
    )
    return np.copysign(_only(size < 1.0, result), x)


def erf(x: Floats) -> Floats:
    out = np.empty(x.shape)
    elementary.erf(np.ascontiguousarray(x), out)
    return out


def sigmoid(x: Floats) -> Floats:
    return np.maximum(1.0 / (1.0 + np.exp(-x)), _TINY)


def silu(x: Floats) -> Floats:
    """The quotient x / (1 + e**-x): 0 only at 0."""
    return np.copysign(np.maximum(np.abs(x) / (1.0 + np.exp(-x)), np.where(x == 0.0, 0.0, _TINY)), x)


def gelu(x: Floats) -> Bounded:
    """Gauss error linear unit: x Phi(x) = x erfc(-x / sqrt 2) / 2.

    The argument t = -x / sqrt 2 is rounded twice; erfc's condition number is below 2 t**2 + 2 for t > 0.
    """
    t = x * -_SQRT_HALF
    tail = np.empty(x.shape)
    elementary.erfc(np.ascontiguousarray(t), tail)
    size = np.maximum(np.abs(x) * (0.5 * tail), np.where(x == 0.0, 0.0, _TINY))
    steep = np.minimum(np.maximum(t, 0.0), 30.0)
    return np.copysign(size, x), DEFAULT_BOUND + 2.0**-50 * np.square(steep)


def softplus(x: Floats) -> Floats:
    """log(1 + e**x) as a sum of two nonnegative terms."""
    result: Floats = np.maximum(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))), _TINY)
    return result
