"""GradeLinear: one matrix per grade, the linear maps that commute with every orthogonal transformation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ga.errors import LayoutError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes


class GradeLinear(nn.Module):
    r"""Linear map, one matrix per grade: :math:`out_{k,o} = \sum_c W^{grade(k)}_{o,c} x_{k,c}`.

    Forward pass, input gradient and weight gradient are one matrix product per grade each.  Weights start
    normal with variance 1/in_channels, so that inputs of variance 1 give outputs of variance 1; the bias
    starts at 0.

    Args:
        layout: Blades of input and output.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Add a bias to the scalar, if the layout has one; an equivariant map can have no other.
        generator: Source of the initial weights.

    Parameters: ``weights``, by grade as text, shape ``(out_channels, in_channels)`` each; ``bias``, shape
    ``(out_channels,)``, or None.

    Source:
        Ruhe, Brandstetter, Forré, arXiv 2305.11141, equation (10).

    >>> from ga import VGA3
    >>> layer = GradeLinear(Layout.of_grades(VGA3, (0, 2)), 3, 5, generator=torch.Generator().manual_seed(0))
    >>> layer(VGA3.multivector(torch.ones(7, 3, 4), grades=(0, 2)))
    Multivector(Cl(3,0,0)[0,2], batch (7, 5), torch.float32)
    """

    def __init__(
        self,
        layout: Layout,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weights = nn.ParameterDict(
            {
                str(k): nn.Parameter(
                    torch.randn(out_channels, in_channels, generator=generator) / in_channels**0.5
                )
                for k in layout.grades
            }
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias and 0 in layout.grades else None

    def forward(self, x: Multivector) -> Multivector:
        """Map the last batch dimension.

        Args:
            x: Batch shape ``(*batch, in_channels)``, of the layer's layout.

        Returns:
            Multivector of the same layout, batch shape ``(*batch, out_channels)``.

        Raises:
            LayoutError: the layout or the number of channels is another.
        """
        check_input("GradeLinear", x, self.layout, self.in_channels)
        weights = tuple(self.weights.values())
        return Multivector(graded_map(x.planes, self.layout, weights, self.bias), self.layout)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        matrix = (self.out_channels, self.in_channels)
        shapes: Shapes = {f"weights.{k}": (((k, k),), matrix) for k in self.layout.grades}
        if self.bias is not None:
            shapes["bias"] = (((0,),), (self.out_channels,))
        return shapes

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, {self.in_channels} -> {self.out_channels}, bias={self.bias is not None}"


def graded_map(planes: Tensor, layout: Layout, weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
    """A matrix for each grade of the layout, and a bias for the scalar; see :class:`GradeLinear`.

    Args:
        planes: Shape ``(len(layout), *batch, in_channels)``.
        layout: The blades.
        weights: Of each grade, in order, shape ``(out_channels, in_channels)``.
        bias: Shape ``(out_channels,)``, or None.

    Returns:
        Planes, shape ``(len(layout), *batch, out_channels)``.
    """
    sizes = [s.stop - s.start for s in layout.slices.values()]
    inputs = torch.split(planes, sizes) if len(sizes) > 1 else (planes,)  # its gradient is one cat
    parts = []
    for k, part, weight in zip(layout.grades, inputs, weights, strict=True):
        rows = part.reshape(-1, part.shape[-1])
        mapped = nn.functional.linear(rows, weight, bias if k == 0 else None)
        parts.append(mapped.reshape(*part.shape[:-1], mapped.shape[-1]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def check_input(layer: str, x: Multivector, layout: Layout, channels: int) -> None:
    """Raise :class:`LayoutError` unless ``x`` has the layout and, last in its batch shape, the channels."""
    if x.layout != layout:
        raise LayoutError(
            f"{layer} takes {layout}, got {x.layout}; project the input, or build the layer for it"
        )
    if not x.shape or x.shape[-1] != channels:
        raise LayoutError(
            f"{layer} on {layout} takes batch shape (*batch, {channels}), got {tuple(x.shape)}; "
            "channels are the last batch dimension"
        )
