"""Normalization of PositTensors: every element the real-valued formula over the stored posits, rounded once."""

import importlib
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import posit._norms
from posit import Format, posit8, posit16, posit32
from posit._norms import over_root
from posit.errors import FormatError, FormatMismatch, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import PositTensor, posit_tensor
from posit.torch.accumulation import gradient_sums
from posit.torch.policy import Policy
from tests.posit.torch.samples import codes_of, table

NAR = -(1 << 15)
FORMATS = [posit8, posit16, posit32, pytest.param(Format(12, 1), marks=pytest.mark.exhaustive)]


def random(shape: tuple[int, ...], fmt: Format, seed: int = 0, shift: float = 0.0) -> Any:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + shift
    return posit_tensor(x, fmt)


def real(value: Any, fmt: Format) -> int:
    """Signed code of an mpmath number of 400 bits (or a rational), rounded once."""
    if not isinstance(value, Fraction | int):
        sign, mantissa, exponent, _ = value._mpf_
        value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if sign else 1)
        if abs(value) < Fraction(1, 1 << 300):  # what is left of exact zeros
            value = Fraction(0)
    code = exact.nearest(Fraction(value), fmt)
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def mp(value: Any) -> Any:
    return mpmath.mpf(value.numerator) / value.denominator


def rows_by_hand(x: Any, g: Any, gamma: Any, eps: float, centered: bool) -> tuple[Any, Any]:
    """For rows of rationals x̂ and the gradient of x, in 400 bits."""
    with mpmath.workprec(400):
        count = x.shape[1]
        hats, grads = [], []
        for row, grad, factor in zip(x, g, gamma, strict=True):
            mean = sum(row, Fraction(0)) / count if centered else Fraction(0)
            d = [value - mean for value in row]
            square = sum((v * v for v in d), Fraction(0)) / count + Fraction(eps)
            root = mpmath.sqrt(mp(square))
            h = [p * q for p, q in zip(grad, factor, strict=True)]
            shift = sum(h, Fraction(0)) / count if centered else Fraction(0)
            slope = sum((p * q for p, q in zip(h, d, strict=True)), Fraction(0)) / count / square
            hats.append([mp(v) / root for v in d])
            grads.append([mp(p - shift - q * slope) / root for p, q in zip(h, d, strict=True)])
    return np.array(hats, object), np.array(grads, object)


def check(y: Any, leaves: Any, g: PositTensor, eps: float, centered: bool, rows: Any, fmt: Format) -> None:
    """Result and gradients; rows(table, is_parameter) lays any of them out as rows."""
    x, weight, bias = leaves
    gamma = (
        rows(table(weight), True) if weight is not None else np.full(rows(table(x), False).shape, Fraction(1))
    )
    beta = rows(table(bias), True) if bias is not None else gamma * 0
    hats, grads = rows_by_hand(rows(table(x), False), rows(table(g), False), gamma, eps, centered)
    got = rows(y.codes.numpy(), False)
    with mpmath.workprec(400):
        for place in np.ndindex(*hats.shape):
            assert got[place] == real(mp(gamma[place]) * hats[place] + mp(beta[place]), fmt)
    back = rows(x.grad.codes.numpy(), False)
    for place in np.ndindex(*grads.shape):
        assert back[place] == real(grads[place], fmt)
    if weight is not None:
        hat_values = np.array([[_value(hat, fmt) for hat in row] for row in hats], object)
        index = rows(np.arange(weight.numel()).reshape(weight.shape), True)
        terms = rows(table(g), False) * hat_values
        wanted = [real(terms[index == t].sum(), fmt) for t in range(weight.numel())]
        assert codes_of(weight.grad) == wanted
    if bias is not None:
        index = rows(np.arange(bias.numel()).reshape(bias.shape), True)
        terms = rows(table(g), False)
        assert codes_of(bias.grad) == [real(terms[index == t].sum(), fmt) for t in range(bias.numel())]


