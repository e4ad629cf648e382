"""Order and signs of blades in other libraries, and the conversion of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ga.algebra import Algebra, grade, swap_sign
from ga.errors import AlgebraError, LayoutError

_KINGDON = {
    "2DPGA": "e e1 e2 e0 e20 e01 e12 e012",
    "3DPGA": "e e1 e2 e3 e0 e01 e02 e03 e12 e31 e23 e032 e013 e021 e123 e0123",
    "STAP": "e e0 e1 e2 e3 e4 e01 e02 e03 e40 e12 e31 e23 e41 e42 e43 e234 e314 e124 e123 e014 e024 e034 "
    "e032 e013 e021 e0324 e0134 e0214 e0123 e1234 e01234",
}


@dataclass(frozen=True, slots=True)
class BladeOrder:
    """All blades of an algebra in another library's order, each as ours times a sign.

    >>> from ga import PGA2
    >>> order = PGA2.order("kingdon 2DPGA")
    >>> point = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 1.0, 0.0])  # 5 e20 + 6 e01 + 1 e12
    >>> order.to_ours(point)[4:7]  # on e01, e02, e12
    tensor([ 6., -5.,  1.])
    >>> torch.equal(order.from_ours(order.to_ours(point)), point)
    True
    """

    algebra: Algebra
    blades: tuple[int, ...]  #: our bitmaps, in the other order
    signs: tuple[int, ...]  #: +1 or -1: the other blade is this sign times ours

    def from_ours(self, coefficients: Tensor) -> Tensor:
        """Full coefficients (blades last, all 2**n) in our order, turned into the other order.

        Raises:
            LayoutError: the last dimension does not have 2**n coefficients.
        """
        self._check(coefficients)
        return coefficients[..., self._places()] * self._signs(coefficients)

    def to_ours(self, coefficients: Tensor) -> Tensor:
        """Full coefficients (blades last, all 2**n) in the other order, turned into ours.

        Raises:
            LayoutError: the last dimension does not have 2**n coefficients.
        """
        self._check(coefficients)
        places = torch.tensor(self._places()).argsort()
        return (coefficients * self._signs(coefficients))[..., places.to(coefficients.device)]

    def _places(self) -> list[int]:
        return [self.algebra.blades.index(blade) for blade in self.blades]

    def _signs(self, like: Tensor) -> Tensor:
        return torch.tensor(self.signs, dtype=like.dtype, device=like.device)

    def _check(self, coefficients: Tensor) -> None:
        if coefficients.dim() == 0 or coefficients.shape[-1] != self.algebra.size:
            raise LayoutError(
                f"an order of {self.algebra} converts all {self.algebra.size} coefficients, blades last; "
                f"got shape {tuple(coefficients.shape)}"
            )


def blade_order(algebra: Algebra, of: str | Sequence[str]) -> BladeOrder:
    """The order of another library, by name or as spelled blades; see :meth:`ga.Algebra.order`.

    * ``clifford``: ``clifford.Cl(p, q, r)``, or ``clifford.Layout(sig=metric)`` for a custom metric; ours.
    * ``kingdon``: ``kingdon.Algebra(p, q, r)``, whose null generators come last if there are more than one;
      for a custom metric ``kingdon.Algebra(signature=metric)``.  ``kingdon 3DPGA`` and the like are the bases
      of ``kingdon.Algebra.fromname``.
    * ``bitmap``: by bitmap, 0 to 2**n - 1, as many libraries store blades.

    Raises:
        AlgebraError: the name is unknown, or the spelled blades are not those of the algebra, each once.

    Source:
        kingdon, ``kingdon/algebra.py`` (default generator order, ``fromname``).
    """
    if isinstance(of, str):
        if of == "clifford":
            return BladeOrder(algebra, algebra.blades, (1,) * algebra.size)
        if of == "bitmap":
            return BladeOrder(algebra, tuple(range(algebra.size)), (1,) * algebra.size)
        if of == "kingdon":
            return _kingdon(algebra)
        named = _KINGDON.get(of.removeprefix("kingdon "))
        if named is None or not of.startswith("kingdon "):
            raise AlgebraError(
                f"unknown order {of!r} of {algebra}; known are clifford, kingdon, bitmap, "
                f"{', '.join(f'kingdon {name}' for name in _KINGDON)}, or give the spelled blades"
            )
        of = named.split()
    spelled = [algebra.spelled(name) for name in of]
    if sorted(blade for blade, _ in spelled) != list(range(algebra.size)):
        raise AlgebraError(
            f"the order of {algebra} must spell each of its {algebra.size} blades once, got {', '.join(of)}"
        )
    return BladeOrder(algebra, tuple(blade for blade, _ in spelled), tuple(sign for _, sign in spelled))


def _kingdon(algebra: Algebra) -> BladeOrder:
    """Kingdon's default: by grade, then by name, with several null generators last."""
    n, nulls = algebra.n, algebra.r
    if algebra != Algebra(algebra.p, algebra.q, algebra.r) or nulls < 2:
        return BladeOrder(algebra, algebra.blades, (1,) * algebra.size)
    rotate = [(t + nulls) % n for t in range(n)]  # our generator for each of theirs
    blades, signs = [], []
    for theirs in algebra.blades:
        factors = [rotate[t] for t in range(n) if theirs >> t & 1]
        blade, sign = 0, 1
        for factor in factors:
            sign *= swap_sign(blade, 1 << factor)
            blade |= 1 << factor
        assert grade(blade) == grade(theirs)  # a permutation of generators keeps the grade
        blades.append(blade)
        signs.append(sign)
    return BladeOrder(algebra, tuple(blades), tuple(signs))
