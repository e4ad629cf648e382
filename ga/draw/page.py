"""A page that shows a scene in a browser: turn, shift and zoom it, and let its actions run.

The page is one file without any reference outside.  Its viewer is our own, a canvas and a hundred lines of
script: ganja.js, which such pages are known from, is not bundled.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ga.draw._viewer import TEMPLATE
from ga.draw.scene import Item, Objects, Scene, ring, scene_of
from ga.draw.shapes import Coordinates

_DIGITS = 6  # of coordinates in the page, relative to the reach


def page(
    objects: Objects,
    *,
    title: str = "",
    reach: float | None = None,
    center: Sequence[float] | None = None,
    view: tuple[float, float] = (20.0, 36.0),
) -> str:
    """A self-contained HTML page that shows objects of a projective or conformal algebra.

    Dragging turns space (shifts the plane), with the shift key it shifts space; the wheel zooms; a double click
    goes back.  If there are actions, a slider and a button run through their stages; give them many.

    Args:
        objects: As of :func:`ga.draw.picture`.
        title: Words above, and of the window.
        reach: Half of the side of the cube to which planes and lines are cut; fits all finite objects if left
            out.
        center: Its center.
        view: Elevation and azimuth in degrees from which space is first seen.

    Returns:
        The text of the page; write it to a file with the encoding UTF-8.

    Raises:
        AlgebraError: no objects, several algebras, or one that has no picture.
        LayoutError: an object is of several grades or of one without geometry.

    >>> from ga import CGA3
    >>> a, b, c = CGA3.point([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> text = page({"A": a, "A ∧ B ∧ C": a ^ b ^ c}, title="A circle")
    >>> "http" in text, text.count("<script>")
    (False, 1)
    """
    scene = scene_of(objects, reach, center)
    data = {
        "d": scene.d,
        "center": _listed(scene, scene.center),
        "reach": scene.reach,
        "view": list(view),
        "stages": max((item.stage + 1 for item in scene.items if item.stage is not None), default=0),
        "items": [found for item in scene.items if (found := _item(scene, item)) is not None],
        "paths": [{"colour": colour, "points": _listed(scene, path)} for path, colour in scene.paths],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    name = html.escape(title or "ga")
    return TEMPLATE.replace("@TITLE@", name).replace("@SCENE@", text)


def _item(scene: Scene, item: Item) -> dict[str, Any] | None:
    """One item for the viewer: dots, a stroke, a face or a ball; None if it is not seen."""
    shape = item.shape
    found: dict[str, Any] = {
        "colour": item.colour,
        "label": item.label,
        "real": shape.real,
        "stage": item.stage,
    }
    if shape.kind == "point":
        return found | {"kind": "dots", "points": _listed(scene, shape.center[None])}
    if shape.kind == "pair":
        return found | {"kind": "dots", "points": _listed(scene, shape.ends)}
    if shape.kind == "circle":
        return found | {"kind": "stroke", "points": _listed(scene, ring(shape))}
    if shape.kind == "sphere":
        return found | {"kind": "ball", "points": _listed(scene, shape.center[None]), "radius": shape.radius}
    if shape.kind == "direction":
        ends = scene.center + 0.6 * scene.reach * np.stack([np.zeros(scene.d), shape.axis])
        return found | {"kind": "arrow", "points": _listed(scene, ends)}
    kind, corners = "stroke", None
    if shape.kind == "line":
        corners = scene.ends_of_line(shape)
    elif shape.kind == "plane":
        kind, corners = "face", scene.corners_of_plane(shape)
    return None if corners is None else found | {"kind": kind, "points": _listed(scene, corners)}


def _listed(scene: Scene, points: Coordinates) -> Any:
    """Coordinates as lists, with a third of 0 in the plane, rounded to what can be seen."""
    if points.shape[-1] == 2:
        points = np.concatenate([points, np.zeros((*points.shape[:-1], 1))], -1)
    digits = _DIGITS - int(np.floor(np.log10(scene.reach)))
    return (points.round(max(digits, 0)) + 0.0).tolist()
