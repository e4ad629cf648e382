"""Points, planes, lines and spheres: what the constructors of the projective and conformal algebras make.

Source:
    Gunn, "Doing Euclidean plane geometry using projective geometric algebra" (2017), for vectors as planes;
    Dorst, Fontijne, Mann (2007), chapter 13, for the conformal model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ga.algebra import Algebra
from ga.errors import AlgebraError, LayoutError
from ga.layout import Layout
from ga.multivector import Multivector


def is_projective(algebra: Algebra) -> bool:
    """Is it Cl(d, 0, 1) with the null generator first, whose vectors are planes?"""
    return algebra.metric == (0,) + (1,) * (algebra.n - 1) and algebra.n >= 3


def is_conformal(algebra: Algebra) -> bool:
    """Is it Cl(d+1, 1) with the negative generator last, whose null vectors are points?"""
    return algebra.metric == (1,) * (algebra.n - 1) + (-1,) and algebra.n >= 3


def as_floats(values: Any) -> Tensor:
    """A floating tensor; integers become torch's default dtype."""
    t = values if isinstance(values, Tensor) else torch.as_tensor(values)
    return t if t.is_floating_point() else t.to(torch.get_default_dtype())


def point(algebra: Algebra, coordinates: Any) -> Multivector:
    """See :meth:`ga.Algebra.point`."""
    x = _coordinates("point", algebra, coordinates)
    if is_projective(algebra):
        return algebra.vector(torch.cat([torch.ones_like(x[..., :1]), x], -1)).dual()
    half = x.square().sum(-1, keepdim=True) / 2
    return algebra.vector(torch.cat([x, half - 0.5, half + 0.5], -1))


def direction(algebra: Algebra, coordinates: Any) -> Multivector:
    """See :meth:`ga.Algebra.direction`."""
    if not is_projective(algebra):
        raise AlgebraError(f"{algebra} has no ideal points; direction needs Cl(d,0,1)")
    x = _coordinates("direction", algebra, coordinates)
    return algebra.vector(torch.cat([torch.zeros_like(x[..., :1]), x], -1)).dual()


def plane(algebra: Algebra, normal: Any, offset: Any) -> Multivector:
    """See :meth:`ga.Algebra.plane`."""
    x = _coordinates("plane", algebra, normal)
    d = torch.as_tensor(offset, dtype=x.dtype, device=x.device)[..., None]
    batch = torch.broadcast_shapes(x.shape[:-1], d.shape[:-1])
    x, d = x.expand(*batch, x.shape[-1]), d.expand(*batch, 1)
    return algebra.vector(torch.cat([d, x] if is_projective(algebra) else [x, -d, -d], -1))


def line(algebra: Algebra, first: Any, second: Any) -> Multivector:
    """See :meth:`ga.Algebra.line`."""
    a, b = point(algebra, first), point(algebra, second)
    if is_projective(algebra):
        return a & b
    return a ^ b ^ infinity(algebra).to(a.dtype)


def sphere(algebra: Algebra, center: Any, radius: Any) -> Multivector:
    """See :meth:`ga.Algebra.sphere`."""
    c = point(algebra, center)
    r = torch.as_tensor(radius, dtype=c.dtype)
    return c - infinity(algebra).to(c.dtype) * (r.square() / 2)


def infinity(algebra: Algebra) -> Multivector:
    """See :meth:`ga.Algebra.infinity`."""
    if not is_conformal(algebra):
        raise AlgebraError(f"{algebra} has no point at infinity as a vector; it needs Cl(d+1,1)")
    layout = Layout(algebra, (1 << (algebra.n - 2), 1 << (algebra.n - 1)))
    return Multivector.from_coefficients([1.0, 1.0], layout)


def _coordinates(what: str, algebra: Algebra, values: Any) -> Tensor:
    """Floating coordinates, shape ``(*batch, d)``, for an algebra with geometry."""
    if is_projective(algebra):
        d = algebra.n - 1
    elif is_conformal(algebra):
        d = algebra.n - 2
    else:
        raise AlgebraError(
            f"{algebra} has no {what}; points, lines and planes need Cl(d,0,1) (null generator first) "
            "or Cl(d+1,1) (negative generator last); use vector, bivector or multivector"
        )
    x = as_floats(values)
    if x.dim() == 0 or x.shape[-1] != d:
        raise LayoutError(
            f"a {what} of {algebra} has {d} coordinates in the last dimension, got {tuple(x.shape)}"
        )
    return x
