"""Accuracy over several seeds, the same recipe in posits and in float32."""

from dataclasses import dataclass
from statistics import mean

from postrain._train import train
from postrain.data import load
from postrain.options import NoProgress, Progress
from postrain.recipe import FLOAT32, Recipe
from postrain.tasks import classification


@dataclass(frozen=True)
class SeedScores:
    """Test accuracy of each seed, a fraction."""

    arithmetic: str
    scores: list[float]
    float32_scores: list[float]

    @property
    def difference(self) -> float:
        """Mean accuracy in posits minus that in float32, in percentage points."""
        return 100 * (mean(self.scores) - mean(self.float32_scores))


def digits_scores(
    recipe: Recipe, seeds: int = 5, epochs: int = 10, progress: Progress | None = None
) -> SeedScores:
    """Train the digits MLP from `seeds` seeds in both arithmetics: same initial weights, same batches."""
    progress = progress or NoProgress()
    task = classification(load("digits"), epochs)
    scores: dict[str, list[float]] = {recipe.weights: [], FLOAT32: []}
    for seed in range(seeds):
        for each in (recipe, Recipe(FLOAT32)):
            trained = train(task, each, seed, progress=progress, stage=f"seed {seed} in {each.weights}")
            scores[each.weights].append(trained.epochs[-1].score)
    return SeedScores(recipe.weights, scores[recipe.weights], scores[FLOAT32])
