"""Pooling: maxima move codes; averages are exact sums over windows, divided and rounded once.

Rounding points: a maximum none (one, where the result's format is another).  An average one.  Backward one for each
element of the input's gradient, however many windows meet there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posit._segments import segment_sums
from posit.codec import Codes, encode_rational, signed_storage
from posit.errors import ShapeError
from posit.torch.registry import calling_module, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten
Indices = npt.NDArray[np.int64]
_BLOCK = 1 << 20  #: elements under windows taken at a time


@register_rule(aten.max_pool2d_with_indices.default)
def _max_pool(op: Any, x: PositTensor, *window: Any) -> tuple[PositTensor, torch.Tensor]:
    """The largest code of each window, and where it is; NaR where a window holds one."""
    return _selected(op, x, *window)


@register_rule(aten.adaptive_max_pool2d.default)
def _adaptive_max_pool(op: Any, x: PositTensor, size: Any) -> tuple[PositTensor, torch.Tensor]:
    """As `_max_pool`, with windows that spread over the input."""
    return _selected(op, x, size, keys=torch.float64)


def _selected(
    op: Any, x: PositTensor, *window: Any, keys: torch.dtype | None = None
) -> tuple[PositTensor, torch.Tensor]:
    """Codes are compared as integers; as float64, which holds them all, where NaR is to win or torch wants floats."""
    codes = x.codes
    if x.has_nar():
        ordered = codes.double()
        ordered[codes == -x.format.nar] = torch.inf
        _, places = op(ordered, *window)
    else:
        _, places = op(codes if keys is None else codes.to(keys), *window)
    picked = codes.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)
    return outcome(op, x).cast(x.like(picked)), places


@register_rule(aten.max_pool2d_with_indices_backward.default)
def _max_pool_backward(
    op: Any,
    grad: PositTensor,
    x: PositTensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    places: torch.Tensor,
) -> PositTensor:
    """The exact sum of the gradients of the windows in which an element was the largest."""
    extents = [d * (k - 1) + 1 for k, d in zip(_two(kernel), _two(dilation), strict=True)]
    apart = all(s >= extent for s, extent in zip(_two(stride or kernel), extents, strict=True))
    return _put(op, grad, x, places, apart=apart)


@register_rule(aten.adaptive_max_pool2d_backward.default)
def _adaptive_max_pool_backward(
    op: Any, grad: PositTensor, x: PositTensor, places: torch.Tensor
) -> PositTensor:
    apart = all(size % count == 0 for size, count in zip(x.shape[-2:], grad.shape[-2:], strict=True))
    return _put(op, grad, x, places, apart=apart)


def _put(op: Any, grad: PositTensor, x: PositTensor, places: torch.Tensor, *, apart: bool) -> PositTensor:
    result = outcome(op, grad)
    if apart:
        moved = result.cast(grad)
        codes = moved.codes.new_zeros(tuple(x.shape))
        codes.view(*x.shape[:-2], -1).scatter_(-1, places.flatten(-2), moved.codes.flatten(-2))
        return result.like(codes)
    plane = x.shape[-2] * x.shape[-1]
    planes = x.numel() // max(plane, 1)
    index = to_numpy(places).reshape(planes, -1) + np.arange(planes)[:, None] * plane
    terms = to_numpy(grad.codes.contiguous()).reshape(-1, 1)
    sums = segment_sums(terms, grad.format, index.reshape(-1), x.numel(), out_format=result.format)
    return result.wrap(sums.reshape(x.shape))


@dataclass(frozen=True, slots=True)
class _Cover:
    """Which elements of a plane lie under which windows."""

    inputs: Indices  #: flat index of an element, and
    windows: Indices  #: of a window that covers it
    divisors: Indices  #: of each window
    size: int  #: elements of the plane
    shape: tuple[int, int]  #: windows

    @classmethod
    def of(cls, sizes: tuple[int, int], starts: Any, stops: Any, divisors: Indices) -> "_Cover":
        """Windows from starts to stops along each of both axes, cut off at the ends of the input."""
        pairs = []
        for size, first, last in zip(sizes, starts, stops, strict=True):
            own = [
                (i, window)
                for window, (a, b) in enumerate(zip(first, last, strict=True))
                for i in range(max(a, 0), min(b, size))
            ]
            pairs.append(np.array(own, np.int64).reshape(-1, 2))
        down, along = pairs
        inputs = down[:, :1] * sizes[1] + along[:, 0]
        windows = down[:, 1:] * len(starts[1]) + along[:, 1]
        shape = len(starts[0]), len(starts[1])
        return cls(inputs.reshape(-1), windows.reshape(-1), divisors.reshape(-1), sizes[0] * sizes[1], shape)

    def blocks(self, planes: int) -> Iterator[slice]:
        """Planes to be taken at a time."""
        step = max(1, _BLOCK // max(1, len(self.inputs)))
        return (slice(first, min(first + step, planes)) for first in range(0, planes, step))


@register_rule(aten.avg_pool2d.default)
def _avg_pool(
    op: Any,
    x: PositTensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> PositTensor:
    """The exact sum over each window, over its count of elements (or `divisor`), rounded once."""
    return _averages(op, x, _pooling(op, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor))


@register_rule(aten.avg_pool2d_backward.default)
def _avg_pool_backward(op: Any, grad: PositTensor, x: PositTensor, *window: Any) -> PositTensor:
    return _shares(op, grad, x, _pooling(op, x, *window))


@register_rule(aten._adaptive_avg_pool2d.default)
def _adaptive_avg_pool(op: Any, x: PositTensor, size: Sequence[int]) -> PositTensor:
    """The exact mean of each window, rounded once."""
    return _averages(op, x, _adaptive(x, tuple(size)))


@register_rule(aten._adaptive_avg_pool2d_backward.default)
def _adaptive_avg_pool_backward(op: Any, grad: PositTensor, x: PositTensor) -> PositTensor:
    return _shares(op, grad, x, _adaptive(x, tuple(grad.shape[-2:])))


def _two(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0], numbers[-1])


def _pooling(
    op: Any,
    x: PositTensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> _Cover:
    if divisor is not None and divisor < 1:
        raise ShapeError(f"{op} divides by at least 1, got divisor_override={divisor}{calling_module()}")
    sizes = x.shape[-2], x.shape[-1]
    starts, stops, counts = [], [], []
    for size, k, s, p in zip(sizes, _two(kernel), _two(stride or kernel), _two(padding), strict=True):
        if k < 1 or s < 1 or not 0 <= p <= k // 2 or size + 2 * p < k:
            raise ShapeError(
                f"{op} got windows {_two(kernel)} with stride {_two(stride or kernel)} for an input {sizes} padded by "
                f"{_two(padding)}{calling_module()}: windows must fit, and padding be at most half of one"
            )
        windows = (size + 2 * p - k + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (windows - 1) * s >= size + p:
            windows -= 1
        first = np.arange(windows) * s - p
        last = np.minimum(first + k, size + p)
        inside = np.minimum(last, size) - np.maximum(first, 0)
        starts.append(first.tolist())
        stops.append(last.tolist())
        counts.append(last - first if count_include_pad else inside)
    divisors = np.outer(*counts) if divisor is None else np.full([len(each) for each in counts], divisor)
    return _Cover.of(sizes, starts, stops, divisors)


def _adaptive(x: PositTensor, shape: tuple[int, ...]) -> _Cover:
    sizes = x.shape[-2], x.shape[-1]
    starts, stops, counts = [], [], []
    for size, windows in zip(sizes, shape, strict=True):
        first = np.arange(windows) * size // windows
        last = -(-(np.arange(windows) + 1) * size // windows)
        starts.append(first.tolist())
        stops.append(last.tolist())
        counts.append(last - first)
    return _Cover.of(sizes, starts, stops, np.outer(*counts))


def _averages(op: Any, x: PositTensor, cover: _Cover) -> PositTensor:
    result = outcome(op, x)
    planes = to_numpy(x.codes.contiguous()).reshape(-1, cover.size)
    out = np.empty((len(planes), len(cover.divisors)), signed_storage(result.format))
    for block in cover.blocks(len(planes)):
        terms = planes[block].T[cover.inputs]
        sums = segment_sums(
            terms,
            x.format,
            cover.windows,
            len(cover.divisors),
            out_format=result.format,
            divisors=cover.divisors,
        )
        out[block] = sums.T
    return result.wrap(out.reshape(*x.shape[:-2], *cover.shape))


def _shares(op: Any, grad: PositTensor, x: PositTensor, cover: _Cover) -> PositTensor:
    """Each element's share in the gradients of the windows that cover it, summed exactly."""
    result = outcome(op, grad)
    planes = to_numpy(grad.codes.contiguous()).reshape(-1, len(cover.divisors))
    divisor = int(cover.divisors[0]) if len(cover.divisors) else 1
    if (cover.divisors != divisor).any():
        unequal = _unequal_shares(result, grad, cover)
        return unequal.like(unequal.codes.view(x.shape))
    out = np.empty((len(planes), cover.size), signed_storage(result.format))
    for block in cover.blocks(len(planes)):
        terms: Codes = planes[block].T[cover.windows]
        divisors = np.full(cover.size, divisor)
        sums = segment_sums(
            terms, grad.format, cover.inputs, cover.size, out_format=result.format, divisors=divisors
        )
        out[block] = sums.T
    return result.wrap(out.reshape(x.shape))


def _unequal_shares(result: Outcome, grad: PositTensor, cover: _Cover) -> PositTensor:
    """Where windows differ in size (at borders): float64 sums of quotients, certified, and rationals for the rest."""
    values = grad.values().reshape(-1, len(cover.divisors))
    quotients = (values / cover.divisors).T
    totals, sizes = (np.zeros((cover.size, len(values))) for _ in range(2))
    np.add.at(totals, cover.inputs, quotients[cover.windows])
    np.add.at(sizes, cover.inputs, np.abs(quotients)[cover.windows])
    most = int(np.bincount(cover.inputs).max(initial=0))

    def exact(index: int) -> int:
        plane, element = divmod(index, cover.size)
        windows = cover.windows[cover.inputs == element]
        terms = (Fraction(float(values[plane, w])) / int(cover.divisors[w]) for w in windows)
        return encode_rational(sum(terms, Fraction(0)), result.format)

    # each quotient is rounded once, and passes through less than `most` additions
    return result.round(
        np.ascontiguousarray(totals.T), np.ascontiguousarray(sizes.T) * ((most + 2) * 2.0**-52), exact
    )
