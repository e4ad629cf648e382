"""Meet and join of flats and blades, for either reading of a vector: as a hyperplane or as a direction."""

from __future__ import annotations

from ga.multivector import Multivector
from ga.objects import is_projective


def join(a: Multivector, b: Multivector) -> Multivector:
    """The smallest object that contains both: the line through two points, the plane through line and point.

    In Cl(d, 0, 1), where vectors are planes, the regressive product; elsewhere, where vectors span, the outer
    product.  Zero if the two have more in common than they must: a point with itself, say.

    Raises:
        AlgebraError: the algebras differ.

    >>> from ga import PGA3, VGA3
    >>> join(PGA3.point([0.0, 0.0, 0.0]), PGA3.point([1.0, 0.0, 0.0])).grades
    (2,)
    >>> join(VGA3.e1, VGA3.e2)
    Multivector(1.0 e12, Cl(3,0,0){e12})
    """
    return a & b if is_projective(a.algebra) else a ^ b


def meet(a: Multivector, b: Multivector) -> Multivector:
    """What both have in common: the line of two planes, the point of a line and a plane.

    The product that :func:`join` does not use.  Zero if the two together span less than the whole space.

    Raises:
        AlgebraError: the algebras differ.

    >>> from ga import PGA3, VGA3
    >>> floor, wall = PGA3.plane([0.0, 0.0, 1.0]), PGA3.plane([1.0, 0.0, 0.0], -2.0)
    >>> meet(floor, wall).grades
    (2,)
    >>> meet(VGA3.e12, VGA3.e23)
    Multivector(1.0 e2, Cl(3,0,0){e2})
    """
    return a ^ b if is_projective(a.algebra) else a & b
