"""Simulated baselines: what is rounded to what, and the way back."""

from typing import Any

import torch
from torch import nn

from postrain.convert import convert, to_float
from postrain.recipe import Recipe
from postrain.simulated import rounded


def test_e4m3_with_a_scale_per_tensor() -> None:
    x = torch.tensor([448.0, 240.0, 1.0, 2.0**-9, 2.0**-11, 0.0, -17.0])
    assert rounded(x, "float8_e4m3").tolist() == [448.0, 240.0, 1.0, 2.0**-9, 0.0, 0.0, -16.0]
    assert torch.equal(rounded(x * 2.0**-20, "float8_e4m3"), rounded(x, "float8_e4m3") * 2.0**-20)
    assert rounded(torch.zeros(3), "float8_e4m3").tolist() == [0.0] * 3


def test_mx_blocks_have_their_own_scale() -> None:
    x = torch.cat([torch.full((32,), 1000.0), torch.full((32,), 2.0**-15)])[None]
    assert torch.equal(
        rounded(x, "mxfp8_e4m3"), torch.cat([torch.full((32,), 896.0), torch.full((32,), 2.0**-15)])[None]
    )
    assert rounded(x, "float8_e4m3")[0, -1] == 0.0  # beside 1000 in one tensor it is lost
    ragged = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    whole = rounded(ragged, "mxfp8_e4m3")
    assert whole.shape == ragged.shape
    assert torch.equal(whole[:, :32], rounded(ragged[:, :32], "mxfp8_e4m3"))
    assert (whole / ragged - 1).abs().median() < 2.0**-4


def test_mx_takes_the_exponent_of_the_largest_and_saturates() -> None:
    """OCP MX v1.0, section 6.3: the shared exponent is that of the largest less 8, so 1.99 * 2**8 saturates at 448."""
    x = torch.zeros(32)
    x[0], x[1] = 508.0, 1.0
    assert rounded(x, "mxfp8_e4m3")[:2].tolist() == [448.0, 1.0]


def test_a_model_rounds_weights_outputs_and_gradients_and_learns() -> None:
    for name, format_ in (
        ("ieee_bf16", "bfloat16"),
        ("fp8_e4m3", "float8_e4m3"),
        ("mxfp8_e4m3", "mxfp8_e4m3"),
    ):
        torch.manual_seed(0)
        model: Any = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 1))
        model[3].weight.requires_grad_(True)
        assert convert(model, name) is model
        assert torch.equal(model[0].weight, rounded(model[0].weight, format_))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        x = torch.randn(64, 8)
        y = x[:, :1] * 2
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            out = model(x)
            assert torch.equal(out, rounded(out, format_))
            loss = nn.functional.mse_loss(out, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.2 * losses[0]
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, rounded(parameter.grad, format_))
        to_float(model)
        assert "0.weight" in dict(model.named_parameters())
        assert not any(m._forward_hooks for m in model.modules())


def test_the_master_copy_has_sixteen_bits() -> None:
    model = convert(nn.Linear(4, 4), Recipe("float8_e4m3", optimizer="float16"))
    model(torch.ones(1, 4))
    (weight, _) = model.parameters()
    assert torch.equal(weight, weight.half().float())
    assert not torch.equal(weight, rounded(weight, "float8_e4m3"))
