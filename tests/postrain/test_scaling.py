"""Scaled posits: powers of two by tensor or by block, second roundings, and what they do for updates."""

import copy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.codec import decode, encode, signed_storage, to_signed
from posit.errors import FormatError
from posit.reference import exact
from posit.torch import Grid, PositTensor
from posit.torch.scaling import held_format, largest_power, on_grid, packed, unpacked
from postrain import Recipe, accumulate, convert, optim
from postrain.errors import RecipeError

GRIDS = [Grid(fmt, scale) for fmt in (posit8, Format(8, 0), Format(12)) for scale in ("tensor", "block32")]
SCALED = Recipe("posit8", scale="tensor")


def posit(x: object) -> PositTensor:
    assert isinstance(x, PositTensor)
    return x


def lies_on(x: torch.Tensor, grid: Grid) -> bool:
    values = posit(x).values()
    return posit(x).format == grid.held and bool((unpacked(*packed(values, grid), grid) == values).all())


def some(*shape: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 3, shape)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_power_brings_the_largest_magnitude_to_the_top_of_the_densest_binades(grid: Grid) -> None:
    x = some(3, 5, 14)
    codes, powers = packed(x, grid)
    rows = codes.reshape(3, 70)
    if grid.scale == "tensor":
        parts, spread = [rows], np.full((3, 70), powers)
    else:
        assert powers.shape == (3, 3)
        parts = [rows[i : i + 1, at : at + 32] for i in range(3) for at in (0, 32, 64)]
        spread = np.repeat(powers, 32, axis=1)[:, :70]
    top = 2 ** ((1 << grid.format.es) - 1)
    for part in parts:
        assert top <= np.abs(decode(part, grid.format)).max() < 2 * top
    for code, value, power in zip(rows.flat, x.reshape(3, 70).flat, spread.flat, strict=True):
        nearest = exact.nearest(Fraction(float(value)) * Fraction(2) ** int(power), grid.format)
        assert to_signed(np.array(nearest, grid.format.storage), grid.format) == code


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_lies_on_a_grid_stays_and_is_held_exactly(grid: Grid) -> None:
    for x in (
        some(4, 40),
        some(33, seed=1),
        some(2, 3, 4, 5) * 1e-30,
        np.array(0.3),
        np.zeros((2, 0)),
        np.zeros(5),
    ):
        once = unpacked(*packed(x, grid), grid)
        assert once.shape == x.shape
        assert (unpacked(*packed(once, grid), grid) == once).all()
        assert (decode(encode(once, grid.held), grid.held) == once).all()


def test_rounding_up_into_the_next_binade_takes_the_next_power() -> None:
    for scale in ("tensor", "block32"):
        grid = Grid(posit8, scale)
        codes, powers = packed(np.array([[0.999, 2.0**-9 * 1.125]]), grid)
        assert int(powers.reshape(())) == 3
        assert decode(codes, posit8).tolist() == [[8.0, 2.0**-6]]


def test_nar_stays_and_takes_no_part() -> None:
    grid = Grid(posit8, "tensor")
    codes = on_grid(encode(np.array([np.nan, 3e-4, -1e-7]), posit16, np.int16), posit16, grid)
    values = decode(codes, posit16)
    assert np.isnan(values[0])
    assert (
        values[1:].tolist()
        == decode(on_grid(encode(np.array([3e-4, -1e-7]), posit16), posit16, grid), posit16).tolist()
    )


def test_powers_end_where_the_wide_format_does() -> None:
    assert [held_format(fmt) for fmt in (posit8, Format(12), Format(8, 1))] == [
        posit16,
        posit32,
        Format(16, 1),
    ]
    assert int(packed(np.array([1e-30]), Grid(posit8, "tensor"))[1]) == largest_power(posit8) == 24
    with pytest.raises(FormatError, match="at most 16 bits, got posit32"):
        held_format(posit32)


def test_a_linear_layer_rounds_its_exact_sums_to_the_grid_forward_and_backward() -> None:
    torch.manual_seed(0)
    layer: Any = convert(nn.Linear(6, 4), SCALED)
    grid = Grid(posit8, "tensor")
    assert layer.weight.grid == grid
    assert lies_on(layer.weight, grid)
    assert lies_on(layer.bias, grid)
    x = PositTensor(layer.weight.codes[:3].clone(), posit16, requires_grad=True, policy=layer.weight.policy)
    y = posit(layer(x))
    xs, ws, bs = (t.values() for t in (x, layer.weight, layer.bias))

    def expected(sums: Any) -> Any:
        wide = [[float(exact.value(exact.nearest(s, posit16), posit16) or 0) for s in row] for row in sums]
        return unpacked(*packed(np.array(wide), grid), grid)

    def sums(a: Any, b: Any) -> Any:
        return [
            [sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(u, v, strict=True)) for v in b]
            for u in a
        ]

    forward = [[s + Fraction(float(b)) for s, b in zip(row, bs, strict=True)] for row in sums(xs, ws)]
    assert (y.values() == expected(forward)).all()
    g = PositTensor((layer.weight.codes[:3, :4] >> 2).contiguous(), posit16, policy=y.policy)
    torch.autograd.backward(y, g)
    assert (posit(layer.weight.grad).values() == expected(sums(g.values().T, xs.T))).all()
    assert (posit(x.grad).values() == expected(sums(g.values(), ws.T))).all()


