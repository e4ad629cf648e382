"""What `postrain train` is asked to do: a TOML file, read and checked field by field.

Sections: ``data``, ``model``, ``recipe``, ``optimizer``, ``schedule`` and ``train``; only ``data``, ``model`` and the
length of training (``train.epochs`` or ``train.iterations``) have no default.  A field that nothing reads is an error
that names it and the fields there are.
"""

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from postrain import models
from postrain.errors import OptionsError
from postrain.loop import Plan
from postrain.recipe import Recipe
from postrain.schedules import SCHEDULES

Table = Mapping[str, Any]

#: networks by name, and what follows from the data and the seed
MODELS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "mlp": (models.mlp, ("shape", "classes")),
    "lenet5": (models.LeNet5, ("classes",)),
    "cnn": (models.cnn, ("shape", "classes")),
    "transformer": (models.CharTransformer, ("symbols", "context")),
    "lstm": (models.CharLSTM, ("symbols",)),
    "local-mlp": (models.local_mlp, ("shape", "classes")),
    "vector-pairs": (models.VectorPairs, ("dimensions", "seed")),
    "reversible-mlp": (models.reversible_mlp, ("shape", "classes")),
    "reversible-cnn": (models.reversible_cnn, ("shape", "classes")),
    "reversible-transformer": (models.reversible_transformer, ("symbols", "context")),
}
TEXT_MODELS = ("transformer", "lstm", "reversible-transformer")
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adafactor": "Adafactor", "lion": "Lion"}
VECTOR_MODELS = ("vector-pairs",)
IMAGES = ("digits", "fashion-mnist", "mnist", "npz")
TEXTS = ("tinyshakespeare", "text")
VECTORS = ("o5-regression",)  #: drawn, not read
_SECTIONS = ("data", "model", "recipe", "optimizer", "schedule", "train")


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Where the data come from.

    Raises:
        OptionsError: the name is unknown, or a value is out of range.
    """

    name: str  #: see `IMAGES`, `TEXTS` and `VECTORS`
    dir: Path | None = None  #: folder of fashion-mnist, mnist and tinyshakespeare
    path: Path | None = None  #: file of npz and text
    normalise: tuple[float, float] | None = None  #: mean and standard deviation: subtracted, then divided by
    train_limit: int | None = None  #: use the first ones only
    test_limit: int | None = None
    context: int = 64  #: characters in a sample of a text

    def __post_init__(self) -> None:
        if self.name not in (*IMAGES, *TEXTS, *VECTORS):
            raise OptionsError(
                f"unknown data.name {self.name!r}; choose one of {', '.join((*IMAGES, *TEXTS, *VECTORS))}"
            )
        if self.name in ("npz", "text") and self.path is None:
            raise OptionsError(f"data.name {self.name!r} needs data.path, the file to read")
        for name in ("train_limit", "test_limit", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(f"data.{name} must be at least 1, got {value}")
        if self.normalise is not None and (len(self.normalise) != 2 or not self.normalise[1] > 0):
            raise OptionsError("data.normalise must be a mean and a positive standard deviation")

    @property
    def is_text(self) -> bool:
        """Whether samples are stretches of a text."""
        return self.name in TEXTS

    @property
    def is_vectors(self) -> bool:
        """Whether samples are vectors, and targets numbers."""
        return self.name in VECTORS


@dataclass(frozen=True)
class Config:
    """A run of `postrain train`, checked."""

    data: DataOptions
    model: str
    model_options: dict[str, Any]
    recipe: Recipe
    optimizer: str
    optimizer_options: dict[str, Any]
    schedule: str
    schedule_options: dict[str, Any]
    plan: Plan

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with, besides recipe and data: network, optimizer and schedule."""
        return {
            "model": {"name": self.model, **self.model_options},
            "optimizer": {"name": self.optimizer, **self.optimizer_options},
            "schedule": {"name": self.schedule, **self.schedule_options},
        }


def read(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a configuration file; paths in it are relative to its folder.

    Args:
        path: A TOML file.
        settings: Fields that are to have other values than in the file, as ``section.field=value``.

    Raises:
        OptionsError: the file is missing or no TOML, or a field is unknown or out of range.
        RecipeError: the recipe cannot be used.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"cannot read the configuration {path} ({error}); check the path") from error
    try:
        return parse(text, Path(path).parent, settings)
    except tomllib.TOMLDecodeError as error:
        raise OptionsError(f"{path} is no TOML: {error}") from error


def with_data_dir(path: Path, data_dir: Path | None, settings: Sequence[str] = ()) -> Config:
    """A configuration file, its data in another folder where one is named."""
    config = read(path, settings)
    if data_dir is None:
        return config
    return replace(config, data=replace(config.data, dir=data_dir))


