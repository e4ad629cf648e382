"""What a multivector of a projective or conformal algebra looks like: points, lines, planes, circles, spheres.

A shape is made of Euclidean numbers, in float64, and knows nothing of how it will be drawn.

Source:
    Gunn, "Doing Euclidean plane geometry using projective geometric algebra" (2017); Dorst, Fontijne, Mann,
    "Geometric Algebra for Computer Science" (2007), chapters 13 and 14 (parameters of rounds and flats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ga.algebra import Algebra
from ga.constraint import is_rotor
from ga.errors import AlgebraError, LayoutError
from ga.multivector import Multivector
from ga.objects import infinity, is_conformal, is_projective
from ga.versor import log

Coordinates = npt.NDArray[np.float64]

_TOLERANCE = 1e-6
"""A part below this share of the largest coefficient is 0: single precision, a few products deep."""


@dataclass(frozen=True, eq=False)
class Shape:
    """One geometric object in the plane or in space."""

    kind: str  #: point, direction, line, plane, circle, sphere, pair or ideal (nothing in finite reach)
    center: Coordinates  #: a point, a center, or of a flat the point nearest to the origin; shape ``(d,)``
    axis: Coordinates  #: unit direction of a line or pair, unit normal of a plane or circle; else zero
    radius: float = 0.0  #: of a circle, a sphere or a pair (half of the distance of its points)
    real: bool = True  #: False if the square of the radius is negative: no real point lies on it

    @property
    def ends(self) -> Coordinates:
        """The two points of a pair, shape ``(2, d)``."""
        return np.stack([self.center - self.radius * self.axis, self.center + self.radius * self.axis])


def dimensions(algebra: Algebra) -> int:
    """Dimension of the space that a projective or conformal algebra describes.

    Raises:
        AlgebraError: it is neither, or its space is neither the plane nor space.

    >>> from ga import CGA3, PGA2
    >>> dimensions(PGA2), dimensions(CGA3)
    (2, 3)
    """
    d = algebra.n - 1 if is_projective(algebra) else algebra.n - 2 if is_conformal(algebra) else 0
    if d not in (2, 3):
        raise AlgebraError(
            f"{algebra} is not drawn: pictures are of Cl(2,0,1), Cl(3,0,1), Cl(3,1) and Cl(4,1), the projective "
            "and conformal algebras of the plane and of space"
        )
    return d


def shapes(mv: Multivector) -> list[Shape]:
    """The shapes of a multivector of one grade, or of rotors and motors: one for each element of the batch.

    Projective: vectors are planes (lines in the plane), the highest grade but one points, bivectors of space
    lines (of a bivector that is no blade, the axis of its screw).  Conformal: a vector is what its points are
    orthogonal to, a plane or sphere (a point if it is null); other grades are outer products of their points:
    pairs, circles and lines, spheres and planes.  What is written the other way round is drawn by its
    ``polarity()``.  A rotor or motor is drawn as its axis, in the plane as its fixed point.

    Args:
        mv: Any batch shape.

    Raises:
        AlgebraError: the algebra has no picture.
        LayoutError: more than one grade, or a grade without geometry.

    >>> from ga import CGA3, PGA3
    >>> shapes(PGA3.point([1.0, 2.0, 3.0]))[0].center
    array([1., 2., 3.])
    >>> a, b, c = CGA3.point([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    >>> circle = shapes(a ^ b ^ c)[0]
    >>> circle.kind, round(circle.radius, 6), [round(float(c)) for c in circle.axis]
    ('circle', 1.0, [0, 0, 1])
    """
    d = dimensions(mv.algebra)
    x = mv.detach().to(device="cpu", dtype=torch.float64)
    if is_rotor(x.constraint):
        x = log(x)
    grades = [k for k, where in x.layout.slices.items() if bool(x.planes[where].any())] or list(x.grades)
    if len(grades) != 1:
        raise LayoutError(
            f"a picture shows one grade, got {mv.layout}; project with .grade(k), or use as_rotor()"
        )
    x = x.grade(*grades)
    make = _projective if is_projective(mv.algebra) else _conformal
    flat = x.reshape(x.shape.numel())
    return [make(flat[t], d, grades[0]) for t in range(len(flat))]


def _projective(x: Multivector, d: int, k: int) -> Shape:
    if k == 1:
        values = _coefficients(x, [1 << t for t in range(d + 1)])
        return _plane(values[1:], -values[0], values)
    if k == d:
        values = _coefficients(x.undual(), [1 << t for t in range(d + 1)])
        if _is_small(values[0], values):
            return Shape("direction", np.zeros(d), _unit(values[1:]), float(np.linalg.norm(values[1:])))
        return Shape("point", values[1:] / values[0], np.zeros(d))
    if k == 2:
        return _screw_axis(x)
    raise LayoutError(f"{x.layout} has no picture: grade {k} is no point, line or plane")


def _screw_axis(x: Multivector) -> Shape:
    """A line of space: direction u and moment V = x × u for its points x."""
    e12, e13, e23, e01, e02, e03 = _coefficients(x, [0b110, 0b1010, 0b1100, 0b011, 0b101, 0b1001])
    u, moment = np.array([e23, -e13, e12]), np.array([e01, e02, e03])
    if _is_small(np.linalg.norm(u), moment):
        return Shape("ideal", np.zeros(3), _unit(moment))
    return Shape("line", np.cross(u, moment) / (u @ u), _unit(u))


def _conformal(x: Multivector, d: int, k: int) -> Shape:
    everywhere = infinity(x.algebra).to(torch.float64)
    if k == d + 1:
        x, k = _hyperplane(x), 1
    if k == 1:
        return _dual_sphere(x, d)
    if not 1 < k <= d:
        raise LayoutError(f"{x.layout} has no picture: grade {k} is no point, pair, circle or sphere")
    carrier = x ^ everywhere
    if _is_small(carrier.planes.abs().max().numpy(), x.planes.numpy()):
        return _flat(x, d)
    round_one = _dual_sphere((x * carrier.inverse()).grade(1), d)
    direction = _flat(carrier, d).axis if k == 2 else _dual_sphere(_hyperplane(carrier), d).axis
    kind = "point" if round_one.kind == "point" else "pair" if k == 2 else "circle"
    return Shape(kind, round_one.center, direction, round_one.radius, round_one.real)


def _dual_sphere(x: Multivector, d: int) -> Shape:
    """The plane, sphere or point of a vector: multiples of normal + offset n_inf, or point - radius² n_inf / 2."""
    values = _coefficients(x, [1 << t for t in range(d + 2)])
    weight = values[d + 1] - values[d]  # of n_o
    if _is_small(weight, values):
        return _plane(values[:d], (values[d] + values[d + 1]) / 2, values)
    center, far = values[:d] / weight, (values[d] + values[d + 1]) / weight  # far = center² - radius²
    squared = float(center @ center - far)
    if abs(squared) <= _TOLERANCE * max(1.0, float(center @ center)):
        return Shape("point", center, np.zeros(d))
    return Shape("sphere" if d == 3 else "circle", center, np.zeros(d), abs(squared) ** 0.5, squared > 0)


def _flat(x: Multivector, d: int) -> Shape:
    """A flat point, line or plane p ∧ D ∧ n_inf: D stands before e₊e₋, and p ∧ D before e₋ alone."""
    if x.grades == (d + 1,):
        return _dual_sphere(_hyperplane(x), d)
    k, plus, minus = x.grades[0] - 2, 1 << d, 1 << (d + 1)
    space = Algebra(d)
    sign = -1.0 if k % 2 == 0 else 1.0  # n_o ∧ D ∧ n_inf = -(-1)^k D e₊e₋
    direction = space.multivector(_graded(x, space, k, plus | minus) * sign, k)
    moment = space.multivector(_graded(x, space, k + 1, minus), k + 1)
    if _is_small(direction.planes.abs().max().numpy(), moment.planes.numpy()):
        return Shape("ideal", np.zeros(d), np.zeros(d))
    center = (moment * direction.inverse()).grade(1).planes.numpy()
    if k == 0:
        return Shape("point", center, np.zeros(d))
    return Shape("line", center, _unit(direction.planes.numpy()))


def _hyperplane(x: Multivector) -> Multivector:
    """The vector of a sphere or plane that is given by its points, with a normal that the points turn about."""
    return x.polarity() * (-1.0 if x.algebra.n == 5 else 1.0)


def _plane(normal: Coordinates, offset: float, values: Coordinates) -> Shape:
    """The points x with normal · x = offset: a plane, in two dimensions a line."""
    size = float(np.linalg.norm(normal))
    if _is_small(size, values):
        return Shape("ideal", np.zeros(len(normal)), np.zeros(len(normal)))
    unit = normal / size
    center = unit * (offset / size)
    return (
        Shape("line", center, np.array([-unit[1], unit[0]]))
        if len(normal) == 2
        else Shape("plane", center, unit)
    )


def _graded(x: Multivector, space: Algebra, k: int, factor: int) -> Any:
    """Coefficients of the Euclidean blades of grade k that stand before a factor."""
    return torch.from_numpy(_coefficients(x, [b | factor for b in space.blades if b.bit_count() == k]))


def _coefficients(x: Multivector, blades: list[int]) -> Coordinates:
    """Coefficients of some blades, 0 where they are not stored."""
    stored = dict(zip(x.layout.blades, x.planes.tolist(), strict=True))
    return np.array([stored.get(blade, 0.0) for blade in blades])


def _unit(v: Coordinates) -> Coordinates:
    size = np.linalg.norm(v)
    return v / size if size else v


def _is_small(part: Any, whole: Coordinates) -> bool:
    return bool(abs(part) <= _TOLERANCE * np.abs(whole).max(initial=0.0))
