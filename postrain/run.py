"""`postrain train`: a configuration to a trained network, its checkpoints, logs and figures in a folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from posit.torch import PositTensor
from postrain import checkpoint, logs
from postrain._coverage import Coverage, coverage
from postrain.config import Config
from postrain.errors import OutputError
from postrain.files import prepare_output, save_weights
from postrain.loop import Fitted, fit
from postrain.options import NoProgress, Progress
from postrain.plots import magnitudes, plot_distributions, plot_loss
from postrain.prepared import Prepared, few_samples, loss_of, prepare, without_model
from postrain.recipe import Recipe

WEIGHTS, LOSS, DISTRIBUTIONS = "weights.safetensors", "loss.png", "distributions.png"
_FIGURE_SAMPLES = 64


@dataclass(frozen=True)
class Outcome:
    """What a run of `train` left behind."""

    folder: Path
    fitted: Fitted
    scores: dict[str, float]  #: of the last evaluation
    digest: str  #: SHA-256 of the final weights
    nar: int  #: steps left out for a NaR


def train(
    config: Config,
    out: Path,
    progress: Progress | None = None,
    *,
    resume: bool | None = None,
    figures: bool = True,
) -> Outcome:
    """Train as the configuration says, going on from the last checkpoint in the folder.

    Args:
        config: From `postrain.config.read`.
        out: The folder; made if it is not there.
        progress: Told of every step.
        resume: True demands a checkpoint, False refuses one; None takes what is there.
        figures: Draw the loss and the distributions.

    Raises:
        OutputError: the folder cannot be written to, or holds (or lacks) a checkpoint against `resume`.
        DataError: the data or the checkpoint are damaged or missing.
        RecipeError: the checkpoint is of another recipe or network.
        NaRError: training met a NaR.
    """
    require_checkpoint(out, resume)
    prepared = prepare(config)
    folder = prepare_output(out)
    loss = loss_of("mean" if config.plan.micro_batch is None else "sum", config.data)
    fitted = fit(
        prepared.model,
        prepared.source.train,
        loss,
        prepared.optimizer,
        config.plan,
        scheduler=prepared.scheduler,
        evaluate=prepared.evaluate,
        folder=folder,
        metadata=prepared.metadata,
        progress=progress or NoProgress(),
        tensorboard=True,
        loss_scale=config.recipe.loss_scale,
    )
    return outcome(prepared, fitted, folder, figures)


def require_checkpoint(out: Path, resume: bool | None) -> None:
    """Demand a checkpoint in the folder (True), or refuse one (False).

    Raises:
        OutputError: there is none, or one.
    """
    there = checkpoint.latest(out)
    if resume is True and there is None:
        raise OutputError(
            f"there is no checkpoint in {out} to go on from; leave out --resume or name another --out"
        )
    if resume is False and there is not None:
        raise OutputError(
            f"{out} holds the checkpoint {there.name}; go on with --resume or choose another --out"
        )


def outcome(prepared: Prepared, fitted: Fitted, folder: Path, figures: bool) -> Outcome:
    """Save the final weights, draw the figures, and sum up what the logs say."""
    from postrain._train import digest

    _save(prepared, folder)
    steps, evaluations = (logs.read(folder / name) for name in (logs.STEPS, logs.EVALUATIONS))
    if figures:
        plot_loss(steps, evaluations, folder / LOSS)
        _plot_distributions(prepared, loss_of("mean", prepared.config.data), folder)
    last = evaluations[-1] if evaluations else {}
    scores = {key: value for key, value in last.items() if value is not None and key not in ("step", "epoch")}
    skipped = sum(row["loss"] is None or row["loss"] != row["loss"] for row in steps)
    return Outcome(folder, fitted, scores, digest(prepared.model), skipped)


def covered(config: Config) -> Coverage:
    """Which operators the configuration's network needs, with its loss, on a batch of its data."""
    source, model = without_model(config)
    plan = config.plan
    size = plan.micro_batch or plan.batch
    x, y = few_samples(source, size)
    loss = loss_of("mean" if plan.micro_batch is None else "sum", config.data)
    return coverage(model, x, loss=lambda outputs: loss(outputs, y), passes=-(-plan.batch // size))


def _save(prepared: Prepared, folder: Path) -> None:
    """The final weights: codes by name, and the format of each in the metadata."""
    state = prepared.model.state_dict()
    formats = {name: each.format.name for name, each in state.items() if isinstance(each, PositTensor)}
    seen: dict[int, str] = {}
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        plain = tensor.codes if isinstance(tensor, PositTensor) else tensor
        if plain.numel() and plain.data_ptr() in seen:
            continue  # tied: saved under its first name
        seen[plain.data_ptr()] = name
        stored[name] = plain
    recipe: Recipe = prepared.config.recipe
    metadata = {
        "format": recipe.weights,
        "codes": "sign-extended",
        "formats": json.dumps(formats),
        "recipe": json.dumps(recipe.as_dict()),
    }
    save_weights(folder / WEIGHTS, stored, metadata)


def _plot_distributions(prepared: Prepared, loss: Callable[[Tensor, Tensor], Tensor], folder: Path) -> None:
    recipe = prepared.config.recipe
    found = magnitudes(prepared.model, loss, *few_samples(prepared.source, _FIGURE_SAMPLES))
    names = {name: getattr(recipe, name) for name in ("weights", "activations", "gradients")}
    known = {name: fmt for name, fmt in names.items() if recipe.is_posit or fmt == "float32"}
    plot_distributions(found, known, folder / DISTRIBUTIONS)
