"""Constraint types: what is promised about a multivector beyond the blades it stores.

A layout says which coefficients exist; a constraint says which equations they obey.  It is never guessed from
numbers: conversions (``as_rotor`` and the like) check or project, and products keep what algebra guarantees.
"""

from __future__ import annotations

from enum import Enum


class Constraint(Enum):
    """What a multivector obeys.

    Versors are closed under products: every motor is a rotor, every rotor a unit versor.
    """

    NULL = "null"  #: x ~x = 0 in its scalar part, and x is of one grade
    SIMPLE = "simple blade"  #: an outer product of vectors
    VERSOR = "unit versor"  #: a product of vectors with x ~x = 1 or -1
    ROTOR = "rotor"  #: an even product of vectors with x ~x = 1
    MOTOR = "motor"  #: a rotor of an algebra with null generators (rotation and translation)

    def __repr__(self) -> str:
        return f"Constraint.{self.name}"


_VERSORS = (Constraint.VERSOR, Constraint.ROTOR, Constraint.MOTOR)
"""Each is a special case of those before it."""


def is_versor(constraint: Constraint | None) -> bool:
    """Is it a unit versor, a rotor or a motor?

    >>> is_versor(Constraint.ROTOR), is_versor(Constraint.NULL), is_versor(None)
    (True, False, False)
    """
    return constraint in _VERSORS


def is_rotor(constraint: Constraint | None) -> bool:
    """Is it a rotor or a motor?"""
    return constraint in _VERSORS[1:]


def of_product(kind: str, x: Constraint | None, y: Constraint | None) -> Constraint | None:
    """What a product obeys because of its operands.

    >>> of_product("geometric", Constraint.ROTOR, Constraint.VERSOR)
    Constraint.VERSOR
    >>> of_product("outer", Constraint.SIMPLE, Constraint.SIMPLE)
    Constraint.SIMPLE
    """
    if kind == "geometric" and is_versor(x) and is_versor(y):
        return _VERSORS[min(_VERSORS.index(c) for c in (x, y) if c is not None)]
    if kind in ("outer", "regressive", "left", "right") and x is y is Constraint.SIMPLE:
        return Constraint.SIMPLE
    return None


def of_multiple(x: Constraint | None) -> Constraint | None:
    """What a multiple by a number obeys: null and simple multivectors stay so, versors lose their norm."""
    return None if is_versor(x) else x
