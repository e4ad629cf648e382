"""Shapes of multivectors against Euclidean geometry, and what is made of them: pictures, pages, sign tables."""

import json

import numpy as np
import pytest
import torch

from ga import (
    CGA3,
    PGA2,
    PGA3,
    VGA3,
    Algebra,
    AlgebraError,
    ConstraintError,
    Layout,
    LayoutError,
    ProductError,
    draw,
    exp,
    sign_table,
)
from ga.draw.scene import scene_of
from ga.draw.shapes import Coordinates, Shape

D = torch.float64
CGA2 = Algebra(3, 1)


def points(algebra: Algebra, generator: torch.Generator, count: int) -> torch.Tensor:
    d = algebra.n - 1 if algebra.r else algebra.n - 2
    return torch.randn(count, d, generator=generator, dtype=D)


def distance(shape: Shape, x: Coordinates) -> Coordinates:
    """How far points are from a shape, by school geometry."""
    apart = x - shape.center
    if shape.kind in ("plane",):
        return np.asarray(np.abs(apart @ shape.axis))
    if shape.kind == "line":
        return np.asarray(np.linalg.norm(apart - np.outer(apart @ shape.axis, shape.axis), axis=1))
    off = np.abs(np.linalg.norm(apart, axis=1) - shape.radius)
    return (
        np.asarray(off + np.abs(apart @ shape.axis))
        if x.shape[1] == 3 and shape.kind == "circle"
        else np.asarray(off)
    )


CASES = {
    "line of PGA2": (PGA2, 2, "line"),
    "line of PGA3": (PGA3, 2, "line"),
    "plane of PGA3": (PGA3, 3, "plane"),
    "circle of CGA2": (CGA2, 3, "circle"),
    "circle of CGA3": (CGA3, 3, "circle"),
    "sphere of CGA3": (CGA3, 4, "sphere"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_joins_points_is_drawn_through_them(name: str, generator: torch.Generator) -> None:
    algebra, count, kind = CASES[name]
    x = points(algebra, generator, count)
    p = algebra.point(x)
    joined = p[0]
    for t in range(1, count):
        joined = joined & p[t] if algebra.r else joined ^ p[t]
    (shape,) = draw.shapes(joined * 3.0)
    assert shape.kind == kind
    np.testing.assert_allclose(distance(shape, x.numpy()), 0, atol=1e-9)


@pytest.mark.parametrize("algebra", [CGA2, CGA3], ids=str)
def test_conformal_lines_planes_pairs_and_points(algebra: Algebra, generator: torch.Generator) -> None:
    x = points(algebra, generator, 3)
    p = algebra.point(x)
    a, b, c = p[0], p[1], p[2]
    far = algebra.infinity().to(D)
    (line,) = draw.shapes(a ^ b ^ far)
    assert line.kind == "line"
    np.testing.assert_allclose(distance(line, x[:2].numpy()), 0, atol=1e-9)
    np.testing.assert_allclose(line.axis @ (x[1] - x[0]).numpy(), np.linalg.norm((x[1] - x[0]).numpy()))
    (pair,) = draw.shapes(a ^ b)
    np.testing.assert_allclose(pair.ends, x[:2].numpy(), atol=1e-9)
    for point in (c, c ^ far, c * -2.0):
        (shape,) = draw.shapes(point)
        assert shape.kind == "point"
        np.testing.assert_allclose(shape.center, x[2].numpy(), atol=1e-7)
    (flat,) = draw.shapes(algebra.plane(torch.ones(algebra.n - 2, dtype=D), -2.0))
    assert flat.kind == ("plane" if algebra is CGA3 else "line")
    np.testing.assert_allclose(flat.center.sum(), 2.0)
    (ball,) = draw.shapes(algebra.sphere(x[0], 1.5))
    np.testing.assert_allclose([*ball.center, ball.radius], [*x[0].tolist(), 1.5])


def test_normals_point_where_the_points_turn_about() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]], dtype=D)
    q = CGA3.point(x)
    a, b, c = q[0], q[1], q[2]
    for blade in (a ^ b ^ c, a ^ b ^ c ^ CGA3.infinity()):
        np.testing.assert_allclose(draw.shapes(blade)[0].axis, [0, 0, 1], atol=1e-12)
    p = PGA3.point(x)
    assert abs(draw.shapes(p[0] & p[1] & p[2])[0].axis[2]) == 1
    np.testing.assert_allclose(draw.shapes(PGA3.line([0.0, 0.0, 0.0], [0.0, 2.0, 0.0]))[0].axis, [0, 1, 0])


