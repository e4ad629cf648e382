"""From a configuration to what trains: data, network, optimizer and schedule, ready for `postrain.loop.fit`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ga.tasks.regression import o5_regression
from posit.torch import PositTensor, posit_tensor
from postrain.config import MODELS, OPTIMIZERS, Config, DataOptions
from postrain.convert import convert
from postrain.data import load
from postrain.data.arrays import load_arrays
from postrain.data.text import Text, load_text, load_tinyshakespeare
from postrain.errors import OptionsError
from postrain.feeds import Feed, Samples, Windows, digest
from postrain.models import CharTransformer, initialise
from postrain.recipe import Recipe
from postrain.schedules import SCHEDULES, Length

_CHUNK = 500  #: samples of an evaluation that go through the network together
_VECTORS, _TEST_VECTORS = 4096, 1000
_TEST_CHARACTERS = 2**16  #: of a text that are evaluated


@dataclass(frozen=True, eq=False)
class Source:
    """Data, and what a network must know of them."""

    train: Feed
    test: Feed
    test_order: tuple[Tensor, ...]  #: test samples in the parts in which they are evaluated
    sizes: dict[str, Any]  #: of a network's arguments: shape and classes, symbols and context, or dimensions
    digest: str  #: of the training data


@dataclass(frozen=True, eq=False)
class Prepared:
    """What `fit` is given."""

    config: Config
    source: Source
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any

    @property
    def metadata(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "recipe": self.config.recipe.as_dict(),
            "data": self.source.digest,
            "config": self.config.identity(),
        }

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Mean cross-entropy and accuracy on the test data, computed in float64 from the model's outputs.

        Where targets are numbers: the mean squared error.
        """
        parts = range(len(self.source.test_order))
        return self.scores([self.evaluate_part(model, part) for part in parts])

    def evaluate_part(self, model: nn.Module, part: int) -> tuple[float, int, int]:
        """Loss, right answers (of numbers none) and targets of one part of the test data."""
        x, y = self.source.test.take(self.source.test_order[part])
        real, y = _real(model(x)), _real(y)
        if self.config.data.is_vectors:
            return float(((real - y) ** 2).sum()), 0, y.numel()
        flat, targets = real.reshape(-1, real.shape[-1]), y.reshape(-1)
        loss = float(functional.cross_entropy(flat, targets, reduction="sum"))
        return loss, int((flat.argmax(dim=1) == targets).sum()), targets.numel()

    def scores(self, parts: Sequence[tuple[float, int, int]]) -> dict[str, float]:
        """Means over all parts, which are added in their order."""
        loss = 0.0
        for each, _, _ in parts:
            loss += each
        count = sum(count for _, _, count in parts)
        if self.config.data.is_vectors:
            return {"loss": loss / count}
        return {"loss": loss / count, "accuracy": sum(right for _, right, _ in parts) / count}


def prepare(config: Config) -> Prepared:
    """Load the data, draw the first weights, convert the network, make optimizer and schedule.

    Raises:
        DataError: the data are missing, damaged or empty, or hold labels out of range.
        OptionsError: an option of the network or the optimizer is out of range.
    """
    source = _source(config.data, config.recipe)
    model = convert(build_model(config, source), config.recipe)
    optimizer = _optimizer(config, model)
    plan = config.plan
    length = Length(plan.steps(len(source.train)), plan.per_epoch(len(source.train)))
    factor = SCHEDULES[config.schedule](length, **config.schedule_options)
    return Prepared(config, source, model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor))


def build_model(config: Config, source: Source) -> nn.Module:
    """The float32 network with its first weights."""
    build, given = MODELS[config.model]
    with torch.random.fork_rng(devices=[]):
        try:
            sizes = {**source.sizes, "seed": config.plan.seed}
            model = build(**{name: sizes[name] for name in given}, **config.model_options)
        except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError) as error:
            raise OptionsError(f"the model {config.model} cannot be built: {error}") from error
    if config.model == "lenet5" and source.sizes["shape"] != (1, 28, 28):
        raise OptionsError(
            f"lenet5 takes images of 28×28, {config.data.name} has {source.sizes['shape'][1:]}; use cnn or mlp"
        )
    transformer = isinstance(model, CharTransformer)
    initialise(model, config.plan.seed, deviation=0.02 if transformer else None)
    if isinstance(model, CharTransformer):
        model.scale_residuals()
    return model


