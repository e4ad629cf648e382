r"""The step of a versor held in posits, R ← R exp(B), renormalized: every coefficient one rounding of the real value.

With increments b and a frame F, both posits, B = F b, shortened as `ga._frames.limited` does where it is asked for,
X = R exp(B) and s the sign of the scalar part of ~X X, the new versor is X (3 - s ~X X) / 2: one Newton step towards
the versor nearest to X, as `ga.versor_parameter.renormalized` takes it in floats.

The real numbers are formed in float64 with a bound of what every operation rounds and of the rest of the exponential
series.  What the bound does not decide is formed again in integers of `_BITS` and `_MORE_BITS` fraction bits.  A value
that is then nearer to a boundary between two posits, or to 0, than 2**-600 is taken to lie on it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ga._frames import _boosts
from ga.errors import ConstraintError
from ga.layout import Layout
from ga.maps import REVERSED
from ga.plan import Plan, plan_for, reverses, symmetric_plan
from posit.codec import Codes, encode_rational, signed_storage
from posit.formats import Format
from posit.rounding import certified

Floats = npt.NDArray[np.float64]
_UNIT = 2.0**-53
_OVER = 1.01  #: more than all that bounds lose when they are rounded themselves
_TINY = 2.0**-80  #: products of coefficients that are not smaller stay in float64's normal range
_UNDECIDED = 1e300  #: a bound that decides nothing
_LENGTH = 2.0  #: of the bivector in one sum of the series, coefficients added
_LONGEST = 64.0  #: bivector: exp of it, and all sums in between, are below 2**93
_REST = 2.0**-66  #: of the series at most
_BITS, _MORE_BITS = 512, 2048
_LIMIT = 0.5  #: length of the part of B that boosts, as in `ga._frames.limited`


@dataclass(frozen=True)
class Versors:
    """Versors and their increments, exact, the batch first and flat."""

    layout: Layout  #: of the versors
    blades: Layout  #: of the bivectors
    planes: Floats  #: shape (batch, len(layout))
    increments: Floats  #: shape (batch, len(blades))
    frame: Floats | None  #: shape (batch, len(blades), len(blades)); None is the unit matrix
    limited: bool  #: shorten B


def retracted(versors: Versors, fmt: Format) -> Codes:
    """Signed codes of the new versors, shape (batch, len(layout)); where an increment is 0 the rounded old ones.

    Args:
        versors: All numbers finite; the increments of some of them may be 0.
        fmt: Format of the result.

    Raises:
        ConstraintError: an increment is longer than 64, of its coefficients' magnitudes added.
    """
    tables = _tables(versors.layout, versors.blades)
    values, errors = _in_floats(versors, tables)
    resting = ~versors.increments.any(axis=1)
    values[resting], errors[resting] = versors.planes[resting], 0.0
    known: dict[int, list[Fraction]] = {}

    def exact(index: int) -> int:
        row, plane = divmod(index, len(versors.layout))
        if row not in known:
            known[row] = _in_integers(versors, row, tables, _BITS)
        margin = Fraction(1, 1 << (_BITS // 2))
        low, high = (encode_rational(known[row][plane] + side * margin, fmt) for side in (-1, 1))
        if low == high:
            return low
        value = _in_integers(versors, row, tables, _MORE_BITS)[plane]
        return encode_rational(Fraction(round(value * (1 << 600)), 1 << 600), fmt)

    return certified(values, errors, fmt, exact, signed_storage(fmt))


@dataclass(frozen=True)
class _Table:
    """A product z_k = sum of sign x_i y_j, as a dense table and as a list."""

    dense: Floats  #: shape (y, x, z)
    terms: tuple[tuple[int, int, int, int], ...]  #: i, j, k, sign
    longest: int  #: terms of a result

    @staticmethod
    def of(plan: Plan, out: Layout) -> "_Table":
        """The blades of a product that a layout has."""
        dense = np.zeros((len(plan.second), len(plan.first), len(out)))
        terms = []
        for blade, group in zip(plan.out.blades, plan.by_output, strict=True):
            if blade in out.blades:
                k = out.blades.index(blade)
                dense[[t.j for t in group], [t.i for t in group], k] = [t.sign for t in group]
                terms += [(t.i, t.j, k, t.sign) for t in group]
        return _Table(dense, tuple(terms), max((len(group) for group in plan.by_output), default=0))

    def matrices(self, y: Floats) -> Floats:
        """Multiplication by y from the right, shape (batch, x, z)."""
        return np.tensordot(y, self.dense, 1)

    def sizes(self, y: Floats) -> Floats:
        """The same of magnitudes, which have no signs to cancel."""
        return np.tensordot(np.abs(y), np.abs(self.dense), 1)


@dataclass(frozen=True)
class _Tables:
    turn: _Table  #: versor times bivector
    square: _Table  #: reversed versor times versor, without what vanishes
    scale: _Table  #: versor times such a square
    signs: Floats  #: of the reverse
    scalar: int  #: place of the scalar in a square
    boosts: tuple[int, ...]  #: places of the bivectors that boost


@lru_cache(maxsize=64)
def _tables(layout: Layout, blades: Layout) -> _Tables:
    square = symmetric_plan(layout, layout, REVERSED)
    signs = np.array([-1.0 if reverses(blade.bit_count()) else 1.0 for blade in layout.blades])
    return _Tables(
        _Table.of(plan_for("geometric", layout, blades), layout),
        _Table.of(square, square.out),
        _Table.of(plan_for("geometric", layout, square.out), layout),
        signs,
        square.out.blades.index(0),
        _boosts(blades),
    )


@dataclass(frozen=True)
class _Bounded:
    """Numbers and bounds of their errors, of one shape."""

    value: Floats
    error: Floats


def _multiplied(x: _Bounded, y: _Bounded, table: _Table) -> _Bounded:
    """A product; m products summed are rounded m times, and each of them once more."""
    gamma = (table.longest + 2) * _UNIT * _OVER
    value = _times(x.value, table.matrices(y.value))
    size, slack = table.sizes(y.value), table.sizes(y.error)
    error = _times(np.abs(x.value), slack + gamma * size) + _times(x.error, size + slack)
    return _Bounded(value, error * _OVER)


def _times(rows: Floats, matrices: Floats) -> Floats:
    found: Floats = np.matmul(rows[:, None, :], matrices)[:, 0]
    return found


def _in_floats(versors: Versors, tables: _Tables) -> tuple[Floats, Floats]:
    """The new versors in float64, and bounds of their errors."""
    bivector = _bivector(versors, tables)
    start = _Bounded(versors.planes, np.zeros_like(versors.planes))
    moved = _exponential(start, bivector, tables.turn)
    turned = _Bounded(moved.value * tables.signs, moved.error)
    square = _multiplied(turned, moved, tables.square)
    sign = np.where(square.value[:, tables.scalar] < 0, -1.0, 1.0)[:, None]
    factor = -0.5 * sign * square.value
    factor[:, tables.scalar] += 1.5
    slack = 0.5 * square.error
    slack[:, tables.scalar] += _UNIT * 2
    found = _multiplied(moved, _Bounded(factor, slack), tables.scale)
    error = found.error * _OVER
    for given in (versors.planes, bivector.value):
        sizes = np.abs(given)
        error[((sizes > 0) & (sizes < _TINY)).any(axis=1)] = _UNDECIDED
    lost = ~(np.isfinite(found.value) & np.isfinite(error))
    return np.where(lost, 0.0, found.value), np.where(lost, _UNDECIDED, error)


def _bivector(versors: Versors, tables: _Tables) -> _Bounded:
    """B = F b, shortened."""
    b, frame = versors.increments, versors.frame
    if frame is None:
        found = _Bounded(b.copy(), np.zeros_like(b))
    else:
        gamma = (b.shape[1] + 1) * _UNIT * _OVER
        sizes = np.einsum("nij,nj->ni", np.abs(frame), np.abs(b))
        found = _Bounded(np.einsum("nij,nj->ni", frame, b), gamma * sizes)
    if not versors.limited or not tables.boosts:
        return found
    boosts, slack = found.value[:, tables.boosts], found.error[:, tables.boosts]
    squared = np.square(boosts).sum(axis=1)
    lost = (2 * np.abs(boosts) * slack + slack * slack).sum(axis=1) + (
        len(tables.boosts) + 1
    ) * _UNIT * squared
    floor = np.maximum(squared, _LIMIT**2)
    ratio = (_LIMIT / np.sqrt(floor))[:, None]
    relative = (lost / floor * _OVER + 6 * _UNIT)[:, None]  # a root halves it, where the sum is not far off
    relative = np.where((squared + lost < _LIMIT**2)[:, None], 0.0, relative)
    value = found.value * ratio
    return _Bounded(value, (found.error * ratio + np.abs(value) * (relative + _UNIT)) * _OVER)


def _exponential(start: _Bounded, b: _Bounded, table: _Table) -> _Bounded:
    """X exp(B), as so many steps of the same power of two that a short series is enough for each."""
    length = float((np.abs(b.value) + b.error).sum(axis=1).max(initial=0.0))
    if not length <= _LONGEST:
        raise ConstraintError(
            f"the update of a versor in posits is a bivector with coefficients of {length:.3g} together, more than "
            f"{_LONGEST:.0f}; lower the learning rate or clip the gradient"
        )
    length *= _OVER
    steps = 1 << max(0, math.ceil(math.log2(length / _LENGTH)) if length > _LENGTH else 0)
    b, terms = _Bounded(b.value / steps, b.error / steps), _terms(length / steps, _REST)
    matrices, size = table.matrices(b.value), table.sizes(b.value)
    slack = table.sizes(b.error)
    gamma = (table.longest + 4) * _UNIT * _OVER  # the division by n too
    for _ in range(steps):
        value, error = start.value, start.error
        total, bound, whole = value.copy(), error.copy(), np.abs(value)
        for n in range(1, terms + 1):
            error = (_times(np.abs(value), slack + gamma * size) + _times(error, size + slack)) * (_OVER / n)
            value = _times(value, matrices) / n
            total += value
            whole += np.abs(value)
            bound += error
        bound = bound * _OVER + (terms + 1) * _UNIT * whole
        rest = _REST * (np.abs(start.value) + start.error).sum(axis=1, keepdims=True)
        start = _Bounded(total, np.where(bound > 0, bound + rest, 0.0))
    return start


def _terms(length: float, rest: float) -> int:
    """Terms of the exponential series after which less than `rest` remains; `length` is submultiplicative."""
    term, n = 1.0, 0
    while n < 16 or 2 * term * length / (n + 1) > rest:
        n += 1
        term *= length / n
    return n


def _in_integers(versors: Versors, row: int, tables: _Tables, bits: int) -> list[Fraction]:
    """One new versor from integers over 2**bits; sums of rounded products lose far less than half of the bits."""
    one = 1 << bits
    planes = [int(Fraction(x) * one) for x in versors.planes[row].tolist()]
    b = [Fraction(x) for x in versors.increments[row].tolist()]
    if versors.frame is not None:
        rows = versors.frame[row].tolist()
        b = [sum((Fraction(f) * x for f, x in zip(each, b, strict=True)), Fraction(0)) for each in rows]
    bivector = [int(x * one) for x in b]
    squared = sum(bivector[k] ** 2 for k in tables.boosts) >> bits
    if versors.limited and squared > int(_LIMIT**2 * one):
        ratio = math.isqrt((1 << 3 * bits) // (4 * squared))
        bivector = [x * ratio >> bits for x in bivector]
    moved = list(planes)
    for term in _series(planes, bivector, tables.turn, bits):
        moved = [a + c for a, c in zip(moved, term, strict=True)]
    turned = [x if sign > 0 else -x for x, sign in zip(moved, tables.signs, strict=True)]
    square = _product(turned, moved, tables.square, bits)
    sign = -1 if square[tables.scalar] < 0 else 1
    factor = [-sign * x for x in square]
    factor[tables.scalar] += 3 * one
    return [Fraction(x, 2 * one) for x in _product(moved, factor, tables.scale, bits)]


def _series(x: list[int], b: list[int], table: _Table, bits: int) -> Iterator[list[int]]:
    """The terms of x (exp(B) - 1) until they vanish."""
    n = 0
    while any(x):
        n += 1
        x = [value // n if value > 0 else -(-value // n) for value in _product(x, b, table, bits)]
        yield x


def _product(x: list[int], y: list[int], table: _Table, bits: int) -> list[int]:
    found = [0] * table.dense.shape[2]
    for i, j, k, sign in table.terms:
        found[k] += sign * x[i] * y[j]
    return [value >> bits if value > 0 else -(-value >> bits) for value in found]
