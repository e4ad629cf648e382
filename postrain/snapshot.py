"""The state of a training run, taken and put back: model, optimizer, scheduler and generators."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from posit.torch import PositTensor
from postrain.errors import RecipeError

Generators = Mapping[str, np.random.Generator]


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    generators: Generators | None = None,
) -> dict[str, Any]:
    """Everything that training changes, sharing memory with it: save it before the next step."""
    return {
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "generators": {
            "torch": torch.get_rng_state(),
            "numpy": {name: each.bit_generator.state for name, each in (generators or {}).items()},
        },
    }


def restore(
    state: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    generators: Generators | None = None,
) -> None:
    """Put back what `capture` took, in place: parameters stay the objects they are.

    Raises:
        RecipeError: the model has other parameters, shapes or formats, or the optimizer other groups.
    """
    restore_model(state["model"], model)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:
        raise RecipeError(
            f"the checkpoint belongs to another optimizer ({error}); use the one it was made with"
        ) from error
    if scheduler is not None and state["scheduler"] is not None:
        scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["generators"]["torch"])
    for name, generator in (generators or {}).items():
        generator.bit_generator.state = state["generators"]["numpy"][name]


def restore_model(saved: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Copy saved parameters and buffers into the model's own, code by code.

    Raises:
        RecipeError: names, shapes or formats differ; nothing is changed then.
    """
    own = model.state_dict()
    if saved.keys() != own.keys():
        name = sorted(saved.keys() ^ own.keys())[0]
        where = (
            "the checkpoint has, the model has not" if name in saved else "the model has, not the checkpoint"
        )
        raise RecipeError(f"the checkpoint belongs to another model: {name} is a tensor that {where}")
    for name, tensor in own.items():
        if _kind(tensor) != _kind(saved[name]):
            raise RecipeError(
                f"the checkpoint holds {name} as {_text(saved[name])}, this model as {_text(tensor)}; "
                "resume with the model and recipe it was made with"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            if isinstance(tensor, PositTensor):
                held = saved[name]
                assert isinstance(held, PositTensor)
                tensor.codes.copy_(held.codes)
            else:
                tensor.copy_(saved[name])


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (tensor.format if isinstance(tensor, PositTensor) else tensor.dtype), tuple(tensor.shape)


def _text(tensor: torch.Tensor) -> str:
    kind, shape = _kind(tensor)
    return f"{str(kind).removeprefix('torch.')} of shape {shape}"
