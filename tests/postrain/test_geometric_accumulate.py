"""Geometric networks under exact accumulation: products of three factors are summed over passes and ranks, rounded once."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import posit
from ga import PGA3, VGA3, Layout, Multivector, plan_for
from ga.nn import (
    FullyConnectedGeometricProduct,
    GeometricProductLayer,
    GradeLinear,
    GradeNorm,
    NormGate,
    ProjectiveLinear,
)
from ga.nn.fully_connected import connected_product
from ga.product import weighted_product
from posit import QuireArray, posit8, posit16, posit32
from posit._planes import Factor, Terms
from posit._quire_forms import add_form, widened
from posit.errors import QuireError
from posit.reference import exact
from posit.torch import GradientSum, PositTensor, gradient_sums, posit_tensor
from postrain._train import digest
from postrain.accumulate import accumulate
from postrain.convert import convert
from postrain.distributed import DataParallel, Team, simulate
from postrain.optim import SGD
from postrain.recipe import Recipe
from tests.postrain.test_geometric import drawn, rationals

LAYOUT = Layout.full(VGA3)
BATCH = 11
STEPS = 200


class Network(nn.Module):
    """Every layer of `ga.nn` whose parameters meet geometric products or norms."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.linear = GradeLinear(LAYOUT, 2, 3, generator=g)
        self.gate, self.norm = NormGate(LAYOUT, 3), GradeNorm(LAYOUT, 3)
        self.product = GeometricProductLayer(LAYOUT, 3, generator=g)
        self.connected = FullyConnectedGeometricProduct(LAYOUT, 3, 2, out_grades=(0, 1), generator=g)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():  # ranks that are threads draw from one global generator
            for parameter in self.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=g) / 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.gate(self.linear(Multivector(x.movedim(1, 0), LAYOUT))))
        found: Tensor = self.head(self.connected(self.product(h), h).planes.movedim(0, 1).flatten(1))
        return found


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, 8, 2, generator=generator), torch.randint(0, 3, (BATCH,), generator=generator)


def loss(model: nn.Module, part: slice) -> Tensor:
    x, y = data()
    return nn.functional.cross_entropy(model(x[part]), y[part], reduction="sum")


def codes(model: nn.Module) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter.grad, PositTensor), name
        found[name] = parameter.grad.codes.reshape(-1).tolist()
        parameter.grad = None
    return found


def parts(split: list[int]) -> list[slice]:
    return [slice(end - size, end) for end, size in zip(itertools.accumulate(split), split, strict=True)]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("posit16"),
        pytest.param(
            Recipe("posit8", gradients="posit16", loss="posit16"), marks=pytest.mark.exhaustive
        ),  # kernels of two formats
    ],
    ids=str,
)
def test_the_split_of_a_batch_changes_no_bit(recipe: Recipe) -> None:
    model = convert(Network(), recipe)
    found = []
    for split in ([BATCH], [6, 5], [1] * BATCH, [3, 7, 1]):
        with accumulate(model) as sums:
            for part in parts(split):
                loss(model, part).backward()
        found.append(codes(model))
    assert all(each == found[0] for each in found)
    assert all(any(each) for each in found[0].values())
    wide = {sums.names[id(each.parameter)] for each in sums.sums if each.quires.variant == "three factors"}
    assert wide == {"product.weight", "connected.weight"}
    if recipe.policy.activations == posit16:  # one pass with nothing to divide is the arithmetic of everyone
        loss(model, slice(None)).backward()
        plain = codes(model)
        assert {name for name in plain if plain[name] != found[0][name]} <= {"norm.weight"}


