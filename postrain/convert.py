"""Turning a float32 model into a posit model, in place."""

import torch
from torch import nn

from posit.torch import PositTensor, posit_tensor
from postrain.errors import RecipeError
from postrain.recipe import Recipe


def convert(model: nn.Module, recipe: Recipe | str) -> nn.Module:
    """Round every float32 parameter and buffer of `model` to the recipe's format, in place.

    Args:
        model: Any module whose operators have posit rules.  Parameters that several modules share stay shared.
        recipe: A recipe, or the name of a format for everything.

    Returns:
        `model` itself.

    Raises:
        RecipeError: a parameter lies on the meta device, or is neither float32 nor a posit of the format.
        posit.errors.NonFiniteError: a parameter holds NaN or an infinity.

    >>> model = convert(nn.Linear(2, 1), "posit16")
    >>> model.weight.codes.dtype
    torch.int16
    """
    recipe = Recipe(recipe) if isinstance(recipe, str) else recipe
    if not recipe.is_posit:
        return model
    done: dict[int, nn.Parameter | PositTensor] = {}
    for prefix, module in model.named_modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is None or not tensor.is_floating_point():
                    continue
                if id(tensor) not in done:
                    done[id(tensor)] = _rounded(f"{prefix}.{name}".lstrip("."), tensor, recipe)
                group[name] = done[id(tensor)]
    return model


def _rounded(name: str, tensor: torch.Tensor, recipe: Recipe) -> nn.Parameter | PositTensor:
    if isinstance(tensor, PositTensor) and tensor.format == recipe.format:
        return tensor
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or isinstance(tensor, PositTensor):
        raise RecipeError(
            f"cannot convert {name} ({tensor.dtype} on {tensor.device}) to {recipe.weights}; "
            "give the model float32 parameters on the CPU first"
        )
    rounded = posit_tensor(tensor.detach(), recipe.format)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(rounded, requires_grad=tensor.requires_grad)
    return rounded
