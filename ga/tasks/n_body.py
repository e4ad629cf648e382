"""Charged particles in space: where will they be?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ga.algebra import VGA3
from ga.layout import Layout
from ga.nn import GradeLinear
from ga.tasks.networks import GraphNet

_AT_ONCE = 256
"""Systems simulated at once: their forces stay in the cache."""


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
    before: int = 3100,
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
        "E(n) Equivariant Graph Neural Networks", arXiv 2102.09844, section 5.1.  Theirs take the frames 30 and 40
        of a file whose frames are 100 steps apart and begin with step 100: steps 3100 and 4100.

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
    parts = zip(charges.split(_AT_ONCE), x.split(_AT_ONCE), v.split(_AT_ONCE), strict=True)
    found = [_simulate(*part, steps, dt) for part in parts]
    return torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])


def _simulate(charges: Tensor, x: Tensor, v: Tensor, steps: int, dt: float) -> tuple[Tensor, Tensor]:
    """Some systems; inside, systems come last, so that every operation runs along memory."""
    c, x, v = charges.T, x.permute(2, 1, 0).contiguous(), v.permute(2, 1, 0).contiguous()
    strength = c[:, None] * c[None]
    itself = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[..., None]
    limit = 0.1 / dt
    for _ in range(steps):
        apart = x[:, :, None] - x[:, None]
        squared = apart.square().sum(0) + itself  # a particle's own term is 0 all the same
        force = (apart * (strength / (squared * squared.sqrt()))).sum(2)
        v = v + dt * force.clamp(-limit, limit)
        x = x + dt * v
    return x.permute(2, 1, 0), v.permute(2, 1, 0)


class BodiesNet(nn.Module):
    """Where charged particles will be: their positions plus a vector that turns with space and is moved by nothing.

    Args:
        hidden: Channels of the multivectors of Cl(3) at each particle.
        layers: How often messages pass.
        width: Hidden units of the perceptrons.
        generator: Source of the initial weights.

    >>> net = BodiesNet(hidden=8, layers=1, width=16, generator=torch.Generator().manual_seed(0))
    >>> net(torch.ones(2, 5), torch.randn(2, 5, 3), torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(
        self, hidden: int = 24, layers: int = 3, width: int = 64, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.graph = GraphNet(
            numbers=2, vectors=2, pair=1, hidden=hidden, layers=layers, width=width, generator=generator
        )
        self.readout = GradeLinear(Layout.of_grades(VGA3, 1), hidden, 1, generator=generator)

    def forward(self, charges: Tensor, positions: Tensor, velocities: Tensor) -> Tensor:
        """Predict the later positions.

        Args:
            charges: Shape ``(n, particles)``.
            positions: Shape ``(n, particles, 3)``.
            velocities: Shape ``(n, particles, 3)``.

        Returns:
            Shape ``(n, particles, 3)``.
        """
        numbers = torch.stack([charges, velocities.norm(dim=-1)], -1)
        vectors = torch.stack([velocities, positions - positions.mean(1, keepdim=True)], 2)
        pair = (charges[:, :, None] * charges[:, None])[..., None]
        x = self.graph(numbers, vectors, positions, pair)
        moved: Tensor = self.readout(x.grade(1)).coefficients.squeeze(-2)
        return positions + velocities + moved
