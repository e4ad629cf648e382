"""The signed volume of three random points: a small task that an equivariant network can learn exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ga.algebra import VGA3
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn import GeometricProductLayer, GradeLinear


def signed_volume(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw ``n`` triples of standard normal points and their signed volumes.

    Args:
        n: Number of samples.
        generator: Source of the points.

    Returns:
        Points, float32, shape ``(n, 3 points, 3 coordinates)``; targets det(points)/10, computed in float64
        and rounded, float32, shape ``(n,)``.  The targets have mean 0 and standard deviation sqrt(6)/10,
        about 0.245.

    Source:
        The O(3) experiment of Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 5.1.

    >>> points, volumes = signed_volume(4, torch.Generator().manual_seed(0))
    >>> points.shape, volumes.shape
    (torch.Size([4, 3, 3]), torch.Size([4]))
    """
    points = torch.randn(n, 3, 3, generator=generator)
    return points, (torch.linalg.det(points.double()) / 10).float()


class SignedVolumeNet(nn.Module):
    """Points to one pseudoscalar in Cl(3,0,0), through vectors and bivectors.

    The pipeline is vectors → linear → (vector · vector → bivector) → linear → (bivector · vector →
    pseudoscalar) → linear.  The output is a cubic of the points; the only grade path of degree three from
    vectors to a pseudoscalar runs through bivectors (a scalar times a vector is a vector), so no other grade
    is stored.  The output changes sign under reflections and is unchanged by rotations, by construction.

    Args:
        hidden: Channels of the hidden layers.
        generator: Source of the initial weights.

    >>> net = SignedVolumeNet(hidden=8, generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 3, 3)).shape
    torch.Size([5])
    """

    def __init__(self, hidden: int = 16, *, generator: torch.Generator) -> None:
        super().__init__()
        vector, bivector, trivector = (Layout.of_grades(VGA3, k) for k in (1, 2, 3))
        self.embed = GradeLinear(vector, 3, hidden, generator=generator)
        self.area = GeometricProductLayer(vector, hidden, out_grades=2, generator=generator)
        self.mix = GradeLinear(bivector, hidden, hidden, generator=generator)
        self.volume = GeometricProductLayer(bivector, hidden, out_grades=3, right=vector, generator=generator)
        self.readout = GradeLinear(trivector, hidden, 1, generator=generator)

    def forward(self, points: Tensor) -> Tensor:
        """Predict the signed volume.

        Args:
            points: Shape ``(batch, 3 points, 3 coordinates)``.

        Returns:
            Coefficients of the pseudoscalar, shape ``(batch,)``.
        """
        vectors: Multivector = self.embed(VGA3.multivector(points, grades=1))
        areas = self.mix(self.area(vectors))
        volumes: Multivector = self.readout(self.volume(areas, vectors))
        return volumes.planes.reshape(-1)
