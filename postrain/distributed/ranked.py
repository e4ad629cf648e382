"""One rank of `postrain verify-parallel`: trains as a JSON text says, and rank 0 prints what came of it.

Started as ``python -m postrain.distributed.ranked JSON``, with torchrun's variables.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from postrain._train import batches, digest
from postrain.config import Config, with_data_dir
from postrain.distributed.group import joined
from postrain.distributed.team import Team
from postrain.distributed.training import train
from postrain.distributed.workers import share
from postrain.prepared import loss_of, prepare
from postrain.recipe import FLOAT32, Recipe


def main(text: str) -> None:
    """Train, and print the digest on rank 0 as JSON."""
    options = json.loads(text)
    config = configured(options)
    with joined() as team, tempfile.TemporaryDirectory(prefix="postrain-verify-") as folder:
        if options["float32"]:
            found = train_float32(config, team)
        else:
            outcome = train(config, Path(folder), team, figures=False)
            found = "" if outcome is None else outcome.digest
        if team.first:
            sys.stdout.write(json.dumps({"sha256": found}) + "\n")


def configured(options: dict[str, Any]) -> Config:
    """The configuration file with its settings, for so many steps and without evaluations on the way."""
    data_dir = options["data_dir"] and Path(options["data_dir"])
    config = with_data_dir(Path(options["config"]), data_dir, options["settings"])
    steps = options["steps"]
    often = {"evaluate_every": steps, "checkpoint_every": steps, "statistics_every": 0}
    plan = replace(config.plan, epochs=None, iterations=steps, micro_batch=options["micro_batch"], **often)
    data = replace(config.data, test_limit=1) if not config.data.is_text else config.data
    return replace(config, plan=plan, data=data)


def train_float32(config: Config, team: Team) -> str:
    """The same configuration in float32 with torch's DistributedDataParallel; the digest of the weights."""
    config = replace(config, recipe=Recipe(FLOAT32))
    prepared = prepare(config)
    model = DistributedDataParallel(prepared.model)
    loss, plan, data = loss_of("sum", config.data), config.plan, prepared.source.train
    done = 0
    while done < (plan.iterations or 0):
        for indices in batches(
            len(data), plan.batch, plan.seed, done // plan.per_epoch(len(data)), permute=False
        ):
            x, y = data.take(indices[share(len(indices), team.rank, team.size)])
            targets = len(indices) * (y[0].numel() if len(y) else 1)
            prepared.optimizer.zero_grad()
            total: torch.Tensor = loss(model(x), y) * (team.size / targets)  # torch divides by the ranks
            total.backward()
            if plan.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            prepared.optimizer.step()
            prepared.scheduler.step()
            done += 1
            if done == plan.iterations:
                break
    return digest(prepared.model)


if __name__ == "__main__":
    main(sys.argv[1])