@pytest.mark.parametrize("kind", ["weighted", "connected"])
def test_gradients_of_weights_over_two_passes_are_exact(kind: str) -> None:
    """Against rationals, with factors at both ends of the range, whose products no quire of two factors holds."""
    vector = Layout.of_grades(PGA3, 1)
    plan = plan_for("geometric", vector, vector)
    paths = len(plan.paths)
    w = drawn((paths, 2) if kind == "weighted" else (paths, 3, 2), 0)
    operands = []
    with gradient_sums([w]) as (total,):
        for seed, batch in ((1, 3), (2, 1)):
            x, y = (drawn((4, batch, 2), 10 * seed + i, wild=True) for i in range(2))
            for each in (x, y):
                each.detach().codes.view(-1)[0] = 1  # no NaR here: it would spread to a whole path
            function: Any = weighted_product if kind == "weighted" else connected_product
            result = function(x, y, w, plan)
            grad = drawn(tuple(result.shape), seed + 5, wild=True).detach()
            grad.codes.view(-1)[0] = 1
            result.backward(grad)
            operands.append([rationals(each) for each in (grad, x, y)])
    assert w.grad is None
    got = np.array(total.quires.to_fraction()).reshape(w.shape)
    for place in itertools.product(*map(range, w.shape)):
        out, channel = (place[1], place[1]) if kind == "weighted" else (place[1], place[2])
        real = sum(
            (
                t.sign * g[t.k, row, out] * a[t.i, row, channel] * b[t.j, row, channel]
                for g, a, b in operands
                for row in range(g.shape[1])
                for t in plan.by_path[place[0]]
            ),
            Fraction(0),
        )
        assert got[place] == real, place


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32], ids=str)
def test_products_of_three_factors_at_the_ends_of_the_range(fmt: Any) -> None:
    ends = np.array([1, fmt.maxpos, -1, -fmt.maxpos, 0, -fmt.nar, 3, fmt.maxpos], np.int64)
    factor = Factor(ends.astype(f"i{fmt.storage.itemsize}").reshape(1, 1, 1, 8), fmt)
    quires = QuireArray(8, fmt)
    codes_ = (ends & fmt.code_mask).astype(fmt.storage)
    quires.mul_add(posit.from_codes(codes_, fmt), posit.from_codes(codes_, fmt))  # something to widen
    made = add_form(quires, [factor] * 3, Terms([[(1, (0, 0, 0))] * 3 + [(-1, (0, 0, 0))]]), (1, 1, 8))
    assert made.is_nar.tolist() == [place == 5 for place in range(8)]
    wanted = [exact.value(int(code) & fmt.code_mask, fmt) for code in ends]
    for place, x in enumerate(wanted):
        if x is not None:
            assert made[place].item().to_fraction() == x**2 + 2 * x**3
            assert int(made[place].to_posit().codes) == exact.nearest(x**2 + 2 * x**3, fmt)
    again = QuireArray.from_bytes(made.to_bytes())
    assert (again == made).all()
    assert (widened(made) is made, again.variant) == (True, "three factors")
    with pytest.raises(QuireError, match="three factors"):
        made.merge(quires)


def test_ranks_agree_on_how_wide_their_sums_are() -> None:
    """To the bit for any number of ranks; the last of twelve has no sample, and quires of two factors."""

    def run(team: Team) -> dict[str, list[int]]:
        model = DataParallel(convert(Network(), "posit16"), team=team, divisor=BATCH)
        mine = slice(team.rank * BATCH // team.size, (team.rank + 1) * BATCH // team.size)
        if mine.start == mine.stop:
            model.synchronize()
        else:
            loss(model, mine).backward()
        return codes(model.module)

    found = [each for ranks in (1, 2, 3, 12) for each in simulate(ranks, run)]
    assert isinstance(found[0], dict)
    assert all(each == found[0] for each in found)


@pytest.mark.exhaustive
def test_two_hundred_steps_end_in_one_digest() -> None:
    """Weights of a trained network, for 1, 2, 3, 4 and 8 ranks, with micro-batches on one of them."""

    def run(team: Team) -> str:
        model = DataParallel(convert(Network(), "posit16"), team=team, divisor=BATCH)
        optimizer = SGD(model.module.named_parameters(), lr=0.05, momentum=0.9)
        start, stop = (rank * BATCH // team.size for rank in (team.rank, team.rank + 1))
        for _ in range(STEPS):
            optimizer.zero_grad()
            if team.size == 3 and stop - start > 1:
                with model.no_sync():
                    loss(model, slice(start, start + 1)).backward()
                loss(model, slice(start + 1, stop)).backward()
            else:
                loss(model, slice(start, stop)).backward()
            optimizer.step()
        return digest(model.module)

    found = {each for ranks in (1, 2, 3, 4, 8) for each in simulate(ranks, run)}
    assert len(found) == 1
    assert found != {digest(convert(Network(), "posit16"))}


def test_the_projective_map_and_a_sum_without_terms() -> None:
    layout = Layout.full(PGA3)
    model = convert(ProjectiveLinear(layout, 2, 2, generator=torch.Generator().manual_seed(0)), "posit16")
    x = torch.randn(5, 16, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for split in ([5], [2, 3]):
        with accumulate(model):
            for part in parts(split):
                model(Multivector(x[part].movedim(1, 0), layout)).planes.sum().backward()
        found.append(codes(model))
    assert found[0] == found[1]
    empty = GradientSum(posit_tensor(torch.zeros(2, 3), "posit16"), posit16)
    empty.widen()
    assert not empty.quires.to_fraction().any()