def _value(hat: Any, fmt: Format) -> Any:
    return exact.value(real(hat, fmt) & fmt.code_mask, fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_layer_norm(fmt: Format, shift: float) -> None:
    x = random((2, 3, 6), fmt, 1, shift).requires_grad_()
    weight, bias = random((6,), fmt, 2).requires_grad_(), random((6,), fmt, 3).requires_grad_()
    y: Any = functional.layer_norm(x, (6,), weight, bias, 1e-5)
    g = random((2, 3, 6), fmt, 4)
    y.backward(g)

    def rows(values: Any, parameter: bool) -> Any:
        return np.broadcast_to(values, (6, 6)) if parameter else values.reshape(6, 6)

    check(y, (x, weight, bias), g, 1e-5, True, rows, fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("eps", [None, 0.0, 1e-3])
def test_rms_norm(fmt: Format, eps: float | None) -> None:
    x, weight = random((3, 2, 5), fmt, 1).requires_grad_(), random((2, 5), fmt, 2).requires_grad_()
    y: Any = functional.rms_norm(x, (2, 5), weight, eps)
    g = random((3, 2, 5), fmt, 4)
    y.backward(g)

    def rows(values: Any, parameter: bool) -> Any:
        return np.broadcast_to(values.reshape(1, 10), (3, 10)) if parameter else values.reshape(3, 10)

    check(y, (x, weight, None), g, 2.0**-23 if eps is None else eps, False, rows, fmt)


@pytest.mark.parametrize(("groups", "shape"), [(2, (2, 4, 2, 3)), (4, (2, 4, 3)), (1, (3, 4)), (2, (3, 4))])
def test_group_norm(groups: int, shape: tuple[int, ...]) -> None:
    x = random(shape, posit16, 1).requires_grad_()
    weight, bias = random((4,), posit16, 2).requires_grad_(), random((4,), posit16, 3).requires_grad_()
    y: Any = functional.group_norm(x, groups, weight, bias, 1e-4)
    g = random(shape, posit16, 4)
    y.backward(g)

    def rows(values: Any, parameter: bool) -> Any:
        whole = values.reshape(1, 4, *[1] * (len(shape) - 2)) if parameter else values
        return np.broadcast_to(whole, shape).reshape(shape[0] * groups, -1)

    check(y, (x, weight, bias), g, 1e-4, True, rows, posit16)


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (4, 2), (2, 2, 5)])
def test_batch_norm_in_training(shape: tuple[int, ...]) -> None:
    x = random(shape, posit16, 1, 2.0).requires_grad_()
    weight, bias = random((2,), posit16, 2).requires_grad_(), random((2,), posit16, 3).requires_grad_()
    mean, variance = random((2,), posit16, 5), posit_tensor(torch.tensor([0.5, 3.0]), posit16)
    before = table(mean), table(variance)
    y: Any = functional.batch_norm(x, mean, variance, weight, bias, True, 0.1, 1e-5)
    g = random(shape, posit16, 4)
    y.backward(g)

    def rows(values: Any, parameter: bool) -> Any:
        whole = values.reshape(1, 2, *[1] * (len(shape) - 2)) if parameter else values
        return np.broadcast_to(whole, shape).swapaxes(0, 1).reshape(2, -1)

    check(y, (x, weight, bias), g, 1e-5, True, rows, posit16)
    values, m = rows(table(x), False), Fraction(0.1)
    means = values.sum(axis=1) / values.shape[1]
    variances = ((values - means[:, None]) ** 2).sum(axis=1) / (values.shape[1] - 1)
    assert codes_of(mean) == [
        real((1 - m) * a + m * b, posit16) for a, b in zip(before[0], means, strict=True)
    ]
    assert codes_of(variance) == [
        real((1 - m) * a + m * b, posit16) for a, b in zip(before[1], variances, strict=True)
    ]


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_batch_norm_in_eval(fmt: Format) -> None:
    x, weight = random((3, 2, 4), fmt, 1).requires_grad_(), random((2,), fmt, 2).requires_grad_()
    bias, mean = random((2,), fmt, 3).requires_grad_(), random((2,), fmt, 5)
    variance = posit_tensor(torch.tensor([0.25, 3.0]), fmt)
    y: Any = functional.batch_norm(x, mean, variance, weight, bias, False, 0.1, 0.0)
    g = random((3, 2, 4), fmt, 4)
    y.backward(g)
    with mpmath.workprec(400):
        for (n, c, i), value in np.ndenumerate(table(x)):
            root = mpmath.sqrt(mp(table(variance)[c]))
            hat = mp(value - table(mean)[c]) / root
            wanted = mp(table(weight)[c]) * hat + mp(table(bias)[c])
            assert y.codes[n, c, i] == real(wanted, fmt)
            assert x.grad.codes[n, c, i] == real(mp(table(weight)[c] * table(g)[n, c, i]) / root, fmt)
    assert codes_of(bias.grad) == [real(each, fmt) for each in table(g).sum(axis=(0, 2))]


