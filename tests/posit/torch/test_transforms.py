"""What PyTorch's compiler and transforms make of posits: the same bits, or a clear refusal."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import posit16
from posit.errors import NoRuleError
from posit.torch import posit_tensor
from postrain import convert

X = posit_tensor(torch.tensor([[0.5, -1.0, 3.0], [0.25, 2.0, -0.125]]), posit16)
W = posit_tensor(torch.tensor([[1.0, 0.5, -0.75]]), posit16)


def squares(x: Any) -> Any:
    return (x * x).sum()


def steep(x: Any) -> Any:
    return squares(functional.linear(x, W))


def test_a_compiled_model_has_the_bits_of_the_model() -> None:
    torch.manual_seed(0)
    model: Any = convert(
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2)), posit16.name
    )
    squares(model(X)).backward()
    expected = [parameter.grad.codes.clone() for parameter in model.parameters()]
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the compiler warns where it looks into kernels
        compiled: Any = torch.compile(model, backend="eager")
        result: Any = compiled(X)
        assert torch.equal(result.codes, model(X).codes)
        squares(result).backward()
    assert all(
        torch.equal(p.grad.codes, codes) for p, codes in zip(model.parameters(), expected, strict=True)
    )
    torch._dynamo.reset()
    whole: Any = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported):  # one graph of all would need posits in it
        whole(X)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch.func loads scripts
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: torch.func.jvp(squares, (X,), (X,)), r"forward-mode derivatives .* use backward\(\)"),
        (lambda: torch.func.linearize(squares, X), "forward-mode derivatives"),
        (lambda: torch.func.grad(lambda w: functional.linear(X, w).sum())(W), r"linear of posits .* torch\.autograd\.grad"),
    ],
)  # fmt: skip
def test_transforms_are_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(NoRuleError, match=message):
        call()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_transforms_of_plain_operators_agree_with_autograd() -> None:
    leaf: Any = posit_tensor(X.to_float(), posit16, requires_grad=True)
    squares(leaf).backward()
    found: Any = torch.func.grad(squares)(X)
    assert torch.equal(found.codes, leaf.grad.codes)
    forward: Any = torch.func.jacfwd(squares)(X)
    assert torch.equal(forward.codes, leaf.grad.codes)
    rows: Any = torch.func.vmap(squares)(X)
    assert rows.tolist() == [10.25, 4.078125]


def test_second_derivatives_of_fused_functions_are_refused_and_not_zero() -> None:
    for function in (steep, lambda x: functional.linear(x, W).sum()):
        with pytest.raises(NoRuleError, match="linear of posits has no second derivative"):
            torch.autograd.functional.jvp(function, X, X)
    x: Any = posit_tensor(X.to_float(), posit16, requires_grad=True)
    w: Any = posit_tensor(W.to_float(), posit16, requires_grad=True)
    (first,) = torch.autograd.grad(functional.linear(x, w).sum(), x, create_graph=True)
    assert torch.equal(first.codes, W.codes.expand(2, 3))
    with pytest.raises(NoRuleError, match="has no second derivative"):
        squares(first).backward()  # the way to w
