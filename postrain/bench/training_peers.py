"""Training steps of others: NumPy's float32 by hand, and posits simulated by qtorch-plus."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from postrain.bench.contest import Run


class NumpyMlp:
    """The same step of the MLP in NumPy's float32, by hand: the least that it can take with this BLAS."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        found = [parameter.detach().numpy().copy() for parameter in model.parameters()]
        self.weights, self.biases = found[::2], found[1::2]
        self.momenta = [np.zeros_like(each) for each in found]
        self.x, self.y = x.numpy(), y.numpy()

    def __call__(self, threads: int) -> None:
        """One step; NumPy's BLAS runs on as many threads as it was started with."""
        layers: list[npt.NDArray[np.float32]] = [self.x]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = layers[-1] @ weight.T
            z += bias
            layers.append(np.maximum(z, 0, out=z) if index + 1 < len(self.weights) else z)
        grad = np.exp(layers[-1] - layers[-1].max(axis=1, keepdims=True))
        grad /= grad.sum(axis=1, keepdims=True)
        grad[np.arange(len(self.y)), self.y] -= 1
        grad /= np.float32(len(self.y))
        for index in reversed(range(len(self.weights))):
            step = grad.T @ layers[index], grad.sum(axis=0)
            if index:
                grad = grad @ self.weights[index]
                grad *= layers[index] > 0
            for parameter, momentum, each in zip(
                (self.weights[index], self.biases[index]),
                self.momenta[2 * index : 2 * index + 2],
                step,
                strict=True,
            ):
                momentum *= np.float32(0.9)
                momentum += each
                parameter -= np.float32(0.05) * momentum


def simulated_training(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Run | None:
    """A step of a model in simulated posit16, as qtorch-plus offers it; None where it is not installed.

    The results of convolutions and linear layers, forward and backward, weights, their gradients and momenta are
    rounded to the nearest posit16; sums are float32's.
    """
    if importlib.util.find_spec("qtorch_plus") is None:
        return None
    number = importlib.import_module("qtorch_plus").Posit(nsize=16, es=2)
    quant: Any = importlib.import_module("qtorch_plus.quant")
    optim: Any = importlib.import_module("qtorch_plus.optim")

    def rounded(values: Tensor) -> Tensor:
        result: Tensor = quant.posit_quantize(values, nsize=16, es=2)
        return result

    layers: list[nn.Module] = []
    for layer in model.children():
        layers.append(layer)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layers.append(quant.Quantizer(number, number, "nearest", "nearest"))
    network = nn.Sequential(*layers)
    plain = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    optimizer = optim.OptimLP(plain, weight_quant=rounded, grad_quant=rounded, momentum_quant=rounded)

    def run(threads: int) -> None:
        torch.set_num_threads(threads)
        optimizer.zero_grad()
        loss(network(x), y).backward()
        optimizer.step()

    return run
