"""Multivectors by name: methods that an algebra inherits.

Torch and the rest of the package are imported when a multivector is wanted, so that :mod:`ga.algebra` itself
does not need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor

    from ga.algebra import Algebra
    from ga.multivector import Multivector


class Constructors:
    """Constructors of :class:`ga.Algebra`: by grade for every algebra, by geometry where it has one.

    Coordinates and coefficients are tensors, arrays or nested lists, blades or coordinates last.
    """

    __slots__ = ()

    def scalar(self, values: Any) -> Multivector:
        """Multivector of grade 0; the values are the batch, without a dimension for the one blade.

        >>> from ga import VGA3
        >>> VGA3.scalar(2.0)
        Multivector(2.0 e, Cl(3,0,0)[0])
        """
        from ga.objects import as_floats

        return self._graded(as_floats(values)[..., None], (0,))

    def vector(self, coefficients: Any) -> Multivector:
        """Multivector of grade 1, shape ``(*batch, n)``."""
        return self._graded(coefficients, (1,))

    def bivector(self, coefficients: Any) -> Multivector:
        """Multivector of grade 2, shape ``(*batch, n(n-1)/2)``."""
        return self._graded(coefficients, (2,))

    def even(self, coefficients: Any) -> Multivector:
        """Multivector of all even grades, shape ``(*batch, 2**(n-1))``.

        >>> from ga import VGA2
        >>> VGA2.even([1.0, 2.0])
        Multivector(1.0 e + 2.0 e12, Cl(2,0,0)[0,2])
        """
        return self._graded(coefficients, range(0, self._algebra.n + 1, 2))

    def odd(self, coefficients: Any) -> Multivector:
        """Multivector of all odd grades, shape ``(*batch, 2**(n-1))``."""
        return self._graded(coefficients, range(1, self._algebra.n + 1, 2))

    def pseudoscalar_part(self, values: Any) -> Multivector:
        """Multivector of grade n; the values are the batch, without a dimension for the one blade."""
        from ga.objects import as_floats

        return self._graded(as_floats(values)[..., None], (self._algebra.n,))

    def point(self, coordinates: Any) -> Multivector:
        """The point with the given coordinates, in a projective or conformal algebra.

        Projective Cl(d, 0, 1): the dual of e0 + x, of grade d; in space x e032 + y e013 + z e021 + e123.
        Conformal Cl(d+1, 1): the null vector n_o + x + x² n_inf / 2 with n_o = (e_- - e_+)/2 and
        n_inf = e_- + e_+, the last two generators being e_+ and e_-.

        Args:
            coordinates: Shape ``(*batch, d)``.

        Raises:
            AlgebraError: the algebra has no points.

        >>> from ga import CGA3, PGA3
        >>> PGA3.point([1.0, 2.0, 3.0])
        Multivector(-3.0 e012 + 2.0 e013 - 1.0 e023 + 1.0 e123, Cl(3,0,1)[3])
        >>> (CGA3.point([1.0, 2.0, 3.0]) | CGA3.point([1.0, 2.0, 5.0])).coefficients  # -distance²/2
        tensor([-2.])
        """
        from ga import objects

        return objects.point(self._algebra, coordinates)

    def direction(self, coordinates: Any) -> Multivector:
        """The ideal point in a direction, in a projective algebra: the dual of the vector x."""
        from ga import objects

        return objects.direction(self._algebra, coordinates)

    def plane(self, normal: Any, offset: Any = 0.0) -> Multivector:
        """The plane (in the projective plane: the line) of the points x with normal · x + offset = 0.

        Projective: normal + offset e0, of grade 1.  Conformal: the vector normal - offset n_inf, to which
        the points of the plane are orthogonal.

        Args:
            normal: Shape ``(*batch, d)``.
            offset: Shape ``(*batch)`` or a number.

        Raises:
            AlgebraError: the algebra has no planes.

        >>> from ga import PGA3
        >>> PGA3.plane([0.0, 0.0, 1.0], -3.0) ^ PGA3.point([1.0, 2.0, 3.0])
        Multivector(0.0 e0123, Cl(3,0,1)[4])
        """
        from ga import objects

        return objects.plane(self._algebra, normal, offset)

    def line(self, first: Any, second: Any) -> Multivector:
        """The line through two points given by coordinates; in the conformal algebra the trivector with n_inf.

        Raises:
            AlgebraError: the algebra has no points.

        >>> from ga import PGA3
        >>> (PGA3.line([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]) & PGA3.point([7.0, 0.0, 0.0])).planes.abs().max()
        tensor(0.)
        """
        from ga import objects

        return objects.line(self._algebra, first, second)

    def sphere(self, center: Any, radius: Any) -> Multivector:
        """The sphere (in the plane: the circle) of a conformal algebra, point(center) - radius² n_inf / 2.

        Raises:
            AlgebraError: the algebra is not conformal.
        """
        from ga import objects

        return objects.sphere(self._algebra, center, radius)

    def infinity(self) -> Multivector:
        """The null vector n_inf = e_- + e_+ of a conformal algebra."""
        from ga import objects

        return objects.infinity(self._algebra)

    @property
    def _algebra(self) -> Algebra:
        return cast("Algebra", self)  # these are methods of Algebra, written in another file

    def _graded(self, coefficients: Tensor | Any, grades: Any) -> Multivector:
        return self._algebra.multivector(coefficients, grades)