def test_imaginary_rounds_ideal_points_and_axes_of_motors() -> None:
    (ball,) = draw.shapes(CGA3.point([1.0, 0.0, 0.0]) + CGA3.infinity() * 2.0)  # radius² = -4
    assert (ball.kind, ball.real, round(ball.radius, 6)) == ("sphere", False, 2.0)
    (arrow,) = draw.shapes(PGA3.direction([0.0, 3.0, 0.0]))
    assert (arrow.kind, arrow.axis.tolist()) == ("direction", [0.0, 1.0, 0.0])
    assert draw.shapes(PGA3.e0)[0].kind == "ideal"
    screw = exp(PGA3.line([1.0, 2.0, 0.0], [1.0, 2.0, 1.0]).to(D) * 0.3 + PGA3.e03 * 0.2)
    (axis,) = draw.shapes(screw)
    np.testing.assert_allclose([*axis.center, *axis.axis], [1, 2, 0, 0, 0, 1], atol=1e-9)
    (center,) = draw.shapes(exp(PGA2.point([2.0, -1.0]) * 0.4))
    np.testing.assert_allclose(center.center, [2, -1], atol=1e-5)


def test_an_action_ends_where_the_motor_takes_it(generator: torch.Generator) -> None:
    motor = exp(PGA3.bivector(torch.randn(6, generator=generator, dtype=D)))
    p = PGA3.point(points(PGA3, generator, 2))
    way = draw.action(motor, p, stages=4)
    torch.testing.assert_close(way.stages[0].planes, p.planes)
    torch.testing.assert_close(way.stages[3].planes, (motor >> p).planes)
    scene = scene_of({"way": way})
    assert [item.stage for item in scene.items] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(scene.paths) == 2


def test_lines_and_planes_are_cut_to_what_is_seen() -> None:
    scene = scene_of([PGA3.point([0.0, 0.0, 0.0])], reach=2.0)
    (line,) = draw.shapes(PGA3.line([1.0, 0.0, 0.0], [1.0, 0.0, 5.0]))
    ends = scene.ends_of_line(line)
    assert ends is not None
    np.testing.assert_allclose(ends, [[1, 0, -2], [1, 0, 2]])
    (missed,) = draw.shapes(PGA3.line([3.0, 0.0, 0.0], [3.0, 0.0, 5.0]))
    assert scene.ends_of_line(missed) is None
    (plane,) = draw.shapes(PGA3.plane([1.0, 1.0, 1.0]))
    corners = scene.corners_of_plane(plane)
    assert corners is not None
    assert corners.shape == (6, 3)  # a regular hexagon
    np.testing.assert_allclose(np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1), 8**0.5)


def test_pictures_and_pages_hold_every_object() -> None:
    p = CGA3.point([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    a, b, c = p[0], p[1], p[2]
    objects = {
        "A<B": a,
        "pair": a ^ b,
        "circle": a ^ b ^ c,
        "S": CGA3.sphere([0.0, 0.0, 0.0], 1.0),
        "P": CGA3.plane([0.0, 0.0, 1.0]),
    }
    figure = draw.picture(objects, title="five")
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted(objects)
    text = draw.page(objects, title="a < b")
    assert "<title>a &lt; b</title>" in text
    line = next(row for row in text.splitlines() if row.startswith("const scene"))
    data = json.loads(line.removeprefix("const scene = ").removesuffix(";"))
    assert [item["kind"] for item in data["items"]] == ["dots", "dots", "stroke", "ball", "face"]
    assert data["items"][0]["label"] == "A<B"
    assert not any(word in text for word in ("http", "src=", "import "))


def test_what_cannot_be_drawn_is_refused_by_name() -> None:
    with pytest.raises(AlgebraError, match=r"Cl\(3,0,0\) is not drawn"):
        draw.picture([VGA3.e1])
    with pytest.raises(AlgebraError, match="objects of one algebra"):
        draw.picture([PGA3.e1, PGA2.e1])
    with pytest.raises(AlgebraError, match="no objects"):
        draw.page({})
    with pytest.raises(LayoutError, match="shows one grade"):
        draw.shapes(PGA3.multivector(torch.ones(16)))
    with pytest.raises(LayoutError, match="grade 4 is no"):
        draw.shapes(PGA3.e0123)
    with pytest.raises(ConstraintError, match="rotor or motor"):
        draw.action(PGA3.e1, PGA3.e2)
    with pytest.raises(LayoutError, match="got float"):
        draw.picture([1.0])  # type: ignore[list-item]


def test_a_sign_table_is_the_product_of_basis_blades() -> None:
    even, vector = Layout.of_grades(PGA3, (0, 2, 4)), Layout.of_grades(PGA3, 1)
    for kind in ("geometric", "inner", "regressive"):
        table = sign_table(kind, even, vector)
        for a, row in zip(even.names, table.entries, strict=True):
            for b, (blade, sign) in zip(vector.names, row, strict=True):
                x = PGA3.multivector([1.0], 0) if a == "e" else getattr(PGA3, a)
                found = x._product(kind, getattr(PGA3, b))
                expected = {PGA3.name(blade): float(sign)} if sign else {}
                stored = dict(zip(found.layout.names, found.planes.tolist(), strict=True))
                assert {k: v for k, v in stored.items() if v} == expected
    assert sign_table("geometric", even, vector).nonzero == 28  # of an even multivector and a vector of PGA3
    with pytest.raises(ProductError, match="unknown product 'wedge'"):
        sign_table("wedge", PGA3)
    with pytest.raises(AlgebraError, match="mixes two algebras"):
        sign_table("outer", PGA3, VGA3)
