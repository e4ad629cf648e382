"""Activations that commute with the group: each multiplies by a number made of invariants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ga.errors import LayoutError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.invariants import blade_counts, grade_forms, per_channel, scaled_planes, squares_of
from ga.nn.linear import check_input


class GatedGELU(nn.Module):
    """GELU of the scalar part as a gate on the whole multivector, GELU(⟨x⟩₀) x.

    Raises:
        LayoutError: an input without a scalar part.

    Source:
        Brehmer, de Haan, Behrends, Cohen, "Geometric Algebra Transformer", arXiv 2305.18415, section 3.2.

    >>> from ga import VGA2
    >>> GatedGELU()(VGA2.multivector([1.0, 2.0, 0.0], grades=(0, 1))).coefficients
    tensor([0.8413, 1.6827, 0.0000])
    """

    def forward(self, x: Multivector) -> Multivector:
        """Apply the gate; layout and batch shape stay."""
        if not x.layout.blades or x.layout.blades[0] != 0:
            raise LayoutError(f"GatedGELU needs a scalar part as its gate, got {x.layout}; use NormGate")
        gate = nn.functional.gelu(x.planes[:1])
        return Multivector(scaled_planes(x.planes, gate, (len(x.layout),)), x.layout)


class NormGate(nn.Module):
    r"""A sigmoid gate for each grade and channel, made of the grade's own invariant.

    :math:`\langle x\rangle_k \sigma(a_k q_k + b_k)`, where q is the scalar of ~x x of grade k, and for the scalar
    part the scalar itself.  In indefinite metrics q takes both signs.

    Args:
        layout: Blades of input and output.
        channels: Channels, the last batch dimension.

    Parameters: ``weight`` and ``bias``, shape ``(grades, channels)``; they start at 1 and 0.

    Source:
        Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 4 (nonlinearities).

    >>> from ga import VGA2
    >>> gate = NormGate(Layout.of_grades(VGA2, 1), 1)
    >>> gate(VGA2.vector([[3.0, 4.0]])).coefficients.detach()
    tensor([[3., 4.]])
    """

    squares: Tensor

    def __init__(self, layout: Layout, channels: int) -> None:
        super().__init__()
        self.layout, self.channels = layout, channels
        self.weight = nn.Parameter(torch.ones(len(layout.grades), channels))
        self.bias = nn.Parameter(torch.zeros(len(layout.grades), channels))
        self.register_buffer("squares", squares_of(layout), persistent=False)

    def forward(self, x: Multivector) -> Multivector:
        """Apply the gates; batch shape ``(*batch, channels)`` stays.

        Raises:
            LayoutError: another layout or number of channels.
        """
        check_input("NormGate", x, self.layout, self.channels)
        forms = grade_forms(x.planes, self.layout, self.squares)
        if self.layout.blades[0] == 0:
            forms = torch.cat([x.planes[:1], forms[1:]])
        weight, bias = per_channel(self.weight, forms), per_channel(self.bias, forms)
        gates = torch.sigmoid(torch.addcmul(bias, weight, forms))
        return Multivector(scaled_planes(x.planes, gates, blade_counts(self.layout)), self.layout)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        paths = tuple((k, k) for k in self.layout.grades)
        shape = (len(paths), self.channels)
        return {"weight": (paths, shape), "bias": (paths, shape)}

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, channels={self.channels}"