def parse(text: str, folder: Path = Path(), settings: Sequence[str] = ()) -> Config:
    r"""A configuration from TOML text; see `read`.

    >>> config = parse('[data]\nname = "digits"\n[model]\nname = "mlp"\n[train]\nepochs = 3')
    >>> config.recipe.weights, config.optimizer, config.plan.epochs
    ('posit16', 'sgd', 3)
    """
    tables = tomllib.loads(text)
    known("section", tables, _SECTIONS)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise OptionsError(f"{name} must be a section: write [{name}] and its fields below")
    for setting in settings:
        _set(tables, setting)
    for name, example in (("data", "digits"), ("model", "mlp")):
        if "name" not in tables.get(name, {}):
            raise OptionsError(f'the section [{name}] needs a name, e.g. name = "{example}"')
    data = _data(tables["data"], folder)
    model, model_options = _model(tables["model"], data)
    optimizer, optimizer_options = _optimizer(tables.get("optimizer", {}))
    schedule, schedule_options = _chosen("schedule", tables.get("schedule", {}), SCHEDULES, "constant", 1)
    return Config(
        data,
        model,
        model_options,
        _recipe(tables.get("recipe", {})),
        optimizer,
        optimizer_options,
        schedule,
        schedule_options,
        _plan(tables.get("train", {})),
    )


def _set(tables: dict[str, Any], setting: str) -> None:
    """Put ``section.field=value`` into the tables; a value that is no TOML is a text."""
    names, equals, value = setting.partition("=")
    section, dot, name = names.strip().partition(".")
    if not (equals and dot and name):
        raise OptionsError(f"a setting is written section.field=value, got {setting!r}")
    known("section", [section], _SECTIONS)
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    tables.setdefault(section, {})[name] = parsed


def known(what: str, given: Any, names: Any) -> None:
    """Refuse names that are not among those there are.

    Raises:
        OptionsError: naming the first such and what there is.
    """
    for name in given:
        if name not in names:
            raise OptionsError(f"unknown {what} {name!r}; there are {', '.join(names)}")


def _data(table: Table, folder: Path) -> DataOptions:
    names = [field.name for field in fields(DataOptions)]
    known("field of [data]", table, names)
    values = dict(table)
    for name, types in (("train_limit", int), ("test_limit", int), ("context", int), ("name", str)):
        _typed("data", name, values, types)
    for name in ("dir", "path"):
        if name in values:
            _typed("data", name, values, str)
            values[name] = folder / Path(values[name]).expanduser()
    if "normalise" in values:
        numbers = values["normalise"]
        if not isinstance(numbers, list) or not all(isinstance(each, (int, float)) for each in numbers):
            raise OptionsError("data.normalise must be a mean and a positive standard deviation")
        values["normalise"] = tuple(float(each) for each in numbers)
    return DataOptions(**values)


def _model(table: Table, data: DataOptions) -> tuple[str, dict[str, Any]]:
    name = table["name"]
    known("model.name", [name], MODELS)
    wanted = TEXTS if name in TEXT_MODELS else VECTORS if name in VECTOR_MODELS else IMAGES
    if data.name not in wanted:
        raise OptionsError(
            f"the model {name} learns from {', '.join(wanted)}, not from {data.name}; choose another model or data"
        )
    build, given = MODELS[name]
    options = {key: value for key, value in table.items() if key != "name"}
    allowed = [key for key in inspect.signature(build).parameters if key not in given]
    known(f"field of [model] for {name}", options, ("name", *allowed))
    return name, options


def _optimizer(table: Table) -> tuple[str, dict[str, Any]]:
    from postrain import optim

    there = [name for name, kind in OPTIMIZERS.items() if hasattr(optim, kind)]
    name = table.get("name", "sgd")
    known("optimizer.name", [name], there)
    options = {key: value for key, value in table.items() if key != "name"}
    signature = inspect.signature(getattr(optim, OPTIMIZERS[name]).__init__).parameters
    allowed = [key for key in signature if key not in ("self", "params", "options")]
    known(f"field of [optimizer] for {name}", options, ("name", *allowed))
    if "lr" in signature and signature["lr"].default is inspect.Parameter.empty and "lr" not in options:
        options["lr"] = 0.05
    return name, {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def _chosen(
    section: str, table: Table, among: Mapping[str, Callable[..., Any]], default: str, given: int
) -> tuple[str, dict[str, Any]]:
    """Name and options of a function that takes `given` arguments of ours first."""
    name = table.get("name", default)
    known(f"{section}.name", [name], among)
    options = {key: value for key, value in table.items() if key != "name"}
    allowed = list(inspect.signature(among[name]).parameters)[given:]
    known(f"field of [{section}] for {name}", options, ("name", *allowed))
    for key, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OptionsError(f"{section}.{key} must be a number, got {value!r}")
    return name, options


def _recipe(table: Table) -> Recipe:
    """A ready-made recipe by ``name``, one by its fields, or the former with fields changed."""
    return Recipe.from_dict(table if "name" in table else {"weights": "posit16", **table})


_PLAN_TYPES = {"clip": (int, float), "epsilon": (int, float), "on_nar": str, "mode": str}


def _plan(table: Table) -> Plan:
    names = [field.name for field in fields(Plan)]
    known("field of [train]", table, names)
    values = dict(table)
    for name in names:
        _typed("train", name, values, _PLAN_TYPES.get(name, int))
    return Plan(**values)


def _typed(section: str, name: str, values: dict[str, Any], types: Any) -> None:
    if name in values and (isinstance(values[name], bool) or not isinstance(values[name], types)):
        wanted = {int: "a whole number", str: "a text"}.get(types, "a number")
        raise OptionsError(f"{section}.{name} must be {wanted}, got {values[name]!r}")
