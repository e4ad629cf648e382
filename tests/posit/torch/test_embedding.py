"""Embedding and bags: rows of a table, exact gradients, refusals."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.torch import Policy, PositTensor, gradient_sums, posit_tensor
from tests.posit.torch.samples import nearest_code, posit

MIXED = Policy(activations=posit8, gradients=posit16, loss=posit16)
INDEX = torch.tensor([[0, 4, 4], [2, 4, 0]])


def random(
    shape: tuple[int, ...], fmt: Format, seed: int = 0, policy: Policy | None = None, spread: int = 0
) -> PositTensor:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-spread, spread + 1, shape))
    return PositTensor(posit_tensor(torch.from_numpy(values), fmt).codes, fmt, policy=policy)


def table(fmt: Format, policy: Policy | None = None, rows: int = 6, **options: Any) -> nn.Embedding:
    layer = nn.Embedding(rows, 3, **options)
    layer.weight = nn.Parameter(random((rows, 3), fmt, 9, policy))
    return layer


def added(index: torch.Tensor, grad: PositTensor, rows: int, fmt: Format) -> list[list[int]]:
    """Exact sums of gradients by row, rounded once."""
    totals = [[Fraction(0)] * 3 for _ in range(rows)]
    for row, values in zip(index.reshape(-1).tolist(), grad.reshape(-1, 3).tolist(), strict=True):
        totals[row] = [a + Fraction(b) for a, b in zip(totals[row], values, strict=True)]
    return [[nearest_code(value, fmt) for value in row] for row in totals]


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32], ids=str)
def test_rows_are_picked_and_gradients_summed_exactly(fmt: Format) -> None:
    layer = table(fmt)
    y = posit(layer(INDEX))
    assert torch.equal(y.codes, posit(layer.weight).codes[INDEX])
    grad = random((2, 3, 3), fmt, 1, spread=6)
    torch.autograd.backward(y, grad)
    assert posit(layer.weight.grad).codes.tolist() == added(INDEX, grad, 6, fmt)


def test_gradients_do_not_depend_on_the_order_of_a_batch() -> None:
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 6, 300))
    grad = random((300, 3), posit16, 1, spread=9)
    order = torch.from_numpy(np.random.default_rng(1).permutation(300))
    found = []
    for where, rows in ((index, grad), (index[order], posit(grad[order]))):
        layer = table(posit16)
        layer(where).backward(rows)
        found.append(posit(layer.weight.grad).codes)
    assert torch.equal(*found)
    assert found[0].tolist() == added(index, grad, 6, posit16)


@pytest.mark.parametrize("padding", [4, -2])
def test_padding_gets_no_gradient(padding: int) -> None:
    layer = table(posit16, padding_idx=padding)
    grad = random((2, 3, 3), posit16, 1)
    layer(INDEX).backward(grad)
    wanted = added(INDEX, grad, 6, posit16)
    wanted[4] = [0] * 3
    assert posit(layer.weight.grad).codes.tolist() == wanted


def test_nar_stays_in_its_row() -> None:
    layer = table(posit16)
    grad = random((2, 3, 3), posit16, 1)
    grad.codes[0, 1, 2] = -posit16.nar
    layer(INDEX).backward(grad)
    nar = posit(layer.weight.grad).codes == -posit16.nar
    assert nar.nonzero().tolist() == [[4, 2]]


def test_formats_of_a_policy() -> None:
    layer = table(posit16, MIXED)
    y = posit(layer(INDEX))
    assert (y.format, y.policy) == (posit8, MIXED)
    wanted = [[nearest_code(Fraction(v), posit8) for v in row] for row in layer.weight.tolist()]
    assert y.codes.tolist() == [[wanted[t] for t in row] for row in INDEX.tolist()]
    grad = random((2, 3, 3), posit16, 1, MIXED)
    torch.autograd.backward(y, grad)
    assert posit(layer.weight.grad).format == posit16
    assert posit(layer.weight.grad).codes.tolist() == added(INDEX, grad, 6, posit16)


def test_exact_sums_over_calls_equal_one_call() -> None:
    grad = random((40, 3), posit16, 1, spread=9)
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 6, 40))
    layer = table(posit16)
    with gradient_sums([posit(layer.weight)]) as sums:
        for part in (slice(0, 7), slice(7, 8), slice(8, 40)):
            layer(index[part]).backward(posit(grad[part]))
    assert layer.weight.grad is None
    got = sums[0].quires.to_posit().codes.view(np.int16)
    assert got.tolist() == added(index, grad, 6, posit16)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_agree_with_float64(mode: str) -> None:
    index, offsets = torch.tensor([0, 4, 4, 2, 4, 0, 5]), torch.tensor([0, 3, 3, 5])
    weight = random((6, 3), posit32, 9).requires_grad_()
    real = posit(weight).to_float(torch.float64).requires_grad_()
    grad = random((4, 3), posit32, 1)
    got = functional.embedding_bag(index, weight, offsets, mode=mode, padding_idx=0)
    wanted = functional.embedding_bag(index, real, offsets, mode=mode, padding_idx=0)
    got.backward(grad)
    wanted.backward(grad.to_float(torch.float64))
    assert real.grad is not None
    assert torch.allclose(posit(got.detach()).to_float(torch.float64), wanted, rtol=1e-7, atol=1e-9)
    assert torch.allclose(posit(weight.grad).to_float(torch.float64), real.grad, rtol=1e-7, atol=1e-8)


def test_bags_of_one_length_round_once() -> None:
    layer = nn.EmbeddingBag(6, 3, mode="mean")
    layer.weight = nn.Parameter(random((6, 3), posit16, 9))
    values = layer.weight.tolist()
    sums = [
        [sum((Fraction(values[t][j]) for t in bag), Fraction(0)) / 3 for j in range(3)]
        for bag in INDEX.tolist()
    ]
    assert posit(layer(INDEX)).codes.tolist() == [[nearest_code(v, posit16) for v in row] for row in sums]


def test_what_is_refused_is_named() -> None:
    weight = random((6, 3), posit16)
    for index, message in (
        (6, "got index 6; indices must be 0 to 5"),
        (-1, "got index -1; indices must be 0"),
    ):
        with pytest.raises(ShapeError, match=message):
            functional.embedding(torch.tensor([index]), weight)
    with pytest.raises(ShapeError, match=r"needs indices of torch.int64 or int32, got torch.float32"):
        functional.embedding(torch.tensor([1.0]), weight)
    for option in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}):
        with pytest.raises(NoRuleError, match=f"embedding of posits has no {next(iter(option))}"):
            functional.embedding(torch.tensor([1]), weight, **option)
    with pytest.raises(NoRuleError, match="has the modes 'sum' and 'mean'"):
        functional.embedding_bag(INDEX, weight, mode="max")
    with pytest.raises(ShapeError, match="needs indices of two dimensions, or of one with offsets"):
        functional.embedding_bag(torch.tensor([0]), weight)
    layer = nn.Sequential(table(posit16))
    with pytest.raises(ShapeError, match=r"got index 7; indices must be 0 to 5 \(in Embedding\)"):
        layer(torch.tensor([7]))
    with pytest.raises(FormatMismatch, match="got formats posit16 and posit8"), torch.no_grad():
        weight[0] = random((3,), posit8)


def test_no_indices_give_no_rows_and_zero_gradients() -> None:
    layer = table(posit16)
    y = layer(torch.zeros(2, 0, dtype=torch.int64))
    assert y.shape == (2, 0, 3)
    y.backward(random((2, 0, 3), posit16))
    assert posit(layer.weight.grad).tolist() == [[0.0] * 3] * 6
