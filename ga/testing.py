"""Equivariance checks for users' own layers and networks.

Everything random takes a generator.  Transformations act on vectors and, through products of their images, on
every blade (the outermorphism), so that a check works for any layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Any

import torch
from torch import Tensor

from ga.algebra import Algebra, grade
from ga.conversions import to_matrix
from ga.errors import EquivarianceError, LayoutError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.versor import exp


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


@dataclass(frozen=True)
class GroupElement:
    """A transformation of the vectors that preserves the metric, and words for it."""

    matrix: Tensor  #: float64, shape ``(n, n)``; column t is the image of generator t
    text: str  #: how it was made


def random_group_element(algebra: Algebra, generator: torch.Generator, group: str = "pin") -> GroupElement:
    """A random element of a group of transformations.

    Args:
        algebra: The algebra.
        generator: Source of randomness.
        group: ``"spin"``: x ↦ R x ~R with the exponential R of a bivector whose coefficients are normal with
            standard deviation 1/2: rotations, boosts, translations, conformal maps.  ``"pin"``: the same,
            behind a reflection in a generator that is not null in half of the cases.  ``"orthogonal"``:
            :func:`random_orthogonal`, uniform, but without boosts and translations; a null generator may
            change its sign.

    Raises:
        ValueError: another group.

    >>> from ga import VGA2
    >>> element = random_group_element(VGA2, torch.Generator().manual_seed(1), "spin")
    >>> element.text, round(float(element.matrix.det()), 6)
    ('the rotor exp(0.330... e12)', 1.0)
    """
    if group not in ("spin", "pin", "orthogonal"):
        raise ValueError(f"groups are spin, pin and orthogonal, got {group!r}")
    if group == "orthogonal":
        return GroupElement(random_orthogonal(algebra, generator), "an orthogonal matrix")
    layout = Layout.of_grades(algebra, 2)
    b = Multivector(torch.randn(len(layout), generator=generator, dtype=torch.float64) / 2, layout)
    matrix, text = to_matrix(exp(b)), f"the rotor exp({_words(b)})"
    flips = [t for t, square in enumerate(algebra.metric) if square]
    if group == "pin" and flips and float(torch.rand(1, generator=generator)) < 0.5:
        t = flips[int(torch.randint(len(flips), (1,), generator=generator))]
        signs = torch.ones(algebra.n, dtype=torch.float64)
        signs[t] = -1.0
        matrix, text = matrix * signs, f"the reflection of {algebra.name(1 << t)}, then {text}"
    return GroupElement(matrix, text)


def _words(mv: Multivector) -> str:
    return " + ".join(f"{c:.6g} {name}" for c, name in zip(mv.planes.tolist(), mv.layout.names, strict=True))


Function = Callable[..., Any]
"""Takes one or more multivectors; returns a multivector, a tensor that must not change, or a tuple of these."""


def equivariance_error(fn: Function, x: Multivector | tuple[Multivector, ...], matrix: Tensor) -> float:
    """Relative error of ``fn(M x) = M fn(x)``: the largest difference over the largest value.

    Args:
        fn: Takes one or more multivectors.  Multivectors that it returns must transform, tensors must not
            change.
        x: The input, or a tuple of inputs, each a multivector.
        matrix: A map that preserves the metric, shape ``(n, n)``; column t is the image of generator t.

    Returns:
        max |fn(M x) - M fn(x)| / max |fn(x)|, the largest over the outputs; the absolute difference if fn(x)
        is zero.

    >>> x = Algebra(3).multivector([1.0, 2.0, 3.0], grades=1)
    >>> equivariance_error(lambda v: v * v, x, signed_permutations(3)[5])
    0.0
    """
    inputs = x if isinstance(x, tuple) else (x,)
    with torch.no_grad():
        values = _as_tuple(fn(*inputs))
        moved = _as_tuple(fn(*(transform(mv, matrix) for mv in inputs)))
        return max(_difference(value, got, matrix) for value, got in zip(values, moved, strict=True))


def _as_tuple(value: Any) -> tuple[Multivector | Tensor, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _difference(value: Multivector | Tensor, got: Multivector | Tensor, matrix: Tensor) -> float:
    if isinstance(value, Multivector) and isinstance(got, Multivector):
        value, got = transform(value, matrix).planes, got.planes
    if not isinstance(value, Tensor) or not isinstance(got, Tensor):
        raise TypeError(f"a function must return multivectors or tensors, got {type(value).__name__}")
    scale = float(value.abs().max())
    return float((got.double() - value.double()).abs().max()) / (scale or 1.0)


def assert_equivariant(
    fn: Function,
    x: Multivector | tuple[Multivector, ...],
    *,
    generator: torch.Generator,
    tolerance: float = 1e-5,
    samples: int = 8,
    group: str = "pin",
) -> None:
    """Check ``fn(M x) = M fn(x)`` for random transformations M that preserve the metric.

    Args:
        fn: A layer or any function: takes one or more multivectors; multivectors that it returns must
            transform, tensors must not change.
        x: The input on which it is checked, or a tuple of inputs; give them a batch.
        generator: Source of the transformations.
        tolerance: Largest relative error allowed.
        samples: Number of transformations.
        group: ``"spin"``, ``"pin"`` or ``"orthogonal"``; see :func:`random_group_element`.

    Raises:
        EquivarianceError: an error exceeds the tolerance; it names the transformation.

    >>> x = Algebra(3).multivector(torch.ones(2, 3), grades=1)
    >>> assert_equivariant(lambda v: v * 2.0, x, generator=torch.Generator().manual_seed(0))
    """
    inputs = x if isinstance(x, tuple) else (x,)
    for sample in range(samples):
        element = random_group_element(inputs[0].algebra, generator, group)
        error = equivariance_error(fn, inputs, element.matrix)
        if not error <= tolerance:  # also when it is nan
            name = getattr(fn, "__name__", type(fn).__name__)
            layouts = ", ".join(str(mv.layout) for mv in inputs)
            raise EquivarianceError(
                f"function {name} on {layouts} is not equivariant: relative error {error:.3g}, allowed "
                f"{tolerance:.3g}, for element {sample + 1} of {samples} of the {group} group, {element.text} "
                f"of determinant {float(element.matrix.det()):+.0f}, matrix {element.matrix.tolist()}"
            )
