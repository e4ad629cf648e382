"""Windows and padding: elements shown several times, whose gradients are added exactly.

Rounding points: none forward (a padding number is rounded once).  Backward, and in `fold`, each element is the exact
sum over all places it was shown at, rounded once.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from posit._segments import segment_sums
from posit.torch.ops.views import scalar_code
from posit.torch.registry import register_rule
from posit.torch.tensor import PositTensor, outcome, to_numpy

aten = torch.ops.aten


@register_rule(aten.unfold_backward.default)
def _unfold_backward(
    op: Any, grad: PositTensor, sizes: Sequence[int], dim: int, size: int, step: int
) -> PositTensor:
    """Sums over all windows that show an element, one rounding each."""
    numbers = torch.arange(prod(sizes)).view(*sizes)
    return _adjoint(op, grad, numbers.unfold(dim, size, step), sizes)


@register_rule(aten.constant_pad_nd.default)
def _pad(op: Any, x: PositTensor, pad: Sequence[int], value: float = 0) -> PositTensor:
    """Padded with a number, rounded once."""
    return x.like(op(x.codes, pad, scalar_code(value, x.format)))


@register_rule(
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
)
def _pad_with_own(op: Any, x: PositTensor, pad: Sequence[int]) -> PositTensor:
    """Padded with elements of its own."""
    return x.like(x.codes.reshape(-1)[_padded_numbers(op, x.shape, pad)])


@register_rule(
    aten.reflection_pad1d_backward.default,
    aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
    aten.replication_pad1d_backward.default,
    aten.replication_pad2d_backward.default,
    aten.replication_pad3d_backward.default,
)
def _pad_backward(op: Any, grad: PositTensor, x: PositTensor, pad: Sequence[int]) -> PositTensor:
    """Sums over all places an element was copied to, one rounding each."""
    name = op.__name__.split(".")[0].removesuffix("_backward")
    forward = getattr(aten, name).default
    return _adjoint(op, grad, _padded_numbers(forward, x.shape, pad), x.shape)


def _padded_numbers(op: Any, shape: Sequence[int], pad: Sequence[int]) -> torch.Tensor:
    """Which element (in C order) each element of the padded tensor is a copy of."""
    numbers = torch.arange(prod(shape), dtype=torch.float64).view(*shape)
    return op(numbers, pad).to(torch.int64)  # type: ignore[no-any-return]  # an operator's result


def _adjoint(op: Any, grad: PositTensor, places: torch.Tensor, shape: Sequence[int]) -> PositTensor:
    """Exact sums of the gradient over the places it comes from."""
    result = outcome(op, grad)
    count = prod(shape)
    terms = to_numpy(grad.codes).reshape(-1, 1)
    where = to_numpy(places).reshape(-1)
    found = segment_sums(terms, grad.format, where, count, out_format=result.format)
    return result.wrap(found.reshape(tuple(shape)))


@register_rule(aten.im2col.default)
def _im2col(op: Any, x: PositTensor, *window: Sequence[int]) -> PositTensor:
    """Columns of windows (`torch.nn.functional.unfold`); 0 beyond the edges."""
    places = _shown(x.shape, window)
    codes = torch.cat([x.codes.reshape(-1), x.codes.new_zeros(1)])
    return x.like(codes[places])


@register_rule(aten.col2im.default)
def _col2im(op: Any, x: PositTensor, size: Sequence[int], *window: Sequence[int]) -> PositTensor:
    """Sums of columns of windows (`torch.nn.functional.fold`), one rounding for each element."""
    channels = x.shape[-2] // prod(window[0])
    shape = (*x.shape[:-2], channels, *size)
    places = _shown(shape, window)
    inside = places.reshape(-1) < prod(shape)
    result = outcome(op, x)
    terms = to_numpy(x.codes.reshape(-1)[inside]).reshape(-1, 1)
    where = to_numpy(places.reshape(-1)[inside])
    found = segment_sums(terms, x.format, where, prod(shape), out_format=result.format)
    return result.wrap(found.reshape(shape))


def _shown(shape: Sequence[int], window: Sequence[Sequence[int]]) -> torch.Tensor:
    """Which element (in C order) each place of the columns shows; one more than the last beyond the edges."""
    numbers = torch.arange(1, prod(shape) + 1, dtype=torch.float64).view(*shape)
    found = aten.im2col.default(numbers, *window).to(torch.int64) - 1
    return torch.where(found < 0, prod(shape), found)
