r"""Arrays of quires on the wire: integers of 64 bits whose plain sum over all ranks is the exact sum.

Each rank cuts every quire into limbs of `width` bits, in two's complement: with v the value in units of 2**low,

    v = sum over t of limb[t] * 2**(width t),   0 <= limb[t] < 2**width,   but for the last, which has the sign.

**Headroom.**  Let there be R ranks and width = 62 - r with r = ceil(log2 R), so that R <= 2**r.  The window is chosen
so that -2**(width count) <= v < 2**(width count) on every rank (`window`), hence the last limb, floor(v / 2**(width
(count - 1))), lies in -2**width .. 2**width - 1 too.  Every limb of every rank is at most 2**width in magnitude, so any
partial sum over ranks, in any order and grouping, is at most R * 2**width <= 2**62 in magnitude: no addition of int64
overflows, all of them are exact, and integer addition is associative and commutative.  By linearity the summed limbs
stand for the sum of the values.  Nothing is rounded, so neither the number of ranks nor the algorithm of the reduction
(ring, tree, halving) changes a bit.  At 1024 ranks a limb has 52 bits.  Limbs that are cut from `posit._bands` have
signs and are at most 2**width + 1 in magnitude, so sums are within 2**62 + R, still far from 2**63.

**Window.**  `low` is the lowest bit set anywhere in the tensor on any rank, `high` the bits that the largest magnitude
needs on any rank: one reduction by maximum of (high, -low).  Only the limbs between the two travel; which they are
changes the bytes, not the sum.  The window is in powers of two, so it does not depend on how wide the quires of a rank
are; but every rank's must reach down to `low` (`posit._quire_forms.widened`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posit._kernels import wire as kernels
from posit._quire_array import QuireArray
from posit._quire_storage import plane_length
from posit._threads import split
from posit.errors import QuireError

Limbs = npt.NDArray[np.int64]
MOST_RANKS = 1 << 30
_NOTHING = -(1 << 30)  #: (high, -low) of zeros


def limb_bits(ranks: int) -> int:
    """Bits of a limb, so that sums over so many ranks fit.

    Raises:
        QuireError: no rank, or more than 2**30.

    >>> [limb_bits(ranks) for ranks in (1, 2, 3, 1024)]
    [62, 61, 60, 52]
    """
    if not 1 <= ranks <= MOST_RANKS:
        raise QuireError(f"limbs have room for 1 to {MOST_RANKS} ranks, got {ranks}")
    return 62 - (ranks - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Extent:
    """Which bits of an array of quires are in use, as powers of two: the same for every variant of a format."""

    high: int  #: -2**high <= value < 2**high
    minus_low: int  #: every value is a multiple of 2**-minus_low
    nar: bool  #: an element is NaR


NOTHING = Extent(_NOTHING, _NOTHING, False)  #: of zeros


@dataclass(frozen=True, slots=True)
class Window:
    """The limbs that travel."""

    low: int  #: weight of the first bit, as a power of two
    count: int  #: limbs of an element; 0 where all elements are 0 on all ranks
    width: int  #: bits of a limb


def extent(quires: QuireArray) -> Extent:
    """The bits in use; folds.

    >>> import posit
    >>> extent(QuireArray.from_posit(posit.array([0.75, -2.0], "posit16")))
    Extent(high=1, minus_low=2, nar=False)
    """
    flat = _whole(quires)
    quires.fold()
    found = np.zeros((2, len(flat)), np.int64)

    def run(start: int, stop: int) -> None:
        part = np.zeros_like(found)
        kernels.extent(start, stop, flat, part)
        np.bitwise_or(found, part, out=found)  # one call of NumPy, under the interpreter's lock

    split(quires.size, 2 * flat.size, run)
    nar = bool(found[0, -1])
    used, beyond = (np.flatnonzero(row[:-1]) for row in found)
    if not len(used):
        return Extent(_NOTHING, _NOTHING, nar)
    lsb = quires._storage.layout.lsb
    high = 32 * int(beyond[-1]) + int(found[1, beyond[-1]]).bit_length() if len(beyond) else 0
    digit = int(found[0, used[0]])
    low = 32 * int(used[0]) + (digit & -digit).bit_length() - 1
    return Extent(high + lsb, -(low + lsb), nar)


def window(high: int, minus_low: int, ranks: int) -> Window:
    """The limbs for values of these extents' maxima over all ranks.

    >>> window(1, 2, 2), window(48, 52, 2).count
    (Window(low=-2, count=1, width=61), 2)
    """
    width = limb_bits(ranks)
    if high == _NOTHING:
        return Window(0, 0, width)
    low = -minus_low
    return Window(low, max(1, -(-(high - low) // width)), width)


def pack(quires: QuireArray, start: int, stop: int, at: Window, out: Limbs) -> None:
    """Write the limbs of elements start .. stop - 1 to `out`, shape (at.count, stop - start).

    `extent` must have been called since the quires changed: it folds them.
    """
    flat, low = _whole(quires), at.low - quires._storage.layout.lsb
    _parts(start, stop, out, lambda i, j, part: kernels.pack(i, j, flat, low, at.width, part))


def unpack(quires: QuireArray, start: int, stop: int, at: Window, limbs: Limbs) -> None:
    """Replace elements start .. stop - 1 by what summed limbs stand for; call `settle` when all are replaced."""
    flat, low = _whole(quires), at.low - quires._storage.layout.lsb
    _parts(start, stop, limbs, lambda i, j, part: kernels.unpack(i, j, part, low, at.width, flat))


def settle(quires: QuireArray) -> None:
    """Carry, after `unpack` of all elements; a sum that does not fit the quire becomes NaR."""
    quires._storage.settle()


def _parts(start: int, stop: int, limbs: Limbs, run: Callable[[int, int, Limbs], object]) -> None:
    if not limbs.size:
        return

    def part(first: int, last: int) -> None:
        run(start + first, start + last, limbs[:, first:last])

    split(stop - start, 2 * limbs.size, part)


def _whole(quires: QuireArray) -> Limbs:
    """The planes of an array that is no view of another."""
    planes = quires._storage.planes
    if plane_length(quires.size) != planes.shape[1]:
        raise QuireError("only whole arrays of quires travel; take a copy() of this view")
    return planes
