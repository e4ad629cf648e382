"""Geometric products of posits beside the same products in float32: a sample is proved with rationals, then timed."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

import postrain.geometric  # noqa: F401  (rules for geometric products)
from ga import Algebra, Layout, Plan, plan_for
from ga.product import product
from posit.torch import PositTensor, observe, posit_tensor
from posit.torch.ops.observe import Observation
from postrain.bench.contest import Contest, Peer
from postrain.errors import MeasurementError
from postrain.exactness import exact_code

FORMATS = ("posit16", "posit32")
_NANOSECONDS = 1000.0  #: for a product at most, on one thread: a million products a second
_SAMPLE = 200  #: coefficients that rationals prove, and as many of those that float64 left open


def contests(name: str, algebra: Algebra, size: int, seed: int) -> Iterator[Contest]:
    """The full product of an algebra in each format.

    Raises:
        MeasurementError: a coefficient is not the exact sum rounded once.
    """
    layout = Layout.full(algebra)
    plan = plan_for("geometric", layout, layout)
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(len(layout), size, generator=generator) for _ in range(2))
    for fmt in FORMATS:
        a, b = (posit_tensor(planes, fmt) for planes in (x, y))
        operation = f"{name} full · full, {fmt}"
        prove(operation, a, b, plan, seed)
        peers = (
            Peer("", None, "each", _NANOSECONDS),
            Peer("ours, float32", partial(_multiply, x, y, plan), "speed", None),
        )
        yield Contest(operation, partial(_multiply, a, b, plan), peers, float(size))


def prove(operation: str, a: PositTensor, b: PositTensor, plan: Plan, seed: int) -> None:
    """Let a measurement go on only if a sample of coefficients, the undecided ones among it, is right to the bit."""
    seen: list[Observation] = []
    with observe(seen.append):
        product(a, b, plan)
    (observation,) = seen
    result, rng = observation.result.reshape(-1), np.random.Generator(np.random.Philox(seed))
    chosen = rng.choice(result.size, min(_SAMPLE, result.size), replace=False)
    for index in (*chosen.tolist(), *observation.open[:_SAMPLE].tolist()):
        if int(result[index]) != exact_code(observation, index):
            raise MeasurementError(
                f"{operation}: coefficient {index} is not the exact sum rounded once, so nothing was timed"
            )


def _multiply(x: torch.Tensor, y: torch.Tensor, plan: Plan, threads: int) -> None:
    product(x, y, plan)
