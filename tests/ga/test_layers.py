"""Layers: grade paths, equivariance, storage that has no room for forbidden grades."""

from typing import Any

import pytest
import torch
from torch import nn

from ga import PGA3, VGA3, Algebra, EquivarianceError, GradeCheckError, Layout, LayoutError, check_grades
from ga.nn import GeometricProductLayer, GradeLinear
from ga.testing import (
    assert_equivariant,
    equivariance_error,
    random_orthogonal,
    signed_permutations,
    transform,
)

VECTOR, EVEN, FULL = (Layout.of_grades(VGA3, k) for k in (1, (0, 2), range(4)))


@pytest.mark.parametrize("algebra", [VGA3, PGA3, Algebra(1, 3)], ids=str)
def test_layers_are_equivariant(algebra: Algebra, generator: torch.Generator) -> None:
    full = Layout.full(algebra)
    product = GeometricProductLayer(full, 3, generator=generator)
    linear = GradeLinear(full, 3, 3, generator=generator)
    nn.init.constant_(linear.bias, 0.3)  # type: ignore[arg-type]  # a full layout has a bias
    x = algebra.multivector(torch.randn(5, 3, len(full), generator=generator))
    assert_equivariant(lambda mv: product(linear(mv)), x, generator=generator)


def test_signed_axis_permutations_are_exact(generator: torch.Generator) -> None:
    """Permutations with signs round nothing, but a sum in another order may: integers keep it exact."""
    layer = GeometricProductLayer(FULL, 2, generator=generator)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randint(-3, 4, p.shape, generator=generator))
    x = VGA3.multivector(torch.randint(-3, 4, (4, 2, 8), generator=generator).float())
    assert all(equivariance_error(layer, x, m) == 0 for m in signed_permutations(3))


def test_a_function_that_is_not_equivariant_is_found(generator: torch.Generator) -> None:
    x = VGA3.multivector(torch.ones(3), grades=1)
    with pytest.raises(
        EquivarianceError, match=r"function <lambda> on Cl\(3,0,0\)\[1\] is not equivariant: relative error"
    ):
        assert_equivariant(lambda v: v + VGA3.multivector([1.0, 0.0, 0.0], grades=1), x, generator=generator)


def test_random_orthogonal_matrices_have_both_determinants(generator: torch.Generator) -> None:
    dets = [float(random_orthogonal(VGA3, generator).det()) for _ in range(20)]
    assert {round(d) for d in dets} == {-1, 1}


def test_transform_refuses_a_grade_in_part() -> None:
    x = VGA3.multivector([1.0, 2.0, 3.0], grades=1)
    part = type(x)(x.planes[:2], Layout.of_blades(VGA3, ["e1", "e2"]))
    with pytest.raises(LayoutError, match="holds a grade in part"):
        transform(part, torch.eye(3))


def test_linear_is_one_matrix_per_grade(generator: torch.Generator) -> None:
    layer = GradeLinear(EVEN, 3, 2, generator=generator)
    nn.init.constant_(layer.bias, 0.5)  # type: ignore[arg-type]  # grade 0 has a bias
    x = VGA3.multivector(torch.randn(7, 3, 4, generator=generator), grades=(0, 2))
    out = layer(x).coefficients
    expected = torch.stack(
        [
            torch.einsum("bc,oc->bo", x.planes[k], layer.weights["0" if k == 0 else "2"])
            + (0.5 if k == 0 else 0)
            for k in range(4)
        ],
        -1,
    )
    torch.testing.assert_close(out, expected)


def test_bias_exists_only_on_the_scalar(generator: torch.Generator) -> None:
    assert GradeLinear(VECTOR, 3, 2, generator=generator).bias is None
    assert GradeLinear(EVEN, 3, 2, bias=False, generator=generator).bias is None


def test_product_layer_has_weights_only_for_paths_to_its_output(generator: torch.Generator) -> None:
    layer = GeometricProductLayer(EVEN, 5, right=VECTOR, out_grades=3, generator=generator)
    assert layer.plan.paths == ((2, 1, 3),)
    assert layer.weight.shape == (1, 5)
    full = GeometricProductLayer(FULL, 5, generator=generator)
    assert full.weight.shape == (20, 5)  # the 20 paths of Cl(3,0,0), as in CGENN


