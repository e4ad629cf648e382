"""A versor as a weight that stays a versor: updates move it along the group, never off it.

The parameter that an optimizer sees is a bivector B, which reads as zero; the versor is R exp(B).  After each
optimizer step the increment moves into R, R ← R exp(B) and B ← 0.  :mod:`ga._versor_hooks` says how that is
triggered; between two steps, and under optimizers that torch does not know, R exp(B) is a versor for any B.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ga._derived import constant, of_grades
from ga._frames import frame_of, limited, metric_of
from ga._planes import pick
from ga.constraint import is_versor
from ga.errors import ConstraintError, LayoutError
from ga.layout import Layout
from ga.maps import REVERSED
from ga.multivector import Multivector
from ga.plan import product_layout, symmetric_plan
from ga.product import product
from ga.versor import exp


class VersorParameter(nn.Parameter):
    r"""A rotor, motor, Lorentz or conformal rotor, or unit versor as a parameter; ``multivector`` is the versor.

    As a tensor it is the increment B of R exp(B): shape ``(bivectors, *batch)``, zero whenever no update is
    under way.  After every step of a :class:`torch.optim.Optimizer` R becomes R exp(B), is renormalized by one
    Newton step of the polar decomposition, and B becomes zero.  So the gradient is the bivector part of
    ~R ∂R, in which a coefficient b is :math:`\sum_k \partial_k (R e_b)_k`; moments live in B; and whatever an
    optimizer adds to B, the result is a versor.

    ``state_dict`` holds the planes of R.  Loading checks them and refuses what is no versor.  A weight decay
    is refused at the optimizer's first step: it would shrink an increment that is zero.  Group the
    parameter with ``{"params": ..., "weight_decay": 0.0}``; AdamW has a decay unless told otherwise.

    Args:
        mv: Initial value, a versor by type; its batch is that of the parameter.
        metric: How long a step is.  All are the same for rotations.  ``"action"``: the coordinates of B are
            orthonormal for the change of the map x ↦ R x ~R (:func:`ga._frames.action_frame`), and a step of
            an optimizer changes a rapidity by at most 1; what R does to vectors is followed best.
            ``"versor"``: they are orthonormal for the change of the coefficients of R, which move by as much as
            those of an unconstrained parameter would.  ``"bivector"``: B is the plain bivector, by which a
            boosted or displaced versor is moved further, the further it already is.  Left out, it is
            ``"action"``, or ``"versor"`` where a bivector moves no vector (of two null generators).
        bivectors: Layout of B, to confine the versor to a subgroup (translations, say); all bivectors if
            left out.
        requires_grad: As of :class:`torch.nn.Parameter`.

    Raises:
        ConstraintError: the multivector is not a versor by type.
        LayoutError: ``bivectors`` has other grades than 2; the metric is unknown or does not fit.

    Source:
        Lezcano-Casado, "Trivializations for gradient-based optimization on manifolds", NeurIPS 2019 (dynamic
        trivialization: R exp(B) with a moving R); Higham, "Functions of Matrices" (2008), section 8.3
        (Newton-Schulz iteration).

    >>> from ga import VGA3
    >>> turn = VersorParameter(exp(VGA3.bivector([0.0, 0.0, 0.0])))
    >>> optimizer = torch.optim.SGD([turn], lr=0.2)
    >>> for _ in range(40):  # find the rotor that takes e1 to e2
    ...     optimizer.zero_grad()
    ...     loss = ((turn.multivector >> VGA3.e1) - VGA3.e2).planes.square().sum()
    ...     torch.autograd.backward(loss)
    ...     optimizer.step()
    >>> bool(((turn.multivector >> VGA3.e1) - VGA3.e2).norm() < 1e-3)
    True
    >>> turn.detach()
    tensor([0., 0., 0.])
    """

    blades: Layout  #: layout of B
    metric: str  #: ``"action"``, ``"versor"`` or ``"bivector"``
    _versor: Multivector  #: R
    _frame: Tensor | None  #: coordinates of the tensor to B, shape (bivectors, bivectors, *batch)

    def __new__(
        cls,
        mv: Multivector,
        metric: str | None = None,
        bivectors: Layout | None = None,
        requires_grad: bool = True,
    ) -> Self:
        """Copy the planes; see the class."""
        if not is_versor(mv.constraint):
            raise ConstraintError(
                f"VersorParameter takes a versor by type, got {mv.layout}; use as_rotor or as_versor, or "
                "MultivectorParameter for a multivector without a constraint"
            )
        blades = of_grades(mv.layout, (2,)) if bivectors is None else bivectors
        if blades.grades != (2,):
            raise LayoutError(f"VersorParameter of {mv.layout} takes increments of grade 2, got {blades}")
        layout = _closure(mv.layout, blades)
        base = Multivector(pick(mv.planes.detach(), mv.layout, layout).clone(), layout, mv.constraint)
        increment = base.planes.new_zeros(len(blades), *base.shape)
        return cls._of(increment, base, blades, metric_of(metric, blades), requires_grad)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """All is done by ``__new__``, as for every parameter of torch."""

    @classmethod
    def _of(cls, increment: Tensor, base: Multivector, blades: Layout, metric: str, grad: bool) -> Self:
        parameter: Self = torch.Tensor._make_subclass(cls, increment, grad)
        parameter.blades, parameter.metric = blades, metric
        parameter._place(base)
        return parameter

    def _place(self, base: Multivector) -> None:
        self._versor = base
        self._frame = frame_of(self.metric, base, self.blades)

    @property
    def base(self) -> Multivector:
        """R, the versor as of the last step, without history; dtype and device are the parameter's."""
        if self._versor.dtype != self.dtype or self._versor.device != self.device:
            self._place(renormalized(self._versor.to(device=self.device, dtype=self.dtype)))
        return self._versor

    @property
    def multivector(self) -> Multivector:
        """The versor R exp(B), typed, shape ``(*batch)``: what to compute with."""
        base, b = self.base, self._bivector()
        if _is_zero(self):  # R exactly, with the terms of exp that first and second derivatives see
            change = base * (b + (b * b) * 0.5)
            planes = base.planes + pick(change.planes, change.layout, base.layout)
        else:
            moved = base * exp(limited(b) if self.metric == "action" else b)
            planes = pick(moved.planes, moved.layout, base.layout)
        return Multivector(planes, base.layout, base.constraint)

    @torch.no_grad()
    def retract_(self) -> Self:
        """Move the increment into R and make it zero: R ← R exp(B), renormalized.  Optimizers cause it.

        Raises:
            ConstraintError: the result is not finite.
        """
        if _is_zero(self):
            return self
        moved = renormalized(self.multivector)
        if not bool(moved.planes.isfinite().all()):
            raise ConstraintError(
                f"the update of a versor parameter of {moved.layout} is not finite; "
                "lower the learning rate or clip the gradient"
            )
        self._versor.planes.copy_(moved.planes)
        self._place(self._versor)
        self.zero_()
        return self

    @torch.no_grad()
    def assign_(self, mv: Multivector) -> Self:
        """Give the versor another value; the increment becomes zero.

        Raises:
            ConstraintError: not a versor by type, or of another type.
            LayoutError: another layout or batch shape.
        """
        if mv.constraint is not self._versor.constraint:
            raise ConstraintError(
                f"a versor parameter of {self._versor.layout} takes a {self._versor.constraint}, got "
                f"{mv.constraint}; use as_rotor or as_versor"
            )
        if mv.layout != self._versor.layout or mv.shape != self._versor.shape:
            raise LayoutError(
                f"a versor parameter of {self._versor.layout} and batch {tuple(self._versor.shape)} cannot take "
                f"{mv.layout} and batch {tuple(mv.shape)}"
            )
        self.base.planes.copy_(mv.planes)
        self._place(self._versor)
        self.zero_()
        return self

    def _bivector(self) -> Multivector:
        """B, from the coordinates that the optimizer sees."""
        if self._frame is None:
            return Multivector(self, self.blades)
        return Multivector(torch.einsum("ij...,j...->i...", self._frame, self), self.blades)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if id(self) not in memo:
            increment = self.detach().clone(memory_format=torch.preserve_format)
            copied = self._of(increment, self._versor.clone(), self.blades, self.metric, self.requires_grad)
            memo[id(self)] = copied
        found: Self = memo[id(self)]
        return found

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped in torch
        return f"VersorParameter({self.multivector.detach()!r}, requires_grad={self.requires_grad})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("VersorParameter is not pickled; save module.state_dict()")


def renormalized(x: Multivector) -> Multivector:
    """One Newton step towards the versor nearest to x: x (3 - s ~x x) / 2, where s = ~x x is near 1 or -1."""
    plan = symmetric_plan(x.layout, x.layout, REVERSED)
    squared = Multivector(product(x.reverse().planes, x.planes, plan), plan.out)
    scalar = squared.planes[plan.out.blades.index(0)]
    near = x * ((3.0 - squared * torch.where(scalar < 0, -1.0, 1.0).to(scalar.dtype)) * 0.5)
    return Multivector(pick(near.planes, near.layout, x.layout), x.layout, x.constraint)


@constant
def _closure(versor: Layout, bivectors: Layout) -> Layout:
    """Blades of R exp(B): the fixed point of multiplying by bivectors from the right."""
    reached = versor.union(product_layout("geometric", versor, bivectors))
    return versor if reached == versor else _closure(reached, bivectors)


def _is_zero(increment: Tensor) -> bool:
    """Is an increment zero?  No, where values cannot be read (torch.compile, vmap)."""
    if torch.compiler.is_compiling():
        return False
    try:
        return not bool(increment.detach().any())
    except RuntimeError:  # vmap: data-dependent control flow
        return False
