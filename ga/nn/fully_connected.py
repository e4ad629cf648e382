"""FullyConnectedGeometricProduct: a weight for every grade path and pair of channels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ga._derived import constant, part
from ga._overridable import overridable
from ga._planes import pick
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.geometric_product import path_scale, product_plan
from ga.nn.grade_check import Shapes
from ga.nn.linear import GradeLinear, check_input
from ga.plan import Path, Plan, plan_for
from ga.product import product


class FullyConnectedGeometricProduct(nn.Module):
    r"""Geometric product of x with a linearly mapped y, all channels connected.

    :math:`out_o = \sum_c \sum_{(r,s,t)} w_{rst,oc}\, \langle \langle x_c\rangle_r \langle L y_c\rangle_s
    \rangle_t` over the grade paths that exist.  A path that cannot reach the output has no weight, and its
    products are not formed.  The channels of all paths to a grade are mixed by one matrix product.
    Weights start normal with variance 1 over in_channels and over the mean number of terms in a blade of
    grade t.

    Args:
        left: Layout of x.
        in_channels: Channels of x and y.
        out_channels: Channels of the output.
        out_grades: Grades of the output; all reachable ones if left out.
        right: Layout of y; that of x if left out.
        generator: Source of the initial weights.

    Parameters: ``weight``, shape ``(paths, out_channels, in_channels)``, in the order of ``plan.paths``; those
    of the :class:`GradeLinear` ``linear``, without bias.

    Raises:
        LayoutError: an output grade that the product never reaches.

    Source:
        Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 4 (fully connected geometric product layer).

    >>> from ga import VGA3
    >>> vector, generator = Layout.of_grades(VGA3, 1), torch.Generator().manual_seed(0)
    >>> layer = FullyConnectedGeometricProduct(vector, 4, 6, out_grades=2, generator=generator)
    >>> layer.weight.shape, layer(VGA3.vector(torch.ones(7, 4, 3)))
    (torch.Size([1, 6, 4]), Multivector(Cl(3,0,0)[2], batch (7, 6), torch.float32))
    """

    def __init__(
        self,
        left: Layout,
        in_channels: int,
        out_channels: int,
        *,
        out_grades: int | Iterable[int] | None = None,
        right: Layout | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        right = left if right is None else right
        self.plan = product_plan(left, right, out_grades)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = GradeLinear(right, in_channels, in_channels, bias=False, generator=generator)
        scale = path_scale(self.plan) / in_channels**0.5
        self.weight = nn.Parameter(torch.randn(self._shape, generator=generator) * scale[:, None, None])

    def forward(self, x: Multivector, y: Multivector | None = None) -> Multivector:
        """Multiply x by the mapped y, or by the mapped x.

        Args:
            x: Batch shape ``(*batch, in_channels)``, of the left layout.
            y: The same batch shape, of the right layout; x if left out.

        Returns:
            Multivector of the output layout, batch shape ``(*batch, out_channels)``.

        Raises:
            LayoutError: a layout or a number of channels is another.
        """
        y = x if y is None else y
        check_input("FullyConnectedGeometricProduct (left)", x, self.plan.first, self.in_channels)
        check_input("FullyConnectedGeometricProduct (right)", y, self.plan.second, self.in_channels)
        mapped = self.linear(y)
        return Multivector(connected_product(x.planes, mapped.planes, self.weight, self.plan), self.plan.out)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        shapes: Shapes = {"weight": (self.plan.paths, self._shape)}
        return shapes | {f"linear.{name}": spec for name, spec in self.linear.declared_shapes().items()}

    @property
    def _shape(self) -> tuple[int, ...]:
        return len(self.plan.paths), self.out_channels, self.in_channels

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        plan = self.plan
        return f"{plan.first} x {plan.second} -> {plan.out}, {self.in_channels} -> {self.out_channels}"


@overridable
def connected_product(x: Tensor, y: Tensor, weight: Tensor, plan: Plan) -> Tensor:
    r"""Planes of the product in which paths mix channels, :math:`out_{k,o} = \sum_c \sum w_{path,oc} x_{i,c} y_{j,c}`.

    Args:
        x: Planes, shape ``(len(plan.first), *batch, in_channels)``.
        y: Planes, shape ``(len(plan.second), *batch, in_channels)``.
        weight: Shape ``(len(plan.paths), out_channels, in_channels)``.
        plan: Of a geometric product.

    Returns:
        Planes, shape ``(len(plan.out), *batch, out_channels)``.
    """
    pieces: dict[Path, Tensor] = {}
    for r, s, pair in pair_plans(plan):
        found = product(x[plan.first.slices[r]], y[plan.second.slices[s]], pair)
        for t, where in pair.out.slices.items():
            pieces[r, s, t] = pick(found[where], part(pair.out, (t,)), part(plan.out, (t,)))
    return torch.cat([_mixed(t, pieces, weight, plan) for t in plan.out.grades])


def _mixed(t: int, pieces: dict[Path, Tensor], weight: Tensor, plan: Plan) -> Tensor:
    """All paths to one grade, mixed by one matrix product."""
    rows = [k for k, path in enumerate(plan.paths) if path[2] == t]
    stacked = torch.cat([pieces[plan.paths[k]] for k in rows], -1)
    return nn.functional.linear(stacked, weight[rows].transpose(0, 1).flatten(1))


@constant
def pair_plans(plan: Plan) -> tuple[tuple[int, int, Plan], ...]:
    """For each pair of grades with a path: both grades, and the plan of their product on blades of the output."""
    pairs = sorted({(r, s) for r, s, _ in plan.paths})
    return tuple((r, s, _pair_plan(plan, r, s)) for r, s in pairs)


def _pair_plan(plan: Plan, r: int, s: int) -> Plan:
    first, second = part(plan.first, (r,)), part(plan.second, (s,))
    reached = plan_for("geometric", first, second).out
    return plan_for("geometric", first, second, Layout.of_mask(reached.algebra, reached.mask & plan.out.mask))
