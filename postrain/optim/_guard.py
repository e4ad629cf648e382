"""Stock optimizers and stock gradient clipping on posits are refused, by the name of ours."""

import sys
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from posit.errors import NoRuleError
from posit.torch import PositTensor, refuse, register_function
from posit.torch.registry import fused_rule
from postrain.errors import RecipeError
from postrain.optim._base import PositOptimizer

OURS = ("SGD", "Adam", "AdamW", "Adafactor", "Lion")


def _refuse_stock(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Hook before each step of every optimizer in the process."""
    if isinstance(optimizer, PositOptimizer):
        return
    if any(isinstance(p, PositTensor) for group in optimizer.param_groups for p in group["params"]):
        name = type(optimizer).__name__
        instead = f"postrain.optim.{name}" if name in OURS else f"one of postrain.optim: {', '.join(OURS)}"
        raise RecipeError(
            f"{type(optimizer).__module__.partition('.')[0]}.optim.{name} would round an update several times; "
            f"for a model in posits use {instead}"
        )


register_optimizer_step_pre_hook(_refuse_stock)

_vector_norm = fused_rule(torch.linalg.vector_norm)


@register_function(torch.linalg.vector_norm)
def _refuse_stock_clipping(x: Any, *args: Any, **kwargs: Any) -> Any:
    """Norms where they are asked for; but the ones in torch.nn.utils.clip_grad_norm_ would be rounded on the way."""
    frame = sys._getframe(1)
    for _ in range(8):
        if frame.f_globals.get("__name__") == "torch.nn.utils.clip_grad":
            raise NoRuleError(
                "torch.nn.utils.clip_grad_norm_ would round several times; for posits use "
                "postrain.optim.clip_grad_norm_, which rounds the norm once and each gradient once"
            )
        if frame.f_back is None:
            break
        frame = frame.f_back
    if _vector_norm is not None:
        return _vector_norm(x, *args, **kwargs)
    with torch._C.DisableTorchFunctionSubclass():
        return torch.linalg.vector_norm(x, *args, **kwargs)


# lists of tensors are updated so by stock optimizers and by torch.optim.swa_utils
refuse(
    *(getattr(torch, name) for name in dir(torch) if name.startswith("_foreach_")),
    reason="updates of lists of tensors (torch._foreach_...) would round several times; for posits use the optimizers "
    "of postrain.optim, and in AveragedModel avg_fn=postrain.optim.swa_avg_fn() or ema_avg_fn(decay)",
)
