"""Mode `checkpointed`: of about sqrt(n) segments of a model only the inputs are kept; each is run again backwards."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posit.torch import phase
from posit.torch.ops.dropout import KeyedCalls
from postrain.errors import ModeError
from postrain.modes._base import entered, units
from postrain.nn import ReversibleStack


def checkpointed(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as a function whose graph keeps the inputs of ceil(sqrt(n)) segments of its n modules.

    Posits give the same bits when a segment is run again, so the gradients are those of `reverse`.  The last segment is
    not run again.

    Raises:
        ModeError: the model is no nn.Sequential, or has modules that change when they are run, or a ReversibleStack.

    Source:
        Chen, Xu, Zhang, Guestrin, Training deep nets with sublinear memory cost, arXiv 1604.06174.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> import torch
    >>> run = checkpointed(model)
    >>> bool(run(torch.ones(1, 1)) == model(torch.ones(1, 1)))
    True
    """
    modules = units(model, "checkpointed")
    _require_same_again(model)
    size = math.ceil(len(modules) / math.ceil(math.sqrt(len(modules))))
    segments = [modules[start : start + size] for start in range(0, len(modules), size)]

    def run(x: Tensor) -> Tensor:
        x = entered(model, x)
        for segment in segments[:-1]:
            part: Tensor = checkpoint(_Segment(segment), x, use_reentrant=False)
            x = part
        return _through(segments[-1], x)

    return run


class _Segment:
    """Some modules in a row, with the same masks of dropout each time."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules, self.calls = modules, KeyedCalls.now()

    def __call__(self, x: Tensor) -> Tensor:
        with phase(backward=False), self.calls.part(slice(None)) if self.calls else nullcontext():
            return _through(self.modules, x)


def _through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def _require_same_again(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.training
            and module.track_running_stats
        ):
            raise ModeError(
                f'{type(module).__name__} "{name}" would move its running statistics twice when its segment is run '
                "again; put it into eval(), or use LayerNorm or GroupNorm"
            )
        if isinstance(module, ReversibleStack):
            raise ModeError(
                f"ReversibleStack \"{name}\" needs no checkpoints: it stores no activation; use mode 'reversible'"
            )
