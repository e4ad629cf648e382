"""GeometricProductLayer: a product with one learned weight per grade path and channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.linear import GradeLinear, check_input
from ga.plan import Plan, plan_for
from ga.product import weighted_product


class GeometricProductLayer(nn.Module):
    r"""Element-wise steerable geometric product of x with a linearly mapped y.

    Per channel, :math:`out = \sum_{(r,s,t)} w_{rst}\, \langle \langle x\rangle_r \langle L y\rangle_s
    \rangle_t` over the grade paths that exist.  A path that cannot reach the output has no weight.  Weights
    start normal with variance 1 over the mean number of terms in a blade of grade t, so that inputs of
    variance 1 give outputs of variance 1.

    Args:
        left: Layout of x.
        channels: Channels of x, y and the output.
        out_grades: Grades of the output; all reachable ones if left out.
        right: Layout of y; that of x if left out.
        generator: Source of the initial weights.

    Parameters: ``weight``, shape ``(paths, channels)``, its rows in the order of ``plan.paths``; those of the
    :class:`GradeLinear` ``linear``, without bias.

    Raises:
        LayoutError: an output grade that the product never reaches.

    Source:
        Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 4 (element-wise geometric product layer).

    >>> from ga import VGA3
    >>> vector = Layout.of_grades(VGA3, 1)
    >>> generator = torch.Generator().manual_seed(0)
    >>> layer = GeometricProductLayer(vector, 4, out_grades=(0, 2), generator=generator)
    >>> layer.plan.paths
    ((1, 1, 0), (1, 1, 2))
    >>> layer(VGA3.multivector(torch.ones(7, 4, 3), grades=1))
    Multivector(Cl(3,0,0)[0,2], batch (7, 4), torch.float32)
    """

    def __init__(
        self,
        left: Layout,
        channels: int,
        *,
        out_grades: int | Iterable[int] | None = None,
        right: Layout | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        right = left if right is None else right
        self.plan = product_plan(left, right, out_grades)
        self.channels = channels
        self.linear = GradeLinear(right, channels, channels, bias=False, generator=generator)
        weight = torch.randn(len(self.plan.paths), channels, generator=generator)
        self.weight = nn.Parameter(weight * path_scale(self.plan)[:, None])

    def forward(self, x: Multivector, y: Multivector | None = None) -> Multivector:
        """Multiply x by the mapped y, or by the mapped x.

        Args:
            x: Batch shape ``(*batch, channels)``, of the left layout.
            y: The same batch shape, of the right layout; x if left out.

        Returns:
            Multivector of the output layout, batch shape ``(*batch, channels)``.

        Raises:
            LayoutError: a layout or a number of channels is another.
        """
        y = x if y is None else y
        check_input("GeometricProductLayer (left)", x, self.plan.first, self.channels)
        check_input("GeometricProductLayer (right)", y, self.plan.second, self.channels)
        mapped = self.linear(y)
        return Multivector(weighted_product(x.planes, mapped.planes, self.weight, self.plan), self.plan.out)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        shapes: Shapes = {"weight": (self.plan.paths, (len(self.plan.paths), self.channels))}
        return shapes | {f"linear.{name}": spec for name, spec in self.linear.declared_shapes().items()}

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.plan.first} x {self.plan.second} -> {self.plan.out}, channels={self.channels}"


def product_plan(left: Layout, right: Layout, out_grades: int | Iterable[int] | None) -> Plan:
    """The plan of the geometric product onto the grades wanted, by default onto all that it reaches.

    Raises:
        LayoutError: an output grade that the product never reaches.
    """
    reached = plan_for("geometric", left, right)
    return (
        reached
        if out_grades is None
        else plan_for("geometric", left, right, reached.out.restrict(out_grades))
    )


def path_scale(plan: Plan) -> Tensor:
    """For each path to a grade, 1 over the root of the mean number of terms in a blade of that grade."""
    terms = Counter(plan.paths[term.path][2] for term in plan.terms)
    return torch.tensor(
        [(len(plan.out.restrict(t)) / terms[t]) ** 0.5 for _, _, t in plan.paths], dtype=torch.float32
    )
