"""Exact gradients over several backward passes: the same bits for every split, and what is refused."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from posit import QuireArray, posit8, posit16
from posit._quire_division import divided
from posit.reference import exact
from posit.torch import PositTensor
from postrain.accumulate import accumulate
from postrain.convert import convert
from postrain.errors import AccumulationError, RecipeError
from postrain.recipe import Recipe


def posit(x: object) -> PositTensor:
    assert isinstance(x, PositTensor)
    return x


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(torch.relu(self.first(x)))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))


def gradients(
    model: nn.Module, split: list[int], order: str = "forward", divisor: int = 64
) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(64, 6, generator=generator), torch.randint(0, 6, (64,), generator=generator)
    for parameter in model.parameters():
        parameter.grad = None
    ends = list(itertools.accumulate(split))
    parts = [slice(end - size, end) for end, size in zip(ends, split, strict=True)]
    with accumulate(model, divisor) as sums:
        for part in parts if order == "forward" else parts[::-1]:
            loss = nn.functional.cross_entropy(model(x[part]), y[part], reduction="sum")
            loss.backward()
        assert sums.backward_passes >= len(split)
    return [posit(parameter.grad).codes.reshape(-1).tolist() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "recipe", [Recipe("posit16"), Recipe("posit8", gradients="posit16", loss="posit16")], ids=str
)
@pytest.mark.parametrize("make", [mlp, Tied])
@pytest.mark.parametrize("divisor", [64, 60])
def test_the_split_changes_no_bit(recipe: Recipe, make: type[nn.Module], divisor: int) -> None:
    model = convert(make(), recipe)
    whole = gradients(model, [64], divisor=divisor)
    for split in ([32, 32], [20, 44], [1] * 64):
        assert gradients(model, split, divisor=divisor) == whole
    assert gradients(model, [20, 44], "backward", divisor=divisor) == whole
    assert all(posit(p.grad).format == recipe.policy.gradients for p in model.parameters())


def test_without_it_the_split_does_change_bits() -> None:
    """The test above can fail: rounded gradients added by autograd depend on the split."""
    model = convert(mlp(), "posit16")
    results = []
    for split in ([64], [20, 44]):
        for parameter in model.parameters():
            parameter.grad = None
        x = torch.randn(64, 6, generator=torch.Generator().manual_seed(2))
        at = 0
        for size in split:
            model(x[at : at + size]).sum().backward()
            at += size
        results.append([posit(p.grad).codes.tolist() for p in model.parameters()])
    assert results[0] != results[1]


@pytest.mark.parametrize("divisor", [1, 8, 3, 60])
def test_a_sum_is_divided_exactly_and_rounded_once(divisor: int) -> None:
    model = convert(nn.Linear(3, 2), "posit16")
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    with accumulate(model) as sums:
        posit(model(x[:4])).sum().backward()
        posit(model(x[4:])).sum().backward()
        sums.divisor = divisor
    from posit.torch import posit_tensor

    columns = posit_tensor(x, posit16).to_float(torch.float64)
    wanted = [
        exact.nearest(sum((Fraction(v) for v in columns[:, j].tolist()), Fraction(0)) / divisor, posit16)
        for j in range(3)
    ]
    assert [code & 0xFFFF for code in posit(model.weight.grad).codes[0].tolist()] == wanted
    assert [code & 0xFFFF for code in posit(model.bias.grad).codes.tolist()] == [
        exact.nearest(Fraction(7, divisor), posit16)
    ] * 2


def test_division_of_quires_keeps_nar_zero_and_small_negative_sums() -> None:
    quires = QuireArray((5,), posit16)
    import posit as p

    big = p.from_codes(np.array([0x7FFF, 0x8001, 0, 0x8000, 1], np.uint16), posit16)
    small = p.from_codes(np.array([0xFFFF, 0x0001, 0, 1, 0xFFFF], np.uint16), posit16)
    quires.add(big)
    quires.add(small)
    quires.sub(p.from_codes(np.array([0x7FFF, 0x8001, 0, 0, 1], np.uint16), posit16))
    for divisor in (1, 4, 3):
        values = [-posit16.minpos_value, posit16.minpos_value, Fraction(0), None, -posit16.minpos_value]
        for fmt in (posit8, posit16):
            wanted = [fmt.nar if v is None else exact.nearest(v / divisor, fmt) for v in values]
            assert [code & fmt.code_mask for code in divided(quires, divisor, fmt).tolist()] == wanted


def test_nothing_is_written_after_an_exception() -> None:
    model = convert(mlp(), "posit16")

    def stopped() -> None:
        with accumulate(model):
            model(torch.ones(1, 6)).sum().backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gradient_rounded_on_its_way_is_an_error_that_names_the_parameter() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.offset = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x) + self.offset

    model = convert(Scaled(), "posit16")

    def run() -> None:
        with accumulate(model):
            model(torch.ones(1, 2)).sum().backward()

    with pytest.raises(AccumulationError, match="the gradient of offset was rounded on its way"):
        run()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_summed_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"weight is no PositTensor"), accumulate(nn.Linear(2, 2)):
        pass
    model = convert(nn.Linear(2, 2), "posit16")
    model(torch.ones(1, 2)).sum().backward()
    with (
        pytest.raises(RecipeError, match="weight has a gradient already; call optimizer.zero_grad"),
        accumulate(model),
    ):
        pass
    norm = convert(nn.Sequential(nn.BatchNorm1d(2)), "posit16")
    with pytest.raises(RecipeError, match='BatchNorm1d "0" normalizes by the statistics'), accumulate(norm):
        pass
    mixed = convert(nn.Linear(2, 2), Recipe("posit16", gradients="bposit16"))
    with (
        pytest.raises(RecipeError, match="gradients of bposit16, posit16 cannot be summed"),
        accumulate(mixed),
    ):
        pass
    other = convert(nn.Linear(2, 2), "posit16")

    def divided_by_half() -> None:
        with accumulate(other, divisor=0):
            other(torch.ones(1, 2)).sum().backward()

    with pytest.raises(RecipeError, match="a whole number of at least 1, got 0"):
        divided_by_half()