@pytest.mark.parametrize("layer", [
    nn.LayerNorm(8), nn.LayerNorm((3, 8), bias=False), nn.RMSNorm(8, eps=1e-3), nn.GroupNorm(3, 6), nn.InstanceNorm1d(6),
    nn.InstanceNorm1d(6, affine=True), nn.BatchNorm1d(6), nn.BatchNorm1d(6, momentum=None), nn.BatchNorm1d(6, affine=False),
], ids=str)  # fmt: skip
def test_unmodified_modules_agree_with_float64(layer: nn.Module) -> None:
    shape = (4, 6, 8) if "(3, 8)" not in str(layer) else (4, 3, 8)
    x = random(shape, posit32, 1).requires_grad_()
    twin: Any = x.detach().to_float(torch.float64).requires_grad_()
    layer.double()
    y64 = layer(twin)
    running = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    fresh = {"running_mean": torch.zeros(6), "running_var": torch.ones(6)}
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(posit_tensor(parameter.detach(), posit32)))
    for name, _ in list(layer.named_buffers()):
        setattr(layer, name, posit_tensor(fresh[name], posit32) if name in fresh else torch.tensor(0))
    y = layer(x)
    g = random(shape, posit32, 4)
    y.backward(g)
    y64.backward(g.to_float(torch.float64))
    assert twin.grad is not None
    assert isinstance(x.grad, PositTensor)
    assert codes_of(y) == codes_of(posit_tensor(y64.detach(), posit32))
    assert (x.grad.to_float(torch.float64) - twin.grad).abs().max() < 1e-7
    for name in running.keys() & fresh.keys():
        kept = layer.get_buffer(name)
        assert isinstance(kept, PositTensor)
        assert (kept.to_float(torch.float64) - running[name]).abs().max() < 1e-7


def test_rows_without_variance_and_zero_rows() -> None:
    rows = [[3.0] * 4, [0.0] * 4, [1.0, -1.0, 1.0, -1.0], [0.0, 5.0, 0.0, -5.0], [1e-9, 1.0, 1e-9, 1.0]]
    x = posit_tensor(torch.tensor(rows), posit16)
    weight, bias = posit_tensor(torch.tensor([1.0, 2.0, 3.0, 4.0]), posit16), random((4,), posit16)
    y: Any = functional.layer_norm(x, (4,), weight, bias, 1e-5)
    assert codes_of(y[:2]) == codes_of(bias) * 2
    assert y[3].codes[[0, 2]].tolist() == bias.codes[[0, 2]].tolist()  # x is the mean
    units: Any = functional.layer_norm(x, (4,), eps=0.0)
    assert (units.codes[:2] == NAR).all()  # 0 / 0
    assert units.tolist()[2] == [1.0, -1.0, 1.0, -1.0]
    assert units.tolist()[4] == [-1.0, 1.0, -1.0, 1.0]
    assert functional.rms_norm(x, (4,), None, 1e-5).tolist()[1] == [0.0] * 4


