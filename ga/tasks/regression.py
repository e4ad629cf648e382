"""O(5) regression: a function of two vectors that no rotation or reflection changes."""

from __future__ import annotations

import torch
from torch import Tensor


def o5_regression(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    r"""Draw pairs of vectors and an invariant function of them.

    :math:`f(x, y) = \sin |x| - |y|^3 / 2 + x \cdot y / (|x| |y|)`

    Args:
        n: Number of samples.
        generator: Source of the vectors.

    Returns:
        Standard normal vectors, float32, shape ``(n, 2, 5)``; targets, computed in float64 and rounded, float32,
        shape ``(n,)``; not standardized.

    Source:
        Finzi, Welling, Wilson, "A Practical Method for Constructing Equivariant Multilayer Perceptrons for
        Arbitrary Matrix Groups", arXiv 2104.09459, section 7.1; used by Ruhe et al., arXiv 2305.11141.

    >>> vectors, values = o5_regression(4, torch.Generator().manual_seed(0))
    >>> vectors.shape, values.shape
    (torch.Size([4, 2, 5]), torch.Size([4]))
    """
    vectors = torch.randn(n, 2, 5, generator=generator)
    x, y = vectors.double().unbind(1)
    size_x, size_y = x.norm(dim=-1), y.norm(dim=-1)
    values = size_x.sin() - size_y**3 / 2 + (x * y).sum(-1) / (size_x * size_y)
    return vectors, values.float()
