"""Derivatives in the direction of tangents, module by module, in forward passes only: for posits and float32 alike.

Linear maps (nn.Linear, nn.Conv1d, nn.Conv2d) push a tangent through themselves, and add what the tangent of their
weights makes of the input.  Elementwise functions have a diagonal Jacobian, which is its own transpose, so their
backward rule is also the forward one.  Averages and reshapes are linear and push tangents as they push values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from posit.torch import PositTensor
from postrain.errors import ModeError

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)
_ELEMENTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
)
_SAME = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
)

Moves = Sequence[
    Mapping[str, Tensor]
]  #: of each tangent, the directions of a module's own parameters by name


def require_rules(modules: Sequence[nn.Module], mode: str) -> None:
    """Refuse modules without a rule.

    Raises:
        ModeError: naming the first.
    """
    for index, module in enumerate(modules):
        plain = getattr(module, "padding_mode", "zeros") == "zeros"
        if not isinstance(module, (*LINEAR, *_ELEMENTWISE, *_SAME)) or not plain:
            names = ", ".join(kind.__name__ for kind in (*LINEAR, *_ELEMENTWISE, *_SAME))
            raise ModeError(
                f"mode {mode!r} has no forward derivative of {type(module).__name__} (module {index}); there are "
                f"rules for {names} (padded by zeros)"
            )


def push(
    module: nn.Module, x: Tensor, tangents: Sequence[Tensor | None], moves: Moves | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The output of a module, and the tangents of it.

    Args:
        module: One that `require_rules` lets pass.
        x: Input.
        tangents: Of the input; None is 0, which only linear maps with `moves` take.
        moves: Directions in which the module's parameters move with each tangent; left out, they do not.

    >>> push(nn.Tanh(), torch.zeros(1), [torch.ones(1)])
    (tensor([0.]), [tensor([1.])])
    """
    if isinstance(module, LINEAR):
        y = _linear(module, x, module.weight, module.bias)
        given = moves or [{}] * len(tangents)
        return y, [_linear_tangent(module, x, t, move) for t, move in zip(tangents, given, strict=True)]
    known = [each for each in tangents if each is not None]
    if isinstance(module, _ELEMENTWISE):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            y = module(leaf)
        return y.detach(), [torch.autograd.grad(y, leaf, t, retain_graph=True)[0] for t in known]
    return module(x), [module(t) for t in known]


def _linear_tangent(module: Any, x: Tensor, tangent: Tensor | None, move: Mapping[str, Tensor]) -> Tensor:
    through = None if tangent is None else _linear(module, tangent, module.weight, None)
    if "weight" not in move:
        assert through is not None
        return through
    own = _linear(module, x, move["weight"], move.get("bias"))
    return own if through is None else through + own


def _linear(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, bias)
    convolve: Any = functional.conv1d if isinstance(module, nn.Conv1d) else functional.conv2d
    result: Tensor = convolve(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)
    return result


def slopes(gradient: Tensor, tangent: Tensor) -> list[float]:
    """Of each sample the sum of gradient times tangent, one float64 rounding for formats of up to 16 bits.

    >>> slopes(torch.ones(2, 3), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, 0.0]]))
    [6.0, 0.5]
    """
    if isinstance(tangent, FakeTensor):
        return [0.0] * len(tangent)
    products = values(gradient) * values(tangent)
    return [math.fsum(row.tolist()) for row in products.reshape(len(products), -1)]


def values(x: Tensor) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The exact values."""
    return x.values() if isinstance(x, PositTensor) else x.detach().double().numpy()
