"""The algebra Cl(p, q, r): generators, their squares, blades as bitmaps, and the sign table.

Conventions, stated once for the whole package:

* **Generators** come in the order null, positive, negative: first the ``r`` that square to 0, then the ``p``
  that square to +1, then the ``q`` that square to -1.  This is the order of ``clifford.Cl(p, q, r)`` and, for
  r = 1, that of GATr and kingdon.  :meth:`Algebra.from_metric` takes them in any other order.
* **A blade** is a bitmap: bit ``t`` set means that generator ``t`` is a factor; the factors are multiplied in
  ascending order.
* **Order of blades**: by grade, then lexicographically by their generators (e12, e13, e14, e23, ...), as
  clifford lists them.
* **Names**: ``e`` for the scalar, then ``e`` and one digit per generator.  Digits start at 1, or at 0 when
  there is exactly one null generator and it is the first, so that the null vector of projective algebras is
  ``e0``.  A name is written in ascending order: ``e21`` names no blade.  As an attribute, though, every
  spelling is a product of generators: ``algebra.e21`` is e2 e1 = -e12.

This file does not need torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ga.constructors import Constructors
from ga.errors import AlgebraError, BladeNameError

if TYPE_CHECKING:
    from ga.multivector import Multivector
    from ga.order import BladeOrder

MAX_GENERATORS = 8
"""Largest p + q + r: an algebra of 8 generators has 256 blades and a table of 65 536 signs."""


@dataclass(frozen=True, slots=True, repr=False)
class Algebra(Constructors):
    """The Clifford algebra with ``p`` positive, ``q`` negative and ``r`` null generators.

    A frozen value: equal metrics are equal algebras, and it can key a cache.  The name of a blade is an
    attribute: ``VGA3.e12`` is the multivector e12, ``VGA3.e21`` is -e12.

    Raises:
        AlgebraError: a count is negative or not an integer, p + q + r is 0 or more than 8, or the metric has
            other counts.

    Source:
        Dorst, Fontijne, Mann, "Geometric Algebra for Computer Science" (2007), chapter 19 (bitmaps and
        signs).

    >>> pga = Algebra(3, 0, 1)
    >>> pga, pga.size, pga.metric
    (Algebra(p=3, q=0, r=1), 16, (0, 1, 1, 1))
    >>> pga.names[:8]
    ('e', 'e0', 'e1', 'e2', 'e3', 'e01', 'e02', 'e03')
    """

    p: int  #: generators that square to +1
    q: int = 0  #: generators that square to -1
    r: int = 0  #: generators that square to 0
    metric: tuple[int, ...] = ()  #: square of each generator; left out: r zeros, p ones, q minus ones

    def __post_init__(self) -> None:
        counts = (self.p, self.q, self.r)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise AlgebraError(
                f"Algebra(p, q, r) wants three integers >= 0, got {counts}; "
                "p, q, r count the generators that square to +1, -1, 0"
            )
        metric = tuple(self.metric) or self._standard
        if sorted(metric) != sorted(self._standard):
            raise AlgebraError(
                f"metric {metric} does not have {self.p} ones, {self.q} minus ones and {self.r} zeros; "
                "Algebra.from_metric counts them itself"
            )
        object.__setattr__(self, "metric", metric)
        if not 1 <= self.n <= MAX_GENERATORS:
            raise AlgebraError(
                f"{self} has {self.n} generators, supported are 1 to {MAX_GENERATORS} (2**n blades); "
                "choose a smaller signature"
            )

    @classmethod
    def from_metric(cls, metric: Iterable[int]) -> Algebra:
        """The algebra whose generators square to the given numbers, in this order.

        Args:
            metric: 1, -1 or 0 for each generator.

        Raises:
            AlgebraError: a square is another number, or there are none or more than 8.

        >>> stap = Algebra.from_metric([0, 1, 1, 1, -1])
        >>> stap == Algebra(3, 1, 1), Algebra.from_metric([1, 1, -1, 1])
        (True, Algebra.from_metric((1, 1, -1, 1)))
        """
        squares = tuple(metric)
        if not all(type(square) is int and square in (-1, 0, 1) for square in squares):
            raise AlgebraError(f"a metric is made of the integers 1, -1 and 0, got {squares}")
        return cls(squares.count(1), squares.count(-1), squares.count(0), squares)

    @classmethod
    def from_signature(cls, text: str) -> Algebra:
        """The algebra whose :attr:`signature` is ``text``."""
        if "," in text:
            p, q, r = map(int, text.split(","))
            return cls(p, q, r)
        return cls.from_metric([_SQUARES[sign] for sign in text])

    def __str__(self) -> str:
        return f"Cl({self.signature})"

    def __repr__(self) -> str:
        if self.metric == self._standard:
            return f"Algebra(p={self.p}, q={self.q}, r={self.r})"
        return f"Algebra.from_metric({self.metric})"

    def __getattr__(self, name: str) -> Multivector:
        """The multivector of a blade, spelled in any order of its generators; see the class."""
        if name.startswith("e") and name[1:].isdigit():
            blade, sign = self.spelled(name)
            from ga.layout import Layout
            from ga.multivector import Multivector

            return Multivector.from_coefficients([float(sign)], Layout(self, (blade,)))
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}; blades are spelled e1, e12, ..."
        )

    @property
    def _standard(self) -> tuple[int, ...]:
        return (0,) * self.r + (1,) * self.p + (-1,) * self.q

    @property
    def signature(self) -> str:
        """Text of the metric: ``"p,q,r"``, or one of ``+-0`` a generator where they come in another order.

        >>> VGA3.signature, Algebra.from_metric([1, 1, -1, 1]).signature
        ('3,0,0', '++-+')
        """
        if self.metric == self._standard:
            return f"{self.p},{self.q},{self.r}"
        return "".join("0+-"[square] for square in self.metric)

    @property
    def n(self) -> int:
        """Number of generators, p + q + r."""
        return self.p + self.q + self.r

    @property
    def size(self) -> int:
        """Number of basis blades, 2**n."""
        return 1 << self.n

    @property
    def pseudoscalar(self) -> int:
        """The blade of grade n."""
        return self.size - 1

    @property
    def blades(self) -> tuple[int, ...]:
        """All blades as bitmaps, by grade, then lexicographically by generators.

        >>> [format(blade, "03b") for blade in VGA3.blades]
        ['000', '001', '010', '100', '011', '101', '110', '111']
        """
        return _blades(self.n)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of :attr:`blades`, in their order."""
        return tuple(self.name(blade) for blade in self.blades)

    def name(self, blade: int) -> str:
        """Name of a blade given as a bitmap.

        >>> VGA3.name(0b101), PGA3.name(0b101), VGA3.name(0)
        ('e13', 'e02', 'e')
        """
        self.check_blade(blade)
        return "e" + "".join(str(self.first_digit + t) for t in range(self.n) if blade >> t & 1)

    @property
    def first_digit(self) -> int:
        """Digit of the first generator: 0 if it is the only null one, else 1."""
        return 0 if self.r == 1 and self.metric[0] == 0 else 1

    def blade(self, name: str) -> int:
        """Bitmap of a blade given by name, the inverse of :meth:`name`.

        Raises:
            AlgebraError: no blade of this algebra has that name (``e21`` is none: write ``-e12``).

        >>> VGA3.blade("e13")
        5
        """
        found = _by_name(self).get(name)
        if found is None:
            raise AlgebraError(f"{self} has no blade {name!r}; its blades are {', '.join(self.names)}")
        return found

    def spelled(self, name: str) -> tuple[int, int]:
        """Blade and sign of a product of distinct generators, spelled in any order.

        Raises:
            AlgebraError: a generator is repeated, or not in the algebra.

        >>> VGA3.spelled("e31"), VGA3.spelled("e13")
        ((5, -1), (5, 1))
        """
        digits = [int(digit) - self.first_digit for digit in name[1:] if digit.isdigit()]
        known = all(0 <= digit < self.n for digit in digits) and len(set(digits)) == len(digits)
        if not known or name != "e" + "".join(str(digit + self.first_digit) for digit in digits):
            raise BladeNameError(
                f"{self} has no blade {name!r}; its blades are {', '.join(self.names)}, "
                "whose generators may come in any order"
            )
        blade, sign = 0, 1
        for digit in digits:
            sign *= swap_sign(blade, 1 << digit)
            blade |= 1 << digit
        return blade, sign

    def order(self, of: str | Sequence[str]) -> BladeOrder:
        """Order and signs of the coefficients in another library; see :class:`ga.order.BladeOrder`.

        Args:
            of: ``"clifford"``, ``"kingdon"`` (its default basis), ``"kingdon 2DPGA"``, ``"kingdon 3DPGA"``,
                ``"kingdon STAP"`` (its named bases), ``"bitmap"``, or the spelled blades of any basis.

        >>> PGA2.order(["e", "e1", "e2", "e0", "e20", "e01", "e12", "e012"]).signs
        (1, 1, 1, 1, -1, 1, 1, 1)
        """
        from ga.order import blade_order

        return blade_order(self, of)

    def product(self, a: int, b: int) -> tuple[int, int]:
        """Geometric product of two blades, ``(blade, sign)`` with a sign of +1, -1 or 0.

        The blade is ``a ^ b``.  The sign counts the swaps that bring the generators into ascending order,
        times the squares of the shared ones: 0 exactly where a shared generator is null.

        >>> VGA3.product(0b010, 0b001)  # e2 e1 = -e12
        (3, -1)
        >>> PGA3.product(0b0001, 0b0001)  # e0 e0 = 0
        (0, 0)
        """
        sign = swap_sign(a, b)
        for t, square in enumerate(self.metric):
            if (a & b) >> t & 1:
                sign *= square
        return a ^ b, sign

    @property
    def table(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Sign table: ``table[a][b]`` is ``product(a, b)``, for blades as bitmaps; made once per algebra."""
        return _table(self)

    def check_blade(self, blade: int) -> None:
        """Raise :class:`AlgebraError` unless ``blade`` is a bitmap of this algebra."""
        if not 0 <= blade < self.size:
            raise AlgebraError(f"blade {blade:#b} is not in {self}, whose bitmaps have {self.n} bits")

    def multivector(self, coefficients: Any, grades: int | Iterable[int] | None = None) -> Multivector:
        """Multivector of this algebra from coefficients with the blades **last**.

        Args:
            coefficients: Tensor, array or nested list, shape ``(*batch, blades)``: one number for each blade
                of the given grades, in the order of :attr:`blades`.
            grades: The grade or grades that are stored; all of them if left out.

        Raises:
            LayoutError: a grade is out of range, or the last dimension has the wrong length.

        >>> VGA3.multivector([1.0, 2.0, 3.0], grades=1)
        Multivector(1.0 e1 + 2.0 e2 + 3.0 e3, Cl(3,0,0)[1])
        """
        from ga.layout import Layout  # torch stays out of this module until a multivector is wanted
        from ga.multivector import Multivector

        layout = Layout.of_grades(self, range(self.n + 1) if grades is None else grades)
        return Multivector.from_coefficients(coefficients, layout)


def grade(blade: int) -> int:
    """Grade of a blade: how many generators it multiplies.

    >>> grade(0b101)
    2
    """
    return blade.bit_count()


def swap_sign(a: int, b: int) -> int:
    """Sign of the permutation that sorts the generators of ``a`` followed by those of ``b``.

    >>> swap_sign(0b10, 0b01), swap_sign(0b01, 0b10)
    (-1, 1)
    """
    swaps = 0
    a >>= 1
    while a:
        swaps += (a & b).bit_count()
        a >>= 1
    return -1 if swaps & 1 else 1


_SQUARES = {"0": 0, "+": 1, "-": -1}


@cache
def _blades(n: int) -> tuple[int, ...]:
    chosen = (factors for k in range(n + 1) for factors in combinations(range(n), k))
    return tuple(sum(1 << t for t in factors) for factors in chosen)


@cache
def _by_name(algebra: Algebra) -> dict[str, int]:
    return {algebra.name(blade): blade for blade in algebra.blades}


@cache
def _table(algebra: Algebra) -> tuple[tuple[tuple[int, int], ...], ...]:
    bitmaps = range(algebra.size)
    return tuple(tuple(algebra.product(a, b) for b in bitmaps) for a in bitmaps)


VGA2 = Algebra(2)
"""The plane: rotations and reflections are versors."""
VGA3 = Algebra(3)
"""Space: vectors, oriented areas, oriented volumes; quaternions are its even part."""
PGA2 = Algebra(2, 0, 1)
"""The projective algebra of the plane: points, lines, motors."""
PGA3 = Algebra(3, 0, 1)
"""The projective algebra of space: points, lines, planes, motors."""
CGA3 = Algebra(4, 1)
"""The conformal algebra of space: spheres and circles join points, lines and planes."""
STA = Algebra(1, 3)
"""The algebra of spacetime, signature (+, -, -, -)."""
