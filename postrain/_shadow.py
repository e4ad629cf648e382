"""A float32 stand-in for `PositTensor`: it takes the same way through torch, computes in floats, and keeps a record.

PyTorch hands a tensor subclass other operators than a plain tensor, so the stand-in is a subclass of the same kind:
functions with a fused rule are seen whole, forward and backward, all others fall apart into operators.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self

import torch
from torch.utils import _pytree as pytree

from posit.torch import has_rule, is_refused


class Record(Protocol):
    """Hears of every function and operator that meets a stand-in."""

    def seen(self, op: Any, given: list[torch.Tensor], *, fused: bool, mixed: bool) -> None:
        """An operator was given these tensors; `mixed`: a plain float tensor was among the stand-ins."""


#: functions that start passes or only lead to operators: they are looked into
_CONTROL = {torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad, torch.Tensor.__setitem__}

_record: ContextVar[Record | None] = ContextVar("record", default=None)


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Tell `record` of what meets stand-ins in this context."""
    token = _record.set(record)
    try:
        yield
    finally:
        _record.reset(token)


class Shadow(torch.Tensor):
    """Floating-point values that pose as posits."""

    floats: torch.Tensor

    @staticmethod
    def __new__(cls, floats: torch.Tensor) -> Self:
        """Wrap values without copying them."""
        self: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            floats.shape,
            strides=floats.stride(),
            storage_offset=floats.storage_offset(),
            dtype=floats.dtype,
            device=floats.device,
        )
        self.floats = floats
        return self

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]  # torch leaves it untyped
        return f"Shadow({self.floats})"

    def to_float(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """As `PositTensor.to_float`."""
        return self.floats.detach().to(dtype)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See whole functions that have a fused rule or are refused."""
        if (has_rule(function) or is_refused(function)) and function not in _CONTROL:
            return _fused(function, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks the operator
        cls, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record an operator and compute it in floats."""
        kwargs = kwargs or {}
        given = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        plain_args, plain_kwargs = pytree.tree_map_only(Shadow, lambda x: x.floats, (args, kwargs))
        result = op(*plain_args, **plain_kwargs)
        _tell(op, given, fused=False)
        return _same_objects(op, args, result)


def _same_objects(op: Any, args: tuple[Any, ...], result: Any) -> Any:
    """The results as stand-ins; an in-place operator returns the tensor it was given."""
    if op._schema.name.endswith("_") and args and isinstance(args[0], Shadow):
        return args[0]
    return pytree.tree_map_only(torch.Tensor, _wrap, result)


def _wrap(x: torch.Tensor) -> torch.Tensor:
    return Shadow(x) if x.is_floating_point() and not isinstance(x, Shadow) else x


def _plain(x: Any) -> Any:
    return pytree.tree_map_only(Shadow, lambda each: each.floats, x)


def _tell(op: Any, given: list[torch.Tensor], *, fused: bool) -> None:
    record = _record.get()
    if record is not None:
        mixed = any(not isinstance(x, Shadow) and x.is_floating_point() for x in given)
        record.seen(op, given, fused=fused, mixed=mixed and not fused)


def _fused(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function with a rule, whole: one record forward and one backward, nothing of what lies within."""
    leaves, tree = pytree.tree_flatten((args, kwargs))
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def call(*values: torch.Tensor) -> Any:
        filled = list(leaves)
        for index, value in zip(tensors, values, strict=True):
            filled[index] = value
        positional, named = pytree.tree_unflatten(filled, tree)
        return function(*positional, **named)

    *flat, shape = _Fused.apply(function, call, *(leaves[index] for index in tensors))  # type: ignore[no-untyped-call]
    return pytree.tree_unflatten(flat, shape.tree)


class _Shape:
    def __init__(self, tree: Any) -> None:
        self.tree = tree


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Any, call: Any, *given: Any) -> Any:
        ctx.function, ctx.call = function, call
        ctx.given = [_plain(x).detach() for x in given]
        ctx.was = list(given)
        result = call(*ctx.given)
        _tell(function, list(given), fused=True)
        flat, tree = pytree.tree_flatten(pytree.tree_map_only(torch.Tensor, _wrap, result))
        ctx.mark_non_differentiable(
            *(x for x in flat if isinstance(x, torch.Tensor) and not x.is_floating_point())
        )
        return (*flat, _Shape(tree))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        with torch.enable_grad():
            inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in ctx.given]
            outputs = pytree.tree_leaves(ctx.call(*inputs))
        grads = grads[:-1]  # the last belongs to the shape
        pairs = [
            (out, _plain(grad))
            for out, grad in zip(outputs, grads, strict=True)
            if isinstance(out, torch.Tensor) and out.requires_grad and grad is not None
        ]
        wanted = [x for x in inputs if x.requires_grad]
        found = torch.autograd.grad(
            [out for out, _ in pairs], wanted, [grad for _, grad in pairs], allow_unused=True
        )
        _tell(ctx.function, ctx.was, fused=True)
        results = iter(found)
        back = [next(results) if x.requires_grad else None for x in inputs]
        return None, None, *(None if x is None else _wrap(x) for x in back)
