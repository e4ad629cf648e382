"""Training that gives the same bits on any number of workers, on torchrun and torch.distributed.

Gradients are summed exactly over micro-batches and ranks, as integers, and rounded once; `docs/distributed.md` says why
this leaves no bit to the number of ranks, what it costs, and how to check it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postrain.distributed.group import current, joined, launched
    from postrain.distributed.parallel import DataParallel
    from postrain.distributed.simulated import simulate
    from postrain.distributed.team import Team
    from postrain.distributed.training import train

__all__ = ["DataParallel", "Team", "current", "joined", "launched", "simulate", "train"]

_HOMES = {
    "DataParallel": "parallel",
    "Team": "team",
    "current": "group",
    "joined": "group",
    "launched": "group",
    "simulate": "simulated",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import what is named when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'postrain.distributed' has no attribute {name!r}")
    return getattr(importlib.import_module(f"postrain.distributed.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted([*globals(), *_HOMES])
