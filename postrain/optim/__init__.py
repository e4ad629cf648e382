"""Optimizers whose update is formed exactly and rounded once, with torch.optim's interface.

Importing this package makes stock optimizers refuse PositTensors, by the name of the one to use instead.
"""

from typing import Any

from postrain.optim import _guard
from postrain.optim._base import PositOptimizer, StepCounts
from postrain.optim._parts import step_part
from postrain.optim.adafactor import Adafactor
from postrain.optim.adam import Adam, AdamW
from postrain.optim.average import ema_avg_fn, swa_avg_fn
from postrain.optim.clip import clip_grad_norm_
from postrain.optim.lion import Lion
from postrain.optim.sgd import SGD
from postrain.recipe import Recipe

__all__ = [
    "SGD",
    "Adafactor",
    "Adam",
    "AdamW",
    "Lion",
    "PositOptimizer",
    "StepCounts",
    "clip_grad_norm_",
    "ema_avg_fn",
    "options",
    "step_part",
    "swa_avg_fn",
]

del _guard


def options(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says about the optimizer, as keywords of every optimizer here.

    >>> options(Recipe.named("posit8_master16"))["master_format"]
    'posit16'
    """
    return {
        "state_format": recipe.optimizer,
        "master_format": recipe.master,
        "rounding": recipe.rounding,
        "loss_scale": recipe.loss_scale,
    }
