"""Networks for images, of plain torch modules."""

import itertools
import math
from collections.abc import Sequence

from torch import nn

from postrain.nn import LocalNetwork


def mlp(shape: Sequence[int], classes: int, hidden: Sequence[int] = (128, 64)) -> nn.Sequential:
    """A perceptron with ReLU between its layers, for inputs of any shape.

    >>> [type(layer).__name__ for layer in mlp((8, 8), 10, hidden=(32,))]
    ['Flatten', 'Linear', 'ReLU', 'Linear']
    """
    features = 1
    for size in shape:
        features *= size
    sizes = (features, *hidden, classes)
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class LeNet5(nn.Sequential):
    """LeNet-5 as PositNN trains it on 28×28 images: 61 706 parameters with ten classes.

    Three 5×5 convolutions (1→6 padded by 2, 6→16, 16→120), the first two followed by 2×2 maximum pooling, ReLU after
    each, then linear layers 120→84→classes.

    Source:
        LeCun et al., Proc. IEEE 86 (1998); Raposo, Tomás, Roma, ICASSP 2021 (PositNN).

    >>> sum(parameter.numel() for parameter in LeNet5(10).parameters())
    61706
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(6, 16, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(16, 120, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )


def cnn(
    shape: Sequence[int], classes: int, channels: Sequence[int] = (16, 32), norm: bool = False
) -> nn.Sequential:
    """Convolutions of width 3, each with ReLU and maximum pooling by 2, then a linear layer.

    Args:
        shape: Of one input: channels and one length (signals) or height and width (images).
        classes: How many.
        channels: Of each convolution.
        norm: Batch normalization after each convolution.

    >>> [type(layer).__name__ for layer in cnn((1, 8, 8), 10, channels=(4,), norm=True)]
    ['Conv2d', 'BatchNorm2d', 'ReLU', 'MaxPool2d', 'Flatten', 'Linear']
    """
    flat = len(shape) == 2
    convolution = nn.Conv1d if flat else nn.Conv2d
    normalization = nn.BatchNorm1d if flat else nn.BatchNorm2d
    layers: list[nn.Module] = []
    for inward, outward in itertools.pairwise((shape[0], *channels)):
        layers.append(convolution(inward, outward, 3, padding=1))
        if norm:
            layers.append(normalization(outward))
        layers += [nn.ReLU(), nn.MaxPool1d(2) if flat else nn.MaxPool2d(2)]
    features = channels[-1]
    for size in shape[1:]:
        features *= size >> len(channels)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


def local_mlp(shape: Sequence[int], classes: int, hidden: Sequence[int] = (128, 64)) -> LocalNetwork:
    """A perceptron as `mlp`, with a linear head behind each hidden layer, for mode `local`.

    >>> len(local_mlp((8, 8), 10, hidden=(32, 16)).heads)
    2
    """
    sizes = (math.prod(shape), *hidden)
    blocks = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
    heads = [nn.Sequential(nn.Linear(size, classes)) for size in hidden]
    return LocalNetwork(blocks, heads)
