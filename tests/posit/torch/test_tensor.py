"""PositTensor: storage, refusals, views, and operators against rationals and float64."""

import copy
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.errors import CodeError, FormatError, FormatMismatch, NonFiniteError, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import PositTensor, observe, posit_tensor, register_rule
from posit.torch.ops.observe import Observation
from tests.posit.torch.samples import posit, random, signed

FORMATS = [posit8, posit16, posit32, Format(12, 1)]
NAR16 = -(1 << 15)


def fractions(x: torch.Tensor) -> list[Fraction]:
    fmt = posit(x).format
    found = [exact.value(code & fmt.code_mask, fmt) for code in posit(x).codes.reshape(-1).tolist()]
    return [value for value in found if value is not None]


@pytest.mark.parametrize(
    ("fmt", "size"), [(posit8, 1), (posit16, 2), (posit32, 4), (Format(12, 1), 2)], ids=str
)
def test_the_storage_is_the_codes(fmt: Format, size: int) -> None:
    x = random((3, 5), fmt)
    assert x.codes.untyped_storage().nbytes() == 15 * size
    assert x.dtype == torch.float32
    assert x.shape == (3, 5)


def test_views_share_memory_and_in_place_writes_are_seen() -> None:
    x = random((4, 6), posit16)
    view = x.t()[1:3].reshape(2, 4)
    x.codes.zero_()
    assert view.t().contiguous().tolist() == [[0.0, 0.0]] * 4
    assert posit(x[2:]).codes.untyped_storage().data_ptr() == x.codes.untyped_storage().data_ptr()


def test_codes_are_sign_extended_and_compare_as_posits() -> None:
    x = posit_tensor(torch.tensor([-1.0, 1.0]), Format(12, 1))
    assert x.codes.tolist() == [-1024, 1024]


def test_an_operator_without_a_rule_names_itself() -> None:
    with pytest.raises(NoRuleError, match=r"aten.special_bessel_j0.default has no rule for PositTensor"):
        torch.special.bessel_j0(random((2,), posit16))


def test_floating_tensors_and_other_formats_are_refused() -> None:
    x = random((2, 2), posit16)
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 operand among PositTensors"):
        x @ torch.ones(2, 2)
    with pytest.raises(FormatMismatch, match="operands of formats posit16, posit8"):
        x @ random((2, 2), posit8)
    with pytest.raises(FormatMismatch, match="cannot copy posits into a torch.float32 tensor"):
        torch.ones(2, 2).copy_(x)
    with pytest.raises(NoRuleError, match=r"would turn posits into torch.float64"):
        x.double()


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="2 of 3 input values are NaN or infinite"):
        posit_tensor(torch.tensor([1.0, float("nan"), float("inf")]), posit16)
    with pytest.raises(CodeError, match="rounds float32 or float64 tensors, got torch.int64"):
        posit_tensor(torch.arange(3), posit16)
    with pytest.raises(CodeError, match="codes of posit16 must be torch.int16, got torch.int32"):
        PositTensor(torch.zeros(2, dtype=torch.int32), posit16)
    with pytest.raises(FormatError, match="at most 32 bits, got posit64"):
        PositTensor(torch.zeros(2, dtype=torch.int64), Format(64))


def test_ways_out_are_explicit() -> None:
    x = random((2, 2), posit16)
    assert x.to_float(torch.float64).dtype == torch.float64
    with pytest.raises(NoRuleError, match="has no numpy"):
        x.numpy()
    with pytest.raises(NoRuleError, match="not pickled; save weights"):
        pickle.dumps(x)
    assert posit_tensor(torch.tensor(0.1), posit8).item() == 0.1015625


def test_deepcopy_keeps_codes_and_parameters_apart() -> None:
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(random((2, 2), posit16))
    twin = copy.deepcopy(layer)
    assert isinstance(twin.weight, nn.Parameter)
    assert torch.equal(posit(twin.weight).codes, posit(layer.weight).codes)
    posit(twin.weight).codes.zero_()
    assert posit(layer.weight).codes.any()


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_addition_subtraction_and_scaling_round_once(fmt: Format) -> None:
    x, y = random((40,), fmt, 1), random((40,), fmt, 2)
    for got, wanted in (
        (x + y, [a + b for a, b in zip(fractions(x), fractions(y), strict=True)]),
        (x - y, [a - b for a, b in zip(fractions(x), fractions(y), strict=True)]),
        (x * 0.1, [a * Fraction(0.1) for a in fractions(x)]),
        (x / 8, [a / 8 for a in fractions(x)]),
    ):
        assert posit(got).codes.tolist() == [signed(exact.nearest(value, fmt), fmt) for value in wanted]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_sums_and_means_round_once(fmt: Format) -> None:
    x = random((6, 7), fmt)
    table = np.array(fractions(x), object).reshape(6, 7)
    assert posit(x.sum(dim=0)).codes.tolist() == [
        signed(exact.nearest(v, fmt), fmt) for v in table.sum(axis=0)
    ]
    assert x.sum(dim=1, keepdim=True).shape == (6, 1)
    assert posit(x.sum()).codes.item() == signed(exact.nearest(table.sum(), fmt), fmt)
    assert posit(x.mean()).codes.item() == signed(exact.nearest(table.sum() / 42, fmt), fmt)
    assert posit(x.mean(dim=1)).codes.tolist() == [
        signed(exact.nearest(v / 7, fmt), fmt) for v in table.sum(axis=1)
    ]


