"""Derivatives of the operators: reverse, forward, second order, batched, and through a tensor subclass."""

from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor

from ga import PGA3, VGA3, Layout, LayoutError, Plan, plan_for, plan_from_key
from ga.product import product, weighted_product

# torch compiles its own decompositions for forward mode with the torch.jit.script that it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

VECTOR = Layout.of_grades(PGA3, 1)
EVEN = Layout.of_grades(PGA3, (0, 2, 4))
PLAN = plan_for("geometric", EVEN, VECTOR)
NARROW = plan_for("geometric", VECTOR, VECTOR, Layout.of_grades(PGA3, 2))
BATCHES = [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((1,), (2, 3))]


def planes(layout: Layout, batch: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(len(layout), *batch, generator=generator, dtype=torch.float64, requires_grad=True)


def operands(plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Operands with batch (2, 3) and weights on the last dimension."""
    w = torch.randn(len(plan.paths), 3, generator=generator, dtype=torch.float64, requires_grad=True)
    return planes(plan.first, (2, 3), generator), planes(plan.second, (2, 3), generator), w


@pytest.mark.parametrize("plan", [PLAN, NARROW], ids=["even by vector", "vector by vector to bivector"])
@pytest.mark.parametrize(("left", "right"), BATCHES, ids=str)
def test_product_gradients(
    plan: Plan, left: tuple[int, ...], right: tuple[int, ...], generator: torch.Generator
) -> None:
    x, y = planes(plan.first, left, generator), planes(plan.second, right, generator)
    assert torch.autograd.gradcheck(lambda x, y: product(x, y, plan), (x, y), check_forward_ad=True)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (2, 3), (2, 1)], ids=str)
def test_weighted_product_gradients(channels: tuple[int, ...], generator: torch.Generator) -> None:
    x, y, _ = operands(PLAN, generator)
    w = torch.randn(len(PLAN.paths), *channels, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, y, w: weighted_product(x, y, w, PLAN), (x, y, w), check_forward_ad=True
    )


def test_second_derivatives(generator: torch.Generator) -> None:
    def weighted(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return weighted_product(x, y, w, NARROW)

    x, y, w = operands(NARROW, generator)
    assert torch.autograd.gradgradcheck(lambda x, y: product(x, y, NARROW), (x, y))
    assert torch.autograd.gradgradcheck(weighted, (x, y, w))


def test_jvp_is_the_central_difference(generator: torch.Generator) -> None:
    def f(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return weighted_product(product(x, y, PLAN), y, w, second).sin()

    second = plan_for("geometric", PLAN.out, VECTOR)
    x, y, _ = (t.detach() for t in operands(PLAN, generator))
    w = torch.randn(len(second.paths), 3, generator=generator, dtype=torch.float64)
    tangents = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (x, y, w)]
    h = 1e-6

    def moved(step: float) -> Tensor:
        return f(*(t + step * d for t, d in zip((x, y, w), tangents, strict=True)))

    tangent = torch.func.jvp(f, (x, y, w), tuple(tangents))[1]
    assert tangent.abs().max() > 0.1
    torch.testing.assert_close(tangent, (moved(h) - moved(-h)) / (2 * h), rtol=1e-7, atol=1e-7)


def test_jacobians_forward_and_reverse_agree(generator: torch.Generator) -> None:
    x, y, w = (t.detach() for t in operands(NARROW, generator))

    def f(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return weighted_product(x, y, w, NARROW)

    for t in range(3):
        forward = torch.func.jacfwd(f, argnums=t)(x, y, w)
        reverse = torch.func.jacrev(f, argnums=t)(x, y, w)
        torch.testing.assert_close(forward, reverse)


@pytest.mark.parametrize("in_dims", [(1, 1, None), (2, None, 1), (None, 1, None), (1, 2, 0)], ids=str)
def test_vmap_is_a_loop(in_dims: tuple[int | None, ...], generator: torch.Generator) -> None:
    def f(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return product(weighted_product(x, y, w, PLAN), y, second)

    def grad_w(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda w: f(x, y, w).square().sum())(w)
        return gradient

    def operand(rows: int, dim: int | None) -> Tensor:
        t = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
        return t if dim is None else torch.stack([t, 2 * t.cos(), t - 1], dim)

    second = plan_for("geometric", PLAN.out, VECTOR)
    sizes = (len(PLAN.first), len(PLAN.second), len(PLAN.paths))
    args = [operand(rows, dim) for rows, dim in zip(sizes, in_dims, strict=True)]

    def select(b: int) -> list[Tensor]:
        return [t if dim is None else t.select(dim, b) for t, dim in zip(args, in_dims, strict=True)]

    for function in (f, grad_w):
        mapped = torch.func.vmap(function, in_dims=in_dims)(*args)
        torch.testing.assert_close(mapped, torch.stack([function(*select(b)) for b in range(3)]))


def test_fake_tensors_have_the_right_shapes(generator: torch.Generator) -> None:
    x, y, w = (t.detach() for t in operands(PLAN, generator))
    grad = torch.ones(len(PLAN.out), 2, 3, dtype=torch.float64)
    torch.library.opcheck(torch.ops.ga.product.default, (x, y, PLAN.key))
    torch.library.opcheck(torch.ops.ga.weighted_product.default, (x, y, w, PLAN.key))
    torch.library.opcheck(
        torch.ops.ga.weighted_product_grad_weight.default, (grad, x, y, PLAN.key, list(w.shape))
    )


class Boxed(torch.Tensor):
    """A wrapper subclass, as PositTensor will be one: its data is not in its own storage."""

    content: Tensor
    seen: ClassVar[list[str]] = []  # the record of all operators, cleared by the test

    @staticmethod
    def __new__(cls, content: Tensor) -> Self:
        boxed: Self = torch.Tensor._make_wrapper_subclass(cls, content.shape, dtype=content.dtype)
        boxed.content = content
        return boxed

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares a method, and calls a class method
        cls, op: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        cls.seen.append(str(op))
        assert all(isinstance(t, Boxed) for t in args if isinstance(t, torch.Tensor)), op
        out = op(*(t.content if isinstance(t, Boxed) else t for t in args), **(kwargs or {}))
        return cls(out)


def test_a_wrapper_subclass_sees_only_the_operators_views_and_sums(generator: torch.Generator) -> None:
    x, y, w = (t.detach() for t in operands(PLAN, generator))
    y = y[:, :1]  # broadcast over the first batch dimension
    boxed = a, b, c = [Boxed(t).requires_grad_() for t in (x, y, w)]
    Boxed.seen.clear()
    out = weighted_product(a, b, c, PLAN)
    torch.autograd.backward(out, Boxed(torch.ones(out.shape, dtype=torch.float64)))
    plain = [t.clone().requires_grad_() for t in (x, y, w)]
    torch.autograd.backward(weighted_product(plain[0], plain[1], plain[2], PLAN).sum())
    for ours, theirs in zip(boxed, plain, strict=True):
        assert isinstance(ours.grad, Boxed)
        torch.testing.assert_close(ours.grad.content, theirs.grad)
    allowed = ("ga.", "aten.sum", "aten.view", "aten.detach", "aten.expand", "aten._unsafe_view")
    assert not [op for op in Boxed.seen if not op.startswith(allowed)], Boxed.seen


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((4, 2), (4, 2), r"first operand of the geometric product must have 8 planes .*got shape \(4, 2\)"),
        ((8, 2), (2, 4), r"second operand of the geometric product must have 4 planes .*blade is the first"),
        ((8, 2), (4, 3), r"batch shapes \(2,\), \(3,\) of the geometric product do not broadcast"),
    ],
)
def test_wrong_shapes_are_refused(x: tuple[int, ...], y: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        product(torch.ones(x), torch.ones(y), PLAN)
    with pytest.raises(LayoutError, match=message):
        torch.ops.ga.product(torch.ones(x), torch.ones(y), PLAN.key)


def test_wrong_number_of_weights_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"one row for each of the 4 grade paths .*got shape \(5,\)"):
        weighted_product(torch.ones(8, 2), torch.ones(4, 2), torch.ones(5), PLAN)


def test_product_without_terms_is_zero_and_has_gradients() -> None:
    null = Layout.of_blades(PGA3, ["e0"])
    plan = plan_for("geometric", null, null)
    x = torch.ones(1, 3, requires_grad=True)
    out = product(x, x, plan)
    assert out.shape == (0, 3)
    torch.autograd.backward(out.sum())
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(1, 3))


def test_a_wrong_adjoint_is_noticed(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: gradcheck fails when the gradient of x is computed as if the product commuted."""
    vector = Layout.of_grades(VGA3, 1)
    plan = Plan("outer", (vector, vector, Layout.of_grades(VGA3, 2)), "xyz")  # not the cached one
    monkeypatch.setattr("ga.product.plan_from_key", lambda key: plan)
    x, y = planes(vector, (2,), generator), planes(vector, (2,), generator)
    assert torch.autograd.gradcheck(lambda x, y: product(x, y, plan), (x, y))
    plan.__dict__["adjoint_first"] = plan_from_key(plan.key.replace("xyz", "zxy"))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x, y: product(x, y, plan), (x, y))
