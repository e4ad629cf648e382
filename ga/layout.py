"""A layout: which basis blades a tensor stores, and in which order.

It is fixed when a tensor is made and known without looking at a number.  Blades are always in the algebra's
order, so two layouts with the same blades are the same layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from ga.algebra import Algebra, grade
from ga.errors import AlgebraError, LayoutError


@dataclass(frozen=True, slots=True)
class Layout:
    """An algebra and the ordered tuple of the blades (bitmaps) that are stored.

    The layout without blades is allowed: it is that of a product which is zero for every input.

    Raises:
        AlgebraError: a blade is not in the algebra.
        LayoutError: blades are repeated or not in the algebra's order.

    >>> even = Layout.of_grades(Algebra(3), (0, 2))
    >>> even, even.names, even.parity
    (Layout(Cl(3,0,0)[0,2]), ('e', 'e12', 'e13', 'e23'), 0)
    """

    algebra: Algebra
    blades: tuple[int, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for blade in self.blades:
            self.algebra.check_blade(blade)
        if self.blades != _sorted(self.algebra, self.blades):
            names = ", ".join(map(self.algebra.name, self.blades))
            raise LayoutError(
                f"blades of a layout of {self.algebra} must be distinct and in the algebra's order, "
                f"got {names}; use Layout.of_blades, which sorts them"
            )
        object.__setattr__(self, "_hash", hash((self.algebra, self.blades)))

    def __hash__(self) -> int:
        return self._hash  # computed once: layouts key every cache of plans

    @classmethod
    def of_grades(cls, algebra: Algebra, grades: int | Iterable[int]) -> Layout:
        """Layout of all blades of the given grade or grades.

        Raises:
            LayoutError: no grade is given, or one is not in 0..n.

        >>> Layout.of_grades(Algebra(3, 0, 1), 1).names
        ('e0', 'e1', 'e2', 'e3')
        """
        wanted = _grades(algebra, grades)
        return cls(algebra, tuple(blade for blade in algebra.blades if grade(blade) in wanted))

    @classmethod
    def of_blades(cls, algebra: Algebra, blades: Iterable[int | str]) -> Layout:
        """Layout of the given blades (bitmaps or names), sorted, without repetitions.

        >>> Layout.of_blades(Algebra(2), ("e12", "e"))
        Layout(Cl(2,0,0)[0,2])
        """
        bitmaps = (algebra.blade(blade) if isinstance(blade, str) else blade for blade in blades)
        return cls(algebra, _sorted(algebra, bitmaps))

    @classmethod
    def full(cls, algebra: Algebra) -> Layout:
        """Layout of all 2**n blades."""
        return cls(algebra, algebra.blades)

    def __len__(self) -> int:
        return len(self.blades)

    def __str__(self) -> str:
        complete = Layout.of_grades(self.algebra, self.grades).blades if self.grades else ()
        if self.blades and self.blades == complete:
            return f"{self.algebra}[{','.join(map(str, self.grades))}]"
        return f"{self.algebra}{{{', '.join(self.names)}}}"

    def __repr__(self) -> str:
        return f"Layout({self})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blades, in order."""
        return tuple(map(self.algebra.name, self.blades))

    @property
    def grades(self) -> tuple[int, ...]:
        """Grades of which at least one blade is stored, ascending."""
        return tuple(sorted({grade(blade) for blade in self.blades}))

    @property
    def parity(self) -> int | None:
        """0 if all grades are even, 1 if all are odd, None if they are mixed or there is no blade."""
        parities = {k % 2 for k in self.grades}
        return parities.pop() if len(parities) == 1 else None

    @property
    def slices(self) -> dict[int, slice]:
        """Where each grade lies among the planes; a grade's blades are contiguous.

        >>> Layout.of_grades(Algebra(3), (0, 2)).slices
        {0: slice(0, 1, None), 2: slice(1, 4, None)}
        """
        found, start = {}, 0
        for k in self.grades:
            count = sum(grade(blade) == k for blade in self.blades)
            found[k] = slice(start, start + count)
            start += count
        return found

    @property
    def mask(self) -> int:
        """The support as a bit set: bit ``b`` is set where the blade with bitmap ``b`` is stored."""
        return sum(1 << blade for blade in self.blades)

    @classmethod
    def of_mask(cls, algebra: Algebra, mask: int) -> Layout:
        """The layout with a given :attr:`mask`, which must have no bit beyond the algebra's blades."""
        if not 0 <= mask < 1 << algebra.size:
            raise LayoutError(f"mask {mask:#x} has bits beyond the {algebra.size} blades of {algebra}")
        return cls(algebra, tuple(blade for blade in algebra.blades if mask >> blade & 1))

    def union(self, other: Layout) -> Layout:
        """Blades stored by either; the layout of a sum."""
        check_same_algebra("union", self, other)
        return Layout.of_mask(self.algebra, self.mask | other.mask)

    def restrict(self, grades: int | Iterable[int]) -> Layout:
        """The blades of the given grades.

        Raises:
            LayoutError: a grade is out of range or none of its blades is stored.
        """
        wanted = _grades(self.algebra, grades)
        missing = sorted(wanted - set(self.grades))
        if missing:
            raise LayoutError(
                f"{self} stores the grades {self.grades}, not {missing}; "
                "project onto stored grades, or compute a product whose output has them"
            )
        return Layout(self.algebra, tuple(blade for blade in self.blades if grade(blade) in wanted))


def check_same_algebra(operation: str, x: Layout, y: Layout) -> None:
    """Raise :class:`AlgebraError` naming the operation unless both layouts are of one algebra."""
    if x.algebra != y.algebra:
        raise AlgebraError(
            f"{operation} of {x} and {y} mixes two algebras; "
            f"express both operands in one of them before the {operation}"
        )


def _grades(algebra: Algebra, grades: int | Iterable[int]) -> frozenset[int]:
    """The set of grades, checked against the algebra."""
    wanted = frozenset((grades,) if isinstance(grades, int) else grades)
    wrong = sorted(k for k in wanted if not 0 <= k <= algebra.n)
    if wrong or not wanted:
        raise LayoutError(f"grades of {algebra} are 0 to {algebra.n}, got {wrong or 'none'}")
    return wanted


def _sorted(algebra: Algebra, blades: Iterable[int]) -> tuple[int, ...]:
    """Distinct blades in the algebra's order; blades not in the algebra are refused."""
    order = _positions(algebra)
    distinct = set(blades)
    for blade in distinct:
        algebra.check_blade(blade)
    return tuple(sorted(distinct, key=order.__getitem__))


@cache
def _positions(algebra: Algebra) -> dict[int, int]:
    return {blade: t for t, blade in enumerate(algebra.blades)}
