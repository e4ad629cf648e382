"""The three operators that run plans, and their derivatives.

All tensors here are **blade-major planes**: the blade is the first dimension, any batch shape follows, and
the batch shapes of the operands broadcast against each other as usual in torch.

``ga::product``, ``ga::weighted_product`` and ``ga::weighted_product_grad_weight`` are registered with
``torch.library``; a tensor subclass answers them in its ``__torch_dispatch__``, by reading ``Plan.by_output``
or ``Plan.by_path``.  Every derivative of every order is one of the same three operators with another plan,
followed by a sum where something was broadcast.  Use the functions of this module, not ``torch.ops.ga``: the
bare operators have no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ga import _cpu
from ga._derived import sign_changes
from ga._overridable import overridable
from ga._planes import signed
from ga._shapes import broadcast, sum_to_shape
from ga.errors import LayoutError
from ga.plan import Plan, plan_from_key, reverses

_LIBRARY: Any = torch.library.Library("ga", "DEF")
_REVERSED = tuple(filter(reverses, range(9)))  #: grades whose sign reversion changes
_TAGS = (torch.Tag.pt2_compliant_tag,)
for _schema in (
    "product(Tensor x, Tensor y, str plan) -> Tensor",
    "weighted_product(Tensor x, Tensor y, Tensor w, str plan) -> Tensor",
    "weighted_product_grad_weight(Tensor grad, Tensor x, Tensor y, str plan, int[] shape) -> Tensor",
):
    _LIBRARY.define(_schema, tags=_TAGS)


def product(x: Tensor, y: Tensor, plan: Plan) -> Tensor:
    r"""Product of two tensors of planes, :math:`out_k = \sum sign \cdot x_i y_j` over the plan's terms.

    Differentiable to any order, forward and reverse, and under ``torch.func.vmap``.

    Args:
        x: Planes, shape ``(len(plan.first), *S)``.
        y: Planes, shape ``(len(plan.second), *S)``; the S broadcast.
        plan: From :func:`ga.plan.plan_for`.

    Returns:
        Planes, shape ``(len(plan.out), *S)``.

    Raises:
        LayoutError: a number of planes does not fit the plan, or the batch shapes do not broadcast.

    >>> from ga import Algebra, Layout, plan_for
    >>> vector = Layout.of_grades(Algebra(2), 1)
    >>> plan = plan_for("geometric", vector, vector)
    >>> product(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), plan)  # 11 - 2 e12
    tensor([11., -2.])
    """
    _product_shape(x, y, plan)
    if not _differentiated(x, y):
        return _op("product", x, y, plan.key)
    out: Tensor = _Product.apply(x, y, plan.key)  # type: ignore[no-untyped-call]  # torch leaves it so
    return out


@overridable
def sandwich(x: Tensor, y: Tensor, inner: Plan, outer: Plan) -> Tensor:
    r"""The sandwich x y ~x of planes: two products, which one kernel computes where only values are asked.

    Args:
        x: Planes, shape ``(len(inner.first), *S)``.
        y: Planes, shape ``(len(inner.second), *S)``; the S broadcast.
        inner: The plan of x y.
        outer: The plan of (x y) x, its first operand the result of ``inner``.

    Returns:
        Planes, shape ``(len(outer.out), *S)``.

    Raises:
        LayoutError: as :func:`product`.

    >>> from ga import Algebra, Layout, plan_for
    >>> vector = Layout.of_grades(Algebra(2), 1)
    >>> inner = plan_for("geometric", vector, vector)
    >>> outer = plan_for("geometric", inner.out, vector)
    >>> sandwich(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]), inner, outer)
    tensor([0., 2.])
    """
    _product_shape(x, y, inner)
    if _only_values(x, y):
        out = _cpu.sandwich(x, y, inner, outer)
        if out is not None:
            return out
    reverse = signed(x, sign_changes(inner.first, _REVERSED))
    return product(product(x, y, inner), reverse, outer)


def weighted_product(x: Tensor, y: Tensor, w: Tensor, plan: Plan) -> Tensor:
    r"""Product with a weight per grade path, :math:`out_k = \sum w_{path} \cdot sign \cdot x_i y_j`.

    Differentiable to any order, as :func:`product`, in x, y and w.

    Args:
        x: Planes, shape ``(len(plan.first), *S)``.
        y: Planes, shape ``(len(plan.second), *S)``.
        w: Weights, shape ``(len(plan.paths), *C)``, where C are trailing (channel) dimensions of S.
        plan: From :func:`ga.plan.plan_for`.

    Returns:
        Planes, shape ``(len(plan.out), *S)``.

    Raises:
        LayoutError: a number of planes or weights does not fit the plan, or shapes do not broadcast.

    Source:
        Ruhe, Brandstetter, Forré, "Clifford group equivariant neural networks", arXiv 2305.11141, section 4.
    """
    _weighted_shape(x, y, w, plan)
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        out: Tensor = _WeightedProduct.apply(x, y, w, plan.key)  # type: ignore[no-untyped-call]  # as above
        return out
    return weighted_planes(x, y, w, plan)


@overridable
def weighted_planes(x: Tensor, y: Tensor, w: Tensor, plan: Plan) -> Tensor:
    """:func:`weighted_product` of shapes that fit, where a subclass may bring another derivative."""
    out: Tensor = _WeightedProduct.apply(x, y, w, plan.key)  # type: ignore[no-untyped-call]  # as above
    return out


class _Product(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, key: str) -> Tensor:
        return _op("product", x, y, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, y, ctx.key = inputs
        ctx.save_for_backward(x, y)
        ctx.save_for_forward(x, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, y), (grad,), plan = ctx.saved_tensors, grads, plan_from_key(ctx.key)
        dx = dy = None
        if ctx.needs_input_grad[0]:
            dx = sum_to_shape(product(grad, y, plan.adjoint_first), x.shape)
        if ctx.needs_input_grad[1]:
            dy = sum_to_shape(product(x, grad, plan.adjoint_second), y.shape)
        return dx, dy, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dy: Tensor | None, _: None) -> Tensor:
        (x, y), plan = ctx.saved_tensors, plan_from_key(ctx.key)
        shape = broadcast(x.shape[1:], y.shape[1:])
        return _total(
            shape,
            None if dx is None else product(dx, y, plan),
            None if dy is None else product(x, dy, plan),
        )


class _WeightedProduct(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, w: Tensor, key: str) -> Tensor:
        return _op("weighted_product", x, y, w, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, y, w, ctx.key = inputs
        ctx.save_for_backward(x, y, w)
        ctx.save_for_forward(x, y, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x, y, w), (grad,), plan = ctx.saved_tensors, grads, plan_from_key(ctx.key)
        dx = dy = dw = None
        if ctx.needs_input_grad[0]:
            dx = sum_to_shape(weighted_product(grad, y, w, plan.adjoint_first), x.shape)
        if ctx.needs_input_grad[1]:
            dy = sum_to_shape(weighted_product(x, grad, w, plan.adjoint_second), y.shape)
        if ctx.needs_input_grad[2]:
            dw = _grad_weight(grad, x, y, plan, tuple(w.shape))
        return dx, dy, dw, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dy: Tensor | None, dw: Tensor | None, _: None) -> Tensor:
        (x, y, w), plan = ctx.saved_tensors, plan_from_key(ctx.key)
        shape = broadcast(x.shape[1:], y.shape[1:], w.shape[1:])
        return _total(
            shape,
            None if dx is None else weighted_product(dx, y, w, plan),
            None if dy is None else weighted_product(x, dy, w, plan),
            None if dw is None else weighted_product(x, y, dw, plan),
        )


class _GradWeight(torch.autograd.Function):
    """Gradient of a weighted product in its weight; trilinear, so its derivatives are weighted products."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, x: Tensor, y: Tensor, key: str, shape: tuple[int, ...]) -> Tensor:
        return _op("weighted_product_grad_weight", grad, x, y, key, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        grad, x, y, ctx.key, ctx.shape = inputs
        ctx.save_for_backward(grad, x, y)
        ctx.save_for_forward(grad, x, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (grad, x, y), (h,), plan = ctx.saved_tensors, grads, plan_from_key(ctx.key)
        dgrad = dx = dy = None
        if ctx.needs_input_grad[0]:
            dgrad = sum_to_shape(weighted_product(x, y, h, plan), grad.shape)
        if ctx.needs_input_grad[1]:
            dx = sum_to_shape(weighted_product(grad, y, h, plan.adjoint_first), x.shape)
        if ctx.needs_input_grad[2]:
            dy = sum_to_shape(weighted_product(x, grad, h, plan.adjoint_second), y.shape)
        return dgrad, dx, dy, None, None

    @staticmethod
    def jvp(ctx: Any, dgrad: Tensor | None, dx: Tensor | None, dy: Tensor | None, *_: None) -> Tensor:
        (grad, x, y), plan = ctx.saved_tensors, plan_from_key(ctx.key)
        return _total(
            ctx.shape[1:],
            None if dgrad is None else _grad_weight(dgrad, x, y, plan, ctx.shape),
            None if dx is None else _grad_weight(grad, dx, y, plan, ctx.shape),
            None if dy is None else _grad_weight(grad, x, dy, plan, ctx.shape),
        )


for _function in (_Product, _WeightedProduct, _GradWeight):
    _function.forward.__signature__ = signature(_function.forward)  # type: ignore[union-attr]  # or torch works it out in every call


def _grad_weight(grad: Tensor, x: Tensor, y: Tensor, plan: Plan, shape: tuple[int, ...]) -> Tensor:
    out: Tensor = _GradWeight.apply(grad, x, y, plan.key, shape)  # type: ignore[no-untyped-call]  # as above
    return out


def _differentiated(*tensors: Tensor) -> bool:
    """Can a derivative be asked for?  If not, the bare operator is enough, at half the time of a small product."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _only_values(*tensors: Tensor) -> bool:
    """Are these ordinary tensors on the CPU that nobody follows: no derivative, no subclass, no dispatch mode?"""
    return (
        not _differentiated(*tensors)
        and not torch._C._len_torch_dispatch_stack()
        and all(
            type(t) in (Tensor, torch.nn.Parameter) and t.device.type == "cpu" and not t.is_neg()
            for t in tensors
        )
    )


def _op(name: str, *args: Any) -> Tensor:
    """Call ``torch.ops.ga.<name>``; the one untyped door to the operators."""
    out: Tensor = getattr(torch.ops.ga, name)(*args)
    return out


def _total(shape: Sequence[int], *tangents: Tensor | None) -> Tensor:
    """Sum of the tangents that exist, each first expanded to the batch shape of the result."""
    given = [t.expand(t.shape[0], *shape) for t in tangents if t is not None]
    total = given[0]
    for tangent in given[1:]:
        total = total + tangent
    return total


def _product_shape(x: Tensor, y: Tensor, plan: Plan) -> torch.Size:
    """Shape of the product; raises LayoutError if planes or batch do not fit."""
    for operand, planes, layout in (("first", x, plan.first), ("second", y, plan.second)):
        if planes.dim() == 0 or planes.shape[0] != len(layout):
            raise LayoutError(
                f"{operand} operand of the {plan.kind} product must have {len(layout)} planes for {layout}, "
                f"got shape {tuple(planes.shape)}; the blade is the first dimension"
            )
    if x.shape[1:] == y.shape[1:]:
        return torch.Size((len(plan.out), *x.shape[1:]))
    return torch.Size((len(plan.out), *_broadcast(plan, x, y)))


def _weighted_shape(x: Tensor, y: Tensor, w: Tensor, plan: Plan) -> torch.Size:
    """Shape of the weighted product; raises LayoutError if planes, weights or batch do not fit."""
    _product_shape(x, y, plan)
    if w.dim() == 0 or w.shape[0] != len(plan.paths):
        raise LayoutError(
            f"weights of the {plan.kind} product {plan.first} by {plan.second} to {plan.out} must have one "
            f"row for each of the {len(plan.paths)} grade paths {plan.paths}, got shape {tuple(w.shape)}"
        )
    return torch.Size((len(plan.out), *_broadcast(plan, x, y, w)))


def _broadcast(plan: Plan, *tensors: Tensor) -> torch.Size:
    batches = [t.shape[1:] for t in tensors]
    try:
        return broadcast(*batches)
    except ValueError as error:
        shown = ", ".join(str(tuple(batch)) for batch in batches)
        raise LayoutError(
            f"batch shapes {shown} of the {plan.kind} product do not broadcast; "
            "planes have shape (blades, *batch), weights (paths, *channels)"
        ) from error
