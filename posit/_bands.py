"""Exact sums of products of posits in a few float64 limbs: what a quire holds, within the band of bits in use.

Gradients of one layer have bits in a narrow band (62 to 75 bits wide in recorded training), so two limbs, 16 bytes,
hold a sum for which a quire of posit16 takes 72, and BLAS forms what is added.

*Limbs.*  Limb t is a multiple of its unit u_t = 2**(base + 40 t); the sum is the sum of the limbs.  A float64 x, a
multiple of u_0 of magnitude at most 2**51 units of the last limb, is added from the last limb down: the multiple of
the limb's unit next to what is left of x goes to the limb, and what is left then, exactly representable, is at most
half of that unit.  So each addition changes limb t, unless it is the last, by at most u_(t + 1) / 2 = 2**39 u_t:
after 2**12 of them it is within 2**51 units, and every float64 addition is exact.  Then `carry` makes it as small as
a single addition does.  The last limb holds sums to 2**51 of its units, and the halves of rounding and carries: less
than 2**53 units.  Limbs are added above or below where that does not suffice.

*Products.*  Rows of A and columns of B are cut into slices of u and v bits below their largest magnitude, k 2**(u + v)
<= 2**53, as in `posit._quire_matmul`: float64 forms products of slices without rounding, in any order of summation.
"""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import frexp, ldexp

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import bands as kernels
from posit._kernels import convert, quire_products
from posit._quire_array import QuireArray
from posit._quire_layout import QuireLayout, layout
from posit._quire_matmul import in_float64
from posit._quire_wire import NOTHING, Extent, Limbs, Window, pack
from posit._threads import split
from posit.codec import Codes, encode_rational, signed_storage
from posit.formats import Format
from posit.rounding import certified, divide

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Otherwise = Callable[
    [Codes, Codes, int], object
]  #: told of factors that were not added, and of their first row

LIMBS = 2  #: of a sum, as a rule
_ADDS = 1 << 12  #: additions between two carries
_SLACK = 6  #: bits that new limbs have to spare, at least
_MOST_SLICES = 16  #: products of slices for one product of matrices; beyond it quires are cheaper
_HIGHEST = 960  #: units of limbs are below this power of two
_CACHED = 1 << 17  #: float64 numbers that a thin product works on, which moves more memory than it multiplies
_LEAST_ROOM = 1 << 14  #: float64 numbers that a product may always work on
_DEPTH = 4096  #: terms that are summed in one float64 product
_CHUNK = 1 << 14  #: sums that are rounded together
_INFINITY = np.int64(0x7FF0000000000000)


def workspace(m: int, k: int, n: int) -> int:
    """Bytes that adding a product (m, k) @ (k, n) works on, if both factors are sliced; less than forming it takes.

    >>> from posit._matmul import matmul_workspace
    >>> workspace(64, 128, 256), matmul_workspace(64, 128, 256)
    (294912, 468288)
    """
    rows, depth = _tile(m, k, n)
    return 8 * (2 * depth * (rows + n) + rows * n)


def reading_workspace(size: int) -> int:
    """Bytes that rounding so many sums works on: values, their errors, what is undecided, and codes.

    >>> reading_workspace(1000)
    19000
    """
    return 19 * min(size, _CHUNK)


