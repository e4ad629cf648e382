"""Training on several processes beside float32's DistributedDataParallel: time, bits and bytes."""

import json
from dataclasses import dataclass
from statistics import median

from posit._quire_wire import limb_bits
from postrain.bench.numbers_machine import machine
from postrain.distributed.launch import require_success, run_python
from postrain.errors import MeasurementError
from postrain.options import Progress

TARGET = 3.0  #: times float32's step, at most
PAYLOAD = 24  #: bytes of limbs for an element, at most
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Layer:
    """A parameter's gradient on the wire, after training."""

    name: str
    elements: int
    bits: int  #: in use anywhere on any rank
    limbs: int


@dataclass(frozen=True)
class World:
    """What was measured on so many processes."""

    ranks: int
    seconds: dict[str, list[float]]  #: of each step, by arithmetic
    layers: tuple[Layer, ...]
    payload: int  #: bytes of limbs that a step gives to the reduction, per rank
    control: int  #: bytes of maxima and whole numbers
    comm_bytes: int  #: of the buffers
    sent: float  #: bytes that went over the loopback device in a step, per rank, all traffic of the machine included
    sha256: str

    def ratio(self, best: bool = True) -> float:
        """Our step over float32's: of the best times, or of the medians."""
        pick = min if best else median
        return pick(self.seconds["posit16"]) / pick(self.seconds["float32"])

    @property
    def payload_per_element(self) -> float:
        """Bytes of limbs for an element of a gradient."""
        return self.payload / sum(layer.elements for layer in self.layers)


@dataclass(frozen=True)
class Measured:
    """What `measure_distributed` found."""

    machine: dict[str, str]
    repeats: int
    steps: int
    worlds: tuple[World, ...]


def measure_distributed(worlds: tuple[int, ...], repeats: int, steps: int, progress: Progress) -> Measured:
    """Measure LeNet-5 with a batch of 64, on so many processes over gloo on this machine.

    Raises:
        MeasurementError: the numbers of processes end in different weights.
        WorkerError: a process failed.
    """
    progress.start("worlds", len(worlds))
    found = []
    for ranks in worlds:
        found.append(_measured(ranks, repeats, steps))
        progress.advance("worlds")
    if len({world.sha256 for world in found}) > 1:
        raise MeasurementError(f"LeNet-5 ended in different weights on {worlds} processes: {found}")
    return Measured(machine(), repeats, steps, tuple(found))


def _measured(ranks: int, repeats: int, steps: int) -> World:
    text = json.dumps({"repeats": repeats, "steps": steps})
    ended = run_python(ranks, ["-m", "postrain.bench.distributed_rank", text])
    require_success(ended, f"the bench on {ranks} processes")
    said = json.loads(ended[0].out.strip().splitlines()[-1])
    traffic = said["traffic"]
    layers = tuple(
        Layer(name, count, traffic["bits"][name], traffic["limbs"][name])
        for name, count in said["elements"].items()
    )
    numbers = (traffic["payload"], traffic["control"], said["comm_bytes"], said["sent"])
    return World(ranks, said["seconds"], layers, *numbers, said["sha256"])


def growth(bits: int) -> dict[int, int]:
    """Limbs that so many bits take, by the number of ranks, each with as much data as now.

    >>> growth(83)[2], growth(83)[1024], growth(62)[1]
    (2, 2, 1)
    """
    return {ranks: -(-bits // limb_bits(ranks)) for ranks in RANKS}


def lines(measured: Measured) -> list[str]:
    """The figures as text."""
    said = ["; ".join(f"{name} {fact}" for name, fact in measured.machine.items())]
    said.append(
        f"LeNet-5, batch 64 in all, {measured.repeats} steps in turns; gloo on one machine, 1 thread a process"
    )
    for world in measured.worlds:
        ours, theirs = (world.seconds[name] for name in ("posit16", "float32"))
        met = "met" if world.ratio() <= TARGET else "not met"
        said.append(
            f"{world.ranks} processes: posit16 {_ms(ours)}, float32 {_ms(theirs)}; "
            f"{world.ratio():.2f}× ({world.ratio(best=False):.2f}×), target ≤ {TARGET:g}×: {met}"
        )
        said.append(
            f"  a step gives {world.payload} bytes of limbs and {world.control} of control to the reduction, "
            f"{world.payload_per_element:.2f} bytes an element (target ≤ {PAYLOAD}); over the loopback device went "
            f"{world.sent:.0f} bytes a rank; buffers {world.comm_bytes} bytes"
        )
    last = measured.worlds[-1]
    said.append(
        f"after {measured.steps} steps, {last.ranks} processes; limbs for 1, 2, 4 … 1024 ranks of as much data:"
    )
    for layer in last.layers:
        grown = " ".join(map(str, growth(layer.bits).values()))
        said.append(
            f"  {layer.name:12} {layer.elements:6} elements: {layer.bits:3} bits, {8 * layer.limbs:2} bytes; {grown}"
        )
    return said


def _ms(seconds: list[float]) -> str:
    return f"{1e3 * min(seconds):.1f} ms (median {1e3 * median(seconds):.1f})"
