"""Simulated baselines: a float32 model whose weights, activations and gradients are rounded to small floats.

Nothing here is exact, and nothing is stored in fewer bytes: values are rounded by hooks, sums are those of float32.  It
shows what IEEE-like formats of 16 and 8 bits would learn, beside posits of as many bytes:

* ``bfloat16``, ``float16``: each value rounded once.
* ``float8_e4m3``: float8 E4M3 of the OCP 8-bit floating point specification, with one scale per tensor, a power of two
  that brings the largest magnitude just below 448.
* ``mxfp8_e4m3``: blocks of 32 neighbours along the last dimension with a scale in E8M0 each (OCP Microscaling formats,
  MX, v1.0, sections 5 and 6).

Rounded are: parameters where they are used, in the format `weights` (`norm` in normalization layers), while a master
copy in the format `optimizer` takes the updates; outputs of modules that contain no others, in `activations`; gradients
of both, in `gradients`.  What functions outside of modules compute stays float32.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from postrain.errors import RecipeError
from postrain.recipe import FLOAT32, Recipe

Model = TypeVar("Model", bound=nn.Module)

_LARGEST = 448.0  # of E4M3
_LARGEST_EXPONENT = 8
_BLOCK = 32


def rounded(x: torch.Tensor, name: str) -> torch.Tensor:
    """Values rounded to a small float format, as float32.

    Raises:
        RecipeError: an unknown format.

    >>> rounded(torch.tensor([1.0, 1.06, 300.0]), "float8_e4m3")
    tensor([  1.,   1., 288.])
    """
    if name == FLOAT32:
        return x
    if name in ("bfloat16", "float16"):
        return x.to(getattr(torch, name)).to(torch.float32)
    if name == "float8_e4m3":
        return _e4m3(x, _power(_LARGEST / x.detach().abs().max().clamp(min=2.0**-100)) if x.numel() else x)
    if name == "mxfp8_e4m3":
        return _blocks(x)
    raise RecipeError(f"no simulated format {name!r}; use bfloat16, float16, float8_e4m3 or mxfp8_e4m3")


def _power(x: torch.Tensor) -> torch.Tensor:
    """The largest power of two up to x > 0."""
    return torch.ldexp(torch.ones_like(x), torch.frexp(x).exponent - 1)


def _e4m3(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x * scale).clamp(-_LARGEST, _LARGEST).to(torch.float8_e4m3fn).to(torch.float32) / scale


def _blocks(x: torch.Tensor) -> torch.Tensor:
    """E4M3 in blocks of 32 along the last dimension, each with a power-of-two scale."""
    if not x.numel():
        return x
    length = x.shape[-1] if x.ndim else 1
    rows = nn.functional.pad(x.reshape(-1, length), (0, -length % _BLOCK))
    blocks = rows.reshape(rows.shape[0], -1, _BLOCK)
    largest = blocks.abs().amax(dim=-1, keepdim=True).clamp(min=2.0**-118)
    exponent = (torch.frexp(largest).exponent - 1 - _LARGEST_EXPONENT).clamp(-126, 126)
    scale = torch.ldexp(torch.ones_like(largest), -exponent)
    return _e4m3(blocks, scale).reshape(rows.shape)[:, :length].reshape(x.shape)


class _Round(torch.autograd.Function):
    """Rounded forward to one format and backward to another."""

    @staticmethod
    def forward(ctx: Any, x: Any, name: str, gradients: str) -> Any:
        ctx.gradients = gradients
        return rounded(x, name).clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return rounded(grad, ctx.gradients), None, None


class _Weight(nn.Module):
    """Parametrization of a parameter: its master copy rounded to the format of weights."""

    def __init__(self, weights: str, gradients: str, master: str) -> None:
        super().__init__()
        self.weights, self.gradients, self.master = weights, gradients, master

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x.copy_(rounded(x, self.master))
        result: torch.Tensor = _Round.apply(x, self.weights, self.gradients)  # type: ignore[no-untyped-call]
        return result


@dataclass(frozen=True)
class _Output:
    """Forward hook: outputs rounded to the format of activations."""

    activations: str
    gradients: str

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return pytree.tree_map(self._rounded, output)

    def _rounded(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        return _Round.apply(x, self.activations, self.gradients)  # type: ignore[no-untyped-call]


def simulate(model: Model, recipe: Recipe) -> Model:
    """Make a float32 model round as the recipe says, in place; torch's own optimizers train it.

    Its parameters are the master copies.  `release` is the way back.

    >>> model = simulate(nn.Linear(2, 1), Recipe.named("fp8_e4m3"))
    >>> bool((model.weight == rounded(model.weight, "float8_e4m3")).all())
    True
    """
    release(model)
    from postrain.convert import NORMS

    for name, module in list(model.named_modules()):
        own = recipe.for_module(name)
        weights = own.norm if isinstance(module, NORMS) else own.weights
        for parameter, tensor in list(module._parameters.items()):
            if tensor is not None:
                rule = _Weight(weights, own.gradients, own.optimizer)
                parametrize.register_parametrization(module, parameter, rule, unsafe=True)
        if not any(True for child in module.children() if not isinstance(child, nn.ModuleDict)):
            module.register_forward_hook(_Output(own.activations, own.gradients))
    return model


def release(model: nn.Module) -> nn.Module:
    """Take the roundings out again; parameters are the master copies."""
    for module in list(model.modules()):
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, _Output)]:
            del module._forward_hooks[key]
        if parametrize.is_parametrized(module):
            held: Any = module.parametrizations
            for name, rules in list(held.items()):
                if any(isinstance(rule, _Weight) for rule in rules):
                    parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    return model
