"""Where the names of objects stand: beside their object, and as far as possible from everything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ga.draw.scene import Item, Scene, ring
from ga.draw.shapes import Coordinates

_GAP, _HEIGHT, _WIDTH = (
    0.03,
    0.04,
    0.026,
)  # between object and text; half of a line; half of a letter: of the reach
_AROUND = np.stack([np.cos(t := np.arange(8) * np.pi / 4 + np.pi / 4), np.sin(t)], 1)


@dataclass(frozen=True, eq=False)
class Label:
    """A name and the place of its middle."""

    text: str
    at: Coordinates
    colour: str


def place_labels(scene: Scene, right: Coordinates, up: Coordinates) -> list[Label]:
    """Place all names, one after the other, each where it has most room among some places beside its object.

    Args:
        scene: The scene.
        right: Unit vector of space that points to the right in the picture, shape ``(d,)``.
        up: Unit vector that points up in the picture.
    """
    screen = np.stack([right, up], 1)
    middle = scene.center @ screen
    taken = [points @ screen for item in scene.items if len(points := _outline(scene, item))]
    obstacles = np.concatenate(taken) if taken else np.empty((0, 2))
    placed = []
    for item in scene.items:
        if not item.label or item.shape.kind == "ideal":
            continue
        half = np.array([_WIDTH * max(len(item.label), 1), _HEIGHT]) * scene.reach
        best, where, score = scene.center, np.zeros(2), -np.inf
        for anchor, off in _places(scene, item, screen):
            shift = off * (half + _GAP * scene.reach)
            box = anchor @ screen + shift
            apart = np.maximum(np.abs(obstacles - box) - half, 0.0)
            room = min(float(np.hypot(*apart.T).min(initial=np.inf)), 0.15 * scene.reach)
            outside = np.maximum(np.abs(box - middle) + half - 0.98 * scene.reach, 0.0).sum()
            if room - 3.0 * outside > score + 1e-9:
                best, where, score = anchor, shift, room - 3.0 * outside
        placed.append(Label(item.label, best + screen @ where, item.colour))
        inside = (
            best @ screen
            + where
            + half * np.array([[x, y] for x in (-1, -0.5, 0, 0.5, 1) for y in (-1, 0, 1)])
        )
        obstacles = np.concatenate([obstacles, inside])
    return placed


def _outline(scene: Scene, item: Item) -> Coordinates:
    """Points that names should not cover, shape ``(n, d)``."""
    shape = item.shape
    if shape.kind == "point":
        return shape.center[None]
    if shape.kind == "pair":
        return shape.ends
    if shape.kind == "circle":
        return ring(shape, 48)
    if shape.kind == "line" and (ends := scene.ends_of_line(shape)) is not None:
        along: Coordinates = ends[0] + np.linspace(0.0, 1.0, 40)[:, None] * (ends[1] - ends[0])
        return along
    return np.empty((0, scene.d))


def _places(scene: Scene, item: Item, screen: Coordinates) -> Iterator[tuple[Coordinates, Coordinates]]:
    """Anchors on an object, and directions on the screen in which its name may stand off."""
    shape = item.shape
    if shape.kind == "line" and (ends := scene.ends_of_line(shape)) is not None:
        yield from _along(ends, screen)
    elif shape.kind == "circle":
        for point in ring(shape, 16)[:16]:
            yield point, _unit((point - shape.center) @ screen)
    elif shape.kind == "sphere":
        for off in _AROUND:
            yield shape.center + shape.radius * (screen @ off), off
    elif shape.kind == "plane":
        for corner in _ends(scene, item):
            yield corner + 0.12 * (scene.center - corner), 0.2 * _unit((scene.center - corner) @ screen)
    else:
        for anchor in _ends(scene, item):
            for off in _AROUND:
                yield anchor, off


def _along(ends: Coordinates, screen: Coordinates) -> Iterator[tuple[Coordinates, Coordinates]]:
    """Places on both sides of a line."""
    normal = _unit(((ends[1] - ends[0]) @ screen)[::-1] * [-1.0, 1.0])
    for share in (0.9, 0.1, 0.8, 0.2, 0.65, 0.35):
        yield ends[0] + share * (ends[1] - ends[0]), normal
        yield ends[0] + share * (ends[1] - ends[0]), -normal


def _unit(v: Coordinates) -> Coordinates:
    size = float(np.hypot(*v))
    return v / size if size else v


def _ends(scene: Scene, item: Item) -> Coordinates:
    """Points from which a name may stand off in any direction, shape ``(n, d)``."""
    if item.shape.kind == "pair":
        return item.shape.ends
    if item.shape.kind == "plane" and (corners := scene.corners_of_plane(item.shape)) is not None:
        return corners
    if item.shape.kind == "direction":
        tip: Coordinates = scene.center + 0.5 * scene.reach * item.shape.axis
        return tip[None]
    return item.shape.center[None]
