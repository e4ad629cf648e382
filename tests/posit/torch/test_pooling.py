"""Pooling of PositTensors against rationals, torch's float64 and unmodified modules."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from posit import Format, posit8, posit16, posit32
from posit.errors import ShapeError
from posit.torch import PositTensor, posit_tensor
from posit.torch.policy import Policy
from tests.posit.torch.samples import codes_of, nearest, random, table

NAR = -(1 << 15)


MAXIMA: dict[str, Any] = {
    "plain": (nn.MaxPool2d(2), (2, 3, 6, 8)),
    "ragged": (nn.MaxPool2d(2), (2, 1, 5, 7)),
    "ceil": (nn.MaxPool2d(2, ceil_mode=True), (2, 1, 5, 7)),
    "overlapping": (nn.MaxPool2d(3, stride=1, padding=1), (2, 2, 5, 5)),
    "dilated": (nn.MaxPool2d(2, stride=2, dilation=2), (1, 2, 7, 7)),
    "unbatched": (nn.MaxPool2d((2, 3)), (2, 6, 6)),
    "one axis": (nn.MaxPool1d(3, stride=2, padding=1), (2, 3, 9)),
    "adaptive": (nn.AdaptiveMaxPool2d((3, 2)), (2, 2, 7, 5)),
    "adaptive more": (nn.AdaptiveMaxPool2d((5, 3)), (1, 2, 3, 3)),
    "adaptive one axis": (nn.AdaptiveMaxPool1d(2), (2, 3, 5)),
}
AVERAGES: dict[str, Any] = {
    "plain": (nn.AvgPool2d(2), (2, 3, 6, 8)),
    "three": (nn.AvgPool2d(3, stride=2, padding=1), (2, 2, 7, 6)),
    "without padding": (nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), (2, 1, 5, 4)),
    "ceil": (nn.AvgPool2d((3, 2), stride=2, padding=(1, 0), ceil_mode=True), (1, 2, 6, 5)),
    "divisor": (nn.AvgPool2d(2, stride=1, divisor_override=7), (2, 1, 4, 4)),
    "unbatched": (nn.AvgPool2d(2), (3, 4, 4)),
    "one axis": (nn.AvgPool1d(3, stride=1), (2, 3, 6)),
    "adaptive even": (nn.AdaptiveAvgPool2d(2), (2, 2, 6, 4)),
    "adaptive": (nn.AdaptiveAvgPool2d((3, 2)), (2, 2, 7, 5)),
    "adaptive more": (nn.AdaptiveAvgPool2d((5, 4)), (1, 2, 3, 3)),
    "adaptive global": (nn.AdaptiveAvgPool2d(1), (2, 3, 5, 3)),
    "adaptive one axis": (nn.AdaptiveAvgPool1d(2), (2, 3, 5)),
}


@pytest.mark.parametrize("name", MAXIMA)
@pytest.mark.parametrize(
    "fmt", [posit16, posit8, posit32, pytest.param(Format(12, 1), marks=pytest.mark.exhaustive)], ids=str
)
def test_maxima_are_moved_and_gradients_summed_exactly(name: str, fmt: Format) -> None:
    layer, shape = MAXIMA[name]
    x = random(shape, fmt, 1).requires_grad_()
    twin: Any = x.detach().to_float(torch.float64).requires_grad_()
    y, y64 = layer(x), layer(twin)
    assert codes_of(y) == codes_of(posit_tensor(y64.detach(), fmt))
    g = random(tuple(y.shape), fmt, 2)
    y.backward(g)
    y64.backward(g.to_float(torch.float64))  # sums of so few posits are exact in float64, but for posit32
    assert twin.grad is not None
    assert codes_of(x.grad) == codes_of(posit_tensor(twin.grad, fmt))


@pytest.mark.parametrize("name", ["plain", "overlapping", "adaptive"])
def test_the_maximum_with_nar_is_nar(name: str) -> None:
    layer, shape = MAXIMA[name]
    x = random(shape, posit16, 1)
    x.codes.view(-1)[7] = NAR
    assert (x.codes == NAR).sum() == 1
    y = layer(x.requires_grad_())
    twin: Any = x.detach().to_float(torch.float64)
    wanted = layer(twin)
    assert ((y.codes == NAR) == wanted.isnan()).all()
    finite = ~wanted.isnan()
    assert torch.equal(y.to_float(torch.float64)[finite], wanted[finite])
    y.backward(random(tuple(y.shape), posit16, 2))
    assert isinstance(x.grad, PositTensor)
    assert x.grad.codes.view(-1)[7] != 0


def averages_by_hand(layer: nn.Module, x: PositTensor, g: PositTensor) -> tuple[Any, Any]:
    """Exact averages and gradients: the layer is linear, so its matrix is read off unit vectors as rationals."""
    shape = x.shape[-2:] if x.ndim != 3 or isinstance(layer, nn.AvgPool2d) else x.shape[-1:]
    size = int(np.prod(shape))
    units = torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape)
    matrix = layer(units).reshape(size, -1).numpy()
    rational = np.array(
        [[Fraction(value).limit_denominator(1000) for value in row] for row in matrix], object
    )
    return table(x).reshape(-1, size) @ rational, table(g).reshape(-1, rational.shape[1]) @ rational.T


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("fmt", [posit16, posit8], ids=str)
def test_averages_and_gradients_are_rounded_once(name: str, fmt: Format) -> None:
    layer, shape = AVERAGES[name]
    x = random(shape, fmt, 1).requires_grad_()
    y = layer(x)
    g = random(tuple(y.shape), fmt, 2)
    y.backward(g)
    means, shares = averages_by_hand(layer, x, g)
    assert tuple(y.shape) == tuple(layer(torch.zeros(shape)).shape)
    assert codes_of(y) == nearest(means, fmt)
    if name != "adaptive global":  # its gradient comes through mean and expand
        assert codes_of(x.grad) == nearest(shares, fmt)


def test_averages_of_ties_extremes_and_nar() -> None:
    huge = (1 << 15) - 1
    rows = [[huge, -huge, 1, 0], [1, 1, 0, NAR], [1 << 14, (1 << 14) + 1, 0, 0]]
    x: Any = PositTensor(torch.tensor([[rows]], dtype=torch.int16), posit16)
    y = nn.AvgPool2d((1, 2))(x)
    assert y.codes[0, 0, 1, 1] == NAR
    assert (y.codes == NAR).sum() == 1
    sums = table(PositTensor(torch.where(x.codes == NAR, 0, x.codes), posit16)).reshape(6, 2).sum(axis=1)
    wanted = nearest(sums / 2, posit16)
    assert [code for t, code in enumerate(codes_of(y)) if t != 3] == wanted[:3] + wanted[4:]


def test_a_policy_mixes_formats() -> None:
    policy = Policy(posit8, posit16, posit16)
    for layer in (nn.AvgPool2d(3, stride=1), nn.MaxPool2d(3, stride=1), nn.MaxPool2d(2)):
        x: Any = PositTensor(random((1, 2, 4, 4), posit16, 1).codes, posit16, policy=policy).requires_grad_()
        twin: Any = x.detach().to_float(torch.float64).requires_grad_()
        y, y64 = layer(x), layer(twin)
        assert y.format == posit8
        assert codes_of(y) == codes_of(posit_tensor(y64.detach(), posit8))
        g = PositTensor(random(tuple(y.shape), posit8, 2).codes, posit8, policy=policy)
        y.backward(g)
        y64.backward(g.to_float(torch.float64))
        assert isinstance(x.grad, PositTensor)
        assert x.grad.format == posit16
        assert twin.grad is not None
        assert codes_of(x.grad) == codes_of(posit_tensor(twin.grad, posit16))


def test_channels_last_and_other_strides_change_no_bit() -> None:
    x = random((2, 3, 6, 6), posit16, 1)
    turned = PositTensor(x.codes.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), posit16)
    for layer in (nn.MaxPool2d(3, stride=2), nn.AvgPool2d(3, stride=2), nn.AdaptiveAvgPool2d(4)):
        assert codes_of(layer(turned)) == codes_of(layer(x))


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises((ShapeError, RuntimeError), match="too small|must fit"):
        nn.AvgPool2d(5)(random((1, 1, 3, 3), posit16))