def test_product_layer_is_the_sum_over_paths(generator: torch.Generator) -> None:
    layer = GeometricProductLayer(VECTOR, 4, out_grades=(0, 2), generator=generator)
    x = VGA3.multivector(torch.randn(6, 4, 3, generator=generator), grades=1)
    y = layer.linear(x)
    out = layer(x)
    torch.testing.assert_close(out.grade(0).planes, ((x | y) * layer.weight[0]).planes)
    torch.testing.assert_close(out.grade(2).planes, ((x ^ y) * layer.weight[1]).planes)


def test_initial_weights_keep_the_variance(generator: torch.Generator) -> None:
    x = VGA3.multivector(torch.randn(400, 64, 8, generator=generator))
    y = VGA3.multivector(torch.randn(400, 64, 8, generator=generator))
    out = GeometricProductLayer(FULL, 64, generator=generator)(
        GradeLinear(FULL, 64, 64, generator=generator)(x), y
    )
    assert 0.6 < float(out.planes.detach().std()) < 1.5


def test_same_generator_same_weights() -> None:
    a, b = (GeometricProductLayer(FULL, 3, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_unreachable_output_grade_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(LayoutError, match=r"Cl\(3,0,0\)\[0,2\] stores the grades \(0, 2\), not \[1\]"):
        GeometricProductLayer(VECTOR, 3, out_grades=(0, 1), generator=generator)


def test_wrong_input_is_refused(generator: torch.Generator) -> None:
    layer = GradeLinear(VECTOR, 3, 2, generator=generator)
    with pytest.raises(LayoutError, match=r"GradeLinear takes Cl\(3,0,0\)\[1\], got Cl\(3,0,0\)\[0,2\]"):
        layer(VGA3.multivector(torch.ones(5, 3, 4), grades=(0, 2)))
    with pytest.raises(LayoutError, match=r"takes batch shape \(\*batch, 3\), got \(5, 4\)"):
        layer(VGA3.multivector(torch.ones(5, 4, 3), grades=1))


def test_check_grades_lists_every_parameter(generator: torch.Generator) -> None:
    model = nn.Sequential(
        GradeLinear(EVEN, 3, 2, generator=generator),
        GeometricProductLayer(EVEN, 2, out_grades=0, generator=generator),
        nn.Linear(2, 1),
    )
    records = {record.name: (record.paths, record.shape) for record in check_grades(model)}
    assert records == {
        "0.bias": (((0,),), (2,)),
        "0.weights.0": (((0, 0),), (2, 3)),
        "0.weights.2": (((2, 2),), (2, 3)),
        "1.weight": (((0, 0, 0), (2, 2, 0)), (2, 2)),
        "1.linear.weights.0": (((0, 0),), (2, 2)),
        "1.linear.weights.2": (((2, 2),), (2, 2)),
        "2.weight": ((), (1, 2)),
        "2.bias": ((), (1,)),
    }


def test_check_grades_finds_a_tampered_model(generator: torch.Generator) -> None:
    model = nn.Sequential(GeometricProductLayer(VECTOR, 3, out_grades=2, generator=generator))
    layer: Any = model[0]
    assert check_grades(model)
    layer.weight = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(
        GradeCheckError, match=r"'weight' of .* '0' has shape \(2, 3\), its .* allow \(1, 3\)"
    ):
        check_grades(model)
    layer.weight = nn.Parameter(torch.zeros(1, 3))
    layer.linear.weights["3"] = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(
        GradeCheckError, match=r"'linear.weights.3' of GeometricProductLayer '0' is not declared"
    ):
        check_grades(model)
    del layer.linear.weights["3"], layer.linear.weights["1"]
    with pytest.raises(GradeCheckError, match=r"'linear.weights.1' of GeometricProductLayer '0' is missing"):
        check_grades(model)
