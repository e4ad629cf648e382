"""Convolutions of PositTensors against sums of rationals, torch's float64 and unmodified modules."""

import gc
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import posit._patches
from posit import Format, posit8, posit16, posit32
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import PositTensor, posit_tensor
from posit.torch.accumulation import gradient_sums
from posit.torch.ops.observe import observe
from posit.torch.policy import Policy
from tests.posit.torch.samples import codes_of, nearest, random, table

NAR = -(1 << 15)


def by_hand(
    x: Any,
    w: Any,
    g: Any,
    strides: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: Any = 1,
) -> Any:
    """Exact result, gradient of x, and gradient of w, as rationals, by the definition."""
    zero = Fraction(0)
    y, dx, dw = (np.full(shape, zero, object) for shape in (g.shape, x.shape, w.shape))
    per, outs = w.shape[1], w.shape[0] // groups
    for n, o, i, j in np.ndindex(*g.shape):
        for c, r, s in np.ndindex(*w.shape[1:]):
            h, v = (
                i * strides[0] + r * dilation[0] - padding[0],
                j * strides[1] + s * dilation[1] - padding[1],
            )
            if 0 <= h < x.shape[2] and 0 <= v < x.shape[3]:
                at = n, o // outs * per + c, h, v
                y[n, o, i, j] += x[at] * w[o, c, r, s]
                dx[at] += g[n, o, i, j] * w[o, c, r, s]
                dw[o, c, r, s] += g[n, o, i, j] * x[at]
    return y, dx, dw


CASES: dict[str, Any] = {
    "plain": ((2, 2, 5, 6), (3, 2, 3, 2), {}),
    "padded": ((2, 1, 4, 5), (2, 1, 3, 3), {"padding": (1, 2)}),
    "strided": ((2, 2, 7, 6), (2, 2, 3, 3), {"stride": (2, 3), "padding": 1}),
    "dilated": ((1, 2, 7, 8), (2, 2, 3, 2), {"dilation": (2, 3), "padding": 2}),
    "stride and dilation": ((2, 1, 9, 9), (2, 1, 3, 3), {"stride": 2, "dilation": (2, 3), "padding": 2}),
    "stride 4 dilation 6": (
        (1, 1, 20, 5),
        (1, 1, 3, 1),
        {"stride": (4, 1), "dilation": (6, 1), "padding": (3, 0)},
    ),
    "groups": ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 3, 5, 5), (3, 1, 3, 3), {"groups": 3, "stride": 2}),
    "one window": ((3, 2, 4, 3), (4, 2, 4, 3), {}),
    "one padded window": ((2, 1, 2, 2), (2, 1, 4, 4), {"padding": 1}),
    "apart": ((2, 1, 7, 6), (3, 1, 2, 2), {"stride": 3, "padding": (1, 0)}),
    "patches": ((2, 3, 6, 6), (4, 3, 3, 3), {"stride": 3}),
    "one by one": ((2, 3, 3, 3), (4, 3, 1, 1), {}),
    "stride beyond": ((1, 1, 9, 9), (1, 1, 1, 1), {"stride": 4, "padding": 2}),
}