def test_nar_takes_its_row_and_no_other() -> None:
    x, weight = random((3, 5), posit16, 1), random((5,), posit16, 2)
    x.codes[1, 2] = NAR
    results: Any = functional.layer_norm(x, (5,), weight), functional.rms_norm(x, (5,), weight)
    for y in results:
        assert (y.codes == NAR).all(dim=1).tolist() == [False, True, False]
        assert (y.codes == NAR).sum() == 5
    weight.codes[4] = NAR
    whole: Any = functional.layer_norm(random((3, 5), posit16, 1), (5,), weight)
    assert (whole.codes == NAR).any(dim=0).tolist() == [False] * 4 + [True]


def test_settling_everything_exactly_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[list[int]]:
        found = []
        for layer in (nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 4)):
            x = random((3, 4, 6), posit16, 1, 5.0).requires_grad_()
            y = _converted(layer)(x)
            y.backward(random((3, 4, 6), posit16, 2))
            found += [codes_of(y), codes_of(x.grad)]
        return found

    certified = everything()
    kernels = importlib.import_module("posit._kernels.norms")

    def unsure(kernel: Any) -> Any:
        def run(*args: Any) -> int:
            kernel(*args)
            args[-1][...] = 1
            args[-2][...] = 0
            return 1

        return run

    for name in ("scaled", "derivative"):
        made = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *key, made=made: unsure(made(*key)))
    assert everything() == certified
    monkeypatch.setattr(posit._norms, "CHUNK", 1)
    assert everything() == certified


def _parameters(layer: nn.Module) -> Any:
    return list(layer.parameters())


def _converted(layer: nn.Module) -> nn.Module:
    for seed, (name, parameter) in enumerate(list(layer.named_parameters())):
        setattr(layer, name, nn.Parameter(random(tuple(parameter.shape), posit16, seed)))
    return layer


def test_pieces_of_rows_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[list[int]]:
        x = random((5, 6, 7), posit16, 1).requires_grad_()
        layer = _converted(nn.GroupNorm(3, 6))
        y = layer(x)
        y.backward(random((5, 6, 7), posit16, 2))
        z = functional.batch_norm(x, random((6,), posit16), posit_tensor(torch.ones(6), posit16))
        return [codes_of(each) for each in (y, x.grad, layer.get_parameter("weight").grad, z)]

    whole = everything()
    for chunk in (1, 20, 60):
        monkeypatch.setattr(posit._norms, "CHUNK", chunk)
        assert everything() == whole


def test_a_policy_mixes_formats() -> None:
    policy = Policy(posit8, posit16, posit16)
    x: Any = PositTensor(random((3, 6), posit8, 1).codes, posit8, policy=policy).requires_grad_()
    weight, bias = random((6,), posit16, 2).requires_grad_(), random((6,), posit16, 3).requires_grad_()
    y: Any = functional.layer_norm(x, (6,), weight, bias)
    g = PositTensor(random((3, 6), posit16, 4).codes, posit16, policy=policy)
    y.backward(g)
    hats, grads = rows_by_hand(table(x), table(g), np.broadcast_to(table(weight), (3, 6)), 1e-5, True)
    with mpmath.workprec(400):
        wanted = [
            real(mp(table(weight)[j]) * hats[i, j] + mp(table(bias)[j]), posit8) for i, j in np.ndindex(3, 6)
        ]
    assert y.format == posit8
    assert codes_of(y) == wanted
    assert isinstance(x.grad, PositTensor)
    assert x.grad.format == posit16
    assert codes_of(x.grad) == [real(each, posit16) for each in grads.reshape(-1)]
    terms = table(g) * np.array([[_value(hat, posit8) for hat in row] for row in hats], object)
    assert codes_of(weight.grad) == [real(each, posit16) for each in terms.sum(axis=0)]
    assert codes_of(bias.grad) == [real(each, posit16) for each in table(g).sum(axis=0)]


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
@pytest.mark.parametrize("groups", [0, 2])
def test_gradient_sums_over_parts_are_the_gradient_of_the_whole(fmt: Format, groups: int) -> None:
    layer = nn.GroupNorm(groups, 4) if groups else nn.LayerNorm(4)
    shape = (5, 4, 3) if groups else (5, 3, 4)
    layer.weight, layer.bias = nn.Parameter(random((4,), fmt, 1)), nn.Parameter(random((4,), fmt, 2))
    x, g = random(shape, fmt, 3), random(shape, fmt, 4)
    layer(x).backward(g)
    with gradient_sums(_parameters(layer)) as sums:
        for part in (slice(0, 2), slice(2, 5)):
            layer(x[part]).backward(g[part])
    for parameter, total in zip(layer.parameters(), sums, strict=True):
        assert isinstance(parameter.grad, PositTensor)
        rounded = total.quires.to_posit().codes
        assert (rounded.view(f"i{rounded.itemsize}") == parameter.grad.codes.numpy()).all()


