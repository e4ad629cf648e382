r"""Sums of products of planes of posits, exact and rounded once: bilinear and trilinear forms, element by element.

A form is a table of terms, each a sign and one plane of every factor (:class:`Terms`).  For each element of a batch,
and each plane of the result, it is the exact sum over the terms, and over what is summed of the batch, rounded once.

The sums are formed in float64 in pieces that fit the cache.  Where all partial sums are exact by range, and where both
ends of the error interval round to the same code, that is the result; the others are summed in integer limbs.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import certificate
from posit._kernels import planes as kernels
from posit._quire_array import QuireArray
from posit._threads import split
from posit.codec import Codes, decode, signed_storage
from posit.errors import FormatError
from posit.formats import Format

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_LANES = 2048  #: of a piece
_ELEMENTS = 1 << 15  #: decoded numbers of a factor in a piece, where it is some rows
_UNIT = 2.0**-53
_REACH = 900  #: powers of two that products may span on either side of 1, inside float64's normal range


class Terms:
    """The terms of every plane of a result.

    Args:
        planes: For each plane of the result its terms: a sign and the plane of each of two or three factors.

    >>> Terms([[(1, (0, 0)), (-1, (1, 1))], []]).longest  # out[0] = x[0] y[0] - x[1] y[1], out[1] = 0
    2
    """

    def __init__(self, planes: Iterable[Iterable[tuple[int, tuple[int, ...]]]]) -> None:
        self.planes = tuple(tuple(terms) for terms in planes)
        rows = [(*places, *(0,) * (3 - len(places)), sign) for terms in self.planes for sign, places in terms]
        counts = [len(terms) for terms in self.planes]
        self.rows: Integers = np.array(rows, np.int64).reshape(-1, 4)
        self.starts: Integers = np.cumsum([0, *counts], dtype=np.int64)
        self.longest = max(counts, default=0)

    def __len__(self) -> int:
        return len(self.planes)


@dataclass(frozen=True)
class Factor:
    """Codes of one factor.

    The last axis may also have a length that divides the number of lanes, where nothing is summed and `outer` is 1:
    then the factor repeats along the lanes.
    """

    codes: Codes  #: signed or unsigned, shape (planes, outer or 1, summed or 1, lanes or 1)
    format: Format


@dataclass(frozen=True)
class Summed:
    """What `sum_products` found."""

    codes: Codes  #: signed, shape (planes, outer, lanes)
    open: Integers  #: flat places that float64 did not decide, in order


def sum_products(factors: Sequence[Factor], terms: Terms, to: Format, shape: tuple[int, int, int]) -> Summed:
    """Evaluate a form on two or three factors; every element of the result is one exact sum, rounded once.

    Args:
        factors: Two or three, in the order of the terms' planes; formats of at most 32 bits, and they may differ.
        terms: Which planes are multiplied.
        to: Format of the result.
        shape: (outer, summed, lanes): what the factors' axes broadcast to.

    Returns:
        Codes; NaR where a term has a factor NaR, 0 where a plane has no terms or all its terms have a factor 0.

    Raises:
        FormatError: products may leave float64's range.

    >>> from posit import posit16
    >>> two = Factor(np.full((1, 1, 1, 1), 0x4800, np.int16), posit16)  # 2
    >>> sum_products((two, two), Terms([[(1, (0, 0))]]), posit16, (1, 1, 1)).codes  # 4
    array([[[20480]]], dtype=int16)
    """
    outer, _, lanes = shape
    out = _buffers.empty((len(terms), outer, lanes), signed_storage(to))
    job = _job(factors, terms, shape)
    found: list[Integers] = []

    def run(rows: slice, columns: slice) -> None:
        places = job.evaluate(rows, columns, to, out)
        if places is not None:
            found.append(places)

    job.run(run)
    return Summed(out, np.sort(np.concatenate(found)) if found else np.empty(0, np.int64))


def add_sums(
    quires: QuireArray, factors: Sequence[Factor], terms: Terms, shape: tuple[int, int, int]
) -> None:
    """Add the exact sums of a form to quires, which hold products of so many factors; see `posit._quire_forms`."""
    outer, summed, lanes = shape
    storage, planes = quires._storage, quires._planes
    storage.require_writable()
    job = _job(factors, terms, shape)
    storage.reserve(2)  # folded digits
    flat = planes.reshape(len(planes), len(terms), outer, lanes)
    job.run(lambda rows, columns: job.add(rows, columns, flat[:, :, rows, columns], storage.layout.lsb))
    if not np.may_share_memory(flat, planes):
        planes[...] = flat.reshape(planes.shape)
    storage.load(terms.longest * summed)


def workspace(
    factors: Sequence[tuple[int, ...]], planes: int, shape: tuple[int, int, int], width: int
) -> int:
    """Bytes that `sum_products` holds at most besides its result, on one thread.

    Args:
        factors: Shapes of the factors' codes, as :class:`Factor` has them.
        planes: Of the result.
        shape: (outer, summed, lanes).
        width: Bytes of a code of the result.
    """
    rows, columns = _piece_size(factors, shape)
    parts = [_part(each, rows, columns) for each in factors]
    elements = planes * rows * columns
    return 8 * sum(map(math.prod, parts)) + elements * (8 + 8 + width + 1)


def _job(factors: Sequence[Factor], terms: Terms, shape: tuple[int, int, int]) -> "_Job":
    if sum(max(each.format.max_scale, -each.format.lsb_scale) for each in factors) > _REACH:
        names = ", ".join(each.format.name for each in factors)
        raise FormatError(f"products of {names} leave float64's range; use fewer exponent bits")
    gamma = _gamma(terms.longest, len(factors), shape[1])
    piece = _piece_size([each.codes.shape for each in factors], shape)
    return _Job(factors, terms, shape, gamma, piece, _whole(factors, shape, piece[1]))


def _gamma(terms: int, factors: int, summed: int) -> float:
    """Bound of the relative error of a float64 sum of products, against the sum of magnitudes as computed.

    A sum of m products of f factors is rounded m + f times at most, and so is that of magnitudes.
    """
    return (terms * summed + 2 * factors + 4) * _UNIT * (1 + 2.0**-18)


def _piece_size(factors: Sequence[tuple[int, ...]], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Whole periods of lanes, or some rows of them."""
    outer, _, lanes = shape
    period = max([each[3] for each in factors if each[3] < lanes], default=1)
    columns = max(1, min(lanes, period * max(1, _LANES // period)))
    moving = [each[0] * each[2] * each[3] for each in factors if each[1] > 1]
    rows = max(1, _ELEMENTS // max([columns, *moving])) if columns >= lanes else 1
    return max(1, min(rows, outer)), columns


def _whole(factors: Sequence[Factor], shape: tuple[int, int, int], columns: int) -> list[Floats | None]:
    """Values of the factors that every piece needs whole: without rows, and with one lane, or where none are cut."""
    widths = {1, shape[2]} if columns >= shape[2] else {1}
    return [
        np.asarray(decode(each.codes, each.format), np.float64)
        if each.codes.shape[1] == 1 and each.codes.shape[3] in widths
        else None
        for each in factors
    ]


def _part(shape: tuple[int, ...], rows: int, columns: int) -> tuple[int, ...]:
    """Shape of a decoded piece."""
    planes, outer, summed, lanes = shape
    return planes, min(outer, rows), summed, lanes if lanes == 1 else columns


@dataclass(frozen=True)
class _Job:
    factors: Sequence[Factor]
    terms: Terms
    shape: tuple[int, int, int]
    gamma: float
    piece: tuple[int, int]  #: rows and columns
    whole: Sequence[Floats | None]  #: values of the factors that every piece needs whole

    def run(self, work: Callable[[slice, slice], None]) -> None:
        """Do something with the rows and columns of every piece, on several threads where it is much."""
        (outer, summed, lanes), (rows, columns) = self.shape, self.piece
        across, down = -(-lanes // columns), -(-outer // rows)

        def some(start: int, stop: int) -> None:
            for piece in range(start, stop):
                a, t = piece // across * rows, piece % across * columns
                work(slice(a, min(a + rows, outer)), slice(t, min(t + columns, lanes)))

        split(across * down, outer * summed * lanes * max(len(self.terms.rows), 1) // 2, some)

    def _sums(self, rows: slice, columns: slice) -> tuple[tuple[Any, ...], Floats, Floats]:
        """What the kernels take of one piece, float64 sums, and their bounds."""
        decoded = [self._decoded(place, rows, columns) for place in range(len(self.factors))]
        three = len(decoded) == 3
        x, y, w = decoded if three else (*decoded, np.empty((0, 1, 1, 1)))
        size = len(self.terms), rows.stop - rows.start, columns.stop - columns.start
        values, errors = _buffers.empty(size), _buffers.empty(size)
        given = x, y, w, three, self.terms.rows, self.terms.starts
        kernels.sums(*given, self.gamma, values, errors)
        return given, values, errors

    def add(self, rows: slice, columns: slice, planes: Integers, lsb: int) -> None:
        """Add one piece to quires, shape (digits and mark, planes, rows, columns)."""
        given, values, errors = self._sums(rows, columns)
        kernels.add_to_quires(*given, values, errors, planes, lsb)

    def evaluate(self, rows: slice, columns: slice, to: Format, out: Codes) -> Integers | None:
        """Write one piece; returns the flat places in `out` that were open, if any."""
        given, values, errors = self._sums(rows, columns)
        size = values.shape
        codes, unsure = _buffers.empty(values.size, out.dtype), _buffers.empty(values.size, np.bool_)
        certify = certificate.certify_values(*to.parameters, out.dtype)
        undecided = certify(values.reshape(-1), errors.reshape(-1), codes, unsure)
        places = np.flatnonzero(unsure) if undecided else None
        if places is not None:
            settled, (limbs, base) = np.empty(places.size, np.int64), self._limbs()
            kernels.settle(*given, places, *size[1:], limbs, base, *to.parameters, settled)
            codes[places] = settled
            plane, row, column = np.unravel_index(places, size)
            places = np.ravel_multi_index((plane, row + rows.start, column + columns.start), out.shape)
        out[:, rows, columns] = codes.reshape(size)
        return places

    def _decoded(self, place: int, rows: slice, columns: slice) -> Floats:
        whole, factor = self.whole[place], self.factors[place]
        if whole is not None:
            return whole
        codes, width = factor.codes, columns.stop - columns.start
        period = codes.shape[3]
        if codes.shape[1] > 1:
            return np.asarray(decode(codes[:, rows], factor.format))
        if period == self.shape[2]:
            return np.asarray(decode(codes[..., columns], factor.format))
        values = np.asarray(decode(codes, factor.format))
        repeated = _buffers.empty((*codes.shape[:3], width))
        for start in range(0, width, period):
            repeated[..., start : start + period] = values
        return repeated

    def _limbs(self) -> tuple[Integers, int]:
        """Digits for every product, 64 bits of carry above and a float64 below; and the weight of the first."""
        formats = [each.format for each in self.factors]
        base = sum(fmt.lsb_scale for fmt in formats) - 52
        top = sum(fmt.max_scale + 1 for fmt in formats) + 64
        return np.empty((top - base) // 32 + 4, np.int64), base