def loss_of(reduction: str, data: DataOptions | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of scores of shape (..., classes) with targets of shape (...); squared errors of numbers."""
    if data is not None and data.is_vectors:
        return partial(functional.mse_loss, reduction=reduction)

    def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.ndim > 2:
            outputs, targets = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        return functional.cross_entropy(outputs, targets, reduction=reduction)

    return cross_entropy


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    from postrain import optim

    kind, recipe = OPTIMIZERS[config.optimizer], config.recipe
    try:
        if not recipe.is_posit:
            plain = getattr(torch.optim, kind, None) or getattr(optim, kind)
            made: torch.optim.Optimizer = plain(model.parameters(), **config.optimizer_options)
            return made
        made = getattr(optim, kind)(
            model.named_parameters(),
            **config.optimizer_options,
            **optim.options(recipe),
            seed=config.plan.seed,
        )
    except TypeError as error:
        raise OptionsError(f"the optimizer {config.optimizer} cannot be made: {error}") from error
    return made


def _source(options: DataOptions, recipe: Recipe) -> Source:
    if options.is_vectors:
        return _vectors(options, recipe)
    return _text(options) if options.is_text else _images(options, recipe)


def _vectors(options: DataOptions, recipe: Recipe) -> Source:
    """Pairs of vectors with an invariant function of them, drawn; the same for every seed of a training."""
    generator = torch.Generator().manual_seed(0)
    train, test = (
        Samples(*(_rounded(part, recipe) for part in o5_regression(count, generator)))
        for count in (options.train_limit or _VECTORS, options.test_limit or _TEST_VECTORS)
    )
    parts = torch.arange(len(test)).split(_CHUNK)
    return Source(train, test, parts, {"dimensions": train.x.shape[-1]}, digest(train.x, train.y))


def _text(options: DataOptions) -> Source:
    if options.path is not None and options.name == "text":
        text: Text = load_text(options.path)
    else:
        text = load_tinyshakespeare(options.dir)
    symbols = torch.from_numpy(text.train[: options.train_limit])
    train = Windows(symbols, options.context)
    test = Windows(torch.from_numpy(text.test[: options.test_limit]), options.context)
    starts = torch.cat(list(test.in_a_row(max(_TEST_CHARACTERS // options.context, 1))))
    sizes = {"symbols": len(text.symbols), "context": options.context}
    return Source(train, test, starts.split(max(_CHUNK // 8, 1)), sizes, digest(symbols))


def _images(options: DataOptions, recipe: Recipe) -> Source:
    data = (
        load_arrays(options.path)
        if options.name == "npz" and options.path
        else load(options.name, options.dir)
    )
    shape = tuple(data.shape) if len(data.shape) == 3 else (1, *data.shape)
    feeds = []
    for x, y, limit in (
        (data.x_train, data.y_train, options.train_limit),
        (data.x_test, data.y_test, options.test_limit),
    ):
        real = x[:limit].reshape(-1, *shape)
        if options.normalise is not None:
            mean, deviation = options.normalise
            real = ((real.astype(np.float64) - mean) / deviation).astype(np.float32)
        feeds.append(Samples(_rounded(torch.from_numpy(real), recipe), torch.from_numpy(y[:limit])))
    train, test = feeds
    parts = torch.arange(len(test)).split(_CHUNK)
    return Source(train, test, parts, {"shape": shape, "classes": data.classes}, digest(train.x, train.y))


def _rounded(x: Tensor, recipe: Recipe) -> Tensor:
    """Inputs in the format of activations, once and for all."""
    return posit_tensor(x, recipe.activations) if recipe.is_posit else x


def _real(x: Tensor) -> Tensor:
    """Values of posits or floats as float64; labels stay as they are."""
    if isinstance(x, PositTensor):
        return x.to_float(torch.float64)
    return x.double() if x.is_floating_point() else x


def few_samples(source: Source, count: int) -> tuple[Tensor, Tensor]:
    """The first training samples."""
    return source.train.take(torch.arange(min(count, len(source.train))))


def without_model(config: Config) -> tuple[Source, nn.Module]:
    """Data and the float32 network only."""
    plain = replace(config, recipe=Recipe("float32"))
    source = _source(plain.data, plain.recipe)
    return source, build_model(plain, source)