@pytest.mark.parametrize("scale", ["tensor", "block32"])
def test_everything_but_norms_and_losses_lies_on_grids(scale: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(75),
        nn.Linear(75, 4),
        nn.Tanh(),
    )
    model = convert(model, Recipe("posit8", gradients="posit8", loss="posit16", norm="posit16", scale=scale))
    grid, seen = Grid(posit8, scale), []
    for module in model:
        module.register_forward_hook(lambda module, args, y: seen.append((module, y)))
    loss = functional.cross_entropy(model(torch.randn(5, 1, 12, 12)), torch.arange(5) % 4)
    assert posit(loss).format == posit16
    loss.backward()
    optim.SGD(model.named_parameters(), lr=0.1, momentum=0.5, **_state(optim.options(SCALED))).step()
    assert all(lies_on(y, grid) for module, y in seen if not isinstance(module, (nn.Flatten, nn.MaxPool2d)))
    for name, parameter in model.named_parameters():
        assert lies_on(parameter.grad, grid), name
        assert lies_on(parameter, grid) or name.startswith("4."), name
    assert model[4].weight.grid is None
    assert copy.deepcopy(model)[0].weight.grid == grid


def _state(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "state_format": "posit16"}


def _trained(scale: str) -> tuple[float, int]:
    """Loss and lost updates of uniform posit8 after some steps of a regression with small numbers."""
    generator = torch.Generator().manual_seed(0)
    x, goal = torch.randn(64, 20, generator=generator), torch.randn(20, 3, generator=generator) / 256
    model: Any = nn.Linear(20, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 20, generator=generator) / 256)
    recipe = Recipe("posit8", scale=scale)
    model = convert(model, recipe)
    optimizer = optim.SGD(model.named_parameters(), lr=0.25, count=True, **optim.options(recipe))
    lost = 0
    for _ in range(20):
        optimizer.zero_grad()
        y = posit(model(x))
        residual = (y.to_float(torch.float64) - x.double() @ goal.double()) / 64
        grad = encode(residual.numpy(), y.format, signed_storage(y.format))
        torch.autograd.backward(y, PositTensor(torch.from_numpy(grad), y.format, policy=y.policy))
        optimizer.step()
        assert optimizer.last_step_counts is not None
        lost += optimizer.last_step_counts.lost
    final = posit(model.weight).to_float(torch.float64)
    return float((x.double() @ (final.T - goal.double())).square().mean()), lost


def test_uniform_posit8_loses_fewer_updates_with_scaling() -> None:
    (plain, lost), (tensor, fewer), (block, fewest) = (
        _trained(scale) for scale in ("none", "tensor", "block32")
    )
    assert max(fewer, fewest) < lost
    assert max(tensor, block) < plain / 2


def test_recipes_say_and_refuse() -> None:
    assert Recipe.from_json(SCALED.to_json()) == SCALED
    assert SCALED.as_dict()["scale"] == "tensor"
    assert Recipe.from_dict({k: v for k, v in SCALED.as_dict().items() if k != "overrides"}) == SCALED
    assert repr(SCALED) == "Recipe(weights='posit8', scale='tensor')"
    assert "times a power of two for each tensor" in SCALED.describe()
    assert "scale" not in Recipe("posit8", scale="").as_dict()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"weights": "posit8", "scale": "row"}, "scale must be one of none, tensor, block32, got 'row'"),
        ({"weights": "float32", "scale": "tensor"}, "is for posits, got weights in float32"),
        (
            {"weights": "posit8", "gradients": "posit32", "scale": "tensor"},
            "at most 16 bits, got gradients in posit32",
        ),
        ({"weights": "posit8", "scale": "tensor", "rounding": "stochastic"}, "leave one of them out"),
    ]
    for arguments, message in refused:
        with pytest.raises(RecipeError, match=message):
            Recipe(**arguments)


def test_a_master_copy_keeps_what_the_grid_cuts_off() -> None:
    recipe = Recipe("posit8", optimizer="posit16", scale="tensor")
    model = convert(nn.Linear(8, 2), recipe)
    optimizer = optim.SGD(model.named_parameters(), lr=2.0**-9, **optim.options(recipe))
    weight, before = posit(model.weight), posit(model.weight).values()
    for _ in range(2):
        weight.grad = posit(weight).like(torch.full_like(weight.codes, 1 << 14).detach())
        optimizer.step()
    master = optimizer.state[weight]["master"]
    assert master.format == posit16
    assert np.allclose(master.values(), before - 2.0**-8, atol=2.0**-13)
    assert lies_on(weight, Grid(posit8, "tensor"))


def test_exact_sums_over_micro_batches_are_refused() -> None:
    with (
        pytest.raises(RecipeError, match=r"weight is scaled: .* depend on the split"),
        accumulate(convert(nn.Linear(2, 2), SCALED)),
    ):
        pass
