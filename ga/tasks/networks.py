"""Networks of the tasks, made of :mod:`ga.nn`: an invariant of some vectors, and graphs of points in space."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ga.algebra import VGA3, Algebra
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn import GeometricProductLayer, GradeLinear, GradeNorm, NormGate
from ga.nn.invariants import grade_forms, squares_of


class Invariants(nn.Module):
    """Numbers that no orthogonal transformation changes: of each channel the scalar, and a norm of each grade.

    With q the scalar part of ~x x of a grade, its norm is q / √(1 + |q|): smooth, with the sign of q, and about
    the square root of it where it is large.

    Args:
        layout: Blades of the input.
    """

    squares: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("squares", squares_of(layout), persistent=False)

    def forward(self, x: Multivector) -> Tensor:
        """Batch shape ``(*batch, channels)`` to shape ``(*batch, grades · channels)``."""
        forms = grade_forms(x.planes, self.layout, self.squares)
        norms = forms * (1 + forms.abs()).rsqrt()
        if self.layout.blades[0] == 0:
            norms = torch.cat([x.planes[:1], norms[1:]])
        return norms.movedim(0, -2).flatten(-2)


class ProductBlock(nn.Module):
    """x ↦ L x + (x times a normalized linear map of x): one degree more, and no blade that cannot be reached.

    Args:
        layout: Blades of the input.
        channels: Channels of input and output.
        generator: Source of the initial weights.

    >>> from ga import VGA3
    >>> block = ProductBlock(Layout.of_grades(VGA3, 1), 4, generator=torch.Generator().manual_seed(0))
    >>> block.out  # a vector, and a product of two
    Layout(Cl(3,0,0)[0,1,2])
    """

    def __init__(self, layout: Layout, channels: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = GradeLinear(layout, channels, channels, generator=generator)
        self.norm = GradeNorm(layout, channels)
        self.product = GeometricProductLayer(layout, channels, generator=generator)
        self.out = layout.union(self.product.plan.out)
        self.gate = NormGate(self.out, channels)

    def forward(self, x: Multivector) -> Multivector:
        """Batch shape ``(*batch, channels)`` stays."""
        gated: Multivector = self.gate((self.linear(x) + self.product(x, self.norm(x))) * 0.5**0.5)
        return gated


class InvariantNet(nn.Module):
    r"""Vectors to one number that no transformation of the orthogonal group of the algebra changes.

    A linear map of the vectors, some :class:`ProductBlock`\ s, whose grades grow only as products reach them, the
    invariants of what comes out, and a perceptron on these.

    Args:
        algebra: In its orthogonal group the output is invariant.
        vectors: Number of input vectors.
        hidden: Channels.
        blocks: Number of products.
        width: Hidden units of the perceptron.
        generator: Source of the initial weights.

    Source:
        The architecture of Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 5 and appendix; norms and gates
        stand at other places.

    >>> from ga import STA
    >>> net = InvariantNet(STA, 4, 8, blocks=2, width=16, generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 4, 4)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        algebra: Algebra,
        vectors: int,
        hidden: int,
        *,
        blocks: int = 1,
        width: int = 64,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        layout = Layout.of_grades(algebra, 1)
        self.embed = GradeLinear(layout, vectors, hidden, generator=generator)
        made = []
        for _ in range(blocks):
            made.append(ProductBlock(layout, hidden, generator=generator))
            layout = made[-1].out
        self.blocks = nn.ModuleList(made)
        self.invariants = Invariants(layout)
        self.readout = perceptron([hidden * len(layout.grades), width, width, 1], generator)

    def forward(self, vectors: Tensor) -> Tensor:
        """Predict.

        Args:
            vectors: Shape ``(batch, vectors, n)``.

        Returns:
            Shape ``(batch,)``.
        """
        x: Multivector = self.embed(Multivector(vectors.movedim(-1, 0), self.embed.layout))
        for block in self.blocks:
            x = block(x)
        value: Tensor = self.readout(self.invariants(x)).squeeze(-1)
        return value


