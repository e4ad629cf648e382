"""Policies: which format a result takes, in the forward and in the backward pass."""

from fractions import Fraction

import pytest
import torch
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.errors import FormatMismatch, NoRuleError
from posit.reference import exact
from posit.torch import Policy, PositTensor, cast, gradient_sums, phase, posit_tensor
from tests.posit.torch.samples import posit

P12 = Format(12)
MIXED = Policy(activations=posit8, gradients=P12, loss=posit16)


def leaf(shape: tuple[int, ...], fmt: Format, policy: Policy | None, seed: int) -> PositTensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    codes = posit_tensor(values, fmt).codes
    return PositTensor(codes, fmt, requires_grad=True, policy=policy)


def real(x: PositTensor) -> list[list[Fraction]]:
    return [[Fraction(value) for value in row] for row in x.to_float(torch.float64).tolist()]


def rounded(value: Fraction, fmt: Format) -> Fraction:
    found = exact.value(exact.nearest(value, fmt), fmt)
    assert found is not None
    return found


def test_a_linear_layer_of_three_formats_rounds_each_result_once() -> None:
    x, w, b = (
        leaf((5, 7), posit8, MIXED, 0),
        leaf((3, 7), posit16, MIXED, 1),
        leaf((3,), posit16, MIXED, 2),
    )
    y = posit(functional.linear(x, w, b))
    assert (y.format, y.policy) == (posit8, MIXED)
    xs, ws, bs = real(x), real(w), [Fraction(value) for value in b.tolist()]
    for i in range(5):
        for j in range(3):
            total = sum((p * q for p, q in zip(xs[i], ws[j], strict=True)), bs[j])
            assert real(y)[i][j] == rounded(total, posit8)

    weights = leaf((5, 3), posit8, MIXED, 3).detach()
    torch.autograd.backward(y, weights)
    gs = real(posit(weights))
    assert [posit(t.grad).format for t in (x, w, b)] == [P12, P12, P12]
    for i in range(3):
        for j in range(7):
            total = sum((gs[r][i] * xs[r][j] for r in range(5)), Fraction(0))
            assert real(posit(w.grad))[i][j] == rounded(total, P12)
        bias = sum((gs[r][i] for r in range(5)), Fraction(0))
        assert Fraction(posit(b.grad).tolist()[i]) == rounded(bias, P12)
    for r in range(5):
        for j in range(7):
            total = sum((gs[r][i] * ws[i][j] for i in range(3)), Fraction(0))
            assert real(posit(x.grad))[r][j] == rounded(total, P12)


def test_a_forward_pass_run_again_inside_a_backward_pass_has_the_bits_of_the_first() -> None:
    w = leaf((4, 4), posit16, MIXED, 1)
    x = leaf((2, 4), posit8, MIXED, 0)

    def block(x: torch.Tensor) -> torch.Tensor:
        return posit(functional.linear(functional.linear(x, w), w))

    plain = block(x).sum()
    plain.backward()
    expected = posit(w.grad).codes.clone()
    w.grad = x.grad = None
    again = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False).sum()
    again.backward()
    assert torch.equal(posit(again).codes, posit(plain).codes)
    assert torch.equal(posit(w.grad).codes, expected)


def test_the_phase_can_be_said() -> None:
    x, w = leaf((2, 4), posit8, MIXED, 0), leaf((3, 4), posit16, MIXED, 1)
    with torch.no_grad(), phase(backward=True):
        assert posit(functional.linear(x, w)).format == P12


def test_formats_do_not_mix_without_a_policy() -> None:
    x, w = leaf((2, 4), posit8, None, 0), leaf((3, 4), posit16, None, 1)
    with pytest.raises(FormatMismatch, match=r"linear got operands of formats posit16, posit8; convert them"):
        functional.linear(x, w)


def test_different_policies_do_not_meet() -> None:
    other = Policy(posit16, posit16, posit16)
    with pytest.raises(FormatMismatch, match="different recipes"):
        functional.linear(leaf((2, 4), posit8, MIXED, 0), leaf((3, 4), posit16, other, 1))


def test_a_module_is_named_where_it_lacks_a_rule() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spectrum: torch.Tensor = torch.fft.rfft(x)
            return spectrum

    module = Odd()
    module.posit_name = "net.3"  # type: ignore[assignment]
    with pytest.raises(NoRuleError, match=r'aten\._fft_r2c.*in Odd "net\.3"'):
        module(leaf((2, 4), posit8, None, 0))


def test_cast_rounds_once_forward_and_backward() -> None:
    x = leaf((50,), posit16, None, 0)
    y = cast(x, policy=MIXED)
    assert (y.format, y.policy) == (posit8, MIXED)
    assert y.tolist() == [float(rounded(Fraction(value), posit8)) for value in x.tolist()]
    grad = leaf((50,), P12, MIXED, 1).detach()
    torch.autograd.backward(y, grad)
    assert posit(x.grad).format == posit16
    assert posit(x.grad).tolist() == grad.tolist()


def test_gradient_sums_do_not_depend_on_the_split() -> None:
    results = []
    for split in ([64], [32, 32], [20, 44], [1] * 64):
        w, b = leaf((5, 9), posit16, None, 1), leaf((5,), posit16, None, 2)
        x, g = leaf((64, 9), posit16, None, 3).detach(), leaf((64, 5), posit16, None, 4).detach()
        with gradient_sums([w, b]) as sums:
            for xs, gs in zip(x.split(split), g.split(split), strict=True):
                functional.linear(xs, w, b).backward(gs)
        assert w.grad is None
        results.append([each.quires.to_posit().codes.tolist() for each in sums])
    assert all(result == results[0] for result in results)
    xs, gs = real(posit(x)), real(posit(g))
    total = sum((gs[r][4] * xs[r][8] for r in range(64)), Fraction(0))
    assert results[0][0][4][8] == exact.nearest(total, posit16)


def test_simulation_accumulates_in_float32() -> None:
    policy = Policy(posit32, posit32, posit32, simulate=True)
    x = PositTensor(posit_tensor(torch.tensor([[1e8, 1.0, -1e8]]), posit32).codes, posit32, policy=policy)
    ones = posit_tensor(torch.ones(1, 3), posit32)
    assert functional.linear(x, ones).tolist() == [[0.0]]
    exactly = PositTensor(x.codes, posit32)
    assert functional.linear(exactly, ones).tolist() == [[1.0]]


def test_transforms_of_torch_func_are_refused_by_name() -> None:
    with pytest.raises(NoRuleError, match=r"torch\.func transform.*use torch\.autograd"):
        torch.func.vmap(lambda x: posit_tensor(x, posit16))(torch.ones(2, 3))
