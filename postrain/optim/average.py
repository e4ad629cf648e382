"""Averages of weights for torch.optim.swa_utils.AveragedModel: each exact and rounded once."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit.codec import encode_rational, signed_storage
from posit.errors import FormatMismatch
from posit.fused import combination
from posit.rounding import certified
from posit.torch import PositTensor
from postrain.errors import RecipeError
from postrain.optim._base import complement, term

AverageFunction = Callable[[Any, Any, Any], PositTensor]


def swa_avg_fn() -> AverageFunction:
    """The plain average, ``(n * average + weight) / (n + 1)``, formed exactly and rounded once.

    Give it to AveragedModel as `avg_fn`; `n` is the number of models averaged before.

    >>> from posit.torch import posit_tensor
    >>> one, two = (posit_tensor(torch.tensor(x), "posit16") for x in (1.0, 2.0))
    >>> swa_avg_fn()(one, two, 3)
    PositTensor(1.25, posit16)
    """

    def average(averaged: PositTensor, weight: PositTensor, count: Any) -> PositTensor:
        _check(averaged, weight)
        n, old, new = int(count), averaged.values(), weight.values()
        approximation = (old * n + new) / (n + 1)
        error = (np.abs(old) * n + np.abs(new)) * (2.0**-50 / (n + 1))
        flats = old.reshape(-1), new.reshape(-1)

        def exact(index: int) -> int:
            own, other = (Fraction(float(flat[index])) for flat in flats)
            return encode_rational((own * n + other) / (n + 1), averaged.format)

        codes = certified(approximation, error, averaged.format, exact, signed_storage(averaged.format))
        return averaged.like(torch.from_numpy(codes.reshape(old.shape)))

    return average


def ema_avg_fn(decay: float = 0.999) -> AverageFunction:
    """The moving average, ``decay * average + (1 - decay) * weight``, formed exactly and rounded once.

    Raises:
        RecipeError: a decay outside 0 to 1.

    >>> from posit.torch import posit_tensor
    >>> one, two = (posit_tensor(torch.tensor(x), "posit16") for x in (1.0, 2.0))
    >>> ema_avg_fn(0.75)(one, two, 3)
    PositTensor(1.25, posit16)
    """
    if not 0 <= decay <= 1:
        raise RecipeError(f"the decay of a moving average must be from 0 to 1, got {decay}")

    def average(averaged: PositTensor, weight: PositTensor, count: Any) -> PositTensor:
        _check(averaged, weight)
        codes = combination([term(decay, averaged), term(complement(decay), weight)], averaged.format)
        return averaged.like(torch.from_numpy(codes))

    return average


def _check(averaged: Any, weight: Any) -> None:
    if not (isinstance(averaged, PositTensor) and isinstance(weight, PositTensor)):
        raise FormatMismatch("averages of postrain.optim are of PositTensors; use torch's for floats")
