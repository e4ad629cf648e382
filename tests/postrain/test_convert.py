"""Conversion in place and back: ties, norms, islands, inputs, copies."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from posit import posit8, posit16
from posit.errors import NonFiniteError
from posit.torch import Policy, PositTensor, posit_tensor
from postrain.convert import convert, to_float
from postrain.errors import RecipeError
from postrain.recipe import Recipe

MIXED = Recipe("posit8", gradients="posit16", loss="posit16", norm="posit16")


def posit(x: object) -> PositTensor:
    assert isinstance(x, PositTensor)
    return x


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 6), nn.ReLU()), nn.Linear(6, 3)
    )


def test_parameters_carry_format_and_policy_and_norms_their_own_format() -> None:
    model: Any = convert(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.BatchNorm1d(3)), MIXED)
    formats = {name: posit(tensor).format for name, tensor in model.named_parameters()}
    assert formats == {"0.weight": posit8, "0.bias": posit8} | {
        f"{i}.{n}": posit16 for i in (1, 2) for n in ("weight", "bias")
    }
    assert posit(model[2].running_mean).format == posit16
    assert model[2].num_batches_tracked.dtype == torch.int64
    assert all(posit(p).policy == Policy(posit8, posit16, posit16) for p in model.parameters())
    assert [module.posit_name for module in model] == ["0", "1", "2"]


def test_floating_inputs_are_rounded_once_and_posits_taken_as_they_are() -> None:
    model: Any = convert(network(), "posit16")
    x = torch.randn(5, 4)
    assert torch.equal(posit(model(x)).codes, posit(model(posit_tensor(x, posit16))).codes)
    assert torch.equal(posit(model(x.double())).codes, posit(model(x)).codes)
    with pytest.raises(RecipeError, match="no gradient comes back to it"):
        model(x.requires_grad_())
    embedding = convert(nn.Embedding(5, 2), "posit8")
    assert posit(embedding(torch.tensor([1, 4]))).format == posit8


def test_an_island_computes_in_its_own_formats_and_hands_back_those_around_it() -> None:
    recipe = Recipe(
        "posit8", overrides={"2": {"weights": "posit16", "activations": "posit16", "gradients": "posit16"}}
    )
    model: Any = convert(network(), recipe)
    seen: dict[str, PositTensor] = {}
    model[2][0].register_forward_hook(lambda m, a, out: seen.update(inner=out))
    model[2].register_forward_hook(lambda m, a, out: seen.update(outer=out))
    out = posit(model(torch.randn(5, 4)))
    assert posit(model[2][0].weight).format == posit16
    assert seen["inner"].format == posit16
    assert seen["outer"].format == out.format == posit8
    out.sum().backward()
    grads = {name: posit(p.grad).format for name, p in model.named_parameters()}
    assert grads["2.0.weight"] == posit16
    assert grads["0.weight"] == grads["3.weight"] == posit8


def test_islands_in_module_lists_are_entered() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    model: Any = convert(
        Blocks(), Recipe("posit8", overrides={"blocks": {"weights": "posit16", "activations": "posit16"}})
    )
    assert posit(model(torch.ones(1, 2))).format == posit8


def test_tied_weights_and_shared_modules_stay_one() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    convert(model, MIXED)
    assert model[0].weight is model[1].weight
    model(torch.ones(1, 3)).sum().backward()
    to_float(model)
    assert model[0].weight is model[1].weight
    assert model[0].weight.dtype == torch.float32
    assert not isinstance(model[0].weight, PositTensor)
    with pytest.raises(
        RecipeError, match=r"1.weight and 0.weight are one tensor, shared, with formats that differ"
    ):
        convert(model, Recipe("posit8", overrides={"1": {"weights": "posit16"}}))
    assert not isinstance(model[0].weight, PositTensor)
    shared = nn.Linear(3, 3)
    twice = convert(nn.Sequential(shared, shared), "posit16")
    assert posit(twice(torch.ones(1, 3))).format == posit16


def test_converting_again_does_nothing_or_rounds_once_more() -> None:
    model: Any = convert(network(), "posit16")
    weight, codes = model[0].weight, posit(model[0].weight).codes.clone()
    convert(model, "posit16")
    assert model[0].weight is weight
    assert torch.equal(posit(weight).codes, codes)
    assert len(model._forward_pre_hooks) == 1
    values = posit(weight).to_float()
    convert(model, MIXED)
    assert model[0].weight is weight
    assert torch.equal(posit(weight).codes, posit_tensor(values, posit8).codes)
    assert posit(model(torch.ones(1, 4))).format == posit8


def test_the_way_back_restores_a_float_model() -> None:
    model, x = network(), torch.randn(3, 4)
    convert(model, Recipe("posit16", overrides={"2": {"activations": "posit8"}}))
    values = posit(model[0].weight).to_float()
    assert to_float(model) is model
    assert model(x).dtype == torch.float32
    assert not isinstance(model(x), PositTensor)
    assert torch.equal(model[0].weight, values)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert not hasattr(model, "posit_recipe")


def test_state_dict_and_deepcopy() -> None:
    model, other = (convert(network(), MIXED) for _ in range(2))
    posit(other[0].weight).codes.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(posit(other[0].weight).codes, posit(model[0].weight).codes)
    twin = copy.deepcopy(model)
    x = torch.randn(2, 4)
    assert torch.equal(posit(twin(x)).codes, posit(model(x)).codes)
    posit(twin[0].weight).codes.zero_()
    assert not torch.equal(posit(twin(x)).codes, posit(model(x)).codes)
    to_float(twin)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in twin.modules())
    assert model._forward_pre_hooks


def test_what_cannot_be_converted_is_named_and_nothing_changes() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(RecipeError, match=r"cannot convert 1.weight \(torch.float32 on meta\) to posit16"):
        convert(model, "posit16")
    assert not isinstance(model[0].weight, PositTensor)
    broken: Any = nn.Sequential(nn.Linear(2, 2))
    nn.init.constant_(broken[0].weight, float("nan"))
    with pytest.raises(NonFiniteError, match="0.weight: 4 of 4 input values"):
        convert(broken, "posit16")
