"""Round a real number once, given a float64 approximation and a proven error: certify, and settle the rest exactly."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import certificate
from posit._threads import split
from posit.codec import Codes, encode_rational, to_signed
from posit.formats import Format

if TYPE_CHECKING:
    Real = Any  # an mpmath.mpf

Floats = npt.NDArray[np.float64]


def certified(
    approximation: Floats,
    error: Floats,
    fmt: Format,
    exact: Callable[[int], int],
    storage: npt.DTypeLike | None = None,
) -> Codes:
    """Codes of real numbers of which float64 approximations with proven error bounds are known.

    Args:
        approximation: float64 values, any shape; NaN means NaR.
        error: Bound of |approximation - true value|, same shape; 0 where the approximation is exact.
        fmt: Format of the result.
        exact: Called with the flat index of each element that the bound does not decide; returns its code (unsigned).
        storage: dtype of the codes, unsigned or signed.

    >>> certified(np.array([0.1]), np.array([1e-15]), Format(16), exact=lambda index: 0)
    array([9421], dtype=uint16)
    """
    values, bounds = (_buffers.contiguous(x).reshape(-1) for x in (approximation, error))
    codes = _buffers.empty(approximation.shape, storage or fmt.storage)
    out, unsure = codes.reshape(-1), _buffers.empty(values.size, np.bool_)
    kernel = certificate.certify_values(*fmt.parameters, out.dtype)
    open_counts: list[int] = []

    def run(start: int, stop: int) -> None:
        part = slice(start, stop)
        open_counts.append(kernel(values[part], bounds[part], out[part], unsure[part]))

    split(values.size, values.size * 4, run)
    if sum(open_counts):
        undecided = np.flatnonzero(unsure)
        settled = np.array([exact(int(index)) for index in undecided], np.uint64).astype(fmt.storage)
        out[undecided] = to_signed(settled, fmt) if codes.dtype.kind == "i" else settled
    return codes


def divide(values: Floats, errors: Floats, divisor: int) -> None:
    """Divide approximations and the bounds of their errors by a whole number, in place; powers of two add no error.

    >>> values, errors = np.array([3.0]), np.array([0.0])
    >>> divide(values, errors, 4)
    >>> values.item(), errors.item()
    (0.75, 0.0)
    """
    values /= divisor
    errors /= divisor
    if divisor & (divisor - 1):
        errors += np.abs(values) * 2.0**-52


def nearest_real(evaluate: Callable[[int], "Real"], fmt: Format) -> int:
    """Code of an irrational number by Ziv's strategy: evaluate, bound, retry with twice the precision.

    Args:
        evaluate: ``evaluate(bits)`` returns an mpmath number with a relative error below ``2**(16 - bits)``.  The true
            value must not lie on a rounding boundary (irrational numbers never do).
    """
    bits = 96
    while True:
        approximate = _fraction(evaluate(bits))
        error = abs(approximate) / (1 << (bits - 16))
        low, high = encode_rational(approximate - error, fmt), encode_rational(approximate + error, fmt)
        if low == high and approximate != 0:
            return low
        bits *= 2


def _fraction(x: "Real") -> Fraction:
    sign, mantissa, exponent, _ = x._mpf_
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -value if sign else value
