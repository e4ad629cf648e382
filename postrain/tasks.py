"""What `postrain compare` trains: a network, its data and how it is judged, the same for every arithmetic."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ga.tasks.signed_volume import SignedVolumeNet, signed_volume
from postrain.data import Dataset


@dataclass(frozen=True)
class Hyperparameters:
    """SGD with momentum on shuffled batches."""

    learning_rate: float
    momentum: float
    batch: int
    epochs: int


@dataclass(frozen=True)
class Task:
    """A network and its data; inputs and real-valued targets are float32 and are rounded by the recipe later."""

    model: str  #: short name: ``mlp`` or ``ga``
    name: str  #: e.g. ``digits``
    network: str  #: e.g. ``MLP 64-128-64-10``
    build: Callable[[int], nn.Module]  #: seed to a float32 model
    loss: Callable[[Tensor, Tensor], Tensor]
    loss_name: str
    score: Callable[[Tensor, Tensor], float]  #: float32 outputs and targets to the figure of merit
    score_name: str  #: ``test accuracy`` (a fraction) or ``test error``
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    hyperparameters: Hyperparameters


def classification(data: Dataset, epochs: int) -> Task:
    """An MLP on images: 64-128-64-10 for the digits, 784-512-256-10 for 28x28 images.

    >>> from postrain.data import load
    >>> classification(load("digits"), epochs=1).network
    'MLP 64-128-64-10'
    """
    hidden = (128, 64) if data.features <= 64 else (512, 256)
    sizes = (data.features, *hidden, data.classes)
    small = data.features <= 64
    return Task(
        model="mlp",
        name=data.name,
        network="MLP " + "-".join(map(str, sizes)),
        build=lambda seed: mlp(sizes, seed),
        loss=nn.functional.cross_entropy,
        loss_name="cross-entropy",
        score=_accuracy,
        score_name="test accuracy",
        x_train=torch.from_numpy(data.x_train.reshape(len(data.x_train), -1)),
        y_train=torch.from_numpy(data.y_train),
        x_test=torch.from_numpy(data.x_test.reshape(len(data.x_test), -1)),
        y_test=torch.from_numpy(data.y_test),
        hyperparameters=Hyperparameters(0.05, 0.9, 64 if small else 128, epochs),
    )


def volumes(seed: int, epochs: int, samples: int = 4096, hidden: int = 16) -> Task:
    """The signed volume of three points (arXiv 2305.11141, section 5.1) with a grade-wise network in Cl(3,0,0).

    >>> volumes(seed=0, epochs=1, samples=8).x_train.shape
    torch.Size([8, 3, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    x_train, y_train = signed_volume(samples, generator)
    x_test, y_test = signed_volume(1024, generator)
    return Task(
        model="ga",
        name="signed volume",
        network=f"Cl(3,0,0), {hidden} channels",
        build=lambda seed: SignedVolumeNet(hidden, generator=torch.Generator().manual_seed(seed)),
        loss=nn.functional.mse_loss,
        loss_name="mean squared error",
        score=_mean_squared_error,
        score_name="test error",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        hyperparameters=Hyperparameters(0.01, 0.9, 64, epochs),
    )


def mlp(sizes: tuple[int, ...], seed: int) -> nn.Sequential:
    """A perceptron with ReLU between its layers.

    Initial weights and biases are uniform in ±1/sqrt(fan-in) (PyTorch's own rule for nn.Linear), drawn by NumPy's
    Philox generator, so they are the same bits on every machine.

    >>> mlp((2, 3, 1), seed=0)
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=1, bias=True)
    )
    """
    rng = np.random.Generator(np.random.Philox(seed))
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                drawn = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
                parameter.copy_(torch.from_numpy(drawn))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(dim=1) == targets).double().mean())


def _mean_squared_error(outputs: Tensor, targets: Tensor) -> float:
    return float(((outputs.double() - targets.double()) ** 2).mean())
