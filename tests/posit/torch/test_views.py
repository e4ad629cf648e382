"""Views, copies and creation: what PyTorch code does to tensors without changing a value, and its gradients."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import posit8, posit16, posit32
from posit.errors import FormatMismatch, NoRuleError
from posit.torch import Policy, PositTensor, posit_tensor
from tests.posit.torch.samples import posit, random

MIXED = Policy(activations=posit8, gradients=posit16, loss=posit16)


MOVES: list[Callable[[Any], Any]] = [
    lambda x: x.reshape(3, 8),
    lambda x: x.flatten(),
    lambda x: x.view(2, -1).view_as(x),
    lambda x: x.transpose(0, 1),
    lambda x: x.mT,
    lambda x: x[None].permute(2, 0, 1),
    lambda x: x[None].movedim(0, 2),
    lambda x: x.swapaxes(0, 1),
    lambda x: x[None].expand(3, 4, 6),
    lambda x: x[:1].expand_as(x),
    lambda x: x[:1].broadcast_to(4, 6),
    lambda x: x.repeat(2, 3),
    lambda x: x.tile(2),
    lambda x: x.repeat_interleave(2, 1),
    lambda x: x.chunk(3, 1)[1],
    lambda x: x.split(3)[0],
    lambda x: x.split([1, 3])[1],
    lambda x: x.tensor_split(3)[2],
    lambda x: x.unbind(1)[5],
    lambda x: torch.stack([x, x[torch.arange(4)]], 1),
    lambda x: torch.cat([x, x[:2], x[:0]]),
    lambda x: torch.hstack([x, x]),
    lambda x: torch.vstack([x, x]),
    lambda x: torch.block_diag(x, x[:1]),
    lambda x: x.roll((1, 2), (0, 1)),
    lambda x: x.flip(0, 1),
    lambda x: x.fliplr(),
    lambda x: x.rot90(),
    lambda x: x.tril(1),
    lambda x: x.triu(-1),
    lambda x: functional.pad(x, (1, 2, 0, 1)),
    lambda x: functional.pad(x, (-1, 2), value=0.5),
    lambda x: x.narrow(1, 2, 3),
    lambda x: x.select(1, -1),
    lambda x: x[1:, ::2],
    lambda x: x[..., None, 2],
    lambda x: x[None].squeeze().unsqueeze(2).squeeze(2),
    lambda x: x.unflatten(1, (2, 3)),
    lambda x: x.diagonal(1),
    lambda x: x.diag(),
    lambda x: x[0].diag_embed(),
    lambda x: x.as_strided((2, 3), (1, 2), 1),
    lambda x: x.select_scatter(x[1], 0, 3),
    lambda x: x.slice_scatter(x[:2], 0, 2),
    lambda x: x.diagonal_scatter(x[0, :4]),
    lambda x: functional.pixel_shuffle(x.reshape(1, 4, 3, 2), 2),
    lambda x: torch.meshgrid(x[0], x[1], indexing="ij")[0],
    lambda x: x.contiguous().clone().to(torch.float32).float().cpu(),
    lambda x: x.T.contiguous(),
]


@pytest.mark.parametrize("number", range(len(MOVES)))
def test_moves_keep_values_and_have_gradients(number: int) -> None:
    x = random((4, 6), posit32).requires_grad_()
    real = (
        posit(x).to_float(torch.float64).float().double().requires_grad_()
    )  # so that .float() changes no value
    x = posit_tensor(real.detach(), posit32).requires_grad_()
    got, wanted = MOVES[number](x), MOVES[number](real)
    assert got.shape == wanted.shape
    assert torch.allclose(posit(got.detach()).to_float(torch.float64), wanted.double(), rtol=1e-8, atol=0)
    grad = random(tuple(wanted.shape), posit32, 5)
    got.backward(grad)
    wanted.backward(grad.to_float(torch.float64).to(wanted.dtype))
    assert real.grad is not None
    assert torch.allclose(posit(x.grad).to_float(torch.float64), real.grad, rtol=1e-7, atol=1e-8)


def test_views_share_memory_and_keep_the_policy() -> None:
    x = PositTensor(random((4, 6), posit16).codes, posit16, policy=MIXED)
    for view in (x[1], x.t(), x.view(-1), x.unsqueeze(0), x.diagonal(), x.expand(2, 4, 6), x.detach()):
        assert posit(view).codes.untyped_storage().data_ptr() == x.codes.untyped_storage().data_ptr()
        assert posit(view).policy == MIXED


def test_parts_nobody_used_have_zero_gradients() -> None:
    x = random((4, 6), posit16).requires_grad_()
    grad = random((2, 6), posit16, 1)
    x.split(2)[1].backward(grad)
    assert posit(x.grad).codes.tolist() == [[0] * 6] * 2 + grad.codes.tolist()


def test_parts_of_several_formats_join_in_that_of_activations() -> None:
    a = PositTensor(random((2, 3), posit16).codes, posit16, requires_grad=True, policy=MIXED)
    b = PositTensor(random((1, 3), posit8, 1).codes, posit8, requires_grad=True, policy=MIXED)
    y = posit(torch.cat([a, b]))
    assert (y.format, y.policy) == (posit8, MIXED)
    assert y.codes.tolist() == posit_tensor(a.to_float(), posit8).codes.tolist() + b.codes.tolist()
    grad = PositTensor(random((3, 3), posit16, 2).codes, posit16, policy=MIXED)
    torch.autograd.backward(y, grad)
    assert torch.equal(posit(b.grad).codes, grad.codes[2:])
    with pytest.raises(FormatMismatch, match="operands of formats posit16, posit8"):
        torch.cat([random((2,), posit16), random((2,), posit8)])
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 operand among PositTensors"):
        torch.cat([a, torch.zeros(1, 3)])


def test_filling_and_creation() -> None:
    x = random((2, 3), posit16)
    tenth = posit_tensor(torch.tensor(0.1), posit16).item()
    assert posit(torch.full_like(x, 0.1)).tolist() == [[tenth] * 3] * 2
    assert posit(x.new_full((2,), 0.1)).tolist() == [tenth] * 2
    assert posit(x.new_ones(2)).tolist() == [1.0, 1.0]
    assert posit(torch.zeros_like(x)).tolist() == [[0.0] * 3] * 2
    assert posit(x.clone().fill_(0.1)).tolist() == [[tenth] * 3] * 2
    assert posit(x.clone().tril_()).codes.tolist() == x.codes.tril().tolist()
    assert x.new_zeros(2, dtype=torch.int64).dtype == torch.int64
    assert torch.ones_like(x, dtype=torch.bool).tolist() == [[True] * 3] * 2
    assert posit(x.new_full((), float("nan"))).has_nar()


def test_reading_out() -> None:
    x = random((2, 3), posit16)
    assert len(x) == 2
    assert [row.tolist() for row in x] == x.tolist()
    assert x[0, 0].item() == x.tolist()[0][0]
    assert bool(x[0, 0])
    assert float(x[0, 1]) == x.tolist()[0][1]
    assert not bool(torch.zeros_like(x)[0, 0])
    assert torch.equal(x, x.clone())
    assert not torch.equal(x, torch.zeros_like(x))


def test_other_dtypes_and_devices_are_refused_by_name() -> None:
    x = random((2, 3), posit16)
    assert x.float() is x
    assert x.cpu() is x
    for other in (torch.float64, torch.bfloat16, torch.int64):
        with pytest.raises(NoRuleError, match=f"would turn posits into {other}; use .to_float"):
            x.to(other)
    with pytest.raises(NoRuleError, match="would move posits to meta; they stay on the CPU"):
        x.to("meta")
    with pytest.raises(NoRuleError, match=r"would turn posits into torch.float64"):
        torch.zeros_like(x, dtype=torch.float64)


def test_state_dicts_round_trip_and_refuse_floats() -> None:
    def net(seed: int) -> nn.Module:
        layers = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Embedding(4, 3)))
        for number, (name, parameter) in enumerate(list(layers.named_parameters())):
            *path, last = name.split(".")
            owner = layers.get_submodule(".".join(path))
            setattr(owner, last, nn.Parameter(random(tuple(parameter.shape), posit16, seed + number)))
        return layers

    first, second = net(0), net(10)
    second.load_state_dict(first.state_dict())
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(posit(one).codes, posit(other).codes)
        assert isinstance(other, nn.Parameter)
    twin = copy.deepcopy(second)
    twin.load_state_dict(net(20).state_dict(), assign=True)
    assert not torch.equal(posit(twin[0].weight).codes, posit(second[0].weight).codes)  # type: ignore[index]
    floats = {name: posit(value).to_float() for name, value in first.state_dict().items()}
    with pytest.raises((FormatMismatch, RuntimeError), match=r"got a torch.float32 source for posits"):
        second.load_state_dict(floats)