def two(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fmt", [posit16, posit8], ids=str)
def test_results_and_gradients_are_exact_sums_rounded_once(name: str, fmt: Format) -> None:
    x_shape, w_shape, options = CASES[name]
    x, w, b = random(x_shape, fmt, 1), random(w_shape, fmt, 2), random(w_shape[:1], fmt, 3)
    for leaf in (x, w, b):
        leaf.requires_grad_()
    y: Any = functional.conv2d(x, w, b, **options)
    g = random(tuple(y.shape), fmt, 4)
    y.backward(g)
    steps: Any = tuple(
        two(options.get(key, default)) for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    sums, dx, dw = by_hand(
        table(x), table(w), table(g), steps[0], steps[1], steps[2], options.get("groups", 1)
    )
    assert codes_of(y) == nearest(sums + table(b)[:, None, None], fmt)
    assert codes_of(x.grad) == nearest(dx, fmt)
    assert codes_of(w.grad) == nearest(dw, fmt)
    assert codes_of(b.grad) == nearest(table(g).sum(axis=(0, 2, 3)), fmt)


@pytest.mark.parametrize(
    "fmt", [posit16, posit32, pytest.param(Format(12, 1), marks=pytest.mark.exhaustive)], ids=str
)
def test_torchs_float64_agrees_within_the_format(fmt: Format) -> None:
    x, w = random((3, 4, 9, 8), fmt, 1).requires_grad_(), random((6, 2, 3, 3), fmt, 2).requires_grad_()
    twins: list[Any] = [leaf.detach().to_float(torch.float64).requires_grad_() for leaf in (x, w)]
    options: Any = {"stride": 2, "padding": (1, 2), "dilation": (2, 1), "groups": 2}
    y64: Any
    y: Any
    y, y64 = functional.conv2d(x, w, **options), functional.conv2d(*twins, **options)
    g = random(tuple(y.shape), fmt, 4)
    y.backward(g)
    y64.backward(g.to_float(torch.float64))
    for got, wanted in ((y, y64), (x.grad, twins[0].grad), (w.grad, twins[1].grad)):
        assert isinstance(got, PositTensor)
        assert wanted is not None
        assert codes_of(got) == codes_of(posit_tensor(wanted.detach(), fmt))


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("taps", [3, 4])
def test_conv1d(padding: Any, taps: int) -> None:
    x, w, b = random((2, 4, 7), posit16, 1), random((2, 2, taps), posit16, 2), random((2,), posit16, 3)
    x.requires_grad_(), w.requires_grad_()
    y: Any = functional.conv1d(x, w, b, padding=padding, dilation=2, groups=2)
    twins: list[Any] = [leaf.detach().to_float(torch.float64).requires_grad_() for leaf in (x, w)]
    y64 = functional.conv1d(
        twins[0], twins[1], b.to_float(torch.float64), padding=padding, dilation=2, groups=2
    )
    assert codes_of(y) == codes_of(posit_tensor(y64.detach(), posit16))
    g = random(tuple(y.shape), posit16, 4)
    y.backward(g)
    y64.backward(g.to_float(torch.float64))
    assert codes_of(x.grad) == codes_of(posit_tensor(twins[0].grad, posit16))
    assert codes_of(w.grad) == codes_of(posit_tensor(twins[1].grad, posit16))
    one = functional.conv1d(x[0], w, b, padding=padding, dilation=2, groups=2)
    assert codes_of(one) == codes_of(y[0])


def test_nar_reaches_what_it_feeds_and_nothing_else() -> None:
    x, w = random((2, 1, 5, 5), posit16, 1), random((2, 1, 3, 3), posit16, 2)
    x.codes[1, 0, 0, 4] = NAR
    y: Any = functional.conv2d(x, w, padding=1)
    is_nar = (y.codes == NAR).numpy()
    wanted = np.zeros(is_nar.shape, bool)
    wanted[1, :, 0:2, 3:5] = True
    assert (is_nar == wanted).all()


def test_ties_cancellation_and_extremes_are_rounded_once() -> None:
    one, tiny, huge = 1 << 14, 1, (1 << 15) - 1
    x: Any = PositTensor(torch.tensor([[[[huge, one, -huge, tiny]]]], dtype=torch.int16), posit16)
    w = PositTensor(torch.tensor([[[[one] * 3]], [[[huge] * 3]]], dtype=torch.int16), posit16)
    y: Any = functional.conv2d(x, w)
    sums, _, _ = by_hand(table(x), table(w), table(y), (1, 1), (0, 0), (1, 1), 1)
    assert codes_of(y) == nearest(sums, posit16)
    assert y.tolist()[0][0][0][0] == 1.0


def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[list[int]]:
        x, w = (
            random((5, 3, 9, 8), posit16, 1).requires_grad_(),
            random((4, 3, 3, 3), posit16, 2).requires_grad_(),
        )
        y: Any = functional.conv2d(x, w, padding=1, stride=(1, 2))
        y.backward(random(tuple(y.shape), posit16, 3))
        return [codes_of(each) for each in (y, x.grad, w.grad)]

    whole = everything()
    for block in (1, 300, 2500):
        monkeypatch.setattr(posit._patches, "BLOCK", block)
        assert everything() == whole
    monkeypatch.setattr(posit._patches, "TOGETHER", 0)
    assert everything() == whole


def test_a_policy_mixes_formats() -> None:
    policy = Policy(posit8, posit16, posit16)
    x: Any = PositTensor(random((2, 2, 5, 5), posit8, 1).codes, posit8, policy=policy).requires_grad_()
    w, b = random((3, 2, 3, 3), posit16, 2).requires_grad_(), random((3,), posit16, 3).requires_grad_()
    y: Any = functional.conv2d(x, w, b, padding=1)
    g = PositTensor(random(tuple(y.shape), posit16, 4).codes, posit16, policy=policy)
    y.backward(g)
    sums, dx, dw = by_hand(table(x), table(w), table(g), (1, 1), (1, 1), (1, 1), 1)
    assert y.format == posit8
    assert y.policy == policy
    assert codes_of(y) == nearest(sums + table(b)[:, None, None], posit8)
    assert codes_of(x.grad) == nearest(dx, posit16)
    assert codes_of(w.grad) == nearest(dw, posit16)
    assert codes_of(b.grad) == nearest(table(g).sum(axis=(0, 2, 3)), posit16)
    with pytest.raises(FormatMismatch, match="a bias in posit32 and a weight in posit16"):
        functional.conv2d(x, w, random((3,), posit32))


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
@pytest.mark.parametrize("padding", ["same", 1])
def test_simulated_sums_are_torchs_float32(padding: Any) -> None:
    policy = Policy(posit16, posit16, posit16, simulate=True)
    x: Any = PositTensor(random((2, 2, 6, 6), posit16, 1).codes, posit16, policy=policy).requires_grad_()
    w, b = random((3, 2, 4, 4), posit16, 2).requires_grad_(), random((3,), posit16, 3).requires_grad_()
    y: Any = functional.conv2d(x, w, b, padding=padding)
    twins: list[Any] = [leaf.detach().to_float().requires_grad_() for leaf in (x, w, b)]
    y32 = functional.conv2d(twins[0], twins[1], twins[2], padding=padding)
    g = PositTensor(random(tuple(y.shape), posit16, 4).codes, posit16, policy=policy)
    y.backward(g)
    y32.backward(g.to_float())
    assert (y.to_float() - y32).abs().max() < 2e-2
    for leaf, twin in zip((x, w, b), twins, strict=True):
        assert isinstance(leaf.grad, PositTensor)
        assert twin.grad is not None
        assert (leaf.grad.to_float() - twin.grad).abs().max() < 2e-2


@pytest.mark.parametrize("groups", [1, 2])
def test_gradient_sums_over_parts_are_the_gradient_of_the_whole(groups: int) -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=groups)
    weight, bias = random((6, 4 // groups, 3, 3), posit16, 1), random((6,), posit16, 2)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    x, g = random((5, 4, 7, 7), posit16, 3), random((5, 6, 4, 4), posit16, 4)
    layer(x).backward(g)
    parameters: Any = list(layer.parameters())
    with gradient_sums(parameters) as sums:
        for part in (slice(0, 2), slice(2, 5)):
            layer(x[part]).backward(g[part])
    for parameter, total in zip(parameters, sums, strict=True):
        assert isinstance(parameter.grad, PositTensor)
        rounded = total.quires.to_posit().codes.view(np.int16)
        assert (rounded == parameter.grad.codes.numpy()).all()


def test_an_unmodified_module_trains() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2), nn.Flatten(0)
    )
    for module in (net[0], net[2]):
        for name, parameter in list(module.named_parameters()):
            setattr(module, name, nn.Parameter(posit_tensor(parameter.detach(), posit16)))
    net(random((3, 1, 7, 7), posit16, 1)).sum().backward()
    assert all(isinstance(parameter.grad, PositTensor) for parameter in net.parameters())


def test_an_empty_batch_has_empty_results_and_zero_gradients() -> None:
    x, w = random((0, 1, 5, 5), posit16).requires_grad_(), random((2, 1, 3, 3), posit16).requires_grad_()
    y: Any = functional.conv2d(x, w)
    assert tuple(y.shape) == (0, 2, 3, 3)
    y.backward(random((0, 2, 3, 3), posit16))
    assert isinstance(w.grad, PositTensor)
    assert not w.grad.codes.any()


def test_what_does_not_fit_is_refused() -> None:
    x, w = random((1, 2, 5, 5), posit16), random((4, 2, 3, 3), posit16)
    for wrong, match in (
        ({"stride": 0}, "stride must be 2 integers of at least 1, got 0"),
        ({"padding": -1}, "padding must be 2 integers of at least 0"),
        ({"groups": 3}, "got 2 channels, and a weight of shape"),
        ({"dilation": 3}, r"windows \(3, 3\) with dilation \(3, 3\) do not fit the input \(5, 5\)"),
        ({"padding": "same", "stride": 2}, "'same' needs a stride of 1"),
        ({"padding": "full"}, "got 'full'"),
        ({"bias": random((3,), posit16)}, r"needs a bias of shape \(4,\), got \(3,\)"),
    ):
        with pytest.raises(ShapeError, match=match):
            functional.conv2d(x, w, **wrong)
    with pytest.raises(ShapeError, match="conv2d needs an input of 4 dimensions"):
        functional.conv2d(x[0, 0], w)
    with pytest.raises(FormatMismatch, match="torch.float32"):
        functional.conv2d(x, w.to_float())
    module = nn.ConvTranspose2d(2, 2, 3)
    with pytest.raises(
        NoRuleError, match=r"transposed .* have no rule for PositTensor \(in ConvTranspose2d\)"
    ):
        module(x)


@pytest.mark.parametrize("groups", [1, 2])
def test_observers_are_told_of_every_product(groups: int) -> None:
    x, w = (
        random((2, 4, 6, 6), posit16).requires_grad_(),
        random((4, 4 // groups, 3, 3), posit16).requires_grad_(),
    )
    seen: list[Any] = []
    with observe(seen.append):
        y = functional.conv2d(x, w, random((4,), posit16), groups=groups)
    assert sum(each.result.size for each in seen) == y.numel()
    with observe(seen.append):
        y.backward(random(tuple(y.shape), posit16, 1))
    for each in seen:
        assert (each.op, each.format) == ("convolution", posit16)
        for index in {0, each.result.size // 2, each.result.size - 1, *each.open[:2].tolist()}:
            factors = [
                [exact.value(code & 0xFFFF, posit16) or 0 for code in term] for term in each.terms(index)
            ]
            total = sum((Fraction(math.prod(term)) for term in factors), Fraction(0))
            assert nearest(np.array([total]), posit16) == [each.result.reshape(-1)[index]]
        assert (each.in_float32() == each.result).mean() > 0.9
    weight = w.codes.untyped_storage().data_ptr()
    assert (
        sum(any(s.untyped_storage().data_ptr() == weight for s in each.sources) for each in seen)
        >= 2 * groups
    )
    assert seen[-1].target == w.grad.codes.data_ptr()


def test_a_training_step_leaves_nothing_for_the_garbage_collector() -> None:
    """A message that was made ready for every call kept frames, and with them saved tensors, until a collection."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(posit_tensor(parameter.detach(), posit16)))
    x = posit_tensor(torch.rand(2, 1, 8, 8), posit16)

    def step() -> None:
        functional.cross_entropy(model(x), torch.tensor([0, 2])).backward()
        model.zero_grad()

    step()
    gc.collect()
    gc.disable()
    try:
        before = [each for each in gc.get_objects() if type(each) is PositTensor]
        step()
        known = {id(each) for each in before}
        left = [each for each in gc.get_objects() if type(each) is PositTensor and id(each) not in known]
        assert [tuple(each.shape) for each in left] == []
    finally:
        gc.enable()
