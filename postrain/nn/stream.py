"""A residual stream in fixed point: what is added to it can be taken away again, to the bit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from posit import _buffers
from posit.codec import decode, encode, signed_storage
from posit.formats import Format
from posit.torch import Policy, PositTensor
from posit.torch.tensor import to_numpy
from postrain.errors import OptionsError

_TILE = 1 << 14  #: elements that are float64 together
_LIMIT = 2.0**31


class Unrepresentable(ArithmeticError):
    """A sum that the stream cannot hold: its value, NaN for NaR."""

    def __init__(self, value: float) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True, slots=True)
class Kind:
    """What blocks take and return: posits of a format and policy, or float32 (no format)."""

    format: Format | None
    policy: Policy | None

    @property
    def gradients(self) -> Format | None:
        """Format of gradients with respect to the stream."""
        return self.format if self.policy is None else self.policy.gradients

    def wrap(self, codes: Tensor) -> Tensor:
        """Codes as what blocks take."""
        return codes if self.format is None else PositTensor(codes, self.format, policy=self.policy)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Memory for codes (or float32 numbers) of this shape."""
        dtype = np.dtype(np.float32) if self.format is None else signed_storage(self.format)
        return torch.from_numpy(_buffers.empty(shape, dtype))


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Numbers k / 2**n with k of 32 bits: Qm.n with m = 31 - n bits before the point, and a sign.

    Reading a number rounds it once to posits (or to float32).  What is added is rounded once to the nearest multiple
    of 2**-n, ties to even, and the sum of integers is exact, so that subtracting the same again restores every bit.

    Raises:
        OptionsError: n lies outside of 0 to 31.

    Source:
        Reversible residual networks: Gomez et al., arXiv 1707.04585; bit-exact reversal by fixed point: MacKay et al.,
        Reversible recurrent neural networks, arXiv 1810.10999.

    >>> FixedPoint(20)
    FixedPoint(fraction_bits=20)
    >>> FixedPoint(20).name, FixedPoint(20).largest
    ('Q11.20', 2048.0)
    """

    fraction_bits: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.fraction_bits <= 31:
            raise OptionsError(f"a stream has 0 to 31 bits behind the point, got {self.fraction_bits}")

    @classmethod
    def for_range(cls, largest: float, headroom: int = 3) -> "FixedPoint":
        """The finest format in which `headroom` bits are left above the largest magnitude.

        >>> FixedPoint.for_range(5.0).name
        'Q6.25'
        """
        bits = math.frexp(largest)[1] if largest > 0 else 0
        return cls(min(max(31 - headroom - bits, 0), 31))

    @property
    def name(self) -> str:
        """As it is written, Qm.n."""
        return f"Q{31 - self.fraction_bits}.{self.fraction_bits}"

    @property
    def largest(self) -> float:
        """The least positive number that is too large."""
        return 2.0 ** (31 - self.fraction_bits)

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """A stream of zeros: int32."""
        return torch.zeros(shape, dtype=torch.int32)

    def read(self, stream: Tensor, kind: Kind) -> Tensor:
        """What a block is given: every number rounded once."""
        unit = 2.0**-self.fraction_bits
        if isinstance(stream, FakeTensor):
            return torch.empty(stream.shape)
        if kind.format is None:
            return (stream.double() * unit).float()
        result = kind.empty(tuple(stream.shape))
        k, codes = to_numpy(stream).reshape(-1), to_numpy(result).reshape(-1)
        reals = _buffers.empty(min(_TILE, k.size))
        for part in _tiles(k.size):
            some = reals[: part.stop - part.start]
            np.multiply(k[part], unit, out=some)
            encode(some, kind.format, codes.dtype, out=codes[part])
        return kind.wrap(result)

    def add(self, stream: Tensor, y: Tensor, sign: int = 1) -> None:
        """Add a block's output to the stream in place, or take it away (`sign` -1).

        Raises:
            Unrepresentable: a sum needs more than 32 bits, or `y` holds NaR; the stream is not usable any more.
        """
        if isinstance(stream, FakeTensor):
            return
        if not isinstance(y, PositTensor):
            self._add_floats(stream, y.detach(), sign)
            return
        scale = sign * 2.0**self.fraction_bits
        k, codes = to_numpy(stream).reshape(-1), to_numpy(y.codes.contiguous()).reshape(-1)
        reals = _buffers.empty(min(_TILE, k.size))
        for part in _tiles(k.size):
            some = decode(codes[part], y.format, np.float64, out=reals[: part.stop - part.start])
            some *= scale
            np.rint(some, out=some)
            some += k[part]  # exact below 2**53, and larger sums are refused
            if not (some.min() >= -_LIMIT and some.max() < _LIMIT):
                raise Unrepresentable(_worst(some) / 2.0**self.fraction_bits)
            k[part] = some

    def _add_floats(self, stream: Tensor, y: Tensor, sign: int) -> None:
        total = (y.double() * (sign * 2.0**self.fraction_bits)).round() + stream
        if not bool(((total >= -_LIMIT) & (total < _LIMIT)).all()):
            raise Unrepresentable(_worst(total.numpy()) / 2.0**self.fraction_bits)
        stream.copy_(total)


def _worst(sums: Any) -> float:
    return float("nan") if np.isnan(sums).any() else float(sums.flat[np.abs(sums).argmax()])


def _tiles(size: int) -> Iterator[slice]:
    for start in range(0, size, _TILE):
        yield slice(start, min(start + _TILE, size))
