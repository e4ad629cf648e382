"""Exact gradient sums that take little room between two additions: of their quires only the digits in use are kept.

A quire of posit16 takes 72 bytes while it is worked on.  The gradients of one layer have bits in a narrow band of it
(62 to 75 bits wide in recorded training), so at rest two to four digits of 4 bytes say the same number.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers, _quire_wire
from posit._planes import Factor, Terms
from posit._quire_array import QuireArray
from posit._quire_division import divided
from posit.codec import Codes, signed_storage
from posit.formats import Format
from posit.torch.accumulation import GradientSum, into
from posit.torch.tensor import PositTensor

_TILES = 1 << 16, 1 << 20  #: bytes of quires that are worked on together, at least and at most
_AT_REST = 16  #: bytes of an element, as a rule; a tile takes about as much as its parameter's sums at rest
_DECODED = 1 << 17  #: bytes of factors that are float64 together
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True)
class _Rest:
    """Folded digits low .. high of some quires; below they are 0, above the sign of `top`."""

    low: int
    digits: npt.NDArray[np.uint32]  #: (high - low, elements)
    top: npt.NDArray[np.signedinteger[Any]]  #: digit `high`, signed
    nar: npt.NDArray[np.bool_] | None
    counters: npt.NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.digits.nbytes + self.top.nbytes + (0 if self.nar is None else self.nar.nbytes)


class RestingSum(GradientSum):
    """A `GradientSum` whose quires exist only while something is added, a tile of rows at a time.

    The gradient is the same to the bit: integer sums depend on neither order nor grouping.

    Args:
        parameter: The parameter.
        fmt: Format of the quires; every term must be exact in it.

    >>> import torch
    >>> from posit.torch import posit_tensor
    >>> total = RestingSum(posit_tensor(torch.zeros(2, 3), "posit16"), Format(16))
    >>> x = posit_tensor(torch.tensor([[1.0, 2.0]]), "posit16")
    >>> total.add_product(x.t(), posit_tensor(torch.tensor([[1.0, -1.0, 2.0]]), "posit16"))
    >>> total.gradient(2).tolist(), total.nbytes
    ([[0.5, -0.5, 1.0], [1.0, -1.0, 2.0]], 24)
    """

    def __init__(self, parameter: PositTensor, fmt: Format) -> None:
        self.parameter, self.terms, self.total = parameter, 0, None
        self.quires = self._none = QuireArray((0,), fmt)  # what is worked on
        shape = tuple(parameter.shape)
        self._shape = (shape[0], prod(shape[1:])) if shape else (1, 1)
        per_row = max(self._shape[1], 1) * len(self._none._planes) * 8
        tile = min(max(_AT_REST * prod(shape), _TILES[0]), _TILES[1])
        self._rows = max(tile // per_row, 1)
        self._rest: list[_Rest | None] = [None] * -(-self._shape[0] // self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes at rest."""
        return sum(each.nbytes for each in self._rest if each is not None)

    def add_product(self, a: PositTensor, b: PositTensor, rows: slice = slice(None)) -> None:
        """Add ``a @ b`` to these rows of the parameter, which hold (m, n) elements in that order."""
        start, stop, _ = rows.indices(self._shape[0])
        if a.shape[0] != stop - start:
            with self._whole():
                super().add_product(a, b, rows)
            return
        self.terms += 1
        left, right = self._posits(a), self._posits(b)
        for tile in range(start // self._rows, -(-stop // self._rows)):
            first = tile * self._rows
            low, high = max(start, first), min(stop, first + self._rows)
            quires = self._opened(tile)
            terms = max(_DECODED // (8 * (high - low + b.shape[1])), 32)
            for k in range(0, b.shape[0], terms):
                factors = left[low - start : high - start, k : k + terms], right[k : k + terms]
                quires[low - first : high - first].matmul_add(*factors)
            self._rest[tile] = _resting(quires)

    def add(self, terms: PositTensor) -> None:
        """Add terms of shape (..., *shape of the parameter), summed over what leads."""
        with self._whole():
            super().add(terms)

    def add_at(self, index: npt.NDArray[np.int64], terms: PositTensor) -> None:
        """Add row t of `terms`, shape (count, ...), to row ``index[t]`` of the parameter."""
        with self._whole():
            super().add_at(index, terms)

    def add_sum_of_products(self, a: PositTensor, b: PositTensor) -> None:
        """Add the elementwise products ``a * b`` of shape (..., *shape of the parameter), summed over what leads."""
        with self._whole():
            super().add_sum_of_products(a, b)

    def add_form(
        self,
        operands: Iterable[PositTensor],
        factors: Sequence[Factor],
        terms: Terms,
        shape: tuple[int, int, int],
    ) -> None:
        """Add sums of products of two or three factors, as `posit._planes.sum_products` takes them."""
        with self._whole():
            super().add_form(operands, factors, terms, shape)

    def widen(self) -> None:
        """Make room for products of three factors, once."""
        if self.quires is self._none:
            with self._whole():
                super().widen()
        else:
            super().widen()

    def extent(self) -> _quire_wire.Extent:
        """Which bits of the sum are in use."""
        used = (tile for tile, rest in enumerate(self._rest) if rest is not None)
        return _quire_wire.of_all(_quire_wire.extent(self._opened(tile)) for tile in used)

    def pack(self, start: int, stop: int, at: _quire_wire.Window, out: _quire_wire.Limbs) -> None:
        """Write the limbs of elements start .. stop - 1 to `out`, shape (at.count, stop - start)."""
        size = self._rows * self._shape[1]
        for tile in range(start // size, -(-stop // size)):
            first = tile * size
            low, high = max(start, first), min(stop, first + size)
            part = out[:, low - start : high - start]
            if self._rest[tile] is None:
                part[...] = 0
                continue
            quires = self._opened(tile)
            quires.fold()
            _quire_wire.pack(quires, low - first, high - first, at, part)

    def give_up(self) -> None:
        """Free the memory: the sum is not needed any more."""
        self._rest, self.total = [None] * len(self._rest), None

    def _rounded(self, divisor: int, fmt: Format) -> Codes:
        codes = _buffers.zeros(self._shape, signed_storage(fmt))
        for tile, rest in enumerate(self._rest):
            if rest is not None:
                rows = slice(tile * self._rows, (tile + 1) * self._rows)
                codes[rows] = divided(self._opened(tile), divisor, fmt)
        return codes

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """All quires, for parameters that are small or added to in other ways than by products."""
        self.quires = QuireArray(tuple(self.parameter.shape), self._none.format, self._none.variant)
        flat = self.quires.reshape(self._shape)
        for tile, rest in enumerate(self._rest):
            if rest is not None:
                _open(rest, flat, slice(tile * self._rows, (tile + 1) * self._rows))
        try:
            yield
        finally:
            self.quires.fold()
            flat = self.quires.reshape(self._shape)  # they may have been widened
            for tile in range(len(self._rest)):
                self._rest[tile] = _resting(flat[tile * self._rows : (tile + 1) * self._rows])
            self.quires = self._none = QuireArray((0,), self.quires.format, self.quires.variant)

    def _opened(self, tile: int) -> QuireArray:
        rows = min(self._rows, self._shape[0] - tile * self._rows)
        quires = QuireArray((rows, self._shape[1]), self._none.format, self._none.variant)
        rest = self._rest[tile]
        if rest is not None:
            _open(rest, quires, slice(None))
        return quires


def _resting(quires: QuireArray) -> _Rest | None:
    quires.fold()
    planes = quires._planes.reshape(len(quires._planes), -1)
    digits, nar = planes[:-1], planes[-1] != 0
    used = np.flatnonzero(digits.any(axis=1))
    if not len(used) and not nar.any():
        return None
    low, high = int(used[0]) if len(used) else len(digits) - 1, len(digits) - 1
    top = digits[high]
    while high > low and _is_sign(top):
        lower = digits[high - 1] + (top << 32)
        if lower.min() < _INT32.min or lower.max() > _INT32.max:
            break
        top, high = lower, high - 1
    narrow = _INT32.min <= top.min() and top.max() <= _INT32.max
    return _Rest(
        low,
        _kept(digits[low:high], np.uint32),
        _kept(top, np.int32 if narrow else np.int64),
        nar if nar.any() else None,
        quires._storage.counters.copy(),
    )


def _kept(digits: npt.NDArray[np.int64], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    copy = _buffers.empty(digits.shape, dtype)
    copy[...] = digits
    return copy


def _is_sign(digit: npt.NDArray[np.int64]) -> bool:
    return bool(digit.min() >= -1 and digit.max() <= 0)


def _open(rest: _Rest, quires: QuireArray, rows: slice) -> None:
    """Write to quires that are 0; digits may be signed, so what is above `top` stays 0."""
    part = quires[rows]
    planes, shape = part._planes, part.shape
    high = rest.low + len(rest.digits)
    planes[rest.low : high] = rest.digits.reshape(-1, *shape)
    planes[high] = rest.top.reshape(shape)
    if rest.nar is not None:
        planes[-1] = rest.nar.reshape(shape)
    counters = quires._storage.counters
    np.maximum(counters, rest.counters, out=counters)


@contextmanager
def resting_sums(parameters: Iterable[PositTensor], fmt: Format | None) -> Iterator[list[RestingSum]]:
    """As `posit.torch.gradient_sums`, with sums that take little room at rest.

    Args:
        parameters: Leaves of the autograd graph.
        fmt: Format of the quires; by default each parameter's own.
    """
    made = [RestingSum(parameter, fmt or parameter.format) for parameter in parameters]
    with into(made):
        yield made
