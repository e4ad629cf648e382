"""A training loop that can be killed at any moment and goes on to the same bits: `fit`, and the `Plan` it follows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from postrain import checkpoint
from postrain._step import StepResult
from postrain._train import batches, threads
from postrain.errors import OptionsError, RecipeError
from postrain.feeds import Feed
from postrain.logs import RunLog
from postrain.modes import MODES, Settings, Stepper, stepper
from postrain.options import NoProgress, Progress
from postrain.snapshot import Generators, capture, restore

if TYPE_CHECKING:
    from postrain.distributed.workers import Workers

STAGE = "training"
_MODE = ("mode", "tangents", "epsilon")  #: written to checkpoints only where another was chosen
_SINGLE = {"statistics_every": 0, "seed": 0}  #: the least value of whole numbers; of others 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train, in which batches, and what to do between steps.

    Raises:
        OptionsError: a value is out of range, or neither or both of `epochs` and `iterations` are given.

    >>> Plan(epochs=2, batch=64).steps(samples=100)
    4
    """

    seed: int = 0  #: the order of the samples follows from it, and dropout
    epochs: int | None = None  #: passes over the data,
    iterations: int | None = None  #: or steps
    batch: int = 64  #: samples a step
    micro_batch: int | None = None  #: samples a backward pass; gradients are summed exactly over the batch
    mode: str = "reverse"  #: one of `postrain.modes.MODES`
    tangents: int = 1  #: random directions a step, of modes that draw them
    epsilon: float = 2.0**-7  #: how far mode `zeroth` moves the weights
    evaluate_every: int | None = None  #: steps; once an epoch if epochs are given, else ten times in all
    checkpoint_every: int | None = None  #: steps; as often as evaluations
    keep: int = 2  #: checkpoints
    statistics_every: int = 10  #: steps between counts of lost updates, saturations and NaR; 0 is never
    clip: float | None = None  #: largest norm of the gradient
    on_nar: str = "stop"  #: or ``"skip"``: leave the step out and count it
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value in ((name, getattr(self, name)) for name in self.__slots__):
            least = _SINGLE.get(name, 1)
            if isinstance(value, int) and value < least:
                raise OptionsError(f"{name} must be at least {least}, got {value}")
        if (self.epochs is None) == (self.iterations is None):
            raise OptionsError("a plan needs either epochs or iterations; give one of them")
        if self.on_nar not in ("stop", "skip"):
            raise OptionsError(f"on_nar must be 'stop' or 'skip', got {self.on_nar!r}")
        if self.mode not in MODES:
            raise OptionsError(f"unknown mode {self.mode!r}; there are {', '.join(MODES)}")
        if not self.epsilon > 0:
            raise OptionsError(f"epsilon must be positive, got {self.epsilon}")
        if self.clip is not None and not self.clip > 0:
            raise OptionsError(f"clip must be positive, got {self.clip}")
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise OptionsError(f"micro_batch {self.micro_batch} is larger than batch {self.batch}")

    def per_epoch(self, samples: int) -> int:
        """Steps in one pass over the data."""
        return -(-samples // self.batch)

    def steps(self, samples: int) -> int:
        """Steps in all."""
        return self.iterations or (self.epochs or 0) * self.per_epoch(samples)

    def identity(self) -> dict[str, Any]:
        """What must stay the same when a run goes on, or its bits would not be those of one never stopped."""
        names = ("seed", "batch", "micro_batch", "clip", "on_nar")
        usual = {each.name: each.default for each in fields(self)}
        chosen = [name for name in _MODE if getattr(self, name) != usual[name]]
        return {name: getattr(self, name) for name in (*names, *chosen)}


@dataclass(frozen=True)
class Fitted:
    """What `fit` did in this process."""

    steps: int  #: in all, those before a resume included
    resumed_at: int  #: the step of the checkpoint it began with, 0 for none
    losses: list[float] = field(default_factory=list)  #: of the steps since then
    scores: dict[str, float] = field(default_factory=dict)  #: of the last evaluation


def fit(
    model: nn.Module,
    data: Feed,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    *,
    scheduler: Any = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    folder: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    generators: Generators | None = None,
    callbacks: Sequence[Callable[[StepResult], object]] = (),
    progress: Progress | None = None,
    tensorboard: bool = False,
    loss_scale: float = 1.0,
    workers: "Workers | None" = None,
) -> Fitted:
    """Train a model, in posits or float32, and go on from the last checkpoint in `folder` if there is one.

    The samples of step s follow from (seed, s) alone.  A run killed at any moment and started again ends in the same
    bits as one never stopped, with the same rows in its log (but for the seconds).

    Args:
        model: Trained in place.
        data: Inputs and targets by number; inputs of a posit model must be posits.
        loss: Outputs and targets to the loss.  With ``plan.micro_batch`` it must be the sum over what it is given,
            and the gradient is divided by the number of targets of the whole batch, after the exact sum.
        optimizer: Ours for posits, any of torch's for float32.
        plan: Seed, length, batches.
        scheduler: One of torch's, stepped after every step of the optimizer.
        evaluate: The model in eval mode, without gradients, to scores by name.
        folder: Where checkpoints and logs are kept; without it there are none.
        metadata: Kept in the checkpoints (recipe, data digest, …).  A checkpoint that says otherwise is refused.
        generators: NumPy generators that evaluation or callbacks draw from; saved and put back.
        callbacks: Called after every step.
        progress: Told of every step.
        tensorboard: Also write TensorBoard's files, where it is installed.
        loss_scale: A power of two that losses are multiplied by; the optimizer must divide gradients by it.
        workers: The ranks that train together.  All of them call `fit` with the same arguments, but for `folder`,
            which is rank 0's alone; `loss` must be the sum over what it is given.

    Raises:
        NaRError: a NaR in the loss, an activation or a gradient, with step and name.
        RecipeError: the checkpoint in `folder` is of another recipe, data, seed, model or optimizer.
        DataError: the checkpoint is damaged.

    >>> from postrain.feeds import Samples
    >>> model = nn.Linear(1, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> data = Samples(torch.arange(4.0)[:, None], torch.arange(4.0)[:, None])
    >>> fit(model, data, nn.functional.mse_loss, optimizer, Plan(epochs=3, batch=2)).steps
    6
    """
    settings = Settings(
        plan.micro_batch, plan.clip, plan.on_nar, plan.seed, loss_scale, plan.tangents, plan.epsilon
    )
    run = _Run(
        stepper(plan.mode, model, loss, optimizer, settings, workers),
        data,
        plan,
        scheduler,
        evaluate,
        folder,
        {**(metadata or {}), "run": plan.identity()},
        generators,
        callbacks,
        progress or NoProgress(),
        tensorboard,
        workers,
    )
    with torch.random.fork_rng(devices=[]), threads(plan.threads) if plan.threads else nullcontext():
        torch.manual_seed(plan.seed)  # for modules that draw from torch's own generator
        return run.run()


@dataclass
class _Run:
    """One call of `fit`."""

    step: Stepper
    data: Feed
    plan: Plan
    scheduler: Any
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None
    folder: Path | None
    metadata: dict[str, Any]
    generators: Generators | None
    callbacks: Sequence[Callable[[StepResult], object]]
    progress: Progress
    tensorboard: bool
    workers: "Workers | None"

    def run(self) -> Fitted:
        start, total = self._resume(), self.plan.steps(len(self.data))
        self.progress.start(STAGE, total)
        self.progress.advance(STAGE, start)
        scores: dict[str, float] = {}
        losses: list[float] = []
        log = None if self.folder is None else RunLog(self.folder, start, tensorboard=self.tensorboard)
        with log or nullcontext():
            for number, epoch, indices in self._batches(start, total):
                result = self._one(number, epoch, indices, log)
                losses.append(result.loss)
                if self._due(self.plan.evaluate_every, number, total) and self.evaluate is not None:
                    scores = self._scores(number, epoch, log)
                if self._due(self.plan.checkpoint_every or self.plan.evaluate_every, number, total):
                    self._save(number, epoch, log)
        return Fitted(max(start, total), start, losses, scores)

    def _batches(self, start: int, total: int) -> Iterator[tuple[int, int, Tensor]]:
        """Number (from 1), epoch (from 0) and samples of the steps after `start`."""
        samples, plan = len(self.data), self.plan
        number, per_epoch = start, plan.per_epoch(samples)
        while number < total:
            epoch, done = divmod(number, per_epoch)
            order = batches(samples, plan.batch, plan.seed, epoch, permute=False)
            for indices in islice(order, done, done + total - number):
                number += 1
                yield number, epoch, indices

    def _one(self, number: int, epoch: int, indices: Tensor, log: RunLog | None) -> StepResult:
        started = perf_counter()
        lr = float(self.step.optimizer.param_groups[0]["lr"])
        every = self.plan.statistics_every
        if self.workers is not None:
            indices = self.workers.share(indices)
        x, y = self.data.take(indices)
        result = self.step(number, indices, x, y, count=bool(every) and number % every == 0)
        if self.scheduler is not None:
            self.scheduler.step()
        row = {"step": number, "epoch": epoch, "loss": result.loss, "lr": lr}
        if log is not None:
            log.step({**row, "seconds": round(perf_counter() - started, 6), **result.counts()})
        self.progress.advance(STAGE, loss=result.loss)
        for callback in self.callbacks:
            callback(result)
        return result

    def _scores(self, number: int, epoch: int, log: RunLog | None) -> dict[str, float]:
        assert self.evaluate is not None
        with evaluating(self.step.model):
            scores = dict(self.evaluate(self.step.model))
        if log is not None:
            log.evaluation({"step": number, "epoch": epoch, **scores})
        return scores

    def _due(self, every: int | None, number: int, total: int) -> bool:
        if every is None:
            every = self.plan.per_epoch(len(self.data)) if self.plan.epochs else max(total // 10, 1)
        return number % every == 0 or number == total

    def _save(self, number: int, epoch: int, log: RunLog | None) -> None:
        if self.folder is None or log is None:
            return
        log.sync()  # no checkpoint may be ahead of the log
        state = capture(self.step.model, self.step.optimizer, self.scheduler, self.generators)
        state["position"] = {"seed": self.plan.seed, "epoch": epoch, "step": number}
        path = checkpoint.save_step(self.folder, number, state, self.metadata, self.plan.keep)
        self.progress.saved(path)

    def _resume(self) -> int:
        """Put back the last checkpoint's state, if there is one; the number of steps it has behind it."""
        newest = self._newest()
        if newest is None:
            return 0
        path, found = newest
        require_same(path, found.metadata, self.metadata)
        restore(found.state, self.step.model, self.step.optimizer, self.scheduler, self.generators)
        self.metadata = {**found.metadata, **self.metadata}  # fields that we do not know are kept
        return int(found.state["position"]["step"])

    def _newest(self) -> tuple[Path, checkpoint.Checkpoint] | None:
        if self.workers is not None:
            return self.workers.newest(self.folder)
        if self.folder is None:
            return None
        checkpoint.clean(self.folder)
        path = checkpoint.latest(self.folder)
        return None if path is None else (path, checkpoint.load(path))


class evaluating(AbstractContextManager[None]):  # noqa: N801 (used as a function)
    """A model in eval mode and without gradients, then as it was."""

    def __init__(self, model: nn.Module) -> None:
        self.modes = {module: module.training for module in model.modules()}
        self.model = model
        self.no_grad = torch.no_grad()

    def __enter__(self) -> None:
        self.no_grad.__enter__()
        self.model.eval()

    def __exit__(self, *reason: object) -> None:
        for module, mode in self.modes.items():
            module.training = mode
        self.no_grad.__exit__(*reason)


def require_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose metadata say something else than ours.

    Raises:
        RecipeError: naming the field and both values.
    """
    for name, value in wanted.items():
        there = found.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            for key in sorted({*value, *there}):
                _compare(path, f"{name}.{key}", there.get(key), value.get(key))
        else:
            _compare(path, name, there, value)


def _compare(path: Path, name: str, there: Any, here: Any) -> None:
    if there != here:
        raise RecipeError(
            f"the checkpoint {path} was made with {name} = {there!r}, this run has {here!r}; "
            "go on with the same, or choose another folder with --out"
        )
