"""How long a step of a versor parameter is: frames in which coordinates of a bivector are orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor

from ga._derived import constant
from ga.algebra import Algebra
from ga.conversions import to_matrix
from ga.errors import LayoutError
from ga.layout import Layout
from ga.multivector import Multivector

METRICS = ("action", "versor", "bivector")


def metric_of(metric: str | None, blades: Layout) -> str:
    """The metric that is meant: left out, ``"action"`` where every bivector moves a vector, else ``"versor"``.

    Raises:
        LayoutError: the metric is unknown, or ``"action"`` is asked for where a bivector moves nothing.
    """
    idle = [
        name for name, moves in zip(blades.names, _adjoint(blades), strict=True) if not any(map(any, moves))
    ]
    if metric is None:
        return "versor" if idle else "action"
    if metric not in METRICS:
        raise LayoutError(f"VersorParameter on {blades} takes a metric of {METRICS}, got {metric!r}")
    if metric == "action" and idle:
        raise LayoutError(
            f"metric 'action' on {blades}: {', '.join(idle)} moves no vector, so that a step along it has no "
            "length; use metric='versor'"
        )
    return metric


def frame_of(metric: str, versor: Multivector, blades: Layout) -> Tensor | None:
    """The frame of a metric, None for ``"bivector"``, where coordinates are coefficients."""
    if metric == "bivector":
        return None
    return action_frame(versor, blades) if metric == "action" else orthonormal_frame(versor, blades)


def orthonormal_frame(versor: Multivector, blades: Layout) -> Tensor:
    """The symmetric matrix F for which R ↦ R (F b) changes the coefficients of R by a vector as long as b.

    F = G^(-1/2), where G holds the products of the coefficients of R e_a and R e_b.

    Args:
        versor: R, shape ``(*batch)``.
        blades: Layout of the bivectors.

    Returns:
        Shape ``(bivectors, bivectors, *batch)``.

    >>> from ga import STA, exp
    >>> boost = exp(STA.bivector([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    >>> frame = orthonormal_frame(boost, Layout.of_grades(STA, 2))
    >>> frame.diagonal().round(decimals=3)  # e01 is the boost itself
    tensor([0.5160, 1.5430, 1.5430, 1.5430, 1.5430, 0.5160])
    """
    size = len(blades)
    units = torch.eye(size, dtype=versor.dtype, device=versor.device)
    moved = Multivector(versor.planes[:, None], versor.layout) * Multivector(
        units.reshape(size, size, *(1,) * len(versor.shape)), blades
    )
    return _inverse_root(torch.einsum("ka...,kb...->...ab", moved.planes, moved.planes)).movedim(
        (-2, -1), (0, 1)
    )


def action_frame(versor: Multivector, blades: Layout) -> Tensor:
    r"""The symmetric matrix F for which a step F b changes the map of vectors by a matrix as long as b, times a scale.

    With M the matrix of x ↦ R x ~R, a step B changes it by M ad(B), where ad(B) x = B x - x B.  So F is
    :math:`s\, G^{-1/2}` with :math:`G_{ab} = \langle M\,ad(e_a), M\,ad(e_b) \rangle`: whatever R is, the change of
    what it does to a vector has no favoured direction, and a squared error of moved vectors is well conditioned in the
    coordinates.  The scale :math:`s = \sqrt{8 |M| / |1|}` makes a step as long as the coefficients of R, whose
    square M is, would have it, and F the unit matrix for rotations.

    Args:
        versor: R, shape ``(*batch)``.
        blades: Layout of the bivectors.

    Returns:
        Shape ``(bivectors, bivectors, *batch)``, computed in float64.

    Source:
        The Gauss-Newton metric of the squared error of moved vectors, as in Amari, "Natural gradient works
        efficiently in learning", Neural Computation 10 (1998); its scale is ours.

    >>> from ga import STA, exp
    >>> boost = exp(STA.bivector([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    >>> action_frame(boost, Layout.of_grades(STA, 2)).diagonal().round(decimals=3)
    tensor([0.3710, 1.5430, 1.5430, 1.5430, 1.5430, 1.9400])
    """
    matrix = to_matrix(versor.to(torch.float64))
    ad = torch.tensor(_adjoint(blades), dtype=torch.float64, device=matrix.device)
    gram = torch.einsum("aij,...ik,bkj->...ab", ad, matrix.mT @ matrix, ad)
    scale = (8.0 * matrix.square().mean((-2, -1)).mul(versor.algebra.n).sqrt()).sqrt()
    frame = _inverse_root(gram) * scale[..., None, None]
    return frame.to(versor.dtype).movedim((-2, -1), (0, 1))


def limited(b: Multivector, size: float = 0.5) -> Multivector:
    """A bivector shortened so that its part that boosts (blades with a positive square) is at most ``size`` long."""
    boosts = _boosts(b.layout)
    if not boosts:
        return b
    squared = b.planes[list(boosts)].square().sum(0).clamp(min=size**2)  # smooth at 0
    return Multivector(b.planes * (size * squared.rsqrt()), b.layout)


def _inverse_root(gram: Tensor) -> Tensor:
    """G^(-1/2), shape ``(*batch, m, m)``; eigenvalues below the rounding of the largest are raised to it."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True))  # huge boosts
    root: Tensor = (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT
    return root


@constant
def _adjoint(blades: Layout) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For each bivector the matrix of x ↦ B x - x B on vectors; column t is the image of generator t."""
    return tuple(_bracket(blades.algebra, blade) for blade in blades.blades)


def _bracket(algebra: Algebra, blade: int) -> tuple[tuple[int, ...], ...]:
    rows = [[0] * algebra.n for _ in range(algebra.n)]
    for t in range(algebra.n):
        (image, sign), (_, back) = algebra.product(blade, 1 << t), algebra.product(1 << t, blade)
        if sign != back:  # then the blade holds generator t, and the image is the other generator
            rows[image.bit_length() - 1][t] = sign - back
    return tuple(map(tuple, rows))


@constant
def _boosts(blades: Layout) -> tuple[int, ...]:
    """Places of the blades that square to a positive number."""
    return tuple(k for k, blade in enumerate(blades.blades) if blades.algebra.product(blade, blade)[1] > 0)
