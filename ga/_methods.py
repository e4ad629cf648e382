"""The methods of a multivector that map it to another or convert it; :mod:`ga.multivector` holds the operators.

Each is a short name for a function of :mod:`ga.maps`, :mod:`ga.inverse` or :mod:`ga.versor`, where the
mathematics is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ga import inverse, maps, versor
from ga._derived import restricted
from ga._planes import pick
from ga.algebra import Algebra
from ga.constraint import Constraint
from ga.layout import Layout

if TYPE_CHECKING:
    from ga.multivector import Multivector


class Methods:
    """Methods of :class:`ga.Multivector`."""

    __slots__ = ()
    _planes: Any  #: the planes, or None
    _leaf: Any  #: coefficients that torch.func has put in place of the planes, or None
    layout: Layout  #: the blades, in order
    constraint: Constraint | None  #: what the coefficients are known to obey

    @property
    def planes(self) -> Tensor:
        """The coefficients with the blades first, shape ``(len(layout), *batch)``."""
        planes: Tensor = self._planes if self._leaf is None else self._leaf.movedim(-1, 0)
        return planes

    @property
    def coefficients(self) -> Tensor:
        """The coefficients with the blades last, shape ``(*batch, blades)``: a view of the planes."""
        return self.planes.movedim(0, -1)

    @property
    def algebra(self) -> Algebra:
        """The algebra."""
        return self.layout.algebra

    @property
    def grades(self) -> tuple[int, ...]:
        """Grades that are stored."""
        return self.layout.grades

    @property
    def dtype(self) -> torch.dtype:
        """Type of the coefficients."""
        return self.planes.dtype

    @property
    def device(self) -> torch.device:
        """Where the coefficients are."""
        return self.planes.device

    def to(self, *args: Any, **kwargs: Any) -> Multivector:
        """Move to a device or dtype; arguments as of :meth:`torch.Tensor.to`.

        >>> from ga import VGA2
        >>> VGA2.e1.to(torch.float64).dtype
        torch.float64
        """
        return self._like(self.planes.to(*args, **kwargs))

    def detach(self) -> Multivector:
        """The same values without their history."""
        return self._like(self.planes.detach())

    def clone(self) -> Multivector:
        """A copy of the values, differentiable."""
        return self._like(self.planes.clone())

    def reshape(self, *shape: int) -> Multivector:
        """Another batch shape with as many elements.

        >>> from ga import VGA2
        >>> VGA2.vector([[1.0, 2.0]] * 6).reshape(2, 3).shape
        torch.Size([2, 3])
        """
        return self._like(self.planes.reshape(len(self.layout), *shape))

    def sum(self, dim: int | tuple[int, ...] | None = None) -> Multivector:
        """Sum over batch dimensions, all of them if left out.

        >>> from ga import VGA2
        >>> VGA2.vector([[1.0, 2.0], [3.0, 4.0]]).sum(0)
        Multivector(4.0 e1 + 6.0 e2, Cl(2,0,0)[1])
        """
        rank = self.planes.dim() - 1
        dims = tuple(range(rank)) if dim is None else (dim,) if isinstance(dim, int) else dim
        planes = self.planes.sum([d % rank + 1 for d in dims]) if dims else self.planes
        return type(self._self)(planes, self.layout)

    def grade(self, *grades: int) -> Multivector:
        """Projection onto the given grades.

        Raises:
            LayoutError: a grade is out of range or not stored.

        >>> from ga import VGA2
        >>> VGA2.multivector([1.0, 2.0, 3.0, 4.0]).grade(1)
        Multivector(2.0 e1 + 3.0 e2, Cl(2,0,0)[1])
        """
        wanted = restricted(self.layout, grades)
        kept = self.constraint if wanted == self.layout else None
        return type(self._self)(pick(self.planes, self.layout, wanted), wanted, kept)

    def reverse(self) -> Multivector:
        """The reverse: the factors of every blade in opposite order, (-1)^(k(k-1)/2) on grade k.

        >>> from ga import VGA2
        >>> ~VGA2.multivector([1.0, 2.0], grades=(0, 2))
        Multivector(1.0 e - 2.0 e12, Cl(2,0,0)[0,2])
        """
        return maps.with_signs(self._self, maps.REVERSED)

    def involute(self) -> Multivector:
        """The grade involution: odd grades change sign."""
        return maps.with_signs(self._self, maps.ODD)

    def conjugate(self) -> Multivector:
        """The Clifford conjugate, reverse of the involution: (-1)^(k(k+1)/2) on grade k."""
        return maps.with_signs(self._self, maps.CONJUGATED)

    def dual(self) -> Multivector:
        """The right complement: for a basis blade a, a ∧ a.dual() is the pseudoscalar.  It needs no metric.

        Inverse: :meth:`undual`.  The duality by multiplication with the pseudoscalar is :meth:`polarity`.

        >>> from ga import PGA3
        >>> PGA3.e0.dual(), PGA3.e0.dual().undual()
        (Multivector(1.0 e123, Cl(3,0,1){e123}), Multivector(1.0 e0, Cl(3,0,1){e0}))
        """
        return maps.complement(self._self, left=False)

    def undual(self) -> Multivector:
        """The left complement, inverse of :meth:`dual`: for a basis blade a, a.undual() ∧ a is I."""
        return maps.complement(self._self, left=True)

    def polarity(self) -> Multivector:
        """X I⁻¹ with the pseudoscalar I, as clifford's ``dual``.

        Raises:
            NotInvertibleError: a generator is null, so that I has no inverse.
        """
        return maps.polarity(self._self, undo=False)

    def unpolarity(self) -> Multivector:
        """X I, inverse of :meth:`polarity`.

        Raises:
            NotInvertibleError: a generator is null, so that I has no inverse.
        """
        return maps.polarity(self._self, undo=True)

    def norm_squared(self) -> Tensor:
        """The scalar part of x ~x, shape ``(*batch)``; negative or 0 for some x in most signatures."""
        return maps.norm_squared(self._self)

    def norm(self) -> Tensor:
        """√|⟨x ~x⟩|, shape ``(*batch)``; its derivative is 0 where it is 0.

        >>> from ga import VGA3
        >>> VGA3.vector([1.0, 2.0, 2.0]).norm()
        tensor(3.)
        """
        return maps.norm(self._self)

    def normalize(self) -> Multivector:
        """Divided by the norm.  To make a rotor of a multivector use :meth:`as_rotor`.

        Raises:
            NotInvertibleError: an element has norm 0.
        """
        return maps.normalize(self._self)

    def inverse(self) -> Multivector:
        """x⁻¹ with x x⁻¹ = 1; see :func:`ga.inverse.inverse`.

        Raises:
            NotInvertibleError: an element has none.

        >>> from ga import STA
        >>> x = STA.multivector(torch.arange(16.0).cos())
        >>> bool((x * x.inverse() - 1.0).planes.abs().max() < 1e-5)
        True
        """
        return inverse.inverse(self._self)

    def left_contraction(self, other: Multivector) -> Multivector:
        """Left contraction, the part of grade s - r of (grade r) times (grade s)."""
        return self._self._product("left", other)

    def right_contraction(self, other: Multivector) -> Multivector:
        """Right contraction, the part of grade r - s of (grade r) times (grade s)."""
        return self._self._product("right", other)

    def scalar_product(self, other: Multivector) -> Multivector:
        """The scalar part of the geometric product; without blades if no pair of grades can give a scalar."""
        return self._self._product("scalar", other)

    def commutator(self, other: Multivector) -> Multivector:
        """(x y - y x) / 2."""
        return self._self._product("commutator", other)

    def anticommutator(self, other: Multivector) -> Multivector:
        """(x y + y x) / 2."""
        return self._self._product("anticommutator", other)

    def exp(self) -> Multivector:
        """Exponential of a bivector; see :func:`ga.exp`."""
        return versor.exp(self._self)

    def log(self) -> Multivector:
        """Logarithm of a rotor; see :func:`ga.log`."""
        return versor.log(self._self)

    def sqrt(self) -> Multivector:
        """Square root of a rotor; see :func:`ga.sqrt`."""
        return versor.sqrt(self._self)

    def as_rotor(self, project: bool = False) -> Multivector:
        """The same values typed as a rotor (a motor, if a generator is null): even, with x ~x = 1.

        Args:
            project: Divide by the root of x ~x first, which gives the nearest rotor on the same ray; without,
                anything but a rotor (to 1000 roundings) is refused.

        Raises:
            ConstraintError: x is not a rotor, or x ~x is not positive and cannot be projected.

        >>> from ga import VGA3
        >>> VGA3.even([3.0, 4.0, 0.0, 0.0]).as_rotor(project=True)
        Multivector(0.6 e + 0.8 e12 + 0.0 e13 + 0.0 e23, Cl(3,0,0)[0,2], rotor)
        """
        return versor.as_rotor(self._self, project)

    def as_motor(self, project: bool = False) -> Multivector:
        """:meth:`as_rotor`, and an error in algebras without null generators."""
        return versor.as_motor(self._self, project)

    def as_versor(self, project: bool = False) -> Multivector:
        """The same values typed as a unit versor: even or odd, with x ~x = 1 or -1.

        Raises:
            ConstraintError: as for :meth:`as_rotor`.
        """
        return versor.as_versor(self._self, project)

    def as_null(self) -> Multivector:
        """The same values typed as null: of one grade, with x ~x = 0.

        Raises:
            ConstraintError: it is not.
        """
        return versor.as_null(self._self)

    def as_simple(self) -> Multivector:
        """The same values typed as a simple blade, an outer product of vectors.

        Raises:
            ConstraintError: it is not, by the Plücker relations.
        """
        return versor.as_simple(self._self)

    def unconstrained(self) -> Multivector:
        """The same values without a constraint type."""
        return type(self._self)(self.planes, self.layout)

    @property
    def _self(self) -> Multivector:
        return cast("Multivector", self)  # these are methods of Multivector, written in another file

    def _like(self, planes: Tensor) -> Multivector:
        return type(self._self)(planes, self.layout, self.constraint)
