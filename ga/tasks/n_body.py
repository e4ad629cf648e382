"""Charged particles in space: where will they be?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChargedBodies:
    """Systems of charged particles at one time, and their positions later; float32."""

    charges: Tensor  #: 1 or -1, shape ``(n, particles)``
    positions: Tensor  #: shape ``(n, particles, 3)``
    velocities: Tensor  #: shape ``(n, particles, 3)``
    targets: Tensor  #: the later positions, shape ``(n, particles, 3)``


def charged_n_body(
    n: int,
    generator: torch.Generator,
    *,
    particles: int = 5,
    before: int = 3000,
    steps: int = 1000,
    dt: float = 0.001,
) -> ChargedBodies:
    r"""Simulate systems of particles of unit mass and charges 1 or -1 that repel and attract each other.

    The force on particle i is :math:`\sum_j c_i c_j (x_i - x_j) / |x_i - x_j|^3`, each component of the sum held
    within ±0.1/dt.  Particles start at standard normal positions with random velocities of length 1/2 and move
    by v += dt F, x += dt v (semi-implicit Euler), in float64 and without walls.

    Args:
        n: Number of systems, simulated side by side.
        generator: Source of charges, positions and velocities.
        particles: Number of particles of a system.
        before: Steps before the positions and velocities that are given.
        steps: Steps from there to the targets.
        dt: Length of a step.

    Source:
        Kipf, Fetaya, Wang, Welling, Zemel, "Neural Relational Inference for Interacting Systems", arXiv
        1802.04687 (the simulation); without walls, in space, with these times Satorras, Hoogeboom, Welling,
        "E(n) Equivariant Graph Neural Networks", arXiv 2102.09844, section 5.1.

    >>> bodies = charged_n_body(2, torch.Generator().manual_seed(0), before=10, steps=20)
    >>> bodies.charges.shape, bodies.targets.shape
    (torch.Size([2, 5]), torch.Size([2, 5, 3]))
    """
    charges = 2.0 * torch.randint(2, (n, particles), generator=generator).double() - 1
    x = torch.randn(n, particles, 3, generator=generator, dtype=torch.float64)
    v = torch.randn(n, particles, 3, generator=generator, dtype=torch.float64)
    v = 0.5 * v / v.norm(dim=-1, keepdim=True)
    x, v = simulate(charges, x, v, before, dt)
    later, _ = simulate(charges, x, v, steps, dt)
    return ChargedBodies(charges.float(), x.float(), v.float(), later.float())


def simulate(charges: Tensor, x: Tensor, v: Tensor, steps: int, dt: float) -> tuple[Tensor, Tensor]:
    """Positions and velocities after some steps; see :func:`charged_n_body`.

    Args:
        charges: Shape ``(n, particles)``.
        x: Positions, shape ``(n, particles, d)``.
        v: Velocities, of the same shape.
        steps: Number of steps.
        dt: Length of a step.
    """
    strength = (charges[:, :, None] * charges[:, None, :])[..., None]
    itself = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[..., None]
    limit = 0.1 / dt
    for _ in range(steps):
        apart = x[:, :, None] - x[:, None, :]
        squared = apart.square().sum(-1, keepdim=True) + itself  # a particle's own term is 0 all the same
        force = (strength * apart / (squared * squared.sqrt())).sum(2)
        v = v + dt * force.clamp(-limit, limit)
        x = x + dt * v
    return x, v
