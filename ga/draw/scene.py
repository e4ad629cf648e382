"""Objects, names and colours in one scene, cut to a visible cube: what picture and page have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ga.constraint import is_rotor
from ga.draw.shapes import Coordinates, Shape, dimensions, shapes
from ga.errors import AlgebraError, ConstraintError, LayoutError
from ga.multivector import Multivector
from ga.versor import exp, log

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""Okabe and Ito's palette, told apart by the colour-blind too."""


@dataclass(frozen=True)
class Action:
    """A rotor or motor on its way from 1, and an object that it takes along; made by :func:`action`."""

    stages: Multivector  #: the object at each time, the first dimension of its batch

    def at(self, t: int) -> Multivector:
        """The object at one time."""
        return self.stages[t]


Drawable = Multivector | Action
Objects = Mapping[str, Drawable] | Sequence[Drawable]
"""What is drawn: objects by name, or without names."""


def action(motor: Multivector, x: Multivector, stages: int = 9) -> Action:
    """What a rotor or motor does to an object, at equal times from 0 to 1: a screw motion, a turn, a dilation.

    Args:
        motor: One rotor or motor, without a batch, that has a logarithm.
        x: Any object of the same algebra.
        stages: How many times are drawn, at least 2.

    Raises:
        AlgebraError: the algebras differ.
        ConstraintError: no rotor or motor.
        LayoutError: a batch of motors, or fewer than 2 stages.

    >>> from ga import PGA3, exp
    >>> screw = exp(PGA3.line([0.0, 0.0, 0.0], [0.0, 0.0, 1.0]) * 0.8 + PGA3.e03 * 0.5)
    >>> action(screw, PGA3.point([1.0, 0.0, 0.0]), stages=5).stages.shape
    torch.Size([5])
    """
    if not is_rotor(motor.constraint):
        raise ConstraintError(f"an action is that of a rotor or motor, got {motor.layout}; use as_rotor()")
    if motor.shape or stages < 2:
        raise LayoutError(
            f"an action has one motor and at least 2 stages, got batch {tuple(motor.shape)} of {motor.layout} "
            f"and {stages} stages"
        )
    times = torch.linspace(0.0, 1.0, stages, dtype=torch.float64)
    ones = (1,) * len(x.shape)
    way = log(motor.detach().to(torch.float64)).reshape(1, *ones) * times.reshape(-1, *ones)
    return Action(exp(way) >> x.detach().to(torch.float64))


@dataclass(frozen=True, eq=False)
class Item:
    """One shape of a scene."""

    shape: Shape
    colour: str
    label: str = ""
    strength: float = 1.0  #: 1, less for the earlier stages of an action
    stage: int | None = None  #: which stage of an action it is