class GraphLayer(nn.Module):
    r"""Messages between all points of a system: :math:`\sum_j (a_{ij} + r_{ij} b_{ij}) x_j`, then a product block.

    The vector r from j to i multiplies the multivector of j; a and b are numbers for each channel, a perceptron's
    of the scalars of both points, their distance and what is known of the pair.

    Args:
        channels: Channels of the points' multivectors, of all grades of Cl(3).
        pair: Numbers known of each pair.
        width: Hidden units of the perceptron.
        generator: Source of the initial weights.
    """

    def __init__(self, channels: int, pair: int, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        full = Layout.full(VGA3)
        self.sender = GradeLinear(full, channels, channels, generator=generator)
        self.weigh = perceptron([2 * channels + 2 + pair, width, 2 * channels], generator)
        self.block = ProductBlock(full, channels, generator=generator)
        self.mix = GradeLinear(full, 2 * channels, channels, generator=generator)

    def forward(self, x: Multivector, apart: Tensor, pair: Tensor, mask: Tensor) -> Multivector:
        """Pass messages once.

        Args:
            x: Batch shape ``(n, points, channels)``.
            apart: Vector to each point (second dimension) from each other, shape ``(n, points, points, 3)``.
            pair: What is known of each pair, shape ``(n, points, points, pair)``.
            mask: 1 where a pair exists, else 0, shape ``(n, points, points)``.
        """
        scalars = x.planes[0]
        n, points, channels = scalars.shape
        squared = apart.square().sum(-1, keepdim=True)
        here = scalars[:, :, None].expand(n, points, points, channels)
        there = scalars[:, None].expand(n, points, points, channels)
        known = torch.cat([here, there, squared.sqrt(), 1 / (1 + squared), pair], -1)
        plain, along = (self.weigh(known) * mask[..., None]).chunk(2, -1)
        sent = self.sender(x)
        vector = apart * (1 + squared).rsqrt()
        messages = torch.einsum("nijc,knjc->knic", plain, sent.planes)
        moved = [
            torch.einsum("nijc,knjc->knic", along * vector[..., t : t + 1], sent.planes) for t in range(3)
        ]
        turned = _basis(x) * Multivector(torch.stack(moved, 1), x.layout)
        messages = messages + turned.planes.sum(1)
        mixed = self.mix(Multivector(torch.cat([x.planes, messages], -1), x.layout))
        changed: Multivector = self.block(mixed)
        return x + changed


class GraphNet(nn.Module):
    r"""Points in space, with numbers and vectors that they bear, to multivectors of Cl(3) at each point.

    Only differences of positions enter, so that nothing changes when all points are moved, and all that comes out
    turns and is reflected with them.

    Args:
        numbers: Numbers at each point.
        vectors: Vectors at each point.
        pair: Numbers known of each pair.
        hidden: Channels.
        layers: Number of :class:`GraphLayer`\ s.
        width: Hidden units of their perceptrons.
        generator: Source of the initial weights.

    Source:
        Satorras, Hoogeboom, Welling, arXiv 2102.09844, for messages made of invariants; Ruhe, Brandstetter, Forré,
        arXiv 2305.11141, for multivectors as what points bear.

    >>> net = GraphNet(numbers=1, vectors=1, pair=1, hidden=8, layers=2, width=16,
    ...                generator=torch.Generator().manual_seed(0))
    >>> net(torch.ones(7, 5, 1), torch.ones(7, 5, 1, 3), torch.randn(7, 5, 3), torch.ones(7, 5, 5, 1))
    Multivector(Cl(3,0,0)[0,1,2,3], batch (7, 5, 8), torch.float32)
    """

    def __init__(
        self,
        *,
        numbers: int,
        vectors: int,
        pair: int,
        hidden: int,
        layers: int,
        width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        scalar, vector = (Layout.of_grades(VGA3, k) for k in (0, 1))
        self.numbers = GradeLinear(scalar, numbers, hidden, generator=generator)
        self.vectors = GradeLinear(vector, vectors, hidden, generator=generator) if vectors else None
        made = (GraphLayer(hidden, pair, width, generator=generator) for _ in range(layers))
        self.layers = nn.ModuleList(made)

    def forward(
        self,
        numbers: Tensor,
        vectors: Tensor | None,
        positions: Tensor,
        pair: Tensor,
        mask: Tensor | None = None,
    ) -> Multivector:
        """Compute.

        Args:
            numbers: Shape ``(n, points, numbers)``.
            vectors: Shape ``(n, points, vectors, 3)``, or None if there are none.
            positions: Shape ``(n, points, 3)``.
            pair: Shape ``(n, points, points, pair)``.
            mask: True where a point exists, shape ``(n, points)``; all if left out.
        """
        x = self.numbers(Multivector(numbers[None], self.numbers.layout))
        planes = x.planes.new_zeros(8, *x.shape)
        planes[:1] = x.planes
        if self.vectors is not None and vectors is not None:
            planes[1:4] = self.vectors(Multivector(vectors.movedim(-1, 0), self.vectors.layout)).planes
        x = Multivector(planes, Layout.full(VGA3))
        apart = positions[:, :, None] - positions[:, None]
        exists = torch.ones_like(numbers[..., 0]) if mask is None else mask.to(numbers.dtype)
        pairs = exists[:, :, None] * exists[:, None] * (1 - torch.eye(apart.shape[1], dtype=apart.dtype))
        for layer in self.layers:
            x = layer(x, apart, pair, pairs)
        out: Multivector = x
        return out


def perceptron(sizes: list[int], generator: torch.Generator) -> nn.Sequential:
    """Linear maps of the given sizes with SiLU between, initial weights normal with variance 1/inputs."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.randn(outputs, inputs, generator=generator) / inputs**0.5)
            linear.bias.zero_()
        modules += [linear, nn.SiLU()]
    return nn.Sequential(*modules[:-1])


def _basis(x: Multivector) -> Multivector:
    """The three basis vectors, batch shape ``(3, 1, 1, 1)``."""
    return Multivector(
        torch.eye(3, dtype=x.dtype, device=x.device).reshape(3, 3, 1, 1, 1), Layout.of_grades(VGA3, 1)
    )
