"""Certifies that a model stores exactly the numbers that its declared grades allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from ga._planes import epsilon
from ga.errors import GradeCheckError
from ga.parameter import MultivectorParameter
from ga.versor import versor_error
from ga.versor_parameter import VersorParameter

Shapes = dict[str, tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]]
"""Per parameter name: the grade paths it weighs, and the shape that they allow."""


@runtime_checkable
class Declares(Protocol):
    """A module that says which parameters its grades allow."""

    def declared_shapes(self) -> Shapes:
        """Paths and shape of every parameter of the module, its children included."""
        ...


@dataclass(frozen=True)
class GradeRecord:
    """One parameter and what was declared about it."""

    name: str  #: name in ``model.named_parameters()``
    paths: tuple[
        tuple[int, ...], ...
    ]  #: grade paths it weighs, e.g. ((1, 1, 2),); () if nothing was declared
    shape: tuple[int, ...]  #: its shape, equal to the declared one


def check_grades(model: nn.Module) -> list[GradeRecord]:
    """List every parameter with its declared grades, and certify that it stores no other number.

    Parameters of modules that declare nothing (``torch.nn.Linear`` on scalars, say) are listed with no paths;
    a :class:`ga.MultivectorParameter` or :class:`ga.VersorParameter` declares its grades itself.

    Args:
        model: Any module; those of ``ga.nn`` declare their parameters.

    Returns:
        One record per parameter, in the order of ``model.named_parameters()``.

    Raises:
        GradeCheckError: a declaring module lacks a declared parameter, has an undeclared one, or has one of
            another shape than its grades allow; or a versor parameter is no versor.

    >>> import torch
    >>> from ga import Layout, VGA3
    >>> from ga.nn import GradeLinear
    >>> check_grades(GradeLinear(Layout.of_grades(VGA3, 2), 3, 4, generator=torch.Generator()))
    [GradeRecord(name='weights.2', paths=((2, 2),), shape=(4, 3))]
    """
    declared: dict[str, tuple[tuple[int, ...], ...]] = {}
    for prefix, module in model.named_modules():
        stored = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        if isinstance(module, Declares):
            shapes = module.declared_shapes()
            declared |= dict(_certified(f"{type(module).__name__} {prefix!r}", prefix, stored, shapes))
    named = list(model.named_parameters())
    for name, p in named:
        if isinstance(p, (MultivectorParameter, VersorParameter)):
            declared.setdefault(name, tuple((k,) for k in p.blades.grades))
            _check_typed(name, p)
    return [GradeRecord(name, declared.get(name, ()), tuple(p.shape)) for name, p in named]


def _certified(
    where: str, prefix: str, stored: dict[str, tuple[int, ...]], shapes: Shapes
) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Yield full name and paths of each parameter of one declaring module, or raise."""
    for name in sorted(stored.keys() ^ shapes.keys()):
        what = "is not declared" if name in stored else "is missing"
        raise GradeCheckError(
            f"parameter {name!r} of {where} {what}; its grades allow exactly {', '.join(shapes) or 'none'}"
        )
    for name, (paths, shape) in shapes.items():
        if stored[name] != shape:
            raise GradeCheckError(
                f"parameter {name!r} of {where} has shape {stored[name]}, "
                f"its grade paths {paths} allow {shape}; a weight has no room for other grades"
            )
        yield f"{prefix}.{name}" if prefix else name, paths


def _check_typed(name: str, p: MultivectorParameter | VersorParameter) -> None:
    """Raise unless a parameter that knows its layout has its planes, and a versor is one to rounding."""
    if p.shape[0] != len(p.blades):
        raise GradeCheckError(
            f"parameter {name!r} has shape {tuple(p.shape)}, {p.blades} has {len(p.blades)} blades"
        )
    if isinstance(p, VersorParameter):
        value = p.multivector.detach()
        size = value.planes.square().sum(0).clamp(min=1)
        error = float((versor_error(value) / size).max()) if value.planes.numel() else 0.0
        if not error <= 1000 * epsilon(value.dtype):  # also when it is nan
            raise GradeCheckError(
                f"parameter {name!r} of {value.layout} is no versor: R ~R differs from 1 by {error:.3g} of its size; "
                "something wrote to its planes; assign_ checks what it is given"
            )
