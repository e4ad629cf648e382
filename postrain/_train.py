"""The training loop: the same for float32 and posits, reproducible to the bit from seed and recipe."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

import posit
import postrain.geometric  # noqa: F401  (rules for geometric products)
from posit.torch import PositTensor, posit_tensor
from postrain.convert import convert
from postrain.errors import NaRError
from postrain.files import save_weights
from postrain.optim import SGD, options
from postrain.options import NoProgress, Progress
from postrain.recipe import Recipe
from postrain.report.schema import Epoch
from postrain.tasks import Task


class Watch(Protocol):
    """Looks at a training step from inside; see `postrain.exactness.Watcher`."""

    seconds: float  #: spent looking so far; not counted as training time

    def forward(self, step: int, model: nn.Module) -> AbstractContextManager[object]:
        """Context of the forward pass of `step`, counted from 1."""

    def backward(self, step: int, model: nn.Module) -> AbstractContextManager[object]:
        """Context of the backward pass, left before the optimizer changes a weight."""


@dataclass(frozen=True)
class Trained:
    """A trained model and its history."""

    model: nn.Module
    initial_score: float
    step_losses: list[float]
    epochs: list[Epoch]

    @property
    def sha256(self) -> str:
        """Digest of the final weights, codes or float32, in the order of `named_parameters`."""
        return digest(self.model)


def train(
    task: Task,
    recipe: Recipe,
    seed: int,
    *,
    permute: bool = False,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    stage: str = "training",
) -> Trained:
    """Train the task's network in the recipe's formats with SGD and momentum.

    Args:
        task: Network, data, loss and hyperparameters.
        recipe: Formats of weights, activations, gradients and momentum.
        seed: Initial weights and batches follow from it; the same for every recipe.
        permute: Shuffle the samples inside each batch once more; exact sums make that change no bit.
        watch: Told of every step.
        checkpoint: Where to save the weights after every epoch, atomically.
        progress: Told of every step under the name `stage`.

    Raises:
        NaRError: a NaR in the loss or in a gradient, with step and name.
    """
    progress = progress or NoProgress()
    settings = task.hyperparameters
    model = convert(task.build(seed), recipe)
    x_train, y_train = (rounded(part, recipe) for part in (task.x_train, task.y_train))
    optimizer = make_optimizer(model, recipe, settings.learning_rate, settings.momentum)
    initial_score = evaluate(task, model, recipe)[1]
    count = -(-len(task.y_train) // settings.batch)
    progress.start(stage, settings.epochs * count)
    step_losses: list[float] = []
    epochs: list[Epoch] = []
    for epoch in range(settings.epochs):
        started, looked = perf_counter(), watch.seconds if watch else 0.0
        for batch in batches(len(task.y_train), settings.batch, seed, epoch, permute):
            step = len(step_losses) + 1
            step_losses.append(
                train_step(
                    model, task.loss, optimizer, pick(x_train, batch), pick(y_train, batch), step, watch
                )
            )
            progress.advance(stage, loss=step_losses[-1])
        seconds = perf_counter() - started - (watch.seconds - looked if watch else 0.0)
        test_loss, score = evaluate(task, model, recipe)
        epochs.append(Epoch(float(np.mean(step_losses[-count:])), test_loss, score, seconds))
        if checkpoint is not None:
            save(model, recipe, checkpoint, {"epoch": str(epoch + 1), "seed": str(seed)})
            progress.saved(checkpoint)
    return Trained(model, initial_score, step_losses, epochs)


def train_step(
    model: nn.Module,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    step: int = 1,
    watch: Watch | None = None,
) -> float:
    """One step: forward, backward, update; the loss before the update."""
    optimizer.zero_grad()
    with watch.forward(step, model) if watch else nullcontext():
        loss = loss_function(model(x), y)
    if isinstance(loss, PositTensor) and loss.has_nar():
        raise NaRError(f"the loss{first_nar(model)}", step)
    with watch.backward(step, model) if watch else nullcontext():
        loss.backward()
    optimizer.step()
    return float(loss.item())


def first_nar(model: nn.Module) -> str:
    """The first parameter that holds NaR, as text to append; empty if none does."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, PositTensor) and parameter.has_nar():
            return f" (and in the weight {name})"
    return ""


def make_optimizer(model: nn.Module, recipe: Recipe, lr: float, momentum: float) -> torch.optim.Optimizer:
    """SGD with momentum for the recipe: torch's own in float32, the exact one in posits."""
    if recipe.is_posit:
        return SGD(model.named_parameters(), lr=lr, momentum=momentum, **options(recipe))
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def rounded(data: Tensor, recipe: Recipe) -> Tensor:
    """Real-valued data in the recipe's activation format; labels stay as they are."""
    if recipe.is_posit and data.is_floating_point():
        return posit_tensor(data, recipe.activations)
    return data


def pick(data: Tensor, batch: Tensor) -> Tensor:
    """Rows of the data."""
    return torch.index_select(data, 0, batch)


def batches(samples: int, size: int, seed: int, epoch: int, permute: bool) -> Iterator[Tensor]:
    """Indices of the batches of one epoch, drawn by Philox keyed with (seed, epoch); the last may be smaller.

    >>> [batch.tolist() for batch in batches(3, 2, seed=0, epoch=0, permute=False)]
    [[1, 2], [0]]
    """
    rng = np.random.Generator(np.random.Philox(key=(epoch << 64) | seed))
    order = rng.permutation(samples)
    for start in range(0, samples, size):
        batch = order[start : start + size]
        yield torch.from_numpy(rng.permutation(batch) if permute else batch)


def evaluate(task: Task, model: nn.Module, recipe: Recipe) -> tuple[float, float]:
    """Loss and score on the test data."""
    with torch.no_grad():
        outputs = model(rounded(task.x_test, recipe))
        loss = task.loss(outputs, rounded(task.y_test, recipe))
    real = outputs.to_float() if isinstance(outputs, PositTensor) else outputs
    return float(loss.item()), task.score(real, task.y_test)


def stored(model: nn.Module) -> dict[str, Tensor]:
    """What is stored of every parameter: codes of posits, else the values."""
    return {
        name: parameter.codes if isinstance(parameter, PositTensor) else parameter.detach()
        for name, parameter in model.named_parameters()
    }


def values(model: nn.Module) -> dict[str, Tensor]:
    """The exact value of every parameter, float64."""
    return {
        name: parameter.to_float(torch.float64)
        if isinstance(parameter, PositTensor)
        else parameter.detach().double()
        for name, parameter in model.named_parameters()
    }


def digest(model: nn.Module) -> str:
    """SHA-256 of the stored weights, in the order of `named_parameters`."""
    sha = hashlib.sha256()
    for name, tensor in stored(model).items():
        sha.update(name.encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def save(model: nn.Module, recipe: Recipe, path: Path, notes: dict[str, str]) -> None:
    """Save the stored weights as safetensors, with the format in the metadata, atomically."""
    save_weights(path, stored(model), {"format": recipe.weights, "codes": "sign-extended", **notes})


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and posit use `count` threads in this context."""
    before = torch.get_num_threads(), posit.get_num_threads()
    torch.set_num_threads(count)
    posit.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        posit.set_num_threads(before[1])
