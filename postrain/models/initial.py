"""Initial weights from NumPy's Philox generator, the same bits on every machine."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

_UNIFORM = (nn.Linear, nn.Conv1d, nn.Conv2d)


def initialise(model: nn.Module, seed: int, *, deviation: float | None = None) -> nn.Module:
    """Draw every weight of a model anew, module by module in the order of `named_modules`.

    Linear and convolution layers are uniform in ±1/sqrt(fan-in), recurrent ones in ±1/sqrt(hidden size), what enters
    nn.MultiheadAttention in ±sqrt(6/(fan-in + fan-out)), embeddings standard normal: PyTorch's own rules.  Norm layers
    keep their ones and zeros.  Shared parameters are drawn once.

    Args:
        model: Changed in place.
        seed: Of the generator.
        deviation: Instead, draw linear weights and embeddings normal with this standard deviation, biases zero (the
            rule of GPT-2, Radford et al., 2019).

    >>> initialise(nn.Linear(1, 1), seed=0).weight.item()
    -0.971...
    """
    rng = np.random.Generator(np.random.Philox(seed))
    done: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in done:
                done.add(id(parameter))
                drawn = _drawn(module, name, tuple(parameter.shape), rng, deviation)
                if drawn is not None:
                    with torch.no_grad():
                        parameter.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return model


def _drawn(
    module: nn.Module, name: str, shape: tuple[int, ...], rng: np.random.Generator, deviation: float | None
) -> Any:
    """New values of one parameter, or None to leave it."""
    if deviation is not None and isinstance(module, (nn.Linear, nn.Embedding)):
        return np.zeros(shape) if name == "bias" else deviation * rng.standard_normal(shape)
    if isinstance(module, nn.Embedding):
        return rng.standard_normal(shape)
    if isinstance(module, _UNIFORM):
        bound = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
    elif isinstance(module, nn.MultiheadAttention) and name.endswith("proj_weight"):
        bound = math.sqrt(6 / sum(shape))
    elif isinstance(module, nn.RNNBase):
        bound = 1 / math.sqrt(module.hidden_size)
    else:
        return None
    return rng.uniform(-bound, bound, shape)
