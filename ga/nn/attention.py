"""Attention whose scores are inner products of multivectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ga.errors import LayoutError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.invariants import blade_squares
from ga.nn.linear import check_input
from ga.nn.projective import linear_for


class GeometricAttention(nn.Module):
    r"""Multi-head attention over the last batch dimension but one: the tokens.

    The score of query and key is the scalar part of :math:`\sum_c \tilde q_c k_c`, divided by the root of
    the number of its terms.  Blades with a null factor have no part in it; in other metrics than the
    Euclidean it has both signs.  Values and results are whole multivectors.

    Args:
        layout: Blades of input and output.
        channels: Channels of input and output, the last batch dimension.
        heads: Number of heads; divides the channels.
        generator: Source of the initial weights.

    Parameters: those of ``query``, ``key``, ``value`` and ``out``, linear layers of the algebra
    (:class:`ProjectiveLinear` in Cl(d, 0, 1), else :class:`GradeLinear`); without bias but for ``out``.

    Raises:
        LayoutError: the channels do not divide, or every blade of the layout has a null factor.

    Source:
        Brehmer et al., arXiv 2305.18415, section 3.2 (geometric attention); Spinner et al., arXiv 2405.14806,
        for the Minkowski metric.

    >>> from ga import PGA3
    >>> layer = GeometricAttention(Layout.full(PGA3), 4, 2, generator=torch.Generator().manual_seed(0))
    >>> layer(PGA3.multivector(torch.ones(7, 10, 4, 16)))  # 7 times 10 tokens of 4 channels
    Multivector(Cl(3,0,1)[0,1,2,3,4], batch (7, 10, 4), torch.float32)
    """

    signs: Tensor

    def __init__(self, layout: Layout, channels: int, heads: int = 1, *, generator: torch.Generator) -> None:
        super().__init__()
        squares = blade_squares(layout)
        self.seen = [k for k, square in enumerate(squares) if square]  #: planes that have a part in scores
        if heads < 1 or channels % heads or not self.seen:
            raise LayoutError(
                f"GeometricAttention of {layout}: {heads} heads must divide {channels} channels, and a blade "
                "without null factors must be stored"
            )
        self.layout, self.channels, self.heads = layout, channels, heads
        self.query, self.key, self.value = (
            linear_for(layout, channels, channels, generator, bias=False) for _ in range(3)
        )
        self.out = linear_for(layout, channels, channels, generator)
        signs = torch.tensor([float(square) for square in squares if square])
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x: Multivector, mask: Tensor | None = None, is_causal: bool = False) -> Multivector:
        """Attend.

        Args:
            x: Batch shape ``(*batch, tokens, channels)``, of the layer's layout.
            mask: As ``attn_mask`` of :func:`torch.nn.functional.scaled_dot_product_attention`: True where a
                token may be attended to, or numbers added to the scores; broadcasts to
                ``(*batch, heads, tokens, tokens)``.
            is_causal: Attend to no later token; not with a mask.

        Returns:
            Multivector of the same layout and batch shape.

        Raises:
            LayoutError: the layout or the number of channels is another, or there is no dimension of tokens.
        """
        check_input("GeometricAttention", x, self.layout, self.channels)
        if len(x.shape) < 2:
            raise LayoutError(
                f"GeometricAttention on {self.layout} takes batch shape (*batch, tokens, {self.channels}), "
                f"got {tuple(x.shape)}"
            )
        signs = self.signs.to(x.dtype).reshape(-1, *(1,) * len(x.shape))
        query = self._heads(self.query(x).planes[self.seen] * signs)
        key = self._heads(self.key(x).planes[self.seen])
        value = self._heads(self.value(x).planes)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal
        )
        split = attended.unflatten(-1, (len(self.layout), -1))  # (*batch, heads, tokens, blades, channels)
        planes = split.movedim(-2, 0).transpose(-3, -2).flatten(-2)
        result: Multivector = self.out(Multivector(planes, self.layout))
        return result

    def _heads(self, planes: Tensor) -> Tensor:
        """Planes ``(blades, *batch, tokens, channels)`` as ``(*batch, heads, tokens, blades · channels / heads)``."""
        split = planes.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        heads: Tensor = split.movedim(0, -2).flatten(-2)
        return heads

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        parts = {"query": self.query, "key": self.key, "value": self.value, "out": self.out}
        return {
            f"{part}.{name}": spec
            for part, module in parts.items()
            for name, spec in module.declared_shapes().items()
        }

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, channels={self.channels}, heads={self.heads}"
