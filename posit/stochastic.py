"""Stochastic rounding to posits, reproducible from a seed and a position."""

from typing import Any

import numpy as np

from posit import codec
from posit._array import PositArray
from posit._kernels import stochastic as kernels
from posit._threads import split
from posit.errors import FormatError, FormatMismatch
from posit.formats import Format

_WORD = (1 << 64) - 1


def round_stochastic(x: Any, fmt: Format | str, *, seed: int, offset: int = 0) -> PositArray:
    r"""Round each number to one of its two neighbours, so that the expected *value* is the number itself.

    For :math:`l \le |x| \le h` with neighbours l and h, the result is h with probability :math:`(|x| - l) /
    (h - l)`,
    in terms of values, not of encodings: the two differ only where a step of the encoding crosses a power of
    two or exponent bits are cut off, and there only the first is unbiased, which is what stochastic rounding
    is for.  For the
    same reason numbers below minpos become 0 or minpos: this function, unlike the standard's rounding, can
    give 0. Beyond maxpos it saturates.  Values of the format stay as they are.

    Element i in C order uses output ``offset + i`` of SplitMix64 keyed by `seed`, so the result depends
    neither on threads nor on how a long array is cut, if `offset` counts on.  Probabilities are exact to
    :math:`2^{-50}`.

    Args:
        x: float16, bfloat16, float32 or float64 array, Python float, or posits of at most 32 bits.
        fmt: Format of the result, at most 32 bits.
        seed: Any integer; its low 64 bits count.
        offset: Position in the stream of the first element.

    Returns:
        Posits of the same shape; NaR for NaN, infinities and NaR.

    Raises:
        FormatError: a format wider than 32 bits.
        FormatMismatch: not floating-point numbers or posits.

    >>> import posit
    >>> third = np.full(30000, 1 / 3)
    >>> rounded = round_stochastic(third, "posit8", seed=1)
    >>> sorted({float(v) for v in np.unique(rounded)}), abs(rounded.to_float().mean() - 1 / 3) < 1e-4
    ([0.3125, 0.34375], np.True_)
    """
    form = Format.parse(fmt)
    values = _as_float64(x)
    if form.nbits > 32:
        raise FormatError(f"stochastic rounding serves formats of at most 32 bits, got {form}")
    flat = np.ascontiguousarray(values).reshape(-1)
    out = np.empty(flat.shape, np.int64)
    kernel = kernels.rounder(*form.parameters)
    key = np.uint64(stream_key(int(seed) & _WORD))

    def run(start: int, stop: int) -> None:
        kernel(flat[start:stop], key, np.uint64((offset + start) & _WORD), out[start:stop])

    split(flat.size, 10 * flat.size, run)
    return PositArray((out & form.code_mask).astype(form.storage).reshape(values.shape), form)


def _as_float64(x: Any) -> np.ndarray[Any, Any]:
    if isinstance(x, PositArray):
        if x.format.nbits > 32:
            raise FormatError(f"stochastic rounding takes posits of at most 32 bits, got {x.format}")
        return codec.decode(x.codes, x.format)
    given: np.ndarray[Any, Any] = np.asarray(x)
    if (given.dtype.kind != "f" and given.dtype.name != "bfloat16") or given.dtype.itemsize > 8:
        raise FormatMismatch(
            f"stochastic rounding takes floats of at most 64 bits or posits, got {given.dtype}; "
            "convert integers with .astype(np.float64)"
        )
    return given.astype(np.float64, copy=False)


def stream_key(seed: int) -> int:
    """The seed through SplitMix64's mixer, so that neighbouring seeds give unrelated streams."""
    x = (seed + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)
