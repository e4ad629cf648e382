"""Dropout: which elements are kept depends on seed, step, sample and call alone, not on how a batch is cut.

Rounding points: one for each kept element, ``x / (1 - p)`` with the exact rational 1 - p, forward and backward.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit._kernels import philox
from posit._threads import split
from posit.errors import ShapeError
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.curves import apply
from posit.torch.ops.families import over
from posit.torch.registry import calling_module, refuse, register_function
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

_WORD = (1 << 64) - 1


@dataclass(slots=True)
class _Keys:
    key: int
    samples: npt.NDArray[np.uint64]
    calls: int


_keys: ContextVar[_Keys | None] = ContextVar("dropout_keys", default=None)


@contextmanager
def dropout_keys(seed: int, step: int, samples: Sequence[int], *, first_call: int = 0) -> Iterator[None]:
    """In this context dropout's masks are a function of (seed, step, sample, number of the call).

    Args:
        seed: Any integer; its low 64 bits count.
        step: Number of the training step; one forward pass of the whole batch, however it is cut.
        samples: Index in the whole batch, or the data set, of each row of this micro-batch, 0 to 2**64 - 1.  A tensor
            with a multiple of as many rows, as attention's (samples * heads, ...), has that many rows of each in turn.
        first_call: Number of the first call of dropout; each call takes the next.  Enter the context anew for each
            forward pass, and for one that is run again.

    >>> from posit.torch import posit_tensor
    >>> x = posit_tensor(torch.ones(4, 6), "posit16")
    >>> with dropout_keys(seed=1, step=0, samples=range(4)):
    ...     whole = functional.dropout(x, 0.5)
    >>> with dropout_keys(seed=1, step=0, samples=[2, 3]):
    ...     half = functional.dropout(x[2:], 0.5)
    >>> torch.equal(whole.codes[2:], half.codes)
    True
    """
    rows = np.array([int(sample) for sample in samples], np.uint64)
    key = _mixed((_mixed(int(seed) & _WORD) + int(step)) & _WORD)
    token = _keys.set(_Keys(key, rows, first_call))
    try:
        yield
    finally:
        _keys.reset(token)


def keyed() -> bool:
    """Whether a `dropout_keys` context is open."""
    return _keys.get() is not None


@dataclass(slots=True)
class KeyedCalls:
    """The state of a `dropout_keys` context at some moment, to run what follows again with the same masks."""

    keys: _Keys
    first: int

    @staticmethod
    def now() -> "KeyedCalls | None":
        """The state here, or None outside of such a context."""
        keys = _keys.get()
        return None if keys is None else KeyedCalls(keys, keys.calls)

    @contextmanager
    def part(self, rows: slice) -> Iterator[None]:
        """Dropout in this context is that of these samples, as from the remembered state."""
        part = _Keys(self.keys.key, self.keys.samples[rows], self.first)
        token = _keys.set(part)
        try:
            yield
        finally:
            _keys.reset(token)
            self.keys.calls = max(self.keys.calls, part.calls)


def _mixed(x: int) -> int:
    """SplitMix64's output function (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


@dataclass(frozen=True, slots=True)
class _Mask:
    """Which elements one call drops; made again in the backward pass instead of being stored."""

    key: int
    call: int
    samples: npt.NDArray[np.uint64]
    p: float

    def drop(self, codes: npt.NDArray[np.integer], nar: int) -> None:
        """Write 0 over the codes that are dropped."""
        rows = codes.reshape(len(self.samples), -1)
        limit = int((1 - Fraction(self.p)) * (1 << 32))
        kernel = philox.dropper(codes.dtype)
        words = [np.uint64(word) for word in (self.key, self.call, limit)]
        split(
            len(rows),
            3 * codes.size,
            lambda i, j: kernel(rows[i:j], self.samples[i:j], *words, codes.dtype.type(nar)),
        )


def _next_mask(x: torch.Tensor, p: float) -> _Mask:
    """The mask of this call.

    Raises:
        ShapeError: rows that do not belong to the samples of the context.
    """
    keys = _keys.get()
    rows = x.shape[0] if x.ndim else 1
    if keys is None:
        key = int(torch.randint(0, 1 << 62, ()).item())
        return _Mask(key, 0, np.arange(rows, dtype=np.uint64), p)
    if not len(keys.samples) or rows % len(keys.samples):
        raise ShapeError(
            f"dropout got {rows} rows{calling_module()}, but dropout_keys names {len(keys.samples)} samples; "
            "the first dimension must be the samples, or a multiple of them"
        )
    call, keys.calls = keys.calls, keys.calls + 1
    return _Mask(keys.key, call, keys.samples, p)


@register_function(functional.dropout, torch.dropout)
def _dropout(input: PositTensor, p: float = 0.5, *given: bool, **named: bool) -> Any:  # noqa: A002  # PyTorch's name
    """Elements are 0 with probability p, else x / (1 - p); x itself in evaluation.

    The third argument is `training` (torch.dropout calls it `train`), the fourth `inplace`.
    """
    training, inplace = (*given, *(True, False)[len(given) :])
    training = named.get("training", named.get("train", training))
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    result = _Dropout.apply(input, _next_mask(input, p) if input.numel() else None)  # type: ignore[no-untyped-call]
    return input.copy_(result) if named.get("inplace", inplace) else result


class _Dropout(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, mask: _Mask | None) -> Any:
        ctx.mask = mask
        return _masked(x, mask, outcome("dropout", x))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _masked(grad, ctx.mask, outcome("dropout", grad)), None


def _masked(x: PositTensor, mask: _Mask | None, result: Outcome) -> PositTensor:
    if mask is None:
        return result.cast(x)
    kept = 1 - Fraction(mask.p)
    if not kept:
        return result.like(
            torch.where(x.codes == -x.format.nar, -result.format.nar, 0).to(result.cast(x).codes.dtype)
        )
    y = apply(over(kept), x, result)
    mask.drop(to_numpy(y.codes), -result.format.nar)
    return y


refuse(
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    torch.alpha_dropout,
    torch.feature_dropout,
    torch.feature_alpha_dropout,
    torch.native_dropout,
    reason="alpha and feature dropout have no rule for PositTensor{module}; use torch.nn.Dropout",
)