@dataclass(frozen=True, eq=False)
class Scene:
    """Shapes in the plane or in space, and the cube that is seen."""

    d: int  #: 2 or 3
    items: tuple[Item, ...]
    paths: tuple[tuple[Coordinates, str], ...]  #: ways of points, shape (stages, d), and their colours
    center: Coordinates  #: of the cube
    reach: float  #: half of its side

    def ends_of_line(self, shape: Shape) -> Coordinates | None:
        """Where a line enters and leaves the cube, shape ``(2, d)``; None if it misses it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (self.center - self.reach - shape.center) / shape.axis
            far = (self.center + self.reach - shape.center) / shape.axis
        inside = np.abs(shape.center - self.center) <= self.reach
        along = np.abs(shape.axis) > 1e-12
        if not bool((inside | along).all()):
            return None
        enter = np.minimum(near, far)[along].max()
        leave = np.maximum(near, far)[along].min()
        return None if enter >= leave else shape.center + np.outer([enter, leave], shape.axis)

    def corners_of_plane(self, shape: Shape) -> Coordinates | None:
        """The polygon that the cube cuts out of a plane of space, shape ``(corners, 3)``; None if it misses it."""
        points = []
        for t in range(3):
            for a in (-1.0, 1.0):
                for b in (-1.0, 1.0):
                    start = self.center + self.reach * np.insert([a, b], t, -1.0)
                    slope = shape.axis[t] * 2 * self.reach
                    share = (shape.center - start) @ shape.axis / slope if abs(slope) > 1e-12 else -1.0
                    if 0.0 <= share <= 1.0:
                        start[t] += share * 2 * self.reach
                        points.append(start)
        if len(points) < 3:
            return None
        found = np.array(points)
        u, v = frame(shape.axis)
        about = found - found.mean(0)
        order = np.argsort(np.arctan2(about @ v, about @ u), kind="stable")
        ordered: Coordinates = found[order]
        return ordered


def frame(axis: Coordinates) -> tuple[Coordinates, Coordinates]:
    """Two unit vectors that stand on an axis of space and on each other, right-handed with it."""
    helper = np.eye(3)[int(np.abs(axis).argmin())]
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    return u, np.cross(axis, u)


def ring(shape: Shape, steps: int = 96) -> Coordinates:
    """Points of a circle; the last two are the first two, so that a stroke closes.  Shape ``(steps + 2, d)``."""
    angle = np.arange(steps + 2)[:, None] * (2 * np.pi / steps)
    u, v = (np.eye(2)[0], np.eye(2)[1]) if len(shape.center) == 2 else frame(shape.axis)
    points: Coordinates = shape.center + shape.radius * (np.cos(angle) * u + np.sin(angle) * v)
    return points


def scene_of(objects: Objects, reach: float | None = None, center: Sequence[float] | None = None) -> Scene:
    """The scene of some objects.

    Args:
        objects: Multivectors and actions by name, or a sequence of them without names; all of one algebra.
        reach: Half of the side of the cube that is seen; chosen so that all points, pairs, circles and spheres
            are seen if left out.
        center: Center of that cube.

    Raises:
        AlgebraError: no objects, several algebras, or one that has no picture.
        LayoutError: an object is of several grades or of one without geometry.
    """
    named = list(objects.items()) if isinstance(objects, Mapping) else [("", x) for x in objects]
    algebras = {_multivector(x).algebra for _, x in named}
    if len(algebras) != 1:
        raise AlgebraError(
            f"a picture shows objects of one algebra, got {sorted(map(str, algebras)) or 'no objects'}"
        )
    d = dimensions(algebras.pop())
    items: list[Item] = []
    paths: list[tuple[Coordinates, str]] = []
    for t, (label, x) in enumerate(named):
        colour = COLOURS[t % len(COLOURS)]
        if isinstance(x, Action):
            found, ways = _stages(x, colour, label)
            paths += ways
        else:
            found = _labelled([Item(shape, colour) for shape in shapes(x)], label)
        items += found
    middle, half = _cube(d, items)
    return Scene(
        d,
        tuple(items),
        tuple(paths),
        middle if center is None else np.asarray(center, dtype=np.float64),
        half if reach is None else float(reach),
    )


def _multivector(x: Drawable) -> Multivector:
    if isinstance(x, Action):
        return x.stages
    if isinstance(x, Multivector):
        return x
    raise LayoutError(f"a picture shows multivectors and actions, got {type(x).__name__}")


def _labelled(items: list[Item], label: str) -> list[Item]:
    """The label goes to the last item."""
    return [*items[:-1], replace(items[-1], label=label)] if items else []


def _stages(x: Action, colour: str, label: str) -> tuple[list[Item], list[tuple[Coordinates, str]]]:
    """Items of all stages, stronger towards the end, and the ways of centers."""
    count = len(x.stages)
    rows = [shapes(x.at(t)) for t in range(count)]
    items = [
        Item(shape, colour, "", 0.15 + 0.85 * (t / (count - 1)) ** 2, t)
        for t, row in enumerate(rows)
        for shape in row
    ]
    ways = [
        (np.stack([shape.center for shape in column]), colour)
        for column in zip(*rows, strict=True)
        if all(shape.kind == "point" for shape in column)
    ]
    return _labelled(items, label), ways


def _cube(d: int, items: Iterable[Item]) -> tuple[Coordinates, float]:
    """Center and reach with all that is finite, and a margin."""
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    for item in items:
        s = item.shape
        if s.kind not in ("ideal", "direction"):
            low, high = np.minimum(low, s.center - s.radius), np.maximum(high, s.center + s.radius)
    if not np.isfinite(low).all():
        return np.zeros(d), 1.5
    return (low + high) / 2, max(float((high - low).max()) * 0.62, 1.0)
