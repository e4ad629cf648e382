"""Convex hulls: the volume of the hull of random points, by outer products of points."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from ga.algebra import Algebra
from ga.multivector import Multivector

_AT_ONCE = 1 << 22
"""Numbers held at once: clouds are taken in blocks so that their facets' distances fit."""


def convex_hulls(
    n: int, generator: torch.Generator, *, points: int = 16, dim: int = 5
) -> tuple[Tensor, Tensor]:
    """Draw clouds of standard normal points and the volumes of their convex hulls.

    Args:
        n: Number of clouds.
        generator: Source of the points.
        points: Points of a cloud.
        dim: Dimension of space, up to 7.

    Returns:
        Points, float32, shape ``(n, points, dim)``; volumes, computed in float64 and rounded, float32, shape
        ``(n,)``; not standardized.

    Source:
        The O(5) convex hulls of Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 5.2: 16 points in five
        dimensions.

    >>> clouds, volumes = convex_hulls(3, torch.Generator().manual_seed(0), points=8, dim=3)
    >>> clouds.shape, bool((volumes > 0).all())
    (torch.Size([3, 8, 3]), True)
    """
    clouds = torch.randn(n, points, dim, generator=generator)
    return clouds, hull_volumes(clouds.double()).float()


def hull_volumes(clouds: Tensor) -> Tensor:
    r"""Volumes of the convex hulls of clouds of points in general position.

    Every choice of d points spans a hyperplane, the outer product of their homogeneous vectors in Cl(d+1).  It
    bears a facet if all other points are on one side; the facet and the cloud's mean m make a simplex of
    volume :math:`|p_1 \wedge \dots \wedge p_d \wedge m| / d!`, and these simplices fill the hull.  Exact but for
    rounding, without search or branches, and one batch: 16 points in five dimensions have 4368 choices.

    Args:
        clouds: Shape ``(n, points, d)``, d from 1 to 7, more points than d, no d + 1 of them in a hyperplane (points
            drawn from a density are so with probability 1).

    Returns:
        Volumes, shape ``(n,)``, in the dtype of the clouds.

    Raises:
        ValueError: too few points, or a dimension above 7.

    Source:
        Grünbaum, "Convex Polytopes" (2003), chapter 2, for facets; Dorst, Fontijne, Mann (2007), section 11.6, for
        volumes of simplices as outer products.

    >>> corners = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.9, 0.6]]])
    >>> hull_volumes(corners)
    tensor([2.])
    """
    _, points, dim = clouds.shape
    if not 1 <= dim <= 7 or points <= dim:
        raise ValueError(
            f"hull_volumes takes clouds of more than d points in d = 1 to 7 dimensions, got {points} points in "
            f"{dim}; their hull has no volume"
        )
    choices = torch.combinations(torch.arange(points), dim)
    block = max(_AT_ONCE // (len(choices) * points), 1)
    return torch.cat([_volumes(part, dim) for part in clouds.split(block)])


def _volumes(clouds: Tensor, dim: int) -> Tensor:
    points = clouds.shape[1]
    middle = clouds.mean(1, keepdim=True)
    homogeneous = torch.cat([clouds - middle, torch.ones_like(clouds[..., :1])], -1)
    planes = _joins(Algebra(dim + 1).vector(homogeneous), dim)
    # the mean is now the origin, and the distance of a point from a hyperplane is their outer product
    covectors = planes.undual().coefficients  # (n, choices, d + 1); signs are of no interest
    sides = covectors @ homogeneous.mT
    chosen = torch.zeros(planes.shape[1], points, dtype=torch.bool)
    chosen[torch.arange(len(chosen))[:, None], torch.combinations(torch.arange(points), dim)] = True
    sides = sides.masked_fill(chosen, 0.0)
    facet = (sides >= 0).all(-1) | (sides <= 0).all(-1)
    return (covectors[..., -1].abs() * facet).sum(-1) / factorial(dim)


def _joins(points: Multivector, k: int) -> Multivector:
    """Outer products of all choices of k points, in lexicographic order; each from one of k - 1 and one point."""
    count = points.shape[1]
    chosen: list[tuple[int, ...]] = [(t,) for t in range(count)]
    joined = points
    for size in range(2, k + 1):
        place = {choice: t for t, choice in enumerate(chosen)}
        chosen = list(combinations(range(count), size))
        front = [place[choice[:-1]] for choice in chosen]
        joined = joined[:, front] ^ points[:, [choice[-1] for choice in chosen]]
    return joined
