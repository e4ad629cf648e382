"""Layers of the projective algebra: linear maps with the null vector e0, products and joins."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ga._derived import constant
from ga._overridable import overridable
from ga._planes import pick
from ga.errors import AlgebraError, LayoutError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.linear import GradeLinear, check_input, graded_map
from ga.objects import is_projective
from ga.plan import plan_for
from ga.product import product


class ProjectiveLinear(nn.Module):
    r"""All linear maps of Cl(d, 0, 1) that commute with motions: a matrix per grade, and one more times e0.

    :math:`out_o = \sum_c \sum_k W^k_{oc} \langle x_c\rangle_k + V^k_{oc}\, e_0 \langle x_c\rangle_k`.  A map
    with e0 exists for every grade k for which the layout stores a blade of grade k without e0 and that blade
    times e0.  The ``W`` start normal with variance 1/in_channels, halved where a ``V`` adds to the same
    blades; so do the ``V``.

    Args:
        layout: Blades of input and output; grades complete.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Add a bias to the scalar, if the layout has one.
        generator: Source of the initial weights.

    Parameters: ``grades``, a :class:`GradeLinear`; ``null_weights``, by grade k as text, shape
    ``(out_channels, in_channels)`` each.

    Raises:
        AlgebraError: not Cl(d, 0, 1) with the null generator first.
        LayoutError: a grade is stored in part.

    Source:
        Brehmer et al., arXiv 2305.18415, proposition 1.

    >>> from ga import PGA3
    >>> full = Layout.full(PGA3)
    >>> layer = ProjectiveLinear(full, 3, 5, generator=torch.Generator().manual_seed(0))
    >>> list(layer.null_weights), layer(PGA3.multivector(torch.ones(7, 3, 16))).shape
    (['0', '1', '2', '3'], torch.Size([7, 5]))
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
        _check_projective("ProjectiveLinear", layout)
        self.layout = layout
        self.in_channels, self.out_channels = in_channels, out_channels
        self.grades = GradeLinear(layout, in_channels, out_channels, bias=bias, generator=generator)
        maps = [k for k in layout.grades if k + 1 in layout.grades]
        scale = (2 * in_channels) ** -0.5
        self.null_weights = nn.ParameterDict(
            {
                str(k): nn.Parameter(torch.randn(out_channels, in_channels, generator=generator) * scale)
                for k in maps
            }
        )
        with torch.no_grad():
            for k in maps:
                self.grades.weights[str(k + 1)] *= 0.5**0.5

    def forward(self, x: Multivector) -> Multivector:
        """Map the last batch dimension.

        Args:
            x: Batch shape ``(*batch, in_channels)``, of the layer's layout.

        Returns:
            Multivector of the same layout, batch shape ``(*batch, out_channels)``.

        Raises:
            LayoutError: the layout or the number of channels is another.
        """
        check_input("ProjectiveLinear", x, self.layout, self.in_channels)
        maps = ProjectiveMaps(
            tuple(self.grades.weights.values()), tuple(self.null_weights.values()), self.grades.bias
        )
        return Multivector(projective_map(x.planes, self.layout, maps), self.layout)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        matrix = (self.out_channels, self.in_channels)
        shapes: Shapes = {f"null_weights.{k}": (((int(k), int(k) + 1),), matrix) for k in self.null_weights}
        return shapes | {f"grades.{name}": spec for name, spec in self.grades.declared_shapes().items()}

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, {self.in_channels} -> {self.out_channels}"


class ProjectiveMaps(NamedTuple):
    """The matrices of a :class:`ProjectiveLinear`."""

    grades: tuple[
        Tensor, ...
    ]  #: of the layout's grades, in order, shape ``(out_channels, in_channels)`` each
    null: tuple[Tensor, ...]  #: of the grades that :func:`null_maps` names
    bias: Tensor | None  #: of the scalar


@constant
def null_maps(layout: Layout) -> tuple[tuple[int, int, int], ...]:
    """The maps with e0: from grade k to the first n blades of grade k + 1, which have e0; as ``(k, k + 1, n)``.

    Blades with e0 come first in a grade, in the order of those without in the grade below, which come last there.

    >>> from ga import PGA2
    >>> null_maps(Layout.full(PGA2))
    ((0, 1, 1), (1, 2, 2), (2, 3, 1))
    """
    return tuple(
        (k, k + 1, sum(b & 1 for b in layout.blades[layout.slices[k + 1]]))
        for k in layout.grades
        if k + 1 in layout.grades
    )


