"""Clipping gradients by their norm: the norm exact and rounded once, each gradient rounded once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch

from posit._array import PositArray
from posit._quire_array import QuireArray
from posit.codec import encode_rational, signed_storage, to_unsigned
from posit.errors import NoRuleError
from posit.formats import Format
from posit.rounding import certified, nearest_real
from posit.torch import PositTensor
from posit.torch.tensor import to_numpy
from postrain.errors import NaRError, RecipeError
from postrain.optim._ratio import _real, _square_root

_UNIT = 2.0**-53


def clip_grad_norm_(
    parameters: torch.Tensor | Iterable[Any], max_norm: float, norm_type: float = 2.0
) -> PositTensor:
    """Scale all gradients by ``max_norm / norm`` where their common norm is larger than `max_norm`.

    Stands for torch.nn.utils.clip_grad_norm_, without the 1e-6 that is added to the norm there.

    Args:
        parameters: Tensors, or pairs of name and tensor; those without a gradient are left out.
        max_norm: Positive.
        norm_type: 2 or infinity.

    Returns:
        The norm, in the format of the first gradient; 0 where there is none.

    Rounding points: the norm once, from the exact sum of squares over all gradients; each element of a gradient once,
    from the exact norm.  Nothing changes where the norm is at most `max_norm`.

    Raises:
        NoRuleError: another norm.
        NaRError: a gradient holds NaR.
        RecipeError: max_norm is not positive, or a gradient is no PositTensor.

    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.zeros(2), "posit16"))
    >>> w.grad = posit_tensor(torch.tensor([3.0, 4.0]), "posit16")
    >>> clip_grad_norm_([w], 1.0), w.grad.tolist()
    (PositTensor(5.0, posit16), [0.60009765625, 0.800048828125])
    """
    if norm_type not in (2.0, math.inf):
        raise NoRuleError(f"clip_grad_norm_ on posits takes the norms 2 and infinity, got {norm_type}")
    if not 0 < max_norm < math.inf:
        raise RecipeError(f"max_norm must be positive, got {max_norm}")
    grads = _gradients(parameters)
    if not grads:
        return PositTensor(torch.zeros((), dtype=torch.int16), Format(16))
    norm = _Norm(tuple(grads), norm_type == math.inf)
    fmt = grads[0].format
    if norm.exceeds(max_norm):
        for grad in grads:
            _scale(grad, norm, Fraction(max_norm))
    code = norm.code(fmt)
    signed = np.array(code - (1 << fmt.nbits) if code >= fmt.nar else code, signed_storage(fmt))
    return PositTensor(torch.from_numpy(signed), fmt)


def _gradients(parameters: torch.Tensor | Iterable[Any]) -> list[PositTensor]:
    items = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    found = []
    for index, item in enumerate(items):
        name, parameter = item if isinstance(item, tuple) else (f"parameter {index}", item)
        if parameter.grad is None:
            continue
        if not isinstance(parameter.grad, PositTensor):
            raise RecipeError(f"the gradient of {name} is no PositTensor; use torch.nn.utils.clip_grad_norm_")
        if parameter.grad.has_nar():
            raise NaRError(f"the gradient of {name}", 0)
        found.append(parameter.grad)
    return found


@dataclass(frozen=True)
class _Norm:
    """The norm of some gradients before they are changed: in float64 with a bound, and exactly."""

    grads: tuple[PositTensor, ...]
    largest: bool

    @cached_property
    def approximate(self) -> tuple[float, float]:
        """The norm within a relative error."""
        if self.largest:
            return max((float(np.abs(g.values()).max(initial=0.0)) for g in self.grads), default=0.0), 0.0
        total, count = 0.0, 0
        for grad in self.grads:
            total += float(np.square(grad.values()).sum())
            count += grad.numel()
        return math.sqrt(total), (count + len(self.grads) + 8) * _UNIT

    @cached_property
    def square(self) -> Fraction:
        """The exact square of the norm."""
        if self.largest:
            return Fraction(self.approximate[0]) ** 2
        total = Fraction(0)
        for grad in self.grads:
            codes = to_unsigned(to_numpy(grad.codes.contiguous()).reshape(-1), grad.format)
            row = PositArray(codes, grad.format)
            quire = QuireArray((1, 1), grad.format)
            quire.matmul_add(row.reshape(1, -1), row.reshape(-1, 1))
            total += quire.to_fraction()[0, 0]
        return total

    def __post_init__(self) -> None:
        _ = self.approximate, self.square if not self.largest else None

    def exceeds(self, limit: float) -> bool:
        """Whether the norm is larger than a number."""
        return self.square > Fraction(limit) ** 2

    def code(self, fmt: Format) -> int:
        """Code of the norm, rounded once."""
        return self.code_of(Fraction(1), None, fmt)

    def code_of(self, factor: Fraction, over: Fraction | None, fmt: Format) -> int:
        """Code of factor * norm, or of factor * over / norm."""
        root = _square_root(self.square)
        if root is not None:
            return encode_rational(factor * root if over is None else factor * over / root, fmt)
        return nearest_real(lambda bits: self._real(factor, over, bits), fmt)

    def _real(self, factor: Fraction, over: Fraction | None, bits: int) -> Any:
        import mpmath

        with mpmath.workprec(bits + 16):
            root = mpmath.sqrt(_real(self.square))
            return _real(factor) * root if over is None else _real(factor * over) / root


def _scale(grad: PositTensor, norm: _Norm, limit: Fraction) -> None:
    """Replace a gradient by limit / norm times it."""
    values = grad.values()
    size, error = norm.approximate
    scaled = values * (float(limit) / size)
    flat = values.reshape(-1)

    def exact(index: int) -> int:
        return norm.code_of(Fraction(float(flat[index])), limit, grad.format)

    bound = np.abs(scaled) * (error + 8 * _UNIT)
    codes = certified(scaled, bound, grad.format, exact, signed_storage(grad.format))
    grad.codes.copy_(torch.from_numpy(codes.reshape(values.shape)))
