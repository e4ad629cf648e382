"""`postrain compare`: the same networks in float32 and in posits, with proofs, memory and geometry."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

import ga
from ga.testing import equivariance_error, random_orthogonal
from posit import Format
from posit.torch import PositTensor, posit_tensor
from postrain import __version__
from postrain._train import Trained, threads, train, values
from postrain.bench.step import step_times
from postrain.data import load
from postrain.exactness import Watcher
from postrain.files import prepare_output
from postrain.memory import footprint
from postrain.memory.networks import case_for
from postrain.options import CompareOptions, Progress
from postrain.recipe import FLOAT32, Recipe
from postrain.report.schema import (
    ONE_THREAD,
    PERMUTED,
    VERSION,
    Environment,
    Equivariance,
    Exactness,
    Geometry,
    Grades,
    Model,
    Repeat,
    Results,
    Run,
)
from postrain.tasks import Task, classification, volumes

_TRANSFORMATIONS = 16
_GEOMETRY_EPOCHS = 3
EQUIVARIANCE = (
    "largest |f(Qx) - det(Q) f(x)| over the largest |f(x)|, on the first 256 test samples, "
    f"over {_TRANSFORMATIONS} random orthogonal Q; inputs are rounded to the model's format after turning"
)


@dataclass
class _Work:
    """What a run has gathered so far."""

    options: CompareOptions
    out: Path
    progress: Progress
    models: list[Model]
    watchers: list[Watcher]
    repeats: list[Repeat]
    equivariance: list[Equivariance]
    grades: list[Grades]


def compare(options: CompareOptions, progress: Progress) -> Results:
    """Train an MLP and a geometric network in float32 and in a posit format, and measure what differs.

    Raises:
        posit.errors.FormatError: unknown format.
        DataError: the data cannot be read.
        OutputError: `options.out` cannot be written to.
        NaRError: a NaR appeared in training.
    """
    started, clock = datetime.now(UTC), perf_counter()
    fmt = Format.parse(options.format)
    recipe = Recipe(fmt.name)
    data = load(options.data, options.data_dir)
    work = _Work(options, prepare_output(options.out), progress, [], [], [], [], [])
    tasks = [classification(data, options.epochs), volumes(options.seed, _GEOMETRY_EPOCHS)]
    for task in tasks:
        for each in (Recipe(FLOAT32), recipe):
            _train_and_measure(work, task, each)
    times = step_times(recipe, progress)
    return Results(
        schema=VERSION,
        run=Run(
            options.data,
            fmt.name,
            options.epochs,
            options.seed,
            started.isoformat(timespec="seconds"),
            perf_counter() - clock,
        ),
        environment=environment(),
        models=work.models,
        exactness=Exactness(
            format=fmt.name,
            steps=sorted(set().union(*(watcher.steps for watcher in work.watchers))),
            seed=options.seed,
            fallback_cap=work.watchers[0].fallback_cap,
            rows=[row for watcher in work.watchers for row in watcher.rows()],
        ),
        repeats=work.repeats,
        geometry=Geometry(EQUIVARIANCE, work.equivariance, work.grades),
        step_times=times,
    )


def _train_and_measure(work: _Work, task: Task, recipe: Recipe) -> None:
    seed, label = work.options.seed, f"{task.model} {recipe.weights}"
    settings = task.hyperparameters
    steps = settings.epochs * -(-len(task.y_train) // settings.batch)
    watcher = Watcher(task.model, frozenset({1, (steps + 1) // 2, steps}), seed)
    weights = (
        work.out / f"{task.model}-{recipe.weights.strip('>').replace('<', '_').replace(',', '_')}.safetensors"
    )
    trained = train(
        task,
        recipe,
        seed,
        watch=watcher if recipe.is_posit else None,
        checkpoint=weights,
        progress=work.progress,
        stage=f"train {label}",
    )
    if recipe.is_posit:
        work.watchers.append(watcher)
    for variation in (PERMUTED, ONE_THREAD):
        work.repeats.append(_repeat(work, task, recipe, trained, variation))
    work.models.append(_model(work, task, recipe, trained, weights.name))
    if task.model == "ga":
        work.equivariance.append(_equivariance(task, recipe, seed, trained.model))
        work.grades.extend(_grades(task, recipe, trained.model))


def _repeat(work: _Work, task: Task, recipe: Recipe, trained: Trained, variation: str) -> Repeat:
    count = 1 if variation == ONE_THREAD else torch.get_num_threads()
    with threads(count):
        again = train(
            task,
            recipe,
            work.options.seed,
            permute=variation == PERMUTED,
            progress=work.progress,
            stage=f"again {task.model} {recipe.weights}, {variation}",
        )
    before, after = values(trained.model), values(again.model)
    difference = max(float((before[name] - after[name]).abs().max()) for name in before)
    return Repeat(task.model, recipe.weights, variation, count, trained.sha256, again.sha256, difference)


def _model(work: _Work, task: Task, recipe: Recipe, trained: Trained, weights_file: str) -> Model:
    settings = task.hyperparameters
    stage = f"memory {task.model} {recipe.weights}"
    work.progress.start(stage, 1)
    found = footprint(case_for(task, recipe.weights, work.options.seed))
    work.progress.advance(stage)
    return Model(
        model=task.model,
        arithmetic=recipe.weights,
        task=task.name,
        network=task.network,
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        recipe={
            "optimizer": "SGD",
            "learning rate": str(settings.learning_rate),
            "momentum": str(settings.momentum),
            "batch": str(settings.batch),
            **recipe.as_dict(),
        },
        loss_name=task.loss_name,
        score_name=task.score_name,
        initial_score=trained.initial_score,
        step_losses=trained.step_losses,
        epochs=trained.epochs,
        batch=settings.batch,
        inference=found.inference,
        training=found.training,
        weights_file=weights_file,
        weights_sha256=trained.sha256,
    )


def _equivariance(task: Task, recipe: Recipe, seed: int, trained: nn.Module) -> Equivariance:
    from postrain.convert import convert

    untrained = convert(task.build(seed), recipe)
    before, after = (_equivariance_error(task, recipe, model) for model in (untrained, trained))
    return Equivariance(task.model, recipe.weights, before, after, _TRANSFORMATIONS)


def _equivariance_error(task: Task, recipe: Recipe, model: nn.Module) -> float:
    algebra = ga.VGA3
    generator = torch.Generator().manual_seed(0)
    points = algebra.multivector(task.x_test[:256].double(), grades=1)

    def run(x: ga.Multivector) -> ga.Multivector:
        inputs = x.coefficients.float()
        with torch.no_grad():
            outputs = model(posit_tensor(inputs, recipe.activations) if recipe.is_posit else inputs)
        real = outputs.to_float(torch.float64) if isinstance(outputs, PositTensor) else outputs.double()
        return algebra.multivector(real[:, None], grades=3)

    matrices = [random_orthogonal(algebra, generator) for _ in range(_TRANSFORMATIONS)]
    return max(equivariance_error(run, points, matrix) for matrix in matrices)


def _grades(task: Task, recipe: Recipe, model: nn.Module) -> list[Grades]:
    """The declared grades of each weight beside those it has storage for; `check_grades` raises where they differ."""
    found = []
    for record in ga.check_grades(model):
        grades = sorted({grade for path in record.paths for grade in path})
        found.append(Grades(task.model, recipe.weights, record.name, grades, grades))
    return found


def environment() -> Environment:
    """Versions and machine of this run."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "numba", "torch")}
    return Environment(
        versions={"postrain": __version__, "python": platform.python_version(), **versions},
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
