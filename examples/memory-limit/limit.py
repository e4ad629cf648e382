"""A network trained within a limit of memory that storing its activations exceeds: ``python limit.py``.

Every mode runs in a process of its own, with one thread and one malloc arena.  The process first trains a network of
two blocks on two micro-batches, so that kernels, code and pools are there.  Then its address space is limited
(``RLIMIT_AS``) to what it has, plus 1.3 times what the accountant predicts that mode ``reversible`` needs.  Then the
network is built and trained.

Writes ``results.json`` beside this file, or into ``--out``.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
MODES = ("reversible", "reverse", "fused", "checkpointed", "accumulate")
HEADROOM = 1.3


@dataclass(frozen=True)
class Options:
    """The network and its training."""

    mode: str = "reversible"
    family: str = "mlp"
    depth: int = 24
    width: int = 256
    batch: int = 8192
    micro_batch: int = 1024
    steps: int = 3


def case(options: Options) -> Any:
    """As the accountant takes it; modes other than ``reversible`` train the same network of ordinary modules."""
    from postrain.memory import Case

    form = "reversible" if options.mode == "reversible" else "plain"
    parts = options.micro_batch if options.mode in ("reversible", "accumulate") else None
    return Case(
        "postrain.memory.families:stack",
        {"family": options.family, "depth": options.depth, "width": options.width, "form": form},
        "posit16",
        options.batch,
        mode=options.mode,
        micro_batch=parts,
    )


class Training:
    """A network in a mode, and one batch."""

    def __init__(self, options: Options) -> None:
        import torch

        from postrain.memory.steps import build, real
        from postrain.modes import Settings, stepper
        from postrain.optim import SGD

        own = case(options)
        work = real(build(own), own)
        self.x, self.y, self.samples = work.inputs, work.targets, torch.arange(options.batch)
        self.blocks = 0  #: whose forward pass has ended
        model: Any = work.model
        stack = getattr(model, "stack", None)
        for block in stack.blocks if stack is not None else list(model)[2:-2]:
            block.register_forward_hook(self._count)
        optimizer = SGD(work.model.named_parameters(), lr=2.0**-6, momentum=own.momentum)

        def loss(outputs: Any, targets: Any) -> Any:
            return work.loss(outputs, targets, **({"reduction": "sum"} if own.micro_batch else {}))

        settings = Settings(micro_batch=own.micro_batch)
        self.step = stepper(options.mode, work.model, loss, optimizer, settings)

    def _count(self, *_: object) -> None:
        self.blocks += 1

    def run(self, number: int) -> float:
        """A step; the loss before it."""
        return self.step(number, self.samples, self.x, self.y, count=False).loss


def address_space() -> int:
    """Bytes of this process' address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limited(options: Options) -> dict[str, Any]:
    """Train in this process under the limit."""
    import torch

    import posit
    from postrain.memory.predict import predict

    torch.set_num_threads(1)
    posit.set_num_threads(1)
    small = replace(options, depth=2, batch=2 * options.micro_batch)
    warm_up = Training(small)
    for number in (1, 2):
        warm_up.run(number)
    needs = {
        mode: predict(case(replace(options, mode=mode)))["training"].total
        for mode in ("reversible", options.mode)
    }
    del warm_up
    gc.collect()
    warm = address_space()
    limit = warm + int(HEADROOM * needs["reversible"])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found: dict[str, Any] = {
        "mode": options.mode,
        "warm": warm,
        "limit": limit,
        "predicted": needs[options.mode],
    }
    losses: list[float] = []
    seconds: list[float] = []
    training, blocks, ended = None, 0, ""
    try:
        training = Training(options)
        found["model_built"] = True
        for number in range(1, options.steps + 1):
            began = perf_counter()
            losses.append(training.run(number))
            seconds.append(perf_counter() - began)
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own for it
        ended = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
        if not isinstance(error, MemoryError) and "memory" not in ended:
            raise
    if training is not None:
        blocks = training.blocks
    return found | {"losses": losses, "seconds": seconds, "blocks_forward": blocks, "out_of_memory": ended}


def run(options: Options) -> dict[str, Any]:
    """Train in a fresh process under the limit."""
    arguments = [sys.executable, __file__, "--child", json.dumps(vars_of(options))]
    done = subprocess.run(
        arguments,
        env={**os.environ, **ONE_THREAD, **ALLOCATOR},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{options.mode}: the process ended with code {done.returncode}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def vars_of(options: Options) -> dict[str, Any]:
    """The options by name."""
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def line(one: dict[str, Any]) -> str:
    """A row of the table."""
    ended = (
        f"out of memory after {one['blocks_forward']} blocks and {len(one['losses'])} steps"
        if one["out_of_memory"]
        else f"{len(one['losses'])} steps, loss " + " → ".join(f"{each:.4f}" for each in one["losses"])
    )
    allowed = one["limit"] - one["warm"]
    return f"| {one['mode']} | {one['predicted'] / 2**20:.1f} | {allowed / 2**20:.1f} | {ended} |"


def main() -> None:
    """Run every mode, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("depth", "width", "batch", "micro_batch", "steps"):
        default = getattr(Options(), name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--family", default=Options.family)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(limited(Options(**json.loads(given.child)))))
        return
    names = ("family", "depth", "width", "batch", "micro_batch", "steps")
    options = Options(**{name: getattr(given, name) for name in names})
    print("| mode | predicted need, MiB | allowed, MiB | end |\n|---|---|---|---|")
    runs = []
    for mode in given.modes:
        runs.append(run(replace(options, mode=mode)))
        print(line(runs[-1]), flush=True)
    about = {name: getattr(options, name) for name in names} | {"headroom": HEADROOM, "runs": runs}
    (given.out / "results.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
