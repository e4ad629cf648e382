r"""Exact argument reduction for sine, cosine and tangent, over arrays of float64.

sin, cos and tan of x need x modulo :math:`\pi/2`.  For x = M * 2**E with an integer M < 2**32 the product
:math:`x \cdot 2/\pi` modulo 4 is formed in integers from a table of :math:`2^E \cdot 2/\pi \bmod 4` with 158
fraction bits (Payne and Hanek's idea).  The table is cut below 2**-158, so the product errs by less than
2**-126; its top 128 bits are a fixed-point number with 126 fraction bits, whose nearest integer is the
quadrant.  What is left is high * 2**-62 + middle * 2**-126 with a signed `high`, both rounded to float64: an
error of at most 2**-53 (|r| + 2 * 2**-62) + 2**-125, hence below 2**-46 |r| while |r| >= 2**-54.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from posit._kernels import elementary

Floats = npt.NDArray[np.float64]
Quadrants = npt.NDArray[np.int64]

_LIMBS = 5  # of 32 bits: 2 integer bits and 158 fraction bits
_FRACTION = 32 * _LIMBS - 2
_LOWEST = -33  # E of the smallest reduced argument: pi/4 = M * 2**E with M in [2**31, 2**32)
_HIGHEST = 1000


@cache
def _table() -> npt.NDArray[np.uint64]:
    """Row E - _LOWEST holds 2**E * 2/pi mod 4 in _LIMBS limbs, lowest first."""
    from mpmath.libmp import pi_fixed

    bits = _HIGHEST + _FRACTION + 64
    two_over_pi = (2 << (2 * bits)) // int(pi_fixed(bits))  # scaled by 2**bits; errs by a few units
    modulus = (1 << (_FRACTION + 2)) - 1
    rows = [two_over_pi >> (bits - _FRACTION - e) & modulus for e in range(_LOWEST, _HIGHEST + 1)]
    return np.array([[row >> (32 * limb) & 0xFFFFFFFF for limb in range(_LIMBS)] for row in rows], np.uint64)


def modulo_half_pi(x: Floats) -> tuple[Floats, Quadrants, Floats]:
    r"""Remainder and quadrant of :math:`x = q\,\pi/2 + r`, :math:`|r| \le \pi/4`, and r's relative error.

    Args:
        x: Values of posits with at most 32 significant bits; NaN gives NaN.

    Returns:
        (r, q modulo 4, bound).  The bound is 2**-46, or 1 (nothing is known) where r came out below 2**-53:
        the two words of r then no longer suffice.

    >>> r, q, bound = modulo_half_pi(np.array([2.0**100]))  # 2**100 = q pi/2 + r
    >>> float(np.sin(r[0])), int(q[0])
    (0.4891786569747214, 3)
    """
    size = x.size
    r, q, bound = np.empty(size), np.empty(size, np.int64), np.empty(size)
    elementary.modulo_half_pi(np.ascontiguousarray(x), _table(), _LOWEST, r, q, bound)
    return r, q, bound


def modulo_half(x: Floats) -> tuple[Floats, Quadrants]:
    r"""Quadrant q modulo 4 and remainder r, :math:`|r| \le \pi/4`, of :math:`\pi x = q\,\pi/2 + r`.

    Everything before the last product is exact: multiples of x's unit, at most 2.  So r has the relative
    error of one product, and is 0 exactly where it should.

    >>> modulo_half(np.array([2.5]))
    (array([0.]), array([1]))
    """
    turn = x - 2.0 * np.rint(0.5 * x)
    quadrant = np.rint(2.0 * turn)
    r = np.pi * (turn - 0.5 * quadrant)
    return r, np.where(np.isnan(quadrant), 0.0, quadrant).astype(np.int64) & 3
