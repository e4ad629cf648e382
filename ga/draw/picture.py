"""Pictures with matplotlib, which is loaded when the first one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ga.draw.labels import place_labels
from ga.draw.scene import Item, Objects, Scene, ring, scene_of
from ga.draw.shapes import Coordinates

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(
    objects: Objects,
    *,
    title: str = "",
    reach: float | None = None,
    center: Sequence[float] | None = None,
    view: tuple[float, float] = (20.0, 36.0),
    size: float = 5.5,
    axes: Any = None,
) -> Figure:
    r"""A picture of objects of a projective or conformal algebra of the plane or of space.

    Points are dots, lines end at the edge, planes are cut to the cube that is seen, spheres are shaded, point
    pairs are joined by a dotted line.  Rounds whose radius has a negative square have no real points; they are
    dashed, with the radius √|radius²|.  Ideal points are arrows from the middle; ideal lines and planes
    are not drawn.

    Args:
        objects: Multivectors and :class:`Action`\ s by name, or a sequence of them without names; of one
            algebra.  Every element of a batch is drawn.
        title: Words above.
        reach: Half of the side of the square or cube that is seen; fits all finite objects if left out.
        center: Its center.
        view: Elevation and azimuth in degrees from which space is seen.
        size: Side of the figure in inches.
        axes: Axes of matplotlib (with ``projection="3d"`` for space) to draw into; a new figure if left out.

    Returns:
        The figure, not tied to a window: ``figure.savefig(path)``; notebooks show it.

    Raises:
        AlgebraError: no objects, several algebras, or one that has no picture.
        LayoutError: an object is of several grades or of one without geometry.

    >>> from ga import PGA2
    >>> a, b = PGA2.point([0.0, 0.0]), PGA2.point([2.0, 1.0])
    >>> figure = picture({"A": a, "B": b, "A ∨ B": a & b})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['A', 'B', 'A ∨ B']
    """
    scene = scene_of(objects, reach, center)
    if axes is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(size, size), dpi=130, layout="constrained")
        axes = figure.add_subplot(projection="3d" if scene.d == 3 else None)
    (_in_space if scene.d == 3 else _in_plane)(axes, scene, view)
    if title:
        axes.set_title(title, fontsize=11)
    drawn: Figure = axes.figure
    return drawn


def _in_plane(axes: Any, scene: Scene, view: tuple[float, float]) -> None:
    low, high = scene.center - scene.reach, scene.center + scene.reach
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x", ylabel="y")
    axes.grid(color="#e8e8e8", lw=0.6, zorder=0)
    axes.tick_params(labelsize=8, color="#bbbbbb")
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    for path, colour in scene.paths:
        axes.plot(*path.T, color=colour, lw=1, ls=(0, (1, 1.5)), alpha=0.8, zorder=2)
    for item in scene.items:
        _plane_item(axes, scene, item)
    _write(axes, scene, np.array([1.0, 0.0]), np.array([0.0, 1.0]))


def _plane_item(axes: Any, scene: Scene, item: Item) -> None:
    shape, style = item.shape, {"color": item.colour, "alpha": item.strength, "lw": 1.6}
    if shape.kind == "point":
        _dots(axes, shape.center[None], item)
    elif shape.kind == "pair":
        axes.plot(*shape.ends.T, color=item.colour, lw=1, ls=":" if shape.real else "--", alpha=0.6, zorder=2)
        _dots(axes, shape.ends, item)
    elif shape.kind == "circle":
        _circle(axes, item)
    elif shape.kind == "line":
        ends = scene.ends_of_line(shape)
        if ends is not None:
            axes.plot(*ends.T, zorder=2, **style)
    elif shape.kind == "direction":
        tip = scene.center + 0.45 * scene.reach * shape.axis
        arrow = {"arrowstyle": "-|>", "color": item.colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip, scene.center, arrowprops=arrow)


def _circle(axes: Any, item: Item) -> None:
    from matplotlib.patches import Circle

    style = {"color": item.colour, "alpha": item.strength, "lw": 1.6, "zorder": 3}
    dashes = "-" if item.shape.real else (0, (5, 3))
    axes.add_patch(Circle(tuple(item.shape.center), item.shape.radius, fill=False, ls=dashes, **style))


def _in_space(axes: Any, scene: Scene, view: tuple[float, float]) -> None:
    low, high = scene.center - scene.reach, scene.center + scene.reach
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_xlabel("x", labelpad=-6)
    axes.set_ylabel("y", labelpad=-6)
    axes.set_zlabel("z", labelpad=-6)
    axes.set_box_aspect((1, 1, 1), zoom=1.05)
    axes.set_proj_type("persp", focal_length=1.6)
    axes.view_init(*view)
    axes.computed_zorder = False
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.975, 0.975, 0.985, 1.0))
        axis.line.set_color("#bbbbbb")
        axis._axinfo["grid"].update(color="#e2e2e6", linewidth=0.5)  # matplotlib has no public name for it
    axes.tick_params(labelsize=7, pad=-2, color="#bbbbbb")
    for path, colour in scene.paths:
        axes.plot(*path.T, color=colour, lw=1, ls=(0, (1, 1.5)), alpha=0.8, zorder=4)
    order = {
        "plane": 1,
        "sphere": 2,
        "line": 3,
        "circle": 3,
        "direction": 3,
        "pair": 4,
        "point": 5,
        "ideal": 0,
    }
    for item in sorted(scene.items, key=lambda item: order[item.shape.kind]):
        _space_item(axes, scene, item)
    _write(axes, scene, *screen_of(*view))


def screen_of(elevation: float, azimuth: float) -> tuple[Coordinates, Coordinates]:
    """Unit vectors of space to the right and up in a picture, seen from an elevation and azimuth in degrees."""
    e, a = np.radians([elevation, azimuth])
    up = np.array([-np.sin(e) * np.cos(a), -np.sin(e) * np.sin(a), np.cos(e)])
    return np.array([-np.sin(a), np.cos(a), 0.0]), up


def _space_item(axes: Any, scene: Scene, item: Item) -> None:
    shape, style = item.shape, {"color": item.colour, "alpha": item.strength}
    if shape.kind in ("point", "pair"):
        ends = shape.center[None] if shape.kind == "point" else shape.ends
        if shape.kind == "pair":
            axes.plot(*ends.T, color=item.colour, lw=1, ls=":" if shape.real else "--", alpha=0.6, zorder=4)
        _dots(axes, ends, item)
    elif shape.kind == "circle":
        axes.plot(*ring(shape).T, lw=1.8, ls="-" if shape.real else (0, (4, 2)), zorder=3, **style)
    elif shape.kind == "sphere":
        _sphere(axes, item)
    elif shape.kind == "line":
        cut = scene.ends_of_line(shape)
        if cut is not None:
            axes.plot(*cut.T, lw=1.8, zorder=3, **style)
    elif shape.kind == "plane":
        _plane(axes, scene, item)
    elif shape.kind == "direction":
        arrow = 0.6 * scene.reach * shape.axis
        axes.quiver(*scene.center, *arrow, lw=1.8, arrow_length_ratio=0.15, zorder=3, **style)


def _sphere(axes: Any, item: Item) -> None:
    """A shaded ball with a few circles of latitude and longitude."""
    from matplotlib.colors import LightSource

    shape = item.shape
    up, around = np.mgrid[0 : np.pi : 33j, 0 : 2 * np.pi : 65j]
    light = LightSource(azdeg=300, altdeg=70)
    unit = np.stack([np.sin(up) * np.cos(around), np.sin(up) * np.sin(around), np.cos(up)])
    x, y, z = shape.center[:, None, None] + shape.radius * unit.transpose(0, 2, 1)  # normals outwards
    style = {"color": item.colour, "linewidth": 0, "antialiased": True, "zorder": 2}
    if shape.real:
        axes.plot_surface(
            x, y, z, rstride=1, cstride=1, alpha=0.2 * item.strength, lightsource=light, **style
        )
    wires = {"color": item.colour, "linewidth": 0.5, "alpha": 0.45 * item.strength, "zorder": 2}
    axes.plot_wireframe(x, y, z, rstride=8, cstride=8, ls="-" if shape.real else "--", **wires)


def _plane(axes: Any, scene: Scene, item: Item) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]  # no types are published

    corners = scene.corners_of_plane(item.shape)
    if corners is not None:
        face = Poly3DCollection([corners], zorder=1)
        face.set_facecolor((*_rgb(item.colour), 0.16 * item.strength))
        face.set_edgecolor((*_rgb(item.colour), 0.7 * item.strength))
        axes.add_collection3d(face)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _dots(axes: Any, points: Coordinates, item: Item) -> None:
    marker = {"marker": "o", "ls": "", "ms": 6.5, "mec": "white", "mew": 0.9}
    axes.plot(*points.T, color=item.colour, alpha=item.strength, zorder=5, **marker)


def _write(axes: Any, scene: Scene, right: Coordinates, up: Coordinates) -> None:
    from matplotlib.patheffects import withStroke

    for label in place_labels(scene, right, up):
        style = {"color": label.colour, "fontsize": 10, "ha": "center", "va": "center", "zorder": 6}
        text = axes.text(*label.at, label.text, **style)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
