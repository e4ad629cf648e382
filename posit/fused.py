"""alpha x + beta y over arrays of codes, exact with one rounding: the step of every optimizer, and addition."""

import math

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import fused
from posit._threads import split
from posit.codec import Codes
from posit.errors import FormatError, NonFiniteError
from posit.formats import Format

_LARGEST = 2.0**500


def combine(
    alpha: float, x: Codes, beta: float, y: Codes, fmt: Format, out: npt.NDArray[np.integer] | None = None
) -> Codes:
    """``alpha * x + beta * y``, formed exactly and rounded once.

    Args:
        alpha, beta: Exact float64 coefficients: 0, or of magnitude 2**-500 to 2**500.
        x, y: Contiguous codes of the same shape and dtype (unsigned, or signed and sign-extended).
        out: Where to write; may be `x` or `y`.

    Returns:
        Codes of the same shape and dtype.  NaR where either operand is.

    Raises:
        NonFiniteError: a coefficient outside its range.
        FormatError: a format wider than 32 bits or beyond float64's range.

    >>> one = np.array([0x4000], np.uint16)
    >>> combine(3.0, one, -1e-40, one, Format(16))  # 3 - 1e-40 rounds to 3
    array([19456], dtype=uint16)
    """
    for coefficient in (alpha, beta):
        if not math.isfinite(coefficient) or (coefficient and not 1 / _LARGEST <= abs(coefficient) <= _LARGEST):
            raise NonFiniteError(
                f"a coefficient must be 0 or have a magnitude from 2**-500 to 2**500, got {coefficient!r}"
            )
    if fmt.nbits > 32 or max(fmt.max_scale, -fmt.lsb_scale) > 400:
        raise FormatError(f"{fmt} does not fit the float64 carrier of fused updates; use at most 32 bits and es <= 3")
    result = _buffers.empty(x.shape, x.dtype) if out is None else out
    kernel = fused.combine(fmt.nbits, fmt.es, fmt.max_regime or 0, x.dtype)
    base = -1074 - 32
    length = (1100 - base) // 32 + 4
    flat_x, flat_y, flat_out = x.reshape(-1), y.reshape(-1), result.reshape(-1)

    def run(start: int, stop: int) -> None:
        limbs = np.zeros(length, np.int64)
        part = slice(start, stop)
        kernel(alpha, flat_x[part], beta, flat_y[part], limbs, base, flat_out[part])

    split(flat_x.size, flat_x.size * 4, run)
    return result
