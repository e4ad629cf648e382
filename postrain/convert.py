"""Turning a float32 model into a posit model, in place, and back."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

import postrain.optim  # noqa: F401  (stock optimizers on posits are refused from here on)
from posit.errors import NonFiniteError
from posit.formats import Format
from posit.torch import Policy, PositTensor, cast, posit_tensor
from posit.torch._settle import on_its_grid, settle
from posit.torch.scaling import Grid
from posit.torch.tensor import convert_codes, to_numpy
from postrain.errors import RecipeError
from postrain.optim._increment import Increment
from postrain.recipe import Recipe

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_LISTS = (nn.ModuleList, nn.ModuleDict)
Model = TypeVar("Model", bound=nn.Module)
_Tensors = dict[int, tuple[str, Recipe, Any, Grid | None]]


def convert(model: Model, recipe: Recipe | str) -> Model:
    """Round every parameter and floating-point buffer of `model` to the recipe's formats, in place.

    Each parameter carries the recipe's policy, which says in which formats results are held.  Parameters that several
    modules share stay shared.  A module with an override is an island: what enters it is cast to its formats, and what
    leaves it to those around it, each element rounded once.

    The model takes PositTensors, and floating-point tensors too: those are rounded once to the format of activations,
    and no gradient flows back to them.  Integer and bool inputs stay as they are.

    A model that was converted before is left alone where the formats agree; elsewhere values are rounded once more,
    from the posits they are.

    Layers of `ga.nn` are converted like any other; `postrain.geometric` says what they round.  A `ga.VersorParameter`
    becomes a `postrain.versors.PositVersor`, which stays on its group; a `ga.MultivectorParameter` is refused.

    Args:
        model: Any module whose operators have posit rules.
        recipe: A recipe, or the name of one: see `Recipe.named`.

    Returns:
        `model` itself; `to_float` is the way back.

    Raises:
        RecipeError: a parameter lies on the meta device or another one than the CPU, is no float32 or posit tensor,
            is shared by modules whose formats differ, or is a multivector by type.
        posit.errors.NonFiniteError: a parameter holds NaN or an infinity.

    >>> model = convert(nn.Linear(2, 1), "posit16")
    >>> model.weight.codes.dtype
    torch.int16
    >>> model(torch.ones(3, 2)).format.name
    'posit16'
    """
    recipe = Recipe.named(recipe) if isinstance(recipe, str) else recipe
    if not recipe.is_posit:
        from postrain.simulated import simulate

        return simulate(model, recipe) if recipe.is_simulated else model
    if "ga" in sys.modules:
        importlib.import_module("postrain.geometric")  # rules for what its layers do
    recipes = {name: recipe.for_module(name) for name, _ in model.named_modules()}
    planned = _plan(model, recipes)
    made = {key: _rounded(*each) for key, each in planned.items()}
    for prefix, group, name, tensor in _tensors(model):
        group[name] = made[id(tensor)]
        if isinstance(group[name], Increment):
            group[name].watch(model.get_submodule(prefix))
    _connect(model, recipe, recipes)
    return model


def to_float(model: Model) -> Model:
    """Turn a converted model back into a float32 model, in place.

    Values are exact where the format has at most 24 significant bits, as all up to posit16 have.

    Returns:
        `model` itself.

    >>> to_float(convert(nn.Linear(2, 1), "posit8")).weight.dtype
    torch.float32
    """
    from postrain.simulated import release

    release(model)
    made: dict[int, Any] = {}
    for _, group, name, tensor in _tensors(model):
        if isinstance(tensor, PositTensor):
            if id(tensor) not in made:
                made[id(tensor)] = _as_float(tensor)
            group[name] = made[id(tensor)]
    _disconnect(model)
    return model


def _tensors(model: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, torch.Tensor]]:
    """Module name, the dictionary that holds it, name and tensor, of all parameters and floating-point buffers."""
    for prefix, module in model.named_modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in list(group.items()):
                if tensor is not None and tensor.is_floating_point():
                    yield prefix, group, name, tensor


def _plan(model: nn.Module, recipes: dict[str, Recipe]) -> _Tensors:
    """Name, recipe (with the format as `weights`), tensor and grid of each distinct tensor; all can be converted."""
    modules = dict(model.named_modules())
    planned: _Tensors = {}
    for prefix, _, name, tensor in _tensors(model):
        own, full = recipes[prefix], f"{prefix}.{name}".lstrip(".")
        grid = own.grid if isinstance(tensor, nn.Parameter) else None
        if isinstance(modules[prefix], NORMS):
            own, grid = _in_norm_format(own), None
        if id(tensor) in planned:
            other, theirs, _, _ = planned[id(tensor)]
            if (theirs.weights, theirs.policy) != (own.weights, own.policy):
                raise RecipeError(
                    f"{full} and {other} are one tensor, shared, with formats that differ; give both one override"
                )
            continue
        _refuse_typed(full, tensor)
        if tensor.device.type != "cpu" or (
            tensor.dtype != torch.float32 and not isinstance(tensor, PositTensor)
        ):
            raise RecipeError(
                f"cannot convert {full} ({tensor.dtype} on {tensor.device}) to {own.weights}; "
                "give the model float32 parameters on the CPU first"
            )
        planned[id(tensor)] = full, own, tensor, grid
    return planned


def _of_ga(tensor: torch.Tensor, name: str) -> bool:
    return type(tensor).__name__ == name and type(tensor).__module__.startswith("ga.")


def _refuse_typed(name: str, tensor: torch.Tensor) -> None:
    """Raise where a parameter is more than its numbers, which is all that posits keep of it."""
    if _of_ga(tensor, "MultivectorParameter"):
        raise RecipeError(
            f"cannot convert {name}: it is a multivector by type: keep its planes in an nn.Parameter, and its layout "
            "beside it (`Multivector(self.planes, self.layout)` in forward), and convert that"
        )


def _in_norm_format(recipe: Recipe) -> Recipe:
    return replace(recipe, weights=recipe.norm, overrides=())


def _rounded(name: str, recipe: Recipe, tensor: torch.Tensor, grid: Grid | None) -> Any:
    fmt, policy = grid.held if grid else recipe.format, recipe.policy
    if isinstance(tensor, Increment):
        return tensor.reformat_(fmt, policy)
    if isinstance(tensor, PositTensor):
        return on_its_grid(_reformatted(tensor, fmt, policy), grid)
    try:
        if _of_ga(tensor, "VersorParameter"):
            return importlib.import_module("postrain.versors").PositVersor.of(tensor, fmt, policy)
        rounded = posit_tensor(tensor.detach(), fmt)
    except NonFiniteError as error:
        raise NonFiniteError(f"{name}: {error}") from error
    own = PositTensor(rounded.codes, fmt, policy=policy)
    if isinstance(tensor, nn.Parameter):
        return on_its_grid(nn.Parameter(own, requires_grad=tensor.requires_grad), grid)
    return own


def _as_float(tensor: PositTensor) -> torch.Tensor:
    """A parameter or buffer in float32 again."""
    if isinstance(tensor, Increment):
        parameter: torch.Tensor = tensor.to_parameter()
        return parameter
    real = tensor.to_float()
    return nn.Parameter(real, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else real


def _reformatted(tensor: PositTensor, fmt: Format, policy: Policy) -> PositTensor:
    """The tensor itself, in another format where that differs; optimizers go on knowing it."""
    if tensor.format != fmt:
        codes = convert_codes(to_numpy(tensor.codes), tensor.format, fmt)
        tensor._codes, tensor._format, tensor.grad = torch.from_numpy(codes), fmt, None
    tensor._policy = policy
    return tensor


@dataclass(frozen=True)
class _Hook:
    """What is registered with modules: moves every posit that goes by to a policy."""

    policy: Policy

    def moved(self, x: Any) -> Any:
        return cast(x, policy=self.policy) if isinstance(x, PositTensor) else x


class _Leave(_Hook):
    """Forward hook of an island."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return pytree.tree_map(self.moved, output)


