"""`postrain train` on one of several ranks."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

import posit
from postrain import run
from postrain._train import digest
from postrain.config import Config
from postrain.distributed.buckets import BUCKET_BYTES
from postrain.distributed.handshake import require_equal
from postrain.distributed.parallel import copy_from_first, kinds
from postrain.distributed.team import Team
from postrain.distributed.workers import Workers
from postrain.errors import OptionsError
from postrain.feeds import Samples
from postrain.feeds import digest as digest_of
from postrain.files import prepare_output
from postrain.loop import Plan, fit
from postrain.options import NoProgress, Progress
from postrain.prepared import Prepared, loss_of, prepare

BUCKET = "POSTRAIN_BUCKET_BYTES"  #: variable with the bytes of a buffer of the exchange


def train(
    config: Config,
    out: Path,
    team: Team,
    progress: Progress | None = None,
    *,
    resume: bool | None = None,
    figures: bool = True,
) -> run.Outcome | None:
    """Train as the configuration says, together with the other ranks; all call this with the same configuration.

    The arithmetic does not depend on the number of ranks: each rank's loss is the sum over its samples, gradients are
    summed exactly over passes and ranks, divided by the number of targets of the whole batch, and rounded once.  One
    process with ``train.micro_batch`` ends in the same bits.  Rank 0 alone writes to the folder.

    Args:
        config: From `postrain.config.read`.
        out: The folder, of rank 0's machine.
        team: The ranks.
        progress: Told of every step, on rank 0.
        resume: True demands a checkpoint, False refuses one; None takes what is there, as does a restart by torchrun.
        figures: Draw the loss and the distributions.

    Returns:
        What the run left behind, on rank 0; None on the others.

    Raises:
        RecipeError: the ranks differ in code, data or configuration, or the recipe is not exact.
        WorkerError: a rank failed or was lost.
        OutputError, DataError, NaRError: as `postrain.run.train`.
    """
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")
    config = replace(config, plan=canonical(config.plan))
    _use_threads(config)
    wanted = None if restarted else resume
    # the folder is rank 0's
    team.together(lambda: run.require_checkpoint(out, wanted) if team.first else None)
    prepared = team.together(lambda: prepare(config))
    require_equal(team, _facts(prepared))
    folder = team.together(lambda: prepare_output(out) if team.first else None)
    workers = team.together(
        lambda: Workers(prepared.model, team, config.plan.micro_batch or config.plan.batch, bucket_bytes())
    )

    def evaluate(model: Any) -> dict[str, float]:
        parts = len(prepared.source.test_order)
        return prepared.scores(workers.evaluated(lambda part: prepared.evaluate_part(model, part), parts))

    fitted = fit(
        prepared.model,
        prepared.source.train,
        loss_of("sum", config.data),
        prepared.optimizer,
        config.plan,
        scheduler=prepared.scheduler,
        evaluate=evaluate,
        folder=folder,
        metadata=prepared.metadata,
        progress=progress if progress is not None and team.first else NoProgress(),
        tensorboard=True,
        loss_scale=config.recipe.loss_scale,
        workers=workers,
    )
    done = None if folder is None else run.outcome(prepared, fitted, folder, figures)
    team.agree(None)  # the last files are written before any rank leaves
    return done


def canonical(plan: Plan) -> Plan:
    """The plan with the arithmetic of several ranks: without a micro-batch, a pass takes the whole share."""
    return plan if plan.micro_batch is not None else replace(plan, micro_batch=plan.batch)


def joining(team: Team, model: nn.Module, data: Samples, plan: Plan) -> Workers:
    """This rank's part in training a model on data in memory, for `postrain.loop.fit`; rank 0's weights are taken.

    Args:
        team: The ranks.
        model: Converted.
        data: All samples, the same on all ranks.
        plan: From `canonical`.

    Raises:
        RecipeError: the ranks differ in code, model, data or plan, or the model is not exact.
    """
    facts = {
        "train": {**plan.identity(), "steps": plan.steps(len(data))},
        "data": digest_of(data.x, data.y),
        BUCKET: bucket_bytes(),
    }
    require_equal(team, {**facts, **kinds(model)})
    copy_from_first(team, model)
    return team.together(lambda: Workers(model, team, plan.micro_batch or plan.batch, bucket_bytes()))


def bucket_bytes() -> int:
    """Bytes of a buffer of the exchange: POSTRAIN_BUCKET_BYTES, by default 1 MiB.

    Raises:
        OptionsError: the variable is no whole number.
    """
    text = os.environ.get(BUCKET, str(BUCKET_BYTES))
    if not text.isdecimal():
        raise OptionsError(f"{BUCKET} must be a whole number of bytes, got {text!r}")
    return int(text)


def _facts(prepared: Prepared) -> dict[str, Any]:
    plan, metadata = prepared.config.plan, prepared.metadata
    often = ("evaluate_every", "checkpoint_every", "statistics_every")
    return {
        "recipe": metadata["recipe"],
        "config": metadata["config"],
        "train": {
            **plan.identity(),
            "steps": plan.steps(len(prepared.source.train)),
            **{name: getattr(plan, name) for name in often},
        },
        "data": metadata["data"],
        "test samples": len(prepared.source.test),
        "formats": {
            name: str(getattr(each, "format", each.dtype)) for name, each in prepared.model.named_parameters()
        },
        "first weights": digest(prepared.model),
        BUCKET: bucket_bytes(),
    }


def _use_threads(config: Config) -> None:
    """Share the machine's processors among its ranks, unless told otherwise."""
    if config.plan.threads is None and "POSIT_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        posit.set_num_threads(max(1, len(os.sched_getaffinity(0)) // here))
