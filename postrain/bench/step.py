"""A training step of the 784-512-256-10 MLP in posits beside the same step in float32."""

from statistics import median
from time import perf_counter

import torch
from torch import nn

from postrain._train import make_optimizer, rounded, train_step
from postrain.convert import convert
from postrain.options import NoProgress, Progress
from postrain.recipe import FLOAT32, Recipe
from postrain.report.schema import StepTime
from postrain.tasks import mlp

SIZES, BATCH = (784, 512, 256, 10), 128


def step_times(recipe: Recipe, progress: Progress | None = None, repeats: int = 9) -> list[StepTime]:
    """Median seconds of a training step (forward, backward, SGD with momentum), the two arithmetics in turn.

    Args:
        recipe: The posit recipe.
        progress: Told of each pair of steps.
        repeats: Pairs of steps, after two that are not counted.

    Returns:
        One `StepTime`; the inputs are random digits-like images, half of their pixels 0.
    """
    progress = progress or NoProgress()
    stage = f"time a step in {recipe.weights} and float32"
    progress.start(stage, repeats)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, SIZES[0], generator=generator)
    images *= torch.rand(BATCH, SIZES[0], generator=generator) < 0.5
    labels = torch.randint(0, SIZES[-1], (BATCH,), generator=generator)
    steps = [_Stepper(each, images, labels) for each in (recipe, Recipe(FLOAT32))]
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 2):
        for stepper, times in zip(steps, seconds, strict=True):
            started = perf_counter()
            stepper.run()
            if repeat >= 2:
                times.append(perf_counter() - started)
        if repeat >= 2:
            progress.advance(stage)
    network = "MLP " + "-".join(map(str, SIZES))
    return [StepTime(network, BATCH, recipe.weights, median(seconds[0]), median(seconds[1]))]


class _Stepper:
    """A model, its optimizer and one batch."""

    def __init__(self, recipe: Recipe, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.model = convert(mlp(SIZES, seed=0), recipe)
        self.optimizer = make_optimizer(self.model, recipe, lr=0.05, momentum=0.9)
        self.images, self.labels = rounded(images, recipe), labels

    def run(self) -> float:
        return train_step(self.model, nn.functional.cross_entropy, self.optimizer, self.images, self.labels)