@overridable
def projective_map(planes: Tensor, layout: Layout, maps: ProjectiveMaps) -> Tensor:
    """A matrix for each grade, and one for each grade times e0; see :class:`ProjectiveLinear`.

    Args:
        planes: Shape ``(len(layout), *batch, in_channels)``.
        layout: Complete grades of Cl(d, 0, 1).
        maps: The matrices.

    Returns:
        Planes, shape ``(len(layout), *batch, out_channels)``.
    """
    mapped = graded_map(planes, layout, maps.grades, maps.bias)
    null = {above: (k, n, v) for (k, above, n), v in zip(null_maps(layout), maps.null, strict=True)}
    parts = []
    for k, where in layout.slices.items():
        part = mapped[where]
        if k in null:
            below, n, weight = null[k]
            added = nn.functional.linear(planes[layout.slices[below]][-n:], weight)
            part = torch.cat([part[:n] + added, part[n:]])
        parts.append(part)
    return torch.cat(parts)


class GeometricBilinear(nn.Module):
    """Geometric products and joins of linearly mapped channels, mixed by a last linear map.

    Half of the hidden channels hold products x y, half joins (x & y) s, where the pseudoscalar number s of a
    reference is 1 unless given.  The join changes sign under reflections; with a reference that does so too
    (the mean of the inputs' pseudoscalar part, say) the layer commutes with reflections as well.

    Args:
        layout: Blades of input and output; grades complete, closed under both products.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        hidden: Channels of products, and of joins; out_channels if left out.
        generator: Source of the initial weights.

    Parameters: those of five :class:`ProjectiveLinear`: ``left``, ``right``, ``join_left``, ``join_right``,
    ``out``.

    Raises:
        AlgebraError: not Cl(d, 0, 1).
        LayoutError: a product of the layout has blades outside of it.

    Source:
        Brehmer et al., arXiv 2305.18415, section 3.2 (geometric bilinear layers, equivariant join).

    >>> from ga import PGA3
    >>> layer = GeometricBilinear(Layout.full(PGA3), 3, 4, generator=torch.Generator().manual_seed(0))
    >>> layer(PGA3.multivector(torch.ones(7, 3, 16)))
    Multivector(Cl(3,0,1)[0,1,2,3,4], batch (7, 4), torch.float32)
    """

    def __init__(
        self,
        layout: Layout,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        hidden = out_channels if hidden is None else hidden
        self.layout = layout
        maps = [
            ProjectiveLinear(layout, in_channels, hidden, bias=False, generator=generator) for _ in range(4)
        ]
        self.left, self.right, self.join_left, self.join_right = maps
        self.plans = tuple(plan_for(kind, layout, layout) for kind in ("geometric", "regressive"))
        outside = [blade for plan in self.plans for blade in plan.out.blades if blade not in layout.blades]
        if outside:
            raise LayoutError(
                f"GeometricBilinear of {layout} has products on {layout.algebra.name(outside[0])}, which is not "
                "stored; take all grades"
            )
        self.out = ProjectiveLinear(layout, 2 * hidden, out_channels, generator=generator)

    def forward(self, x: Multivector, reference: Tensor | None = None) -> Multivector:
        """Multiply and join.

        Args:
            x: Batch shape ``(*batch, in_channels)``, of the layer's layout.
            reference: Coefficient of a reference's pseudoscalar, broadcasting to ``(*batch, hidden)``.

        Returns:
            Multivector of the same layout, batch shape ``(*batch, out_channels)``.
        """
        geometric, regressive = self.plans
        products = product(self.left(x).planes, self.right(x).planes, geometric)
        joins = product(self.join_left(x).planes, self.join_right(x).planes, regressive)
        if reference is not None:
            joins = joins * reference
        both = [pick(products, geometric.out, self.layout), pick(joins, regressive.out, self.layout)]
        mixed: Multivector = self.out(Multivector(torch.cat(both, -1), self.layout))
        return mixed


def _check_projective(layer: str, layout: Layout) -> None:
    if not is_projective(layout.algebra):
        raise AlgebraError(
            f"{layer} is for Cl(d,0,1) with the null generator first, got {layout}; use GradeLinear"
        )
    if layout != Layout.of_grades(layout.algebra, layout.grades):
        raise LayoutError(f"{layer} takes complete grades, got {layout}")


def linear_for(
    layout: Layout, in_channels: int, out_channels: int, generator: torch.Generator, bias: bool = True
) -> ProjectiveLinear | GradeLinear:
    """The most general linear layer of an algebra: :class:`ProjectiveLinear` where there is an e0."""
    kind = ProjectiveLinear if is_projective(layout.algebra) else GradeLinear
    return kind(layout, in_channels, out_channels, bias=bias, generator=generator)