class _Enter(_Hook):
    """Forward pre-hook of an island, with keywords."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return pytree.tree_map(self.moved, (args, kwargs))


class RoundInputs(_Enter):
    """Forward pre-hook of the whole model, with keywords: rounds floating-point inputs to activations."""

    def moved(self, x: Any) -> Any:
        """An input, as a posit if it is floating-point."""
        if not isinstance(x, torch.Tensor) or isinstance(x, PositTensor) or not x.is_floating_point():
            return x
        if x.requires_grad and torch.is_grad_enabled():
            raise RecipeError(
                "a floating-point input that requires grad is rounded, and no gradient comes back to it; "
                "give posit_tensor(x, fmt, requires_grad=True) instead"
            )
        real = x if x.dtype in (torch.float32, torch.float64) else x.float()
        rounded = posit_tensor(real, self.policy.activations)
        made = PositTensor(rounded.codes, rounded.format, policy=self.policy)
        settle("input", x, made)
        return made


def _connect(model: nn.Module, recipe: Recipe, recipes: dict[str, Recipe]) -> None:
    """Names for messages, hooks of islands and of the model's inputs."""
    _disconnect(model)
    named: dict[str, Any] = dict(model.named_modules())
    for name, module in named.items():
        module.posit_name = name
        around = recipes[_caller(name, named)].policy
        if recipes[name].policy != around and not isinstance(module, _LISTS):
            module.register_forward_pre_hook(_Enter(recipes[name].policy), with_kwargs=True, prepend=True)
            module.register_forward_hook(_Leave(around))
    model.register_forward_pre_hook(RoundInputs(recipe.policy), with_kwargs=True, prepend=True)
    root: Any = model
    root.posit_recipe = recipe


def _caller(name: str, modules: dict[str, Any]) -> str:
    """The module around another one, lists left out: they are not called."""
    name = name.rpartition(".")[0]
    while name and isinstance(modules.get(name), _LISTS):
        name = name.rpartition(".")[0]
    return name if name in modules else ""


def _disconnect(model: nn.Module) -> None:
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, _Hook)]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
        for attribute in ("posit_name", "posit_recipe"):
            module.__dict__.pop(attribute, None)
