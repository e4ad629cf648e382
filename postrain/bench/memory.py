"""What saving memory costs: a training step of each mode beside the same step with everything stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import posit
from postrain._train import digest, rounded
from postrain.bench.contest import Contest, Measured, Peer, Row, compete, set_threads
from postrain.bench.numbers_machine import machine
from postrain.convert import convert
from postrain.errors import MeasurementError
from postrain.memory.families import stack
from postrain.memory.networks import Workload
from postrain.modes import Settings, stepper
from postrain.optim import SGD
from postrain.options import Progress
from postrain.recipe import Recipe

_FORMAT, _PROVED = "posit16", 2  # steps
FUSED, CHECKPOINTED, REVERSIBLE = 1.2, 1.5, 1.8  #: times the time of `reverse`: what was promised


@dataclass(frozen=True)
class Network:
    """A residual stack and a batch for it; the data are random: times do not depend on what is learnt."""

    family: str
    depth: int
    width: int
    batch: int
    micro_batch: int

    @property
    def name(self) -> str:
        """How it is called in the table."""
        return f"{self.family} {self.depth} × {self.width}, batch {self.batch}"

    def step(self, mode: str, form: str = "reversible", micro_batch: int | None = None) -> "_Steps":
        """A new model in a mode; in modes that store activations, the stack stores them as other modules do."""
        return _Steps(stack(self.family, self.depth, self.width, self.batch, 0, form), mode, micro_batch)


class _Steps:
    """A model in posit16, its optimizer and one batch."""

    def __init__(self, work: Workload, mode: str, micro_batch: int | None) -> None:
        recipe = Recipe(_FORMAT)
        model: Any = convert(work.model, recipe)
        if mode != "reversible" and hasattr(model, "stack"):
            model.stack.store = True
        self.model, self.loss, self.sums = model, work.loss, micro_batch is not None
        self.x, self.y = rounded(work.inputs, recipe), work.targets
        self.samples, self.number = torch.arange(len(self.x)), 0
        optimizer = SGD(model.named_parameters(), lr=2.0**-6, momentum=0.9)
        self.step = stepper(mode, model, self._loss, optimizer, Settings(micro_batch=micro_batch))

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        options: Any = {"reduction": "sum"} if self.sums else {}
        loss: Tensor = self.loss(outputs, targets, **options)
        return loss

    def __call__(self, threads: int) -> None:
        self.number += 1
        self.step(self.number, self.samples, self.x, self.y, count=False)


@dataclass(frozen=True)
class _Pairing:
    """A mode, the mode whose bits it must have, and those that it is timed beside."""

    name: str
    ours: Callable[[], _Steps]
    same: Callable[[], _Steps]
    beside: tuple[tuple[str, Callable[[], _Steps], float | None], ...]


def networks() -> Iterator[Network]:
    """What is timed."""
    yield Network("mlp", depth=8, width=128, batch=512, micro_batch=128)
    yield Network("mlp", depth=4, width=512, batch=1024, micro_batch=256)
    yield Network("cnn", depth=8, width=32, batch=64, micro_batch=16)
    yield Network("transformer", depth=4, width=64, batch=16, micro_batch=4)


def measure_memory(repeats: int, progress: Progress, only: str = "") -> Measured:
    """Time a training step of each mode beside one of `reverse`; that their weights are the same is proved before.

    Args:
        repeats: Turns of each contestant.
        progress: Told of every turn.
        only: Networks whose name holds this text; by default all.

    Raises:
        MeasurementError: two steps of a mode did not end in the bits that they should.
    """
    before = posit.get_num_threads(), torch.get_num_threads()
    rows: list[Row] = []
    try:
        for network in networks():
            if only.lower() not in network.name.lower():
                continue
            for pairing in _pairings(network):
                set_threads(2)
                _prove(network, pairing)
                peers = tuple(Peer(name, make(), "time", target) for name, make, target in pairing.beside)
                contest = Contest(f"{network.name}: {pairing.name}", pairing.ours(), peers, 1, "ms")
                rows += compete(contest, repeats, progress, set_threads)
    finally:
        posit.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    return Measured(machine() | {"torch": str(torch.__version__)}, repeats, rows)


def _pairings(network: Network) -> Iterator[_Pairing]:
    """Fused, reversible and checkpointed; a checkpoint needs ordinary modules, and has their `reverse` beside it."""

    def stored() -> _Steps:
        return network.step("reverse")

    def plain() -> _Steps:
        return network.step("reverse", "plain")

    def accumulated() -> _Steps:
        return network.step("accumulate", micro_batch=size)

    size = network.micro_batch
    yield _Pairing("fused", lambda: network.step("fused"), stored, (("reverse", stored, FUSED),))
    yield _Pairing(
        "reversible", lambda: network.step("reversible"), stored, (("reverse", stored, REVERSIBLE),)
    )
    yield _Pairing(
        f"reversible, micro-batches of {size}",
        lambda: network.step("reversible", micro_batch=size),
        accumulated,
        (("reverse", stored, REVERSIBLE), ("accumulate", accumulated, None)),
    )
    yield _Pairing(
        "checkpointed",
        lambda: network.step("checkpointed", "plain"),
        plain,
        (("reverse", plain, CHECKPOINTED),),
    )


def _prove(network: Network, pairing: _Pairing) -> None:
    ends = []
    for make in (pairing.ours, pairing.same):
        steps = make()
        for _ in range(_PROVED):
            steps(1)
        ends.append(digest(steps.model))
    if ends[0] != ends[1]:
        raise MeasurementError(
            f"{network.name}: {_PROVED} steps of {pairing.name} ended in other weights than those with everything "
            "stored"
        )


def legend(measured: Measured) -> str:
    """What the columns mean."""
    return (
        "A step is forward, backward and update (SGD with momentum, posit16) of one batch of a residual stack (blocks "
        f"× width); best and median of {measured.repeats} turns in one process. 'time' is ours over the peer's. "
        "Threads are posit's and torch's. Before it is timed, two steps are proved to end in the same bits as those "
        "of 'reverse' with every activation stored (with micro-batches: of 'accumulate', whose sums over the batch are "
        "exact)."
    )
