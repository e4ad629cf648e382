"""The planes of an array of quires, shared by all its views, and the accounts of what was added to them."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import quire as kernels
from posit._quire_layout import QuireLayout
from posit._threads import split
from posit.errors import QuireError, ShapeError

Planes = npt.NDArray[np.int64]
Counters = npt.NDArray[np.int64]

ADDS_BEFORE_FOLD = 1 << 29  #: additions to a digit, each of less than 2**32
LOADS_BEFORE_CHECK = (1 << 31) - 1  #: products that the 31 carry bits hold
_ADDS, _LOAD = 0, 1
_FOLDED = 2  # a folded digit counts as so many additions


def plane_length(elements: int) -> int:
    """Distance of two planes: the elements, and 32 more where planes would lie near a multiple of 2 KiB apart.

    An addition reads from the next plane right after it wrote to one; at such distances processors take both for
    the same place (4 KiB aliasing) and wait, which doubled the time of a product's additions.

    >>> plane_length(100), plane_length(512 * 512)
    (100, 262176)
    """
    near = elements >= 256 and not 16 <= elements % 256 <= 240
    return elements + 32 if near else elements


def zeros(layout: QuireLayout, shape: tuple[int, ...]) -> "Storage":
    """Storage of quires that are 0."""
    planes = _buffers.zeros((layout.digits + 1, plane_length(prod(shape))), np.int64)
    return Storage(layout, planes, np.zeros(2, np.int64))


@dataclass(frozen=True)
class Storage:
    """Planes and two counters, valid for every element.

    counters[0] bounds the additions since the digits were folded: |digit| < 2**32 * counters[0].  counters[1]
    bounds the value in products: |value| <= counters[1] * 2**(lsb + unit).
    """

    layout: QuireLayout
    planes: (
        Planes  #: (digits + 1, `plane_length` of the elements) in C order; what is beyond the elements is 0
    )
    counters: Counters

    def view(self, shape: tuple[int, ...]) -> Planes:
        """The planes of all elements, shape (digits + 1, *shape)."""
        return self.planes[:, : prod(shape)].reshape(len(self.planes), *shape)

    def reserve(self, adds: int) -> None:
        """Make room for additions to any digit; folds where the allowance is used up."""
        if self.counters[_ADDS] + adds > ADDS_BEFORE_FOLD:
            self.fold()
        self.counters[_ADDS] += adds

    def load(self, products: int) -> None:
        """Note an operation of so many products, after it; where it may have overflowed, look."""
        self.counters[_LOAD] += products
        if self.counters[_LOAD] > LOADS_BEFORE_CHECK:
            self.settle()

    def reserve_for(self, other: "Storage") -> int:
        """Make room for the digits of another array (or of this one); returns the products they stand for."""
        if self.counters[_ADDS] + other.counters[_ADDS] > ADDS_BEFORE_FOLD:
            self.fold()
        self.counters[_ADDS] += other.counters[_ADDS]
        return int(other.counters[_LOAD])

    def fold(self) -> None:
        """Propagate the carries of all digits."""
        flat = self.planes
        split(flat.shape[1], 2 * flat.size, lambda start, stop: kernels.fold(start, stop, flat))
        self.counters[_ADDS] = _FOLDED

    def settle(self) -> None:
        """Fold, make NaR of what overflowed, and count the load anew."""
        flat = self.planes
        loads = [0]

        def run(start: int, stop: int) -> None:
            loads.append(kernels.settle(start, stop, flat, self.layout.bits, self.layout.unit))

        split(flat.shape[1], 8 * flat.size, run)
        self.counters[_ADDS], self.counters[_LOAD] = _FOLDED, max(loads)

    def require_writable(self) -> None:
        """Refuse to write to a file that was opened for reading.

        Raises:
            QuireError: the storage is read-only.
        """
        if not self.planes.flags.writeable:
            raise QuireError("these quires are read-only: open the file with mode 'r+', or take a copy()")

    def flush(self) -> None:
        """Write what is pending to the file, if there is one."""
        base: Any = self.planes
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        if base is not None:
            base.flush()

    def copy_of(self, planes: Planes) -> "Storage":
        """Storage of its own for the elements of one view."""
        copy = zeros(self.layout, planes.shape[1:])
        copy.view(planes.shape[1:])[...] = planes
        copy.counters[...] = self.counters
        return copy


def flat_copy(planes: Planes, layout: QuireLayout) -> Planes:
    """Settled planes (digits + 1, elements) of an array or view, in new memory."""
    flat = np.array(planes, order="C").reshape(len(planes), prod(planes.shape[1:]))
    kernels.settle(0, flat.shape[1], flat, layout.bits, layout.unit)
    return flat


def reshaped(planes: Planes, axes: tuple[int, ...]) -> Planes:
    """A view of the planes for another shape of the elements.

    Raises:
        ShapeError: the number of elements differs, or strides allow no view.
    """
    shape = planes.shape[1:]
    try:
        wanted = np.empty(shape, np.bool_).reshape(axes).shape
    except ValueError as error:
        raise ShapeError(f"quires of shape {shape} do not reshape to {axes}: {error}") from None
    view = planes.reshape(len(planes), *wanted)
    if planes.size and not np.may_share_memory(view, planes):
        raise ShapeError(f"this view of shape {shape} has no view of shape {wanted}; reshape its copy()")
    return view
