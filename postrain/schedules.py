"""Learning rates over a run, as factors of the first: functions of the step alone, for torch's `LambdaLR`.

Factors are rounded to 12 digits, so that a last bit in which mathematical libraries differ changes no weight.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

Factor = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Length:
    """Of a run, in steps."""

    steps: int
    per_epoch: int


def constant(length: Length, warmup: int = 0) -> Factor:
    """Always 1, after a linear rise over `warmup` steps.

    >>> [constant(Length(10, 5), warmup=2)(step) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    return lambda step: _risen(step, warmup)


def step(
    length: Length, every_epochs: int = 0, every: int = 0, factor: float = 0.5, warmup: int = 0
) -> Factor:
    """Times `factor` after every `every_epochs` epochs, or every `every` steps.

    >>> [step(Length(8, 2), every_epochs=2)(number) for number in range(0, 8, 2)]
    [1.0, 1.0, 0.5, 0.5]
    """
    stretch = every or every_epochs * length.per_epoch or length.steps
    return lambda number: _rounded(_risen(number, warmup) * factor ** (number // stretch))


def cosine(length: Length, warmup: int = 0, least: float = 0.0, steps: int = 0) -> Factor:
    """Half a cosine from 1 down to `least` over the run (or `steps`), after a linear rise over `warmup` steps.

    >>> [cosine(Length(4, 1), least=0.1)(number) for number in range(5)]
    [1.0, 0.868198051534, 0.55, 0.231801948466, 0.1]
    """
    end = steps or length.steps

    def factor(number: int) -> float:
        if number < warmup:
            return _risen(number, warmup)
        share = min((number - warmup) / max(end - warmup, 1), 1.0)
        return _rounded(least + (1 - least) * (1 + math.cos(math.pi * share)) / 2)

    return factor


def linear(length: Length, warmup: int = 0, least: float = 0.0) -> Factor:
    """A straight line from 1 down to `least` over the run, after a linear rise over `warmup` steps."""

    def factor(number: int) -> float:
        if number < warmup:
            return _risen(number, warmup)
        share = min((number - warmup) / max(length.steps - warmup, 1), 1.0)
        return _rounded(1 - (1 - least) * share)

    return factor


def _risen(number: int, warmup: int) -> float:
    return _rounded(min((number + 1) / warmup, 1.0)) if warmup else 1.0


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")


SCHEDULES: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "linear": linear,
}
