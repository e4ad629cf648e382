"""alpha x + y over arrays of codes, exact with one rounding: the step of every optimizer, and addition."""

import math

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import fused
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
    _check(fmt, alpha)
    result = _buffers.empty(x.shape, x.dtype) if out is None else out
    kernel = fused.axpy(*fmt.parameters, x.dtype)
    flat_x, flat_y, flat_out = x.reshape(-1), y.reshape(-1), result.reshape(-1)

    def run(start: int, stop: int) -> None:
        kernel(alpha, flat_x[start:stop], flat_y[start:stop], flat_out[start:stop])

    split(flat_x.size, flat_x.size * 4, run)
    return result


def momentum_step(mu: float, lr: float, grad: Codes, held: Codes, weights: Codes, fmt: Format) -> None:
    """SGD with momentum in place: ``held = mu * held + grad``, then ``weights = weights - lr * held``.

    Each is formed exactly and rounded once: the same bits as two calls of `axpy`, in one pass over memory.

    Args:
        mu, lr: Exact float64 coefficients: 0, or of magnitude 2**-400 to 2**400.
        grad, held, weights: Contiguous codes of the same shape and dtype; the last two are changed.
        fmt: Their format, of at most 32 bits.

    Raises:
        NonFiniteError: a coefficient outside its range.
        FormatError: a format wider than 32 bits or beyond float64's range.

    >>> grad, held, weights = (np.array([0x4000], np.uint16) for _ in range(3))
    >>> momentum_step(0.5, 2.0, grad, held, weights, Format(16))  # held 0.5 + 1, weight 1 - 3
    >>> held, weights
    (array([17408], dtype=uint16), array([47104], dtype=uint16))
    """
    _check(fmt, mu, lr)
    kernel = fused.momentum_step(*fmt.parameters, weights.dtype)
    parts = [codes.reshape(-1) for codes in (grad, held, weights)]

    def run(start: int, stop: int) -> None:
        kernel(mu, lr, *(part[start:stop] for part in parts))

    split(weights.size, weights.size * 8, run)


def _check(fmt: Format, *coefficients: float) -> None:
    for alpha in coefficients:
        if not math.isfinite(alpha) or (alpha and not 1 / _LARGEST <= abs(alpha) <= _LARGEST):
            raise NonFiniteError(
                f"a coefficient must be 0 or have a magnitude from 2**-400 to 2**400, got {alpha!r}"
            )
    if not fmt.fits_float64:
        raise FormatError(
            f"{fmt} does not fit the float64 carrier of fused updates; use at most 32 bits and es <= 4"
        )
