"""Functions of one posit and their slopes: tables where the format is small, blocks elsewhere; rounded once."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from posit import _buffers, codec
from posit._elementary.registry import FUNCTIONS
from posit._elementary.rounding import value
from posit._elementary.ziv import Solution, number, settle, solve
from posit._kernels import pointwise as kernels
from posit._threads import split
from posit.codec import Codes
from posit.formats import Format
from posit.torch.ops.pointwise import Bounded, Floats, flat_codes, rounded_codes, settle_open
from posit.torch.tensor import Outcome, PositTensor, to_numpy

_TABLE_BITS = 16
_EXACT = Format(64, 5)  # 50 significant bits and more for every number from 2**-200 to 2**200


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A real function of one argument; compared by identity, so make each once."""

    approximate: Callable[
        [Floats], tuple[Floats, Floats | float]
    ]  #: values, bounds of relative errors; 0 is exact
    solve: Callable[
        [Fraction], Solution
    ]  #: exactly: a rational, None where undefined, or a number to evaluate


def registered(name: str) -> Curve:
    """A function of `posit._elementary`."""
    function = FUNCTIONS[name]

    def approximate(x: Floats) -> Bounded:
        found = function.approximate(x)
        return found if isinstance(found, tuple) else (found, 2.0**-44)

    return Curve(approximate, lambda x: solve(function, x))


def apply(curve: Curve, x: PositTensor, result: Outcome) -> PositTensor:
    """The function of every element, rounded once to the result's format."""
    codes = to_numpy(x.codes)
    return result.wrap(_evaluate(curve, flat_codes(codes), x.format, result.format).reshape(codes.shape))


def _evaluate(curve: Curve, codes: Codes, fmt: Format, to: Format) -> Codes:
    if fmt.nbits > _TABLE_BITS:
        return rounded_codes(to, [codes], [fmt], curve.approximate, curve.solve)
    table = _table(curve, fmt, to)
    out: Codes = _buffers.empty(codes.shape, table.dtype)
    kernel = kernels.gather(codes.dtype, table.dtype)
    split(codes.size, codes.size, lambda start, stop: kernel(codes[start:stop], table, out[start:stop]))
    return out


@lru_cache(maxsize=256)
def _table(curve: Curve, fmt: Format, to: Format) -> Codes:
    return rounded_codes(to, [_all_codes(fmt)], [fmt], curve.approximate, curve.solve)


def _all_codes(fmt: Format) -> Codes:
    return np.arange(1 << fmt.nbits).astype(fmt.storage).view(codec.signed_storage(fmt))


def multiply_slope(slope: Curve, grad: PositTensor, x: PositTensor, result: Outcome) -> PositTensor:
    """``grad * slope(x)``: the product of the gradient and the real number, rounded once."""
    g, codes = flat_codes(to_numpy(grad.codes)), flat_codes(to_numpy(x.codes))
    to = result.format

    def product(given: Fraction, at: Fraction) -> Solution:
        found = slope.solve(at)
        if found is None or isinstance(found, Fraction):
            return None if found is None else given * found
        return Fraction(0) if given == 0 else lambda ctx: number(ctx, given) * found(ctx)

    if not (grad.format.fits_float64 and x.format.fits_float64 and to.fits_float64):
        never: Any = None
        return result.wrap(
            rounded_codes(to, [g, codes], [grad.format, x.format], never, product).reshape(tuple(grad.shape))
        )
    out: Codes = _buffers.empty(g.shape, codec.signed_storage(to))
    unsure = _buffers.empty(g.shape, np.uint8)
    _multiply(slope, g, grad.format, codes, x.format, to, out, unsure)

    def exactly(index: int) -> int:
        given, at = value(int(g[index]), grad.format), value(int(codes[index]), x.format)
        return to.nar if given is None or at is None else settle(product(given, at), to)

    settle_open(out, unsure, exactly, to)
    return result.wrap(out.reshape(tuple(grad.shape)))


def _multiply(
    slope: Curve,
    g: Codes,
    grad_format: Format,
    codes: Codes,
    fmt: Format,
    to: Format,
    out: Codes,
    unsure: Any,
) -> None:
    looks_up = fmt.nbits <= _TABLE_BITS
    kernel = kernels.scaled(
        *grad_format.parameters, g.dtype, *to.parameters, out.dtype, codes.dtype if looks_up else None
    )
    table = _slopes(slope, fmt) if looks_up else None
    none = np.empty(0, np.int8), np.empty(0)

    def run(start: int, stop: int) -> None:
        for low in range(start, stop, 1 << 14):
            part = slice(low, min(low + (1 << 14), stop))
            if table is not None:
                kernel(g[part], codes[part], table, none[1], out[part], unsure[part])
                continue
            slopes, bounds = _approximate(slope, codec.decode(codes[part], fmt))
            unknown = ~(bounds < 0.25)
            bounds[unknown] = 0.0
            kernel(g[part], none[0], slopes, bounds, out[part], unsure[part])
            unsure[part] |= unknown

    split(g.size, 10 * g.size, run)


def _approximate(slope: Curve, x: Any) -> tuple[Floats, Floats]:
    """Slopes and bounds of their relative errors; NaN and 0 are exact."""
    with np.errstate(all="ignore"):
        values, bound = slope.approximate(x)
    values = np.clip(values, -kernels.MOST, kernels.MOST)
    return values, np.where((values == 0.0) | np.isnan(values), 0.0, bound)


@lru_cache(maxsize=128)
def _slopes(slope: Curve, fmt: Format) -> Floats:
    codes = _all_codes(fmt)
    slopes, bounds = _approximate(slope, codec.decode(codes, fmt))
    kernels.mark(slopes, bounds != 0.0, slopes)
    wide = ~(bounds <= kernels.RELATIVE)
    for index in np.flatnonzero(wide).tolist():
        at = value(index, fmt)
        assert at is not None
        slopes[index] = _float(settle(slope.solve(at), _EXACT))
    return slopes


def _float(code: int) -> float:
    """The float64 next to a code of `_EXACT`, marked inexact."""
    exact = value(code, _EXACT)
    near = np.array([float("nan") if exact is None else float(exact)])
    kernels.mark(near, np.array([exact != 0]), near)
    return float(near[0])
