"""Proof that sums were exact: elements of a running training step, recomputed with rationals and rounded once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from time import perf_counter

import numpy as np
import numpy.typing as npt
from torch import nn

from posit.formats import Format
from posit.reference import exact
from posit.torch import PositTensor, observe
from posit.torch.ops.observe import Observation
from postrain.report.schema import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, ExactnessRow

FORWARD_PASS, BACKWARD_PASS = "forward", "backward"


@dataclass
class _Counts:
    elements: int = 0
    checked: int = 0
    equal: int = 0
    fallback_elements: int = 0
    fallback_checked: int = 0
    fallback_equal: int = 0
    float32_checked: int = 0
    float32_equal: int = 0


@dataclass
class Watcher:
    """Captures the exact contractions of some steps and checks a seeded sample of each.

    Every element is the sum of the terms that the operator was given, as rationals, rounded by the exact oracle.
    Elements that float64 left open are checked in addition, all of them up to a cap per layer and kind.

    The same check is made of sums accumulated in float32, on every element: those that agree with the exact result
    are counted as equal, and those that do not join the sample (up to `disputed_cap`), so that rationals decide.
    """

    model: str  #: short name for the rows
    steps: frozenset[int]  #: counted from 1
    seed: int
    sample: int = 60  #: elements per contraction
    fallback_cap: int = 200  #: per layer and kind
    disputed_cap: int = 20  #: elements per contraction on which float32 disagrees and rationals decide
    counts: dict[tuple[str, str], _Counts] = field(default_factory=dict)
    seconds: float = 0.0  #: spent checking

    def __post_init__(self) -> None:
        self._rng = np.random.Generator(np.random.Philox(self.seed))

    @contextmanager
    def forward(self, step: int, model: nn.Module) -> Iterator[None]:
        """Capture the forward pass of `step`."""
        with self._captured(step, model, FORWARD_PASS):
            yield

    @contextmanager
    def backward(self, step: int, model: nn.Module) -> Iterator[None]:
        """Capture the backward pass; the weights must not have been updated when this ends."""
        with self._captured(step, model, BACKWARD_PASS):
            yield

    def rows(self) -> list[ExactnessRow]:
        """What was counted, a row per layer and kind."""
        return [
            ExactnessRow(
                model=self.model,
                layer=layer,
                kind=kind,
                elements=c.elements,
                checked=c.checked,
                equal=c.equal,
                fallback_elements=c.fallback_elements,
                fallback_checked=c.fallback_checked,
                fallback_equal=c.fallback_equal,
                float32_checked=c.float32_checked,
                float32_equal=c.float32_equal,
            )
            for (layer, kind), c in self.counts.items()
        ]

    @contextmanager
    def _captured(self, step: int, model: nn.Module, phase: str) -> Iterator[None]:
        if step not in self.steps:
            yield
            return
        seen: list[Observation] = []
        with observe(seen.append):
            yield
        started = perf_counter()
        for observation in seen:
            self._check(observation, _place(observation, model, phase))
        self.seconds += perf_counter() - started

    def _check(self, seen: Observation, place: tuple[str, str]) -> None:
        counts = self.counts.setdefault(place, _Counts())
        result, in_float32 = seen.result.reshape(-1), seen.in_float32().reshape(-1)
        sampled = self._rng.choice(result.size, min(self.sample, result.size), replace=False)
        disputed = self._rng.permutation(np.flatnonzero(result != in_float32))
        chosen = np.union1d(sampled, disputed[: self.disputed_cap])
        room = self.fallback_cap - counts.fallback_checked
        fallback = self._rng.permutation(seen.open)[: max(room, 0)]
        truth = {int(index): exact_code(seen, int(index)) for index in {*chosen.tolist(), *fallback.tolist()}}
        counts.elements += result.size
        counts.checked += len(chosen)
        counts.equal += _equal(result, chosen, truth)
        counts.float32_checked += result.size
        counts.float32_equal += result.size - disputed.size
        counts.fallback_elements += seen.open.size
        counts.fallback_checked += len(fallback)
        counts.fallback_equal += _equal(result, fallback, truth)


def exact_code(seen: Observation, index: int) -> int:
    """Signed code of one element: the rational sum of its terms, rounded by the oracle."""
    fmt = seen.format
    total = Fraction(0)
    for term in seen.terms(index):
        factors = [exact.value(code & fmt.code_mask, fmt) for code in term]
        real = [factor for factor in factors if factor is not None]
        if len(real) < len(factors):
            return _signed(fmt.nar, fmt)
        total += prod(real, start=Fraction(1))
    return _signed(exact.nearest(total, fmt), fmt)


def _signed(code: int, fmt: Format) -> int:
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def _equal(result: npt.NDArray[np.integer], indices: npt.NDArray[np.int64], truth: dict[int, int]) -> int:
    return sum(int(result[index]) == truth[int(index)] for index in indices)


def _place(seen: Observation, model: nn.Module, phase: str) -> tuple[str, str]:
    """Layer and kind of a contraction, told by the storages it read and wrote."""
    weights: dict[int, str] = {}
    gradients: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, PositTensor):
            weights[parameter.codes.untyped_storage().data_ptr()] = name
            if isinstance(parameter.grad, PositTensor):
                gradients[parameter.grad.codes.untyped_storage().data_ptr()] = name
    if phase == BACKWARD_PASS and (name := gradients.get(seen.target, "")):
        return name.removesuffix(".weight"), WEIGHT_GRADIENT
    for operand in seen.sources:
        if name := weights.get(operand.untyped_storage().data_ptr(), ""):
            return name.removesuffix(".weight"), FORWARD if phase == FORWARD_PASS else INPUT_GRADIENT
    return seen.op, phase
