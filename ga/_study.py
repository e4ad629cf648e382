"""Functions of numbers a + b q whose q commutes with everything near and squares to a number p.

The square of a bivector, and the even part of a rotor beside its bivector, are such numbers up to five
generators: q is the part of grade 4.  Exponential and logarithm of bivectors become functions of them, which
are evaluated without ever dividing by p or by a difference of roots, so that simple (p = 0), isoclinic (equal
roots), null and Minkowski (complex roots) cases need no case of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Study:
    """a + b q, with q² = p; b is None where q does not exist, p where q² is known to be 0.

    >>> z = Study(torch.tensor(3.0), torch.tensor(1.0), torch.tensor(4.0))  # 3 + q, eigenvalues 3 ± 2
    >>> root = z.sqrt()
    >>> square = root * root
    >>> round(float(square.a), 5), round(float(square.b), 5)
    (3.0, 1.0)
    """

    a: Tensor
    b: Tensor | None = None
    p: Tensor | None = None

    def __mul__(self, other: Study) -> Study:
        a = self.a * other.a
        p = other.p if self.p is None else self.p
        if self.b is None or other.b is None:
            b = None if self.b is None else self.b * other.a
            return Study(a, b if other.b is None else self.a * other.b, p)
        if p is not None:
            a = a + self.b * other.b * p
        return Study(a, self.a * other.b + self.b * other.a, p)

    def scale(self, factor: float) -> Study:
        """Times a number."""
        return Study(self.a * factor, None if self.b is None else self.b * factor, self.p)

    def add(self, number: float) -> Study:
        """Plus a number."""
        return Study(self.a + number, self.b, self.p)

    def determinant(self) -> Tensor:
        """(a + b q)(a - b q), the product of the two eigenvalues."""
        squared = self.a.square()
        return squared if self.b is None or self.p is None else squared - self.b.square() * self.p

    def inverse(self) -> Study:
        """1 / (a + b q)."""
        d = self.determinant()
        return Study(self.a / d, None if self.b is None else -self.b / d, self.p)

    def sqrt(self) -> Study:
        """The root with positive eigenvalues, or with positive real parts where they are complex."""
        size = self.determinant().clamp(min=0).sqrt() if self.p is not None else self.a
        e = ((self.a + size) / 2).sqrt()
        return Study(e, None if self.b is None else self.b / (2 * e), self.p)


_DOUBLINGS = 5
_TERMS = 10


def cosh_and_sinhc(z: Study) -> tuple[Study, Study]:
    """Cosh √z and sinh √z / √z, which are power series in z."""
    if z.b is None or z.p is None:
        c, s = cosh_root(z.a), sinhc_root(z.a)
        if z.b is None:
            return Study(c), Study(s)
        return Study(c, z.b * s / 2), Study(s, z.b * sinhc_root_derivative(z.a))
    z = z.scale(0.25**_DOUBLINGS)
    less_one = (
        _horner(z, [1 / factorial(2 * k + 2) for k in range(_TERMS)]) * z
    )  # cosh - 1 keeps small angles
    sinhc = _horner(z, [1 / factorial(2 * k + 1) for k in range(_TERMS)])
    for _ in range(_DOUBLINGS):
        sinhc = sinhc * less_one.add(1)
        less_one = (less_one * less_one.add(2)).scale(2)
    return less_one.add(1), sinhc


_HALVINGS = 5
_ARC_SERIES = [4.0**m * factorial(m) ** 2 / factorial(2 * m + 1) for m in range(12)]


def angle_over_sine(c: Tensor, w: Tensor, p: Tensor) -> Study:
    """θ / sin θ of the θ with cos θ = c + q, where q² = p and w is the scalar part of sin² θ = 1 - (c + q)².

    The angle is halved five times, then a series in (1 - cos) / 2 converges:
    asin x / √(1 - x²) = Σ 4^m m!² x^(2m+1) / (2m+1)!.
    """
    one = torch.ones_like(c)
    versine, above = Study(1 - c, -one, p), one_plus(c, w, p)
    cosines = None
    for _ in range(_HALVINGS):
        cosine = above.scale(0.5).sqrt()
        above = cosine.add(1)
        versine = versine.scale(0.5) * above.inverse()
        cosines = cosine if cosines is None else cosines * cosine
    assert cosines is not None  # there is at least one halving
    return _horner(versine.scale(0.5), _ARC_SERIES) * cosines.inverse()


def one_plus(c: Tensor, w: Tensor, p: Tensor | None) -> Study:
    """1 + cos θ for cos θ = c + q, from sin² θ where it would cancel."""
    one = torch.ones_like(c)
    direct = Study(1 + c, one, p)
    low = c < 0
    safe = torch.where(low, c, -1.0)
    other = Study(w, -2 * c, p) * Study(1 - safe, -one, p).inverse()
    assert other.b is not None  # both factors have one
    return Study(torch.where(low, other.a, direct.a), torch.where(low, other.b, one), p)


def _horner(z: Study, coefficients: list[float]) -> Study:
    total = z.scale(coefficients[-1]).add(coefficients[-2])
    for coefficient in reversed(coefficients[:-2]):
        total = (z * total).add(coefficient)
    return total


def cosh_root(s: Tensor) -> Tensor:
    """Cosh √s: cos √-s for negative s; smooth at 0."""
    near, r = _split(s)
    far = torch.where(s < 0, torch.cos(r), torch.cosh(torch.where(s < 0, 0.0, r)))
    return torch.where(near, _series(s, near, [1 / factorial(2 * k) for k in range(_TERMS)]), far)


def sinhc_root(s: Tensor) -> Tensor:
    """Sinh √s / √s: sin √-s / √-s for negative s; smooth at 0."""
    near, r = _split(s)
    far = torch.where(s < 0, torch.sin(r), torch.sinh(torch.where(s < 0, 0.0, r))) / r
    return torch.where(near, _series(s, near, [1 / factorial(2 * k + 1) for k in range(_TERMS)]), far)


def sinhc_root_derivative(s: Tensor) -> Tensor:
    """Derivative of :func:`sinhc_root`, (cosh √s - sinh √s / √s) / 2s."""
    near, _ = _split(s)
    far = (cosh_root(s) - sinhc_root(s)) / (2 * torch.where(near, 1.0, s))
    return torch.where(near, _series(s, near, [k / factorial(2 * k + 1) for k in range(1, _TERMS)]), far)


def _split(s: Tensor) -> tuple[Tensor, Tensor]:
    """Where |s| < 1, and √|s| elsewhere (1 there, so that no derivative is infinite)."""
    near = s.abs() < 1
    return near, torch.where(near, 1.0, s).abs().sqrt()


def _series(s: Tensor, near: Tensor, coefficients: list[float]) -> Tensor:
    """The power series, evaluated where it converges fast."""
    s = torch.where(near, s, 0.0)
    total = torch.full_like(s, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * s + coefficient
    return total


_ARCTAN = [(-1) ** k / (2 * k + 1) for k in range(14)]


def arc_ratio(c: Tensor, w: Tensor) -> Tensor:
    """θ / sin θ for cos θ = c, sin² θ = w; η / sinh η for cosh η = c, w = -sinh² η."""
    near, t, safe = _near_identity(c, w)
    r = safe.abs().sqrt()
    far = torch.where(w > 0, torch.atan2(r, c), torch.asinh(r)) / r
    return torch.where(near, _series(t, near, _ARCTAN) / torch.where(near, c, 1.0), far)


def arc_ratio_derivative(c: Tensor, w: Tensor) -> Tensor:
    """Derivative of θ / sin θ by cos θ, (θ cos θ / sin θ - 1) / sin² θ."""
    near, t, safe = _near_identity(c, w)
    far = (c * arc_ratio(c, w) - 1) / safe
    return torch.where(near, _series(t, near, _ARCTAN[1:]) / torch.where(near, c, 1.0).square(), far)


def _near_identity(c: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where tan² θ is small and c positive, tan² θ there, and w elsewhere (1 there)."""
    near = (w.abs() < 0.06 * c.square()) & (c > 0)
    t = torch.where(near, w, 0.0) / torch.where(near, c, 1.0).square()
    return near, t, torch.where(near, 1.0, w)
