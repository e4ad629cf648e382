"""The algebra Cl(p, q, r): generators, their squares, blades as bitmaps, and the sign table.

Conventions, stated once for the whole package:

* **Generators** come in the order null, positive, negative: first the ``r`` that square to 0, then the ``p``
  that square to +1, then the ``q`` that square to -1.  This is the order of ``clifford.Cl(p, q, r)`` and, for
  r = 1, that of GATr and kingdon.
* **A blade** is a bitmap: bit ``t`` set means that generator ``t`` is a factor; the factors are multiplied in
  ascending order.
* **Order of blades**: by grade, then lexicographically by their generators (e12, e13, e14, e23, ...), as
  clifford lists them.
* **Names**: ``e`` for the scalar, then ``e`` and one digit per generator.  Digits start at 1, or at 0 when
  there is exactly one null generator, so that the null vector of projective algebras is ``e0``.

This file does not need torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ga.errors import AlgebraError

if TYPE_CHECKING:
    from ga.multivector import Multivector

MAX_GENERATORS = 8
"""Largest p + q + r: an algebra of 8 generators has 256 blades and a table of 65 536 signs."""


@dataclass(frozen=True, slots=True)
class Algebra:
    """The Clifford algebra with ``p`` positive, ``q`` negative and ``r`` null generators.

    A frozen value: equal signatures are equal algebras, and it can key a cache.

    Raises:
        AlgebraError: a count is negative or not an integer, or p + q + r is 0 or more than 8.

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

    def __post_init__(self) -> None:
        counts = (self.p, self.q, self.r)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise AlgebraError(
                f"Algebra(p, q, r) wants three integers >= 0, got {counts}; "
                "p, q, r count the generators that square to +1, -1, 0"
            )
        if not 1 <= self.n <= MAX_GENERATORS:
            raise AlgebraError(
                f"{self} has {self.n} generators, supported are 1 to {MAX_GENERATORS} (2**n blades); "
                "choose a smaller signature"
            )

    def __str__(self) -> str:
        return f"Cl({self.p},{self.q},{self.r})"

    @property
    def n(self) -> int:
        """Number of generators, p + q + r."""
        return self.p + self.q + self.r

    @property
    def size(self) -> int:
        """Number of basis blades, 2**n."""
        return 1 << self.n

    @property
    def metric(self) -> tuple[int, ...]:
        """Square of each generator: ``r`` zeros, ``p`` ones, ``q`` minus ones."""
        return (0,) * self.r + (1,) * self.p + (-1,) * self.q

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
        first = 0 if self.r == 1 else 1
        return "e" + "".join(str(first + t) for t in range(self.n) if blade >> t & 1)

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
