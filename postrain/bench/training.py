"""Whole training steps in posits beside the same steps in float32: forward, backward, update."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import posit
from postrain._train import digest, rounded, train_step
from postrain.bench.contest import Contest, Measured, Peer, Row, compete, set_threads
from postrain.bench.numbers_machine import machine
from postrain.bench.training_peers import NumpyMlp, simulated_training
from postrain.convert import convert
from postrain.errors import MeasurementError
from postrain.models import CharTransformer, LeNet5, initialise
from postrain.optim import SGD, AdamW, options
from postrain.options import Progress
from postrain.recipe import Recipe
from postrain.tasks import mlp

_SIZES, _BATCH = (784, 512, 256, 10), 128
_SYMBOLS, _CONTEXT, _SEQUENCES = 65, 64, 12


@dataclass(frozen=True)
class _Network:
    """A network, a batch, and how it is trained; the data are random: times do not depend on what is learnt."""

    name: str
    build: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    adam: bool
    recipes: tuple[tuple[Recipe, float | None], ...]  #: with the time that was promised, times float32's

    def stepper(self, recipe: Recipe) -> "_Stepper":
        return _Stepper(self, recipe)


class _Stepper:
    """A model, its optimizer and one batch in one arithmetic."""

    def __init__(self, network: _Network, recipe: Recipe) -> None:
        self.model = convert(network.build(), recipe)
        self.x, self.y = rounded(network.x, recipe), network.y
        self.optimizer = self._optimizer(network.adam, recipe)

    def _optimizer(self, adam: bool, recipe: Recipe) -> torch.optim.Optimizer:
        if recipe.is_posit:
            ours: Any = AdamW if adam else SGD
            settings = {"lr": 1e-3} if adam else {"lr": 0.05, "momentum": 0.9}
            made: torch.optim.Optimizer = ours(self.model.named_parameters(), **settings, **options(recipe))
            return made
        if adam:
            return torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        return torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def __call__(self, threads: int) -> None:
        train_step(self.model, _loss, self.optimizer, self.x, self.y)


def _loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1))


def measure_training(repeats: int, progress: Progress, only: str = "") -> Measured:
    """Time a training step of each network; that threads change no bit is proved before.

    Args:
        repeats: Turns of each contestant.
        progress: Told of every turn.
        only: Networks whose name holds this text; by default all.

    Raises:
        MeasurementError: two steps on one and on two threads ended in different weights.
    """
    before = posit.get_num_threads(), torch.get_num_threads()
    rows: list[Row] = []
    try:
        for network in networks():
            if only.lower() not in network.name.lower():
                continue
            for recipe, target in network.recipes:
                _prove(network, recipe)
                rows += compete(_contest(network, recipe, target), repeats, progress, set_threads)
    finally:
        posit.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    return Measured(machine() | {"torch": str(torch.__version__)}, repeats, rows)


def networks() -> Iterable[_Network]:
    """What is timed, and in which recipes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_BATCH, _SIZES[0], generator=generator)
    images *= torch.rand(_BATCH, _SIZES[0], generator=generator) < 0.5
    labels = torch.randint(0, _SIZES[-1], (_BATCH,), generator=generator)
    yield _Network(
        "MLP 784-512-256-10, batch 128",
        lambda: mlp(_SIZES, seed=0),
        images,
        labels,
        False,
        (
            (Recipe("posit16"), 2.5),
            (Recipe("posit8"), 2.5),
            (Recipe("posit16", accumulate="float32"), 1.7),
        ),
    )
    yield _Network(
        "LeNet-5, batch 64",
        lambda: initialise(LeNet5(), seed=0),
        torch.randn(64, 1, 28, 28, generator=generator),
        torch.randint(0, 10, (64,), generator=generator),
        False,
        ((Recipe("posit16"), 4.0), (Recipe.named("posit8_master16"), 4.0)),
    )
    text = torch.randint(0, _SYMBOLS, (_SEQUENCES, _CONTEXT + 1), generator=generator)
    yield _Network(
        "transformer 0.8 M, batch 12 × 64",
        lambda: initialise(CharTransformer(_SYMBOLS, context=_CONTEXT), seed=0),
        text[:, :-1].contiguous(),
        text[:, 1:].contiguous(),
        True,
        ((Recipe("posit16"), 4.0),),
    )


def _contest(network: _Network, recipe: Recipe, target: float | None) -> Contest:
    peers = [Peer("torch float32", network.stepper(Recipe.named("ieee_fp32")), "time", target)]
    if network.name.startswith("MLP"):
        peers.append(Peer("NumPy float32", NumpyMlp(network.build(), network.x, network.y), "time", target))
    if network.name.startswith("LeNet") and recipe == Recipe("posit16"):
        theirs = simulated_training(network.build(), _loss, network.x, network.y)
        note = "rounds to posit16, sums in float32" if theirs else "not installed: not measured"
        peers.append(Peer("qtorch-plus, simulated posit16", theirs, "speed", 1.0, note))
    simulated = ", float32 sums" if recipe.accumulate == "float32" else ""
    formats = recipe.weights if recipe.master is None else f"{recipe.weights}, master {recipe.master}"
    name = f"{network.name}: {formats}{simulated}"
    return Contest(name, network.stepper(recipe), tuple(peers), 1, "ms")


def _prove(network: _Network, recipe: Recipe) -> None:
    """Two steps must end in the same bits whatever the number of threads is."""
    if recipe.accumulate == "float32":
        return  # a simulation: float32 sums may depend on it
    ends = []
    for threads in (1, 2):
        set_threads(threads)
        stepper = network.stepper(recipe)
        for _ in range(2):
            stepper(threads)
        ends.append(digest(stepper.model))
    if ends[0] != ends[1]:
        raise MeasurementError(
            f"{network.name} in {recipe.weights}: two steps on 1 and on 2 threads gave different weights"
        )


def legend(measured: Measured) -> str:
    """What the columns mean."""
    return (
        f"A step is forward, backward and update (SGD with momentum; AdamW for the transformer) of one batch; best and "
        f"median of {measured.repeats} turns in one process. 'time' is ours over the peer's. Threads are posit's and "
        "torch's; NumPy's BLAS keeps its own. Before it is timed, two steps on 1 and on 2 threads are proved to end "
        "in the same bits (not where sums are in float32)."
    )