def test_batch_norm_is_refused_where_batches_are_cut_up() -> None:
    layer = _converted(nn.BatchNorm1d(4))
    for name in ("running_mean", "running_var"):
        setattr(layer, name, posit_tensor(torch.ones(4), posit16))
    x = random((5, 4), posit16, 1)
    with gradient_sums([]):
        with pytest.raises(NoRuleError, match=r"takes statistics over the batch.*\(in BatchNorm1d\)"):
            layer(x)
        layer.eval()(x)


def test_an_empty_batch() -> None:
    weight = random((4,), posit16).requires_grad_()
    x: Any = PositTensor(torch.empty((0, 4), dtype=torch.int16), posit16).requires_grad_()
    y: Any = functional.layer_norm(x, (4,), weight)
    y.backward(y.detach())
    assert tuple(y.shape) == (0, 4)
    assert isinstance(weight.grad, PositTensor)
    assert not weight.grad.codes.any()


def test_what_does_not_fit_is_refused() -> None:
    x = random((2, 4), posit16)
    with pytest.raises(ShapeError, match=r"layer_norm over \(3,\) got an input of shape \(2, 4\)"):
        functional.layer_norm(x, (3,))
    with pytest.raises(ShapeError, match="4 channels for 3 groups"):
        functional.group_norm(x, 3)
    with pytest.raises(ShapeError, match="needs more than one element a channel"):
        functional.batch_norm(x[:1], None, None, training=True)
    with pytest.raises(ShapeError, match="needs running statistics"):
        functional.batch_norm(x, None, None)
    with pytest.raises(FormatMismatch, match="torch.float32"):
        functional.batch_norm(x, torch.zeros(4), torch.ones(4))
    with pytest.raises(NoRuleError, match="updates running statistics"):
        functional.instance_norm(x.unsqueeze(-1), random((4,), posit16))
    wide = Format(32, 4)
    with pytest.raises(FormatError, match="use a format with fewer exponent bits"):
        functional.layer_norm(random((2, 4), wide), (4,))


def test_over_root_decides_ties_and_irrationals() -> None:
    tie = exact.value(2 * 0x4001 + 1, Format(17))
    assert tie is not None
    assert over_root(tie * 3, Fraction(9), Fraction(0), posit16) == 0x4002
    assert over_root(tie * 2, Fraction(4), Fraction(0), posit16) == 0x4002
    near = over_root(Fraction(1), Fraction(2), Fraction(0), posit16)
    assert near == real(mpmath.sqrt(mpmath.mpf(0.5)), posit16)
    assert over_root(Fraction(0), Fraction(2), Fraction(-1), posit16) == 0xC000
    assert over_root(Fraction(1, 10**30), Fraction(7), Fraction(0), posit16) == 1
