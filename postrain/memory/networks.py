"""The networks of `postrain compare` as cases for the accountant: structure and shapes, with any values."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ga.tasks.signed_volume import SignedVolumeNet
from postrain.memory._account import Case
from postrain.tasks import Task


@dataclass(frozen=True)
class Workload:
    """A float32 model, how its output is judged, and one batch."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor


def mlp(sizes: list[int], batch: int, seed: int) -> Workload:
    """A perceptron with ReLU between its layers and cross-entropy, as `postrain.tasks.mlp` has it.

    >>> mlp([4, 3, 2], batch=5, seed=0).inputs.shape
    torch.Size([5, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    inputs = torch.rand(batch, sizes[0], generator=generator)
    targets = torch.randint(0, sizes[-1], (batch,), generator=generator)
    return Workload(nn.Sequential(*layers[:-1]), nn.functional.cross_entropy, inputs, targets)


def signed_volume(hidden: int, batch: int, seed: int) -> Workload:
    """The geometric-algebra network of `postrain.tasks.volumes`.

    >>> signed_volume(4, batch=5, seed=0).targets.shape
    torch.Size([5])
    """
    generator = torch.Generator().manual_seed(seed)
    model = SignedVolumeNet(hidden, generator=generator)
    inputs = torch.randn(batch, 3, 3, generator=generator)
    targets = torch.randn(batch, generator=generator)
    return Workload(model, nn.functional.mse_loss, inputs, targets)


def case_for(task: Task, recipe: str, seed: int = 0) -> Case:
    """The case of a task of `postrain compare`, with its own batch size and momentum.

    >>> from postrain.tasks import volumes
    >>> case_for(volumes(seed=0, epochs=1, samples=8), "posit16").arguments
    {'hidden': 16}
    """
    layers = list(task.build(seed).modules())
    hyperparameters = task.hyperparameters
    if task.model == "mlp":
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        name = "mlp"
        arguments: dict[str, Any] = {
            "sizes": [linear[0].in_features, *(layer.out_features for layer in linear)]
        }
    else:
        name = "signed_volume"
        network = next(layer for layer in layers if isinstance(layer, SignedVolumeNet))
        arguments = {"hidden": network.embed.out_channels}
    return Case(
        f"{__name__}:{name}", arguments, recipe, hyperparameters.batch, hyperparameters.momentum, seed
    )
