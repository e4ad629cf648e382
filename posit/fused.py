"""alpha x + y over arrays of codes, exact with one rounding: the step of every optimizer, and addition."""

import math

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import fused
from posit._kernels.arithmetic import fits_float64
from posit._threads import split
from posit.codec import Codes
from posit.errors import FormatError, NonFiniteError
from posit.formats import Format

_LARGEST = 2.0**400


def axpy(alpha: float, x: Codes, y: Codes, fmt: Format, out: npt.NDArray[np.integer] | None = None) -> Codes:
    """``alpha * x + y``, formed exactly and rounded once.

    Args:
        alpha: Exact float64 coefficient: 0, or of magnitude 2**-400 to 2**400.
        x, y: Contiguous codes of the same shape and dtype (unsigned, or signed and sign-extended).
        fmt: Their format, of at most 32 bits.
        out: Where to write; may be `x` or `y`.

    Returns:
        Codes of the same shape and dtype.  NaR where either operand is.

    Raises:
        NonFiniteError: a coefficient outside its range.
        FormatError: a format wider than 32 bits or beyond float64's range.

    >>> one = np.array([0x4000], np.uint16)
    >>> axpy(-1e-40, one, one, Format(16))  # 1 - 1e-40 rounds to 1
    array([16384], dtype=uint16)
    """
    if not math.isfinite(alpha) or (alpha and not 1 / _LARGEST <= abs(alpha) <= _LARGEST):
        raise NonFiniteError(
            f"a coefficient must be 0 or have a magnitude from 2**-400 to 2**400, got {alpha!r}"
        )
    if not fits_float64(fmt.nbits, fmt.es, fmt.max_regime or 0):
        raise FormatError(
            f"{fmt} does not fit the float64 carrier of fused updates; use at most 32 bits and es <= 4"
        )
    result = _buffers.empty(x.shape, x.dtype) if out is None else out
    kernel = fused.axpy(fmt.nbits, fmt.es, fmt.max_regime or 0, x.dtype)
    flat_x, flat_y, flat_out = x.reshape(-1), y.reshape(-1), result.reshape(-1)

    def run(start: int, stop: int) -> None:
        kernel(alpha, flat_x[start:stop], flat_y[start:stop], flat_out[start:stop])

    split(flat_x.size, flat_x.size * 4, run)
    return result
