"""Functions with a backward pass of their own, and what PyTorch can not do with them, said clearly."""

from typing import Any

import torch
from torch._dynamo import trace_rules

from posit.errors import NoRuleError
from posit.torch.registry import refuse

aten = torch.ops.aten

# torch.compile leaves posits to their own kernels: it breaks its graphs around them, so results keep their bits
for _package in ("posit", "postrain"):
    trace_rules.add(_package)

refuse(
    aten.is_same_size.default,
    aten._fw_primal.default,
    aten._make_dual.default,
    reason="forward-mode derivatives (torch.func.jvp, linearize, hessian, make_dual) have no rule for "
    "PositTensor{module}; use backward() or torch.autograd.grad, or a difference of two results",
)


class OnceDifferentiable(torch.autograd.Function):
    """A function whose backward pass is made of codes: a derivative of that raises, and is not silently zero."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        rule, name = cls.backward, cls.__name__.strip("_").lower()

        def backward(ctx: Any, *grads: Any) -> Any:
            if not torch.is_grad_enabled():
                return rule(ctx, *grads)
            with torch.no_grad():
                found = rule(ctx, *grads)
            sources = [x for x in (*grads, *ctx.saved_tensors) if x is not None and x.requires_grad]
            return tuple(
                _End.apply(name, x, *sources) if isinstance(x, torch.Tensor) else x  # type: ignore[no-untyped-call]
                for x in (found if isinstance(found, tuple) else (found,))
            )

        setattr(cls, "backward", staticmethod(backward))  # noqa: B010  # mypy takes it for a method


class _End(torch.autograd.Function):
    """A gradient as it is, and an error where the graph goes on behind it."""

    @staticmethod
    def forward(ctx: Any, name: str, x: Any, *sources: Any) -> Any:
        ctx.name = name
        return x.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NoRuleError(
            f"{ctx.name} of posits has no second derivative; take first ones only, or leave posits by .to_float()"
        )
