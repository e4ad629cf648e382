"""Normalizations by invariants: grade by grade, or of all channels together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import Shapes
from ga.nn.invariants import by_blade, grade_forms, per_channel, scaled_planes, smooth_root, squares_of
from ga.nn.linear import check_input


class GradeNorm(nn.Module):
    r"""Each grade divided by a learned mean of its norm and 1.

    :math:`\langle x\rangle_k / (\sigma(a_k)(|x|_k - 1) + 1)` with :math:`|x|_k = (q_k^2 + \epsilon)^{1/4}`, where
    q is the scalar of ~x x of grade k: smooth at 0 and at null values, and never divided by 0.

    Args:
        layout: Blades of input and output.
        channels: Channels, the last batch dimension.
        eps: ε; the default for float32.

    Parameters: ``weight``, shape ``(grades, channels)``, the a; they start at 0, half way.

    Source:
        Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 4 (normalization).

    >>> from ga import VGA2
    >>> GradeNorm(Layout.of_grades(VGA2, 1), 1)(VGA2.vector([[3.0, 4.0]])).coefficients.detach()
    tensor([[1.0000, 1.3333]])
    """

    squares: Tensor

    def __init__(self, layout: Layout, channels: int, eps: float = 1e-16) -> None:
        super().__init__()
        self.layout, self.channels, self.eps = layout, channels, eps
        self.weight = nn.Parameter(torch.zeros(len(layout.grades), channels))
        self.register_buffer("squares", squares_of(layout), persistent=False)

    def forward(self, x: Multivector) -> Multivector:
        """Normalize; batch shape ``(*batch, channels)`` stays.

        Raises:
            LayoutError: another layout or number of channels.
        """
        check_input("GradeNorm", x, self.layout, self.channels)
        norms = smooth_root(grade_forms(x.planes, self.layout, self.squares), self.eps)
        part = torch.sigmoid(per_channel(self.weight, norms))
        divisor = torch.lerp(torch.ones_like(norms), norms, part)
        return Multivector(x.planes / by_blade(divisor, self.layout), self.layout)

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter, for :func:`ga.check_grades`."""
        paths = tuple((k, k) for k in self.layout.grades)
        return {"weight": (paths, (len(paths), self.channels))}

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, channels={self.channels}"


class MultivectorLayerNorm(nn.Module):
    r"""All channels divided by one number, :math:`x / \sqrt{\mathrm{mean}_c \sum_k |q_k(x_c)| + \epsilon}`.

    In Euclidean and projective algebras the sum over grades is the norm of the blades without null factors;
    in others the absolute values keep it from vanishing.  No parameters.

    Args:
        layout: Blades of input and output.
        eps: ε.

    Source:
        Brehmer et al., arXiv 2305.18415, section 3.2; with absolute values Spinner et al., "Lorentz-Equivariant
        Geometric Algebra Transformers", arXiv 2405.14806.

    >>> from ga import VGA2
    >>> MultivectorLayerNorm(Layout.of_grades(VGA2, 1))(VGA2.vector([[3.0, 4.0]])).coefficients
    tensor([[0.6000, 0.8000]])
    """

    squares: Tensor

    def __init__(self, layout: Layout, eps: float = 1e-6) -> None:
        super().__init__()
        self.layout, self.eps = layout, eps
        self.register_buffer("squares", squares_of(layout), persistent=False)

    def forward(self, x: Multivector) -> Multivector:
        """Normalize; batch shape ``(*batch, channels)`` stays.

        Raises:
            LayoutError: another layout, or no channels.
        """
        check_input("MultivectorLayerNorm", x, self.layout, x.shape[-1] if x.shape else 0)
        forms = grade_forms(x.planes, self.layout, self.squares).abs().sum(0)
        factor = (forms.mean(-1, keepdim=True) + self.eps).rsqrt()
        return Multivector(scaled_planes(x.planes, factor[None], (len(x.layout),)), self.layout)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.layout}, eps={self.eps}"
