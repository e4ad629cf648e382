"""Equivariance checks for users' own layers and networks.

Everything random takes a generator.  Transformations act on vectors and, through products of their images, on
every blade (the outermorphism), so that a check works for any layout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations, product

import torch
from torch import Tensor

from ga.algebra import Algebra, grade
from ga.errors import EquivarianceError, LayoutError
from ga.layout import Layout
from ga.multivector import Multivector


def random_orthogonal(algebra: Algebra, generator: torch.Generator) -> Tensor:
    """A random matrix that preserves the metric: rotations and reflections within each kind of generator.

    The blocks of null, positive and negative generators are Haar distributed orthogonal matrices, so
    determinants of both signs occur.  Boosts and translations, which mix the blocks, are not drawn.

    Args:
        algebra: The algebra; in Cl(3, 0, 0) the result is a random element of O(3).
        generator: Source of randomness.

    Returns:
        Float64 matrix, shape ``(n, n)``; column t is the image of generator t.

    Source:
        Mezzadri, "How to generate random matrices from the classical compact groups", Notices AMS 54 (2007).

    >>> m = random_orthogonal(Algebra(3), torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(m @ m.T, torch.eye(3, dtype=torch.float64)))
    True
    """
    blocks = []
    for size in (algebra.r, algebra.p, algebra.q):
        q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
        blocks.append(q * r.diagonal().sign())
    matrix: Tensor = torch.block_diag(*blocks)
    return matrix


@cache
def signed_permutations(n: int) -> tuple[Tensor, ...]:
    """All signed axis permutations: 48 matrices for n = 3, exact in any arithmetic.

    Returns:
        Float64 matrices, shape ``(n, n)``.

    >>> len(signed_permutations(3)), int(sum(m.det() for m in signed_permutations(3)))
    (48, 0)
    """
    matrices = []
    for order in permutations(range(n)):
        for signs in product((1.0, -1.0), repeat=n):
            matrix = torch.zeros(n, n, dtype=torch.float64)
            for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[row, column] = sign
            matrices.append(matrix)
    return tuple(matrices)


def transform(mv: Multivector, matrix: Tensor) -> Multivector:
    """Apply a linear map of the vectors to a multivector, grade by grade.

    Args:
        mv: Any batch; its layout must hold every blade of each of its grades.
        matrix: Shape ``(n, n)``; column t is the image of generator t.

    Returns:
        The image, in the layout and dtype of ``mv``; computed in float64 and rounded once.

    Raises:
        LayoutError: a grade is stored only in part, so that its image has no room.

    >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> transform(Algebra(2).multivector([0.0, 1.0, 2.0, 3.0]), swap)
    Multivector(0.0 e + 2.0 e1 + 1.0 e2 - 3.0 e12, Cl(2,0,0)[0,1,2])
    """
    if mv.layout != Layout.of_grades(mv.algebra, mv.grades):
        raise LayoutError(f"{mv.layout} holds a grade in part; transform needs all blades of {mv.grades}")
    parts = []
    for k, where in mv.layout.slices.items():
        minors = _minors(mv.algebra, matrix.double(), k)
        parts.append(torch.tensordot(minors, mv.planes[where].double(), dims=1).to(mv.dtype))
    return Multivector(torch.cat(parts), mv.layout)


def _minors(algebra: Algebra, matrix: Tensor, k: int) -> Tensor:
    """The map on blades of grade k: determinants of its k-by-k minors."""
    blades = [b for b in algebra.blades if grade(b) == k]
    factors = [[t for t in range(algebra.n) if b >> t & 1] for b in blades]
    if k == 0:
        return torch.ones(1, 1, dtype=matrix.dtype)
    stacked = torch.stack([matrix[rows][:, columns] for rows in factors for columns in factors])
    minors: Tensor = torch.linalg.det(stacked)
    return minors.reshape(len(blades), len(blades))


def equivariance_error(fn: Callable[[Multivector], Multivector], x: Multivector, matrix: Tensor) -> float:
    """Relative error of ``fn(M x) = M fn(x)``: the largest difference over the largest value.

    Args:
        fn: Takes and returns a multivector.
        x: The input.
        matrix: A map that preserves the metric, shape ``(n, n)``; column t is the image of generator t.

    Returns:
        max |fn(M x) - M fn(x)| / max |fn(x)|; the absolute difference if fn(x) is zero.

    >>> x = Algebra(3).multivector([1.0, 2.0, 3.0], grades=1)
    >>> equivariance_error(lambda v: v * v, x, signed_permutations(3)[5])
    0.0
    """
    with torch.no_grad():
        value = fn(x)
        expected, got = transform(value, matrix).planes.double(), fn(transform(x, matrix)).planes.double()
    scale = float(expected.abs().max())
    return float((got - expected).abs().max()) / (scale or 1.0)


def assert_equivariant(
    fn: Callable[[Multivector], Multivector],
    x: Multivector,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-5,
    samples: int = 8,
) -> None:
    """Check ``fn(M x) = M fn(x)`` for random orthogonal matrices of the algebra of ``x``.

    Args:
        fn: Takes and returns a multivector.
        x: The input on which it is checked; give it a batch.
        generator: Source of the matrices.
        tolerance: Largest relative error allowed.
        samples: Number of matrices.

    Raises:
        EquivarianceError: an error exceeds the tolerance.

    >>> x = Algebra(3).multivector(torch.ones(2, 3), grades=1)
    >>> assert_equivariant(lambda v: v * 2.0, x, generator=torch.Generator().manual_seed(0))
    """
    for _ in range(samples):
        matrix = random_orthogonal(x.algebra, generator)
        error = equivariance_error(fn, x, matrix)
        if not error <= tolerance:  # also when it is nan
            raise EquivarianceError(
                f"function on {x.layout} is not equivariant: relative error {error:.3g}, "
                f"allowed {tolerance:.3g}, "
                f"for a matrix of determinant {float(matrix.det()):+.0f}: {matrix.tolist()}"
            )
