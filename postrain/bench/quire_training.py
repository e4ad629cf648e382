"""Products of real training: the operands of a ReLU MLP and a LeNet-5, recorded in float32, rounded to posit16."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import posit
from posit import PositArray, posit16
from postrain.data import load
from postrain.tasks import mlp

FORWARD, WEIGHT, INPUT = "forward", "weight gradient", "input gradient"
KINDS = (FORWARD, WEIGHT, INPUT)
NETWORKS = ("MLP 784-512-256-10", "LeNet-5")
_SIDE = 28
_STEPS = 20  #: that are trained before the one that is recorded

Factors = tuple[PositArray, PositArray]


@dataclass(frozen=True)
class Recorded:
    """The products of one kind in one training step."""

    network: str
    kind: str
    products: list[Factors]  #: of the layers, first to last


def record(
    data: str, data_dir: Path | None, batch: int, seed: int, steps: int = _STEPS
) -> Iterator[Recorded]:
    """Train each network a few steps in float32 (SGD, momentum 0.9) and record the products of the next step.

    Args:
        data: A name from `postrain.data.NAMES`; images of other sizes are brought to 28×28.
        data_dir: Where it lies, if it is not part of the package.
        batch: Images in a step.
        seed: Weights and batches follow from it.
        steps: Steps before the recorded one.

    Returns:
        For each network of `NETWORKS` and each kind of `KINDS` its products; a convolution is a product of patches
        (im2col), its input gradient one of patches of the output's gradient.  The first layer has no input gradient.
    """
    images, labels = _images(data, data_dir)
    for name, network in zip(NETWORKS, (_flat_mlp, lenet), strict=True):
        found = _record(network(seed), images, labels, batch, seed, steps)
        for kind in KINDS:
            yield Recorded(name, kind, found[kind])


def _images(data: str, data_dir: Path | None) -> tuple[Tensor, Tensor]:
    found = load(data, data_dir)
    images = torch.from_numpy(found.x_train)[:, None]
    if images.shape[-2:] != (_SIDE, _SIDE):
        images = functional.interpolate(images, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    return images, torch.from_numpy(found.y_train)


def _flat_mlp(seed: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *mlp((_SIDE * _SIDE, 512, 256, 10), seed))


def lenet(seed: int) -> nn.Sequential:
    """LeNet-5 with ReLU and maximum pooling, torch's own initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip


def _record(
    network: nn.Sequential, images: Tensor, labels: Tensor, batch: int, seed: int, steps: int
) -> dict[str, list[Factors]]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)

    def step() -> None:
        chosen = torch.randint(0, len(images), (batch,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()

    for _ in range(steps):
        step()
        optimizer.step()
    layers = [layer for layer in network if isinstance(layer, nn.Linear | nn.Conv2d)]
    given: dict[nn.Module, Tensor] = {}
    graded: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given[layer] = inputs[0].detach()
        output.register_hook(lambda gradient: graded.__setitem__(layer, gradient))

    handles = [layer.register_forward_hook(keep) for layer in layers]
    step()
    for handle in handles:
        handle.remove()
    found: dict[str, list[Factors]] = {kind: [] for kind in KINDS}
    for layer in layers:
        product = linear_products if isinstance(layer, nn.Linear) else convolution_products
        made = product(layer, given[layer], graded[layer])  # type: ignore[arg-type]
        for kind in KINDS:
            if kind != INPUT or layer is not layers[0]:
                found[kind].append(made[kind])
    return found


def linear_products(layer: nn.Linear, x: Tensor, gradient: Tensor) -> dict[str, Factors]:
    """The three products of a linear layer: X·Wᵀ, Gᵀ·X, G·W."""
    inputs, weights, upstream = map(_posits, (x, layer.weight, gradient))
    return {
        FORWARD: (inputs, weights.T),
        WEIGHT: (upstream.T, inputs),
        INPUT: (upstream, weights),
    }


def convolution_products(layer: nn.Conv2d, x: Tensor, gradient: Tensor) -> dict[str, Factors]:
    """The three products of a convolution of stride 1, as matrices of patches: the same sums, one to an element."""
    side, edge = layer.kernel_size[0], int(layer.padding[0])
    patches = _posits(_patches(x, side, edge))
    weights = _posits(layer.weight.reshape(layer.out_channels, -1))
    upstream = _posits(gradient.movedim(1, -1).reshape(-1, layer.out_channels))
    turned = layer.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, layer.in_channels)
    return {
        FORWARD: (patches, weights.T),
        WEIGHT: (upstream.T, patches),
        INPUT: (_posits(_patches(gradient, side, side - 1 - edge)), _posits(turned)),
    }


def _patches(x: Tensor, side: int, edge: int) -> Tensor:
    """(images · positions, channels · side²)."""
    columns = functional.unfold(x, side, padding=edge)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _posits(x: Tensor) -> PositArray:
    return posit.array(np.ascontiguousarray(x.detach().numpy()), posit16)


def multiplying(
    products: list[tuple[Any, Any]], multiply: Callable[[Any, Any], object]
) -> Callable[[int], None]:
    """All products, one after the other."""

    def run(threads: int) -> None:
        for a, b in products:
            multiply(a, b)

    return run
