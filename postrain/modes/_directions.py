"""Random directions in the space of weights, made again from a counter wherever they are needed, never stored."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from posit import _buffers
from posit.codec import encode, signed_storage
from posit.fused import Term, combination
from posit.torch import PositTensor
from posit.torch.tensor import to_numpy
from postrain.memory.purposes import TANGENTS, purpose

_TILE = 1 << 14


class Directions:
    """Standard normal directions, numbered: each a function of (seed, step, number, what it is for) alone.

    For posits the numbers are rounded once to the parameter's format.

    >>> w = torch.zeros(2)
    >>> first = Directions(seed=0, step=1).like(w, 0, 0)
    >>> torch.equal(first, Directions(seed=0, step=1).like(w, 0, 0)), torch.equal(first, Directions(0, 2).like(w, 0, 0))
    (True, False)
    """

    def __init__(self, seed: int, step: int) -> None:
        self._text = f"{seed} {step}"

    def like(self, x: Tensor, number: int, place: int) -> Tensor:
        """Direction `number` of the tensor at `place` (of a parameter, its index), shaped as `x`."""
        with purpose(TANGENTS):
            return torch.empty(x.shape) if isinstance(x, FakeTensor) else self._drawn(x, number, place)

    def _drawn(self, x: Tensor, number: int, place: int) -> Tensor:
        key = hashlib.blake2b(f"{self._text} {number} {place}".encode(), digest_size=16).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        fmt = x.format if isinstance(x, PositTensor) else None
        flat = _buffers.empty(x.numel(), np.float32 if fmt is None else signed_storage(fmt))
        for start in range(0, len(flat), _TILE):
            part = flat[start : start + _TILE]
            drawn = rng.standard_normal(len(part))
            part[...] = drawn if fmt is None else encode(drawn, fmt, flat.dtype)
        made = torch.from_numpy(flat.reshape(tuple(x.shape)))
        return PositTensor(made, fmt, policy=x.policy) if isinstance(x, PositTensor) and fmt else made

    def moved(self, x: Tensor, number: int, place: int, by: float) -> Tensor:
        """``x + by * direction``: exact and rounded once for posits; what is stored (codes) of it."""
        direction = self.like(x, number, place)
        if isinstance(x, PositTensor):
            return torch.from_numpy(combination([_term(1.0, x), _term(by, direction)], x.format))
        return x.detach() + by * direction

    def combined(self, x: Tensor, slopes: Sequence[float], place: int) -> Tensor:
        """The mean of ``slope * direction``, of the directions in turn; exact and rounded once for posits."""
        count = len(slopes)
        if isinstance(
            x, FakeTensor
        ):  # of a walk that stands for posits too: all directions together, and the result
            held = [self.like(x, number, place) for number in range(count)]
            return torch.empty(held[0].shape)
        if isinstance(x, PositTensor):
            fmt = x.format if x.policy is None else x.policy.gradients
            terms = [
                _term(Fraction(slope) / count, self.like(x, number, place))
                for number, slope in enumerate(slopes)
            ]
            return PositTensor(torch.from_numpy(combination(terms, fmt)), fmt, policy=x.policy)
        total = torch.zeros_like(x)
        for number, slope in enumerate(slopes):
            total += slope / count * self.like(x, number, place)
        return total


def _term(coefficient: float | Fraction, x: Tensor) -> Term:
    assert isinstance(x, PositTensor)
    return Term(coefficient, to_numpy(x.codes.contiguous()), x.format)
