"""One rank of `postrain bench distributed`: LeNet-5 in posit16 and in float32, step by step in turns.

Started as ``python -m postrain.bench.distributed_rank JSON``, with torchrun's variables; rank 0 prints JSON.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from postrain._train import digest, rounded
from postrain.convert import convert
from postrain.data import load
from postrain.distributed.group import joined
from postrain.distributed.parallel import DataParallel
from postrain.distributed.team import Team
from postrain.distributed.workers import share
from postrain.models import LeNet5, initialise
from postrain.optim import SGD, options
from postrain.recipe import Recipe

BATCH = 64
_TRAFFIC_STEPS = 5
Step = Callable[[int], None]


def main(text: str) -> None:
    """Measure as the JSON text says."""
    given = json.loads(text)
    with joined() as team:
        found = measured(team, given["repeats"], given["steps"])
        if team.first:
            sys.stdout.write(json.dumps(found) + "\n")


def measured(team: Team, repeats: int, steps: int) -> dict[str, Any]:
    """Seconds of steps in turns, then the bits and bytes after training in posits."""
    torch.set_num_threads(1)
    posits, wrapped = _posits(team)
    contestants = {"posit16": posits, "float32": _float32(team)}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 2):
        for name, step in contestants.items():
            team.agree(None)  # all ranks begin together
            started = perf_counter()
            step(turn)
            if turn >= 2:  # the first load kernels
                seconds[name].append(perf_counter() - started)
    for turn in range(repeats + 2, steps):
        posits(turn)
    before = _sent()
    for turn in range(_TRAFFIC_STEPS):
        posits(steps + turn)
    team.agree(None)
    traffic = wrapped._sync.traffic
    return {
        "seconds": seconds,
        "sha256": digest(wrapped.module),
        "elements": {name: each.numel() for name, each in wrapped.module.named_parameters()},
        "traffic": asdict(traffic),
        "comm_bytes": wrapped.comm_bytes,
        "sent": (_sent() - before) / _TRAFFIC_STEPS / team.size,
    }


def _posits(team: Team) -> tuple[Step, DataParallel]:
    recipe = Recipe("posit16")
    model = DataParallel(convert(initialise(LeNet5(), seed=0), recipe), team=team)
    optimizer = SGD(model.module.named_parameters(), lr=0.05, momentum=0.9, **options(recipe))
    images, labels = _data()
    images = rounded(images, recipe)

    def step(turn: int) -> None:
        x, y = _batch(images, labels, turn, team)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
        optimizer.step()

    return step, model


def _float32(team: Team) -> Step:
    model = DistributedDataParallel(initialise(LeNet5(), seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images, labels = _data()

    def step(turn: int) -> None:
        x, y = _batch(images, labels, turn, team)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _data() -> tuple[Tensor, Tensor]:
    """The digits of the package, each pixel made 3×3, in a frame of 2: 28×28 as LeNet-5 takes them."""
    data = load("digits")
    small = torch.from_numpy(data.x_train).reshape(-1, 1, 8, 8)
    large = small.repeat_interleave(3, 2).repeat_interleave(3, 3)
    return nn.functional.pad(large, (2, 2, 2, 2)), torch.from_numpy(data.y_train)


def _batch(images: Tensor, labels: Tensor, turn: int, team: Team) -> tuple[Tensor, Tensor]:
    """This rank's share of a batch of 64."""
    generator = torch.Generator().manual_seed(turn)
    indices = torch.randint(0, len(labels), (BATCH,), generator=generator)[share(BATCH, team.rank, team.size)]
    return torch.index_select(images, 0, indices), labels[indices]


def _sent() -> float:
    """Bytes that went over the loopback device so far, where Linux tells it; else NaN."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()
    except OSError:
        return float("nan")
    counts = [line.split(":")[1].split() for line in lines if line.strip().startswith("lo:")]
    return float(counts[0][8]) if counts else float("nan")


if __name__ == "__main__":
    main(sys.argv[1])
