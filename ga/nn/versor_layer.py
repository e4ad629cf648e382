"""VersorLayer: each channel moved by a versor of its own, which training keeps a versor."""

from __future__ import annotations

import torch
from torch import nn

from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.linear import check_input
from ga.versor import exp
from ga.versor_parameter import VersorParameter


class VersorLayer(nn.Module):
    """The sandwich R_c x_c ~R_c in every channel c: rotations, motions, boosts, conformal maps as weights.

    It keeps each grade and every inner product of its inputs.  It does not commute with the group: it is for
    learning transformations, not for being equivariant under them.

    Args:
        layout: Blades of input and output; grades complete.
        channels: Channels, the last batch dimension.
        scale: The versors start as the exponentials of normal bivectors of this standard deviation; 1 if 0.
        metric: How long a step is; see :class:`ga.VersorParameter`.
        generator: Source of the initial versors.

    Parameters: ``versor``, a :class:`ga.VersorParameter`, shape ``(bivectors, channels)``.

    Source:
        Ruhe, Gupta, de Keninck, Welling, Brandstetter, "Geometric Clifford Algebra Networks", arXiv 2302.06594
        (group action layers; there the coefficients are free).

    >>> from ga import PGA3
    >>> points = Layout.of_grades(PGA3, 3)
    >>> layer = VersorLayer(points, 4, generator=torch.Generator().manual_seed(0))
    >>> layer(PGA3.point(torch.zeros(7, 4, 3)))
    Multivector(Cl(3,0,1)[3], batch (7, 4), torch.float32)
    """

    def __init__(
        self,
        layout: Layout,
        channels: int,
        *,
        scale: float = 0.1,
        metric: str | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.layout, self.channels = layout, channels
        bivector = Layout.of_grades(layout.algebra, 2)
        start = scale * torch.randn(len(bivector), channels, generator=generator)
        self.versor = VersorParameter(exp(Multivector(start, bivector)), metric=metric)

    def forward(self, x: Multivector) -> Multivector:
        """Move each channel; layout and batch shape ``(*batch, channels)`` stay.

        Raises:
            LayoutError: another layout or number of channels.
        """
        check_input("VersorLayer", x, self.layout, self.channels)
        return self.versor.multivector >> x

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        paths = tuple((k, k) for k in self.layout.grades)
        return {"versor": (paths, (len(self.versor.blades), self.channels))}

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, channels={self.channels}"
