"""What the tests of this folder share: random posits, their exact values, and rationals rounded by the oracle."""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit import Format, posit16
from posit.reference import exact
from posit.torch import PositTensor, posit_tensor


def posit(x: object) -> PositTensor:
    """What mypy takes for a Tensor, as what it is."""
    assert isinstance(x, PositTensor)
    return x


def random(shape: tuple[int, ...], fmt: Format, seed: int = 0) -> Any:
    """Normal numbers, rounded."""
    return posit_tensor(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), fmt)


def rounded(*shape: int, fmt: Format = posit16, seed: int = 0, size: float = 1.0) -> PositTensor:
    """Normal numbers times `size`, rounded."""
    generator = torch.Generator().manual_seed(seed)
    return posit_tensor(torch.randn(shape, generator=generator) * size, fmt)


def codes_of(x: Any) -> list[int]:
    """Signed codes, flat."""
    codes: list[int] = posit(x).codes.reshape(-1).tolist()
    return codes


def value(code: int, fmt: Format) -> Fraction | None:
    """The exact value of a signed or unsigned code; None for NaR."""
    return exact.value(code & fmt.code_mask, fmt)


def table(x: Any) -> Any:
    """Exact values as an array of rationals."""
    return np.array([value(code, x.format) for code in codes_of(x)], object).reshape(tuple(x.shape))


def signed(code: int, fmt: Format) -> int:
    """An unsigned code as PositTensors hold it."""
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def nearest_code(real: Fraction, fmt: Format) -> int:
    """Signed code of a rational number, rounded once."""
    return signed(exact.nearest(real, fmt), fmt)


def nearest(values: Any, fmt: Format) -> list[int]:
    """Signed codes of an array of rational numbers, flat, each rounded once."""
    return [nearest_code(Fraction(each), fmt) for each in values.reshape(-1).tolist()]
