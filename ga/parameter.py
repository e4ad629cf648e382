"""A multivector as a weight of a torch module."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ga.errors import ConstraintError
from ga.layout import Layout
from ga.multivector import Multivector


class MultivectorParameter(nn.Parameter):
    """The planes of a multivector as a parameter, which remembers the layout; ``multivector`` is the multivector.

    Shape ``(blades, *batch)``.  Optimizers, ``state_dict``, ``module.to`` and deepcopy treat it as any
    parameter.  It has no room for other blades, so an update keeps the grade; a constraint such as being a
    rotor would not survive an update, and is refused.

    Args:
        mv: Initial values, copied.
        requires_grad: As of :class:`torch.nn.Parameter`.

    Raises:
        ConstraintError: the multivector is a versor by type.

    >>> from ga import VGA3
    >>> class Shift(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.by = MultivectorParameter(VGA3.vector([1.0, 2.0, 3.0]))
    ...     def forward(self, x):
    ...         return x + self.by.multivector
    >>> shift = Shift()
    >>> shift.state_dict()["by"]
    tensor([1., 2., 3.])
    >>> shift(VGA3.e1).detach().coefficients
    tensor([2., 2., 3.])
    """

    blades: Layout  #: ``layout`` is another attribute of torch's tensors

    def __new__(cls, mv: Multivector, requires_grad: bool = True) -> Self:
        """Copy the planes; see the class."""
        if mv.constraint is not None:
            raise ConstraintError(
                f"a {mv.constraint.value} of {mv.layout} does not stay one when its coefficients are updated; "
                "store a bivector and use its exp(), or call .unconstrained() to drop the type"
            )
        parameter: Self = cls._of(mv.planes.detach().clone(), mv.layout, requires_grad)
        return parameter

    def __init__(self, mv: Multivector, requires_grad: bool = True) -> None:
        """All is done by ``__new__``, as for every parameter of torch."""

    @classmethod
    def _of(cls, planes: Tensor, layout: Layout, requires_grad: bool) -> Self:
        parameter: Self = torch.Tensor._make_subclass(cls, planes, requires_grad)
        parameter.blades = layout
        return parameter

    @property
    def multivector(self) -> Multivector:
        """The multivector: what to compute with."""
        return Multivector(self, self.blades)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if id(self) not in memo:
            planes = self.detach().clone(memory_format=torch.preserve_format)
            memo[id(self)] = self._of(planes, self.blades, self.requires_grad)
        copied: Self = memo[id(self)]
        return copied

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped in torch
        return f"MultivectorParameter({self.multivector!r}, requires_grad={self.requires_grad})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("MultivectorParameter is not pickled; save module.state_dict()")