def test_relu_passes_nar_on() -> None:
    x = PositTensor(torch.tensor([NAR16, -5, 0, 7], dtype=torch.int16), posit16)
    assert posit(torch.relu(x)).codes.tolist() == [NAR16, 0, 0, 7]
    assert posit(-x).codes.tolist() == [NAR16, 5, 0, -7]


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_log_softmax_is_correctly_rounded(fmt: Format) -> None:
    x = posit_tensor(
        torch.tensor([[1.0, 2.0, -3.0], [0.0, 40.0, -900.0], [50.0, 1e-7, 50.0], [2.0, 2.0, 2.0]]), fmt
    )
    rows = np.array(fractions(x), object).reshape(4, 3)
    got = posit(functional.log_softmax(x, dim=1)).codes.reshape(-1).tolist()
    with mpmath.workprec(4000):
        for index, code in enumerate(got):
            row = [mpmath.mpf(v.numerator) / v.denominator for v in rows[index // 3]]
            true = row[index % 3] - mpmath.log(mpmath.fsum(mpmath.exp(v) for v in row))
            assert code == signed(
                exact.nearest(Fraction(int(true * mpmath.mpf(2) ** 3000), 2**3000), fmt), fmt
            )


def test_a_single_class_has_log_probability_zero() -> None:
    assert posit(functional.log_softmax(random((3, 1), posit16), dim=1)).codes.tolist() == [[0], [0], [0]]


def test_cross_entropy_and_its_gradient_agree_with_float64() -> None:
    x = random((9, 5), posit32).requires_grad_()
    targets = torch.tensor([0, 1, 2, 3, 4, 0, 1, -100, 2])
    loss = functional.cross_entropy(x, targets)
    loss.backward()
    real = posit(x.detach()).to_float(torch.float64).requires_grad_()
    expected = functional.cross_entropy(real, targets)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
    assert isinstance(x.grad, PositTensor)
    assert real.grad is not None
    assert (x.grad.to_float(torch.float64) - real.grad).abs().max() < 1e-8


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ShapeError, match="got label 5; labels must be 0 to 4"):
        functional.cross_entropy(random((1, 5), posit16), torch.tensor([5]))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_mean_squared_error_and_its_gradient_round_once(fmt: Format) -> None:
    x, y = random((11,), fmt, 3).requires_grad_(), random((11,), fmt, 4)
    loss = functional.mse_loss(x, y)
    loss.backward()
    differences = [a - b for a, b in zip(fractions(x), fractions(y), strict=True)]
    total = sum((d * d for d in differences), Fraction(0))
    assert posit(loss).codes.item() == signed(exact.nearest(total / 11, fmt), fmt)
    assert isinstance(x.grad, PositTensor)
    assert x.grad.codes.tolist() == [signed(exact.nearest(2 * d / 11, fmt), fmt) for d in differences]


def test_gradients_of_a_network_agree_with_float64() -> None:
    """The chain of rules, not each rounding: posit32 against float64 from the same numbers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    twin = copy.deepcopy(net).double()
    for index in (0, 2):
        for name in ("weight", "bias"):
            rounded = posit_tensor(net.get_parameter(f"{index}.{name}").detach(), posit32)
            setattr(net[index], name, nn.Parameter(rounded))
            twin.get_parameter(f"{index}.{name}").data.copy_(rounded.to_float(torch.float64))
    x = random((10, 6), posit32)
    functional.mse_loss(net(x), random((10, 3), posit32, 5)).backward()
    target = random((10, 3), posit32, 5).to_float(torch.float64)
    functional.mse_loss(twin(x.to_float(torch.float64)), target).backward()
    for parameter, real in zip(net.parameters(), twin.parameters(), strict=True):
        assert real.grad is not None
        assert (posit(parameter.grad).to_float(torch.float64) - real.grad).abs().max() < 1e-7


def test_a_gradient_used_twice_is_added_once_rounded() -> None:
    x = random((5,), posit16).requires_grad_()
    (x.sum() + x.sum()).backward()
    assert isinstance(x.grad, PositTensor)
    assert x.grad.tolist() == [2.0] * 5


def test_observers_see_operands_result_and_the_open_elements() -> None:
    seen: list[Observation] = []
    a, b = random((3, 4), posit16), random((4, 2), posit16)
    with observe(seen.append):
        result = a @ b
    a @ b
    assert len(seen) == 1
    assert seen[0].op == "aten.mm.default"
    assert seen[0].result.tolist() == posit(result).codes.tolist()
    assert seen[0].terms(3) == list(zip(a.codes[1].tolist(), b.codes[:, 1].tolist(), strict=True))
    tiers = seen[0].tiers
    assert tiers.by_range + tiers.certified + tiers.zeros + tiers.quire == 6


def test_rules_can_be_added_for_operators_of_others() -> None:
    op = torch.ops.aten.i0.default

    @register_rule(op)
    def _refuse(op: object, x: PositTensor) -> PositTensor:
        raise NoRuleError("asked")

    try:
        with pytest.raises(NoRuleError, match="asked"):
            torch.special.i0(random((2,), posit16))
    finally:
        from posit.torch.registry import _RULES

        del _RULES[op]
