"""Gives the operators of :mod:`ga.product` their implementation, their shapes and their batching rules.

Imported once, for its effect, by ``ga``.  The implementation is plain torch on any device; on the CPU the
product runs generated kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ga import _cpu, _evaluate
from ga.plan import plan_from_key
from ga.product import _LIBRARY, _product_shape, _weighted_shape

Dims = tuple[int | None, ...]
_ANY_DEVICE = "CompositeExplicitAutograd"


def _product(x: Tensor, y: Tensor, plan: str) -> Tensor:
    _product_shape(x, y, plan_from_key(plan))
    return _evaluate.product(x, y, plan_from_key(plan))


def _product_on_cpu(x: Tensor, y: Tensor, plan: str) -> Tensor:
    known = plan_from_key(plan)
    _product_shape(x, y, known)
    return _cpu.product(x, y, known)


def _weighted_product(x: Tensor, y: Tensor, w: Tensor, plan: str) -> Tensor:
    _weighted_shape(x, y, w, plan_from_key(plan))
    return _evaluate.weighted_product(x, y, w, plan_from_key(plan))


def _grad_weight(grad: Tensor, x: Tensor, y: Tensor, plan: str, shape: Sequence[int]) -> Tensor:
    _product_shape(x, y, plan_from_key(plan))
    return _evaluate.weighted_product_grad_weight(grad, x, y, plan_from_key(plan), shape)


_LIBRARY.impl("product", _product, _ANY_DEVICE)
_LIBRARY.impl("product", _product_on_cpu, "CPU")
_LIBRARY.impl("weighted_product", _weighted_product, _ANY_DEVICE)
_LIBRARY.impl("weighted_product_grad_weight", _grad_weight, _ANY_DEVICE)


@torch.library.register_fake("ga::product")  # type: ignore[untyped-decorator]  # torch leaves it so
def _fake_product(x: Tensor, y: Tensor, plan: str) -> Tensor:
    return x.new_empty(_product_shape(x, y, plan_from_key(plan)), dtype=_dtype(x, y))


@torch.library.register_fake("ga::weighted_product")  # type: ignore[untyped-decorator]  # as above
def _fake_weighted_product(x: Tensor, y: Tensor, w: Tensor, plan: str) -> Tensor:
    return x.new_empty(_weighted_shape(x, y, w, plan_from_key(plan)), dtype=_dtype(x, y, w))


@torch.library.register_fake("ga::weighted_product_grad_weight")  # type: ignore[untyped-decorator]  # as above
def _fake_grad_weight(grad: Tensor, x: Tensor, y: Tensor, plan: str, shape: Sequence[int]) -> Tensor:
    return x.new_empty(tuple(shape), dtype=_dtype(grad, x, y))


@torch.library.register_vmap("ga::product")  # type: ignore[untyped-decorator]  # as above
def _vmap_product(info: Any, in_dims: Dims, x: Tensor, y: Tensor, plan: str) -> tuple[Tensor, int]:
    x, y = _lift(in_dims, x, y)
    return torch.ops.ga.product(x, y, plan), 1


@torch.library.register_vmap("ga::weighted_product")  # type: ignore[untyped-decorator]  # as above
def _vmap_weighted(
    info: Any, in_dims: Dims, x: Tensor, y: Tensor, w: Tensor, plan: str
) -> tuple[Tensor, int]:
    x, y, w = _lift(in_dims, x, y, w)
    return torch.ops.ga.weighted_product(x, y, w, plan), 1


@torch.library.register_vmap("ga::weighted_product_grad_weight")  # type: ignore[untyped-decorator]  # as above
def _vmap_grad_weight(
    info: Any, in_dims: Dims, grad: Tensor, x: Tensor, y: Tensor, plan: str, shape: Sequence[int]
) -> tuple[Tensor, int]:
    grad, x, y = _lift(in_dims, grad, x, y)
    rank = max(t.dim() for t in (grad, x, y)) - 2
    rows, *channels = shape
    padded = (rows, info.batch_size, *(1,) * (rank - len(channels)), *channels)
    out = torch.ops.ga.weighted_product_grad_weight(grad, x, y, plan, padded)
    return out.reshape(rows, info.batch_size, *channels), 1


def _lift(in_dims: Dims, *planes: Tensor) -> tuple[Tensor, ...]:
    """Move mapped dimensions behind the blade and pad the batch after it to one rank: all then broadcast."""
    mapped = in_dims[: len(planes)]
    rank = max(t.dim() - 1 - (dim is not None) for t, dim in zip(planes, mapped, strict=True))
    lifted = []
    for t, dim in zip(planes, mapped, strict=True):
        if dim is not None:
            t = t.movedim(dim, 1)
            blades, size, *batch = t.shape
            t = t.reshape(blades, size, *(1,) * (rank - len(batch)), *batch)
        lifted.append(t)
    return tuple(lifted)


def _dtype(*tensors: Tensor) -> torch.dtype:
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    return dtype