def _tile(m: int, k: int, n: int) -> tuple[int, int]:
    """Rows and terms that are taken together: decoded, one slice of each factor, and a product of slices."""
    room = max(min((m * k + k * n + m * n) * 3 // 4, max(_CACHED, 3 * m * n)), _LEAST_ROOM)
    depth = max(1, min(k, _DEPTH))
    while depth > 32 and 2 * depth * (m + n) + m * n > room:
        depth = -(-depth // 2)
    rows = max(1, min(m, (room - 2 * depth * n) // (2 * depth + n)))
    return -(-m // -(-m // rows)) if m else 1, depth


@dataclass(frozen=True)
class _Factor:
    """Rows of a left factor, or columns of a right one, in float64."""

    values: Floats  #: as they lie in memory
    by_row: bool  #: whether the lines are the rows of `values`
    tops: Integers  #: every magnitude of a line is below 2**top
    lowest: int  #: everything is a multiple of 2**lowest
    length: int  #: bits from the top of a line down to its lowest, at most
    turned: bool  #: whether the factor is `values` transposed

    @classmethod
    def of(cls, codes: Codes, kernel: Callable[..., None], left: bool) -> "_Factor | None":
        """None for NaR."""
        turned = codes.strides[0] < codes.strides[1]
        stored = _buffers.contiguous(codes.T if turned else codes)
        values, by_row = _buffers.empty(stored.shape), left != turned
        kernel(stored.reshape(-1), values.reshape(-1))
        largest = np.zeros(stored.shape[0 if by_row else 1], np.int64)
        lowest = np.full(len(largest), _INFINITY)
        kernels.measure(values, by_row, largest, lowest)
        high, low = int(largest.max(initial=0)), int(lowest.min(initial=_INFINITY))
        if high > _INFINITY:
            return None
        tops = (largest >> 52) - 1022
        lengths = tops - (lowest >> 52) + 1023
        return cls(values, by_row, tops, (low >> 52) - 1023, int(lengths.max(initial=0)), turned)

    @property
    def top(self) -> int:
        """All magnitudes are below 2**top."""
        return int(self.tops.max(initial=-1022))

    def slice(self, number: int, width: int, out: Floats) -> Floats:
        """Bits number * width up to (number + 1) * width below the top of each line; all, if that is all."""
        part = self.values
        if self.length > width:
            part = out
            kernels.cut(self.values, self.by_row, self.tops - (number + 1) * width, width, part)
        return part.T if self.turned else part


@cache
def _widths(left: int, right: int, room: int) -> tuple[int, int]:
    """Widths of slices, u + v = room, that need the fewest products for lines of so many bits."""
    return min(((u, room - u) for u in range(1, room)), key=lambda w: -(-left // w[0]) * -(-right // w[1]))


class Bands:
    """Exact sums of products, 0 at first; what is added sees them as a matrix of as many columns as it has.

    Args:
        size: Number of sums.
        fmt: Format of every factor.

    >>> import posit
    >>> sums, x = Bands(2, Format(16)), posit.array([[3.0, 0.25]], "posit16").codes
    >>> sums.add_product(x.T[:1], x, print)
    >>> sums.rounded(1, Format(16)).tolist(), sums.nbytes
    ([22784, 15360], 32)
    """

    def __init__(self, size: int, fmt: Format) -> None:
        self.size, self.format = size, fmt
        self._layout: QuireLayout = layout(fmt)
        self._context = copy_context()  # whoever counts memory learns what the limbs are for
        self._limbs: Floats = np.empty((0, size))
        self._base = 0  # limb 0 is a multiple of 2**base
        self._bound = 0.0  # of all magnitudes
        self._adds = 0  # since the last carry
        self._products = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the limbs."""
        return self._limbs.nbytes

    def add_product(self, a: Codes, b: Codes, otherwise: Otherwise, row: int = 0) -> None:
        """Add ``a @ b`` to the rows from `row` on.

        Args:
            a: Codes of shape (m, k).
            b: Codes of shape (k, n).
            otherwise: Called with parts of `a` and `b`, and the row where their product belongs, that are not added:
                those with NaR, or with magnitudes so far apart that quires are cheaper.
            row: Where the first of the m rows belongs.
        """
        rows, depth = _tile(a.shape[0], a.shape[1], b.shape[1])
        if not in_float64(self._layout):
            otherwise(a, b, row)
            return
        kernel = convert.decoder(*self.format.parameters, b.dtype, np.dtype(np.float64))
        for first in range(0, a.shape[1], depth):
            terms = slice(first, first + depth)
            right = _Factor.of(b[terms], kernel, False)
            for start in range(0, a.shape[0], rows):
                part = a[start : start + rows, terms]
                left = _Factor.of(part, kernel, True) if right else None
                if not (left and right and self._add(left, right, row + start)):
                    otherwise(part, b[terms], row + start)

    def add_values(self, values: Floats, rows: Integers | None = None) -> bool:
        """Add every row of numbers (t, columns) to one row of the sums.

        Args:
            values: Products of two posits of the format, or posits of it; their content is lost.
            rows: To which, shape (t,); without it there is but one row, of all sums.

        Returns:
            False where nothing was added, since one is NaN or they are too far apart.
        """
        largest, lowest = np.zeros(1, np.int64), np.full(1, _INFINITY)
        kernels.measure(values.reshape(1, -1), True, largest, lowest)
        if not largest[0]:
            return True
        if largest[0] > _INFINITY or not in_float64(self._layout):
            return False
        low, top = int(lowest[0] >> 52) - 1023, int(largest[0] >> 52) - 1022
        if not self._fit(low, ldexp(len(values), top)):
            return False
        limbs = self._limbs.reshape(len(self._limbs), -1, values.shape[1])
        places = np.zeros(len(values), np.int64) if rows is None else np.ascontiguousarray(rows, np.int64)
        for start in range(0, len(values), _ADDS // 2):
            part = slice(start, start + _ADDS // 2)
            self._reserve(len(values[part]))
            kernels.add_rows(values[part], limbs, places[part], self._base)
        self._products += len(values)
        return True

    def rounded(self, divisor: int, fmt: Format) -> Codes:
        """Signed codes of the sums over a whole number, each rounded once."""
        codes = _buffers.zeros(self.size, signed_storage(fmt))
        if not len(self._limbs):
            return codes
        self._carry()
        for start in range(0, self.size, _CHUNK):
            part = slice(start, min(start + _CHUNK, self.size))
            codes[part] = self._chunk(self._limbs[:, part], divisor, fmt)
        return codes

    def extent(self) -> Extent:
        """Which bits of the sums are in use, or a bit more."""
        if not len(self._limbs):
            return NOTHING
        self._carry()
        largest, lowest = np.zeros(len(self._limbs), np.int64), np.full(len(self._limbs), _INFINITY)
        kernels.measure(self._limbs, True, largest, lowest)
        if not largest.any():
            return NOTHING
        high = frexp(largest.view(np.float64).sum() * (1 + 2.0**-50))[1]
        return Extent(high, 1023 - int(lowest.min() >> 52), nar=False)

    def pack(self, start: int, stop: int, at: Window, out: Limbs) -> None:
        """Cut sums start .. stop - 1 into limbs of the wire, shape (at.count, stop - start).

        Unlike those of quires they have signs: of two limbs here, each gives the wire's limb t at most half of limb
        t + 1's unit, together 2**at.width; the last has at most that and one unit.
        """
        if len(self._limbs) > LIMBS:
            quires = QuireArray(stop - start, self.format)
            self._add_to(quires, start)
            quires.fold()
            pack(quires, 0, stop - start, at, out)
        else:
            kernels.to_limbs(self._limbs[:, start:stop], at.low, at.width, out)

    def move_to(self, quires: QuireArray) -> None:
        """Add the sums to quires of the same format, flat, and let them be 0 here."""
        self._add_to(quires, 0)
        self._limbs = np.empty((0, self.size))
        self._bound, self._products = 0.0, 0

    def _add_to(self, quires: QuireArray, start: int) -> None:
        storage, planes = quires._storage, quires._planes[:, None, :]
        size = quires.size
        one, row, columns, spans = np.zeros(1), np.zeros(1, np.int64), np.arange(size), np.zeros(size)
        for limb in self._limbs:
            storage.reserve(1)
            part = limb[None, start : start + size]
            quire_products.add_matrix(part, row, columns, one, spans, True, planes, storage.layout.lsb)
        storage.load(self._products)

    def _add(self, left: _Factor, right: _Factor, row: int) -> bool:
        if left.top == -1022 or right.top == -1022:
            return True  # zeros
        m, k = left.values.shape[:: -1 if left.turned else 1]
        n = right.values.shape[0 if right.turned else 1]
        u, v = _widths(left.length, right.length, 53 - (k - 1).bit_length())
        lefts, rights = -(-left.length // u), -(-right.length // v)
        if lefts * rights > _MOST_SLICES:
            return False
        if not self._fit(left.lowest + right.lowest, ldexp(k, left.top + right.top)):
            return False
        self._reserve(lefts * rights)
        self._products += k
        limbs, base = self._limbs.reshape(len(self._limbs), -1, n), self._base
        rows = np.arange(row, row + m)
        c = _buffers.empty((m, n))
        own, other = (
            _buffers.empty(each.values.shape) if count > 1 else each.values
            for each, count in ((left, lefts), (right, rights))
        )

        def add(start: int, stop: int) -> None:
            kernels.add_rows(c[start:stop], limbs, rows[start:stop], base)

        for t in range(rights):
            b = right.slice(t, v, other)
            for s in range(lefts):
                np.matmul(left.slice(s, u, own), b, out=c)
                split(m, 2 * c.size, add)
        return True

    def _fit(self, low: int, bound: float) -> bool:
        """Make the limbs fit for multiples of 2**low whose magnitudes sum up to `bound`; False where they cannot be."""
        total = self._bound + bound
        top, count = frexp(total)[1], len(self._limbs)
        if not count:
            above = max(-(-(top - low + _SLACK - kernels.TOP) // kernels.WIDTH) + 1, LIMBS)
            spare = kernels.TOP + kernels.WIDTH * (above - 1) - (top - low)
            base, below = max(low - spare // 2, self._layout.lsb), 0
        else:
            below = max(-(-(self._base - low) // kernels.WIDTH), 0)
            base = self._base - below * kernels.WIDTH
            held = self._base + kernels.WIDTH * (count - 1) + kernels.TOP
            above = max(-(-(top - held) // kernels.WIDTH), 0)
        if base + kernels.WIDTH * (below + count + above) > _HIGHEST:
            return False
        if below or above:
            limbs = self._context.run(_buffers.zeros, (below + count + above, self.size))
            limbs[below : below + count] = self._limbs
            self._limbs, self._base = limbs, base
            self._carry()
        self._bound = total
        return True

    def _reserve(self, adds: int) -> None:
        if self._adds + adds > _ADDS:
            self._carry()
        self._adds += adds

    def _carry(self) -> None:
        limbs, base = self._limbs[:, None, :], self._base
        split(self.size, 2 * limbs.size, lambda start, stop: kernels.carry(limbs[:, :, start:stop], base))
        self._adds = 1

    def _chunk(self, limbs: Floats, divisor: int, fmt: Format) -> Codes:
        total, error = _buffers.empty(limbs.shape[1]), _buffers.empty(limbs.shape[1])
        kernels.read(limbs, total, error)
        divide(total, error, divisor)

        def exact(index: int) -> int:
            value = sum((Fraction(float(x)) for x in limbs[:, index]), Fraction(0))
            return encode_rational(value / divisor, fmt)

        return certified(total, error, fmt, exact, signed_storage(fmt))
