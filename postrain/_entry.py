"""`postrain.train`: convert a network and train it on data in memory, in one call."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from postrain import optim
from postrain._train import rounded
from postrain.convert import convert
from postrain.feeds import Samples
from postrain.loop import Fitted, Plan, fit
from postrain.options import Progress
from postrain.recipe import Recipe

if TYPE_CHECKING:
    from postrain.distributed.team import Team

Make = Callable[[Iterable[Any]], torch.optim.Optimizer]


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    recipe: Recipe | str = "posit16",
    mode: str = "reverse",
    loss: Callable[..., Tensor] = functional.cross_entropy,
    optimizer: Make | None = None,
    progress: Progress | None = None,
    team: "Team | None" = None,
    **plan: Any,
) -> Fitted:
    """Convert a model to a recipe's formats and train it, both in place.

    Args:
        model: Any module whose operators have rules; see `postrain.convert`.
        x: Inputs, one sample a row.
        y: Targets, one a row.
        recipe: Formats, or the name of a recipe.
        mode: What is stored and when parameters are updated: one of `postrain.modes.MODES`.
        loss: Called with outputs, targets and ``reduction="mean"`` (``"sum"`` with micro-batches).
        optimizer: Makes one from named parameters; by default SGD with learning rate 0.05 and momentum 0.9, as the
            recipe holds it.
        progress: Told of every step.
        team: The ranks that train together, from `postrain.distributed.joined` or `current`; all of them call this
            with the same arguments and get rank 0's weights to begin with.  The number of ranks changes no bit; that of
            one rank is also the arithmetic of one process with ``micro_batch``.
        plan: Fields of `postrain.loop.Plan`: epochs or iterations, batch, micro_batch, seed, ….

    Returns:
        Losses of all steps.

    Raises:
        ModeError: the mode needs something that the model or the optimizer does not have, or cannot train on several
            workers.
        RecipeError, WorkerError: the ranks differ in data, model, plan or code; one failed or was lost.
        OptionsError: a field of the plan is out of range.
        NaRError: training met a NaR.

    >>> from postrain.models import reversible_mlp
    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> fitted = train(reversible_mlp((4,), 2, width=8, depth=2), x, (x[:, 0] > 0).long(),
    ...                mode="reversible", epochs=2, batch=4, micro_batch=2)
    >>> fitted.steps
    4
    """
    formats = Recipe.named(recipe) if isinstance(recipe, str) else recipe
    planned = Plan(mode=mode, **plan)
    if team is not None:
        from postrain.distributed.training import canonical

        planned = canonical(planned)
    convert(model, formats)
    if optimizer is not None:
        made = optimizer(model.named_parameters() if formats.is_posit else model.parameters())
    elif formats.is_posit:
        made = optim.SGD(model.named_parameters(), lr=0.05, momentum=0.9, **optim.options(formats))
    else:
        made = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    reduction = "mean" if planned.micro_batch is None else "sum"

    def reduced(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs, targets, reduction=reduction)

    data, workers = Samples(rounded(x, formats), rounded(y, formats)), None
    if team is not None:
        from postrain.distributed.training import joining

        workers = joining(team, model, data, planned)
    return fit(
        model,
        data,
        reduced,
        made,
        planned,
        progress=progress,
        loss_scale=formats.loss_scale,
        workers=workers,
    )
