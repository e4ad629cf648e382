"""What follows from layouts alone, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

from ga.algebra import grade, swap_sign
from ga.layout import Layout, check_same_algebra

_P = ParamSpec("_P")
_R = TypeVar("_R")


def constant(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Cache a function of layouts and plain values, and keep torch.compile out of it.

    torch.compile breaks its graph here and goes on behind it: results are the same, but a function on
    multivectors does not become one graph (``fullgraph=True`` is refused by torch).  To compile one, work on
    planes with :func:`ga.product.product` and a plan made outside.
    """
    known = cache(function)
    untraced: Callable[_P, _R] = torch.compiler.disable(known)

    @wraps(function)
    def result(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if torch.compiler.is_compiling():
            return untraced(*args, **kwargs)
        return known(*args, **kwargs)  # type: ignore[arg-type]  # hashable, as ever; the wrapper of ``disable`` takes longer than looking up

    return result


@constant
def part(layout: Layout, grades: tuple[int, ...]) -> Layout:
    """The blades of some grades, perhaps none; unlike :meth:`Layout.restrict` it asks for nothing."""
    return Layout(layout.algebra, tuple(blade for blade in layout.blades if grade(blade) in grades))


@constant
def restricted(layout: Layout, grades: tuple[int, ...]) -> Layout:
    """:meth:`Layout.restrict`."""
    return layout.restrict(grades)


@constant
def union(operation: str, x: Layout, y: Layout) -> Layout:
    """The layout of a sum."""
    check_same_algebra(operation, x, y)
    return x.union(y)


@constant
def of_grades(like: Layout, grades: tuple[int, ...]) -> Layout:
    """All blades of some grades, in the algebra of another layout."""
    return Layout.of_grades(like.algebra, grades)


@constant
def sources(have: Layout, want: Layout) -> tuple[int | None, ...]:
    """For each blade of ``want``, its place in ``have``, or None."""
    place = {blade: k for k, blade in enumerate(have.blades)}
    return tuple(place.get(blade) for blade in want.blades)


@constant
def sign_changes(layout: Layout, grades: tuple[int, ...]) -> tuple[tuple[bool, int], ...]:
    """Runs of blades whose grade is, or is not, among the grades: ``(changes sign, number of blades)``."""
    return runs(tuple(grade(blade) in grades for blade in layout.blades))


def runs(negative: tuple[bool, ...]) -> tuple[tuple[bool, int], ...]:
    """Lengths of the runs of equal values.

    >>> runs((False, True, True))
    ((False, 1), (True, 2))
    """
    found: list[tuple[bool, int]] = []
    for value in negative:
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1] + 1)
        else:
            found.append((value, 1))
    return tuple(found)


@constant
def complement(layout: Layout, left: bool) -> tuple[Layout, tuple[int, ...], tuple[tuple[bool, int], ...]]:
    """Layout of the complement, the place of each of its blades' source, and the runs of signs."""
    everything = layout.algebra.pseudoscalar
    out = Layout.of_blades(layout.algebra, (everything ^ blade for blade in layout.blades))
    pairs = [(everything ^ blade, blade) for blade in out.blades]
    negative = tuple((swap_sign(b, a) if left else swap_sign(a, b)) < 0 for a, b in pairs)
    return out, tuple(layout.blades.index(a) for a, _ in pairs), runs(negative)
