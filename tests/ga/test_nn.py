"""Layers of ``ga.nn``: equivariant under the whole group, equal to their formulas, differentiable."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ga import (
    PGA3,
    STA,
    VGA3,
    Algebra,
    AlgebraError,
    EquivarianceError,
    GradeCheckError,
    Layout,
    LayoutError,
    Multivector,
    VersorParameter,
    check_grades,
    from_dense,
    to_dense,
    versor_error,
)
from ga.nn import (
    FullyConnectedGeometricProduct,
    GatedGELU,
    GeometricAttention,
    GeometricBilinear,
    GradeLinear,
    GradeNorm,
    MultivectorLayerNorm,
    NormGate,
    ProjectiveLinear,
    VersorLayer,
)
from ga.testing import assert_equivariant, random_group_element

D = torch.float64
C = 4
PRODUCT = "fully connected product"  # slow, and its product is tested in every signature elsewhere
Maker = Callable[[Layout, torch.Generator], nn.Module]

LAYERS: dict[str, Maker] = {
    "linear": lambda full, g: GradeLinear(full, C, C, generator=g),
    PRODUCT: lambda full, g: FullyConnectedGeometricProduct(full, C, C, generator=g),
    "gelu": lambda full, g: GatedGELU(),
    "gate": lambda full, g: NormGate(full, C),
    "grade norm": lambda full, g: GradeNorm(full, C),
    "layer norm": lambda full, g: MultivectorLayerNorm(full),
    "attention": lambda full, g: GeometricAttention(full, C, 2, generator=g),
}
PROJECTIVE: dict[str, Maker] = {
    "linear with e0": lambda full, g: ProjectiveLinear(full, C, C, generator=g),
    "bilinear": lambda full, g: GeometricBilinear(full, C, C, generator=g),
}
CASES = [(a, name) for a in (VGA3, PGA3, STA) for name in LAYERS if name != PRODUCT or a != STA] + [
    (PGA3, name) for name in PROJECTIVE
]


def shaken(layer: nn.Module, generator: torch.Generator) -> nn.Module:
    """In float64, every parameter away from its initial value."""
    layer.double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=D))
    return layer


def sample(algebra: Algebra, generator: torch.Generator, *batch: int) -> Multivector:
    return algebra.multivector(torch.randn(*batch, C, algebra.size, generator=generator, dtype=D))


@pytest.mark.parametrize(("algebra", "name"), CASES, ids=lambda case: str(case))
def test_layers_commute_with_the_group_and_are_differentiable(
    algebra: Algebra, name: str, generator: torch.Generator
) -> None:
    full = Layout.full(algebra)
    layer = shaken((LAYERS | PROJECTIVE)[name](full, generator), generator)
    x = sample(algebra, generator, 3)
    group = "spin" if name == "bilinear" else "pin"
    assert_equivariant(layer, x, generator=generator, tolerance=1e-10, samples=2, group=group)
    assert layer(x).layout == full
    planes = x.planes.clone().requires_grad_()
    inputs = [planes, *layer.parameters()]
    weights = torch.randn(full.algebra.size, 3, C, generator=generator, dtype=D)

    def value() -> Tensor:
        total: Tensor = (layer(Multivector(planes, full)).planes * weights).sum()
        return total

    grads = torch.autograd.grad(value(), inputs)
    directions = [torch.randn(t.shape, generator=generator, dtype=D) for t in inputs]
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for tensor, direction in zip(inputs, directions, strict=True):
                tensor.add_(step * direction)
            ends.append(float(value()))
    slope = sum(float((grad * direction).sum()) for grad, direction in zip(grads, directions, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-6)


def test_bilinear_with_a_reference_commutes_with_reflections(generator: torch.Generator) -> None:
    layer = shaken(GeometricBilinear(Layout.full(PGA3), C, C, generator=generator), generator)

    def with_reference(x: Multivector) -> Multivector:
        out: Multivector = layer(x, x.planes[-1].mean(-1, keepdim=True))
        return out

    x = sample(PGA3, generator, 3)
    assert_equivariant(with_reference, x, generator=generator, tolerance=1e-10)
    with pytest.raises(
        EquivarianceError, match=r"GeometricBilinear on .* of the pin group, the reflection of e"
    ):
        assert_equivariant(layer, x[:1], generator=generator, tolerance=1e-10, samples=20)


def test_projective_linear_is_its_formula(generator: torch.Generator) -> None:
    layer = ProjectiveLinear(Layout.full(PGA3), C, 2, generator=generator).double()
    x = sample(PGA3, generator, 3)
    expected = layer.grades(x)
    e0 = PGA3.e0.to(D)
    for k, weight in layer.null_weights.items():
        mapped = torch.einsum("bnc,oc->bno", x.grade(int(k)).planes, weight)
        added = e0 * Multivector(mapped, x.grade(int(k)).layout)
        expected = expected + added
    torch.testing.assert_close(layer(x).planes, expected.planes)


def test_fully_connected_product_is_its_formula(generator: torch.Generator) -> None:
    even, odd = Layout.of_grades(STA, (0, 2, 4)), Layout.of_grades(STA, (1, 3))
    layer = FullyConnectedGeometricProduct(even, C, 2, right=odd, out_grades=1, generator=generator).double()
    assert layer.plan.paths == ((0, 1, 1), (2, 1, 1), (2, 3, 1), (4, 3, 1))
    x, y = sample(STA, generator, 3).grade(0, 2, 4), sample(STA, generator, 3).grade(1, 3)
    mapped = layer.linear(y)
    expected = torch.zeros(4, 3, 2, dtype=D)
    for (r, s, t), weight in zip(layer.plan.paths, layer.weight, strict=True):
        part = (x.grade(r) * mapped.grade(s)).grade(t)
        expected = expected + torch.einsum("bnc,oc->bno", part.planes, weight)
    torch.testing.assert_close(layer(x, y).planes, expected)


def test_attention_is_its_formula_and_obeys_masks(generator: torch.Generator) -> None:
    layer = GeometricAttention(Layout.full(STA), C, 2, generator=generator).double()
    x = sample(STA, generator, 2, 5)
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    parts = []
    for head in range(2):
        own = slice(2 * head, 2 * head + 2)
        scores = (q.reverse()[:, :, None, own].scalar_product(k[:, None, :, own])).planes[0].sum(-1)
        weights = (scores / (2 * 16) ** 0.5).softmax(-1)
        parts.append(torch.einsum("bij,kbjc->kbic", weights, v.planes[..., own]))
    expected = layer.out(Multivector(torch.cat(parts, -1), v.layout))
    torch.testing.assert_close(layer(x).planes, expected.planes)
    changed = Multivector(x.planes.clone(), x.layout)
    changed.planes[:, :, -1] += 1.0
    for options in ({"is_causal": True}, {"mask": torch.ones(5, 5, dtype=torch.bool).tril()}):
        assert torch.equal(layer(x, **options).planes[:, :, :-1], layer(changed, **options).planes[:, :, :-1])


def test_gates_and_norms_are_their_formulas(generator: torch.Generator) -> None:
    x = sample(STA, generator, 3)
    gate, norm = shaken(NormGate(x.layout, C), generator), shaken(GradeNorm(x.layout, C), generator)
    gated, normed = gate(x), norm(x)
    for t, k in enumerate(x.grades):
        form = x.grade(k).norm_squared()
        value = x.planes[0] if k == 0 else form
        expected = x.grade(k).planes * torch.sigmoid(gate.weight[t] * value + gate.bias[t])  # type: ignore[index]
        torch.testing.assert_close(gated.grade(k).planes, expected)
        divisor = torch.sigmoid(norm.weight[t]) * (form.abs().sqrt() - 1) + 1  # type: ignore[index]
        torch.testing.assert_close(normed.grade(k).planes, x.grade(k).planes / divisor)
    total = sum(x.grade(k).norm_squared().abs() for k in x.grades).mean(-1, keepdim=True)  # type: ignore[union-attr]
    torch.testing.assert_close(MultivectorLayerNorm(x.layout, eps=0.0)(x).planes, x.planes / total.sqrt())


def test_layers_on_zero_have_finite_gradients() -> None:
    for algebra in (VGA3, PGA3, STA):
        full = Layout.full(algebra)
        zero = torch.zeros(algebra.size, 2, C, requires_grad=True)
        for layer in (GatedGELU(), NormGate(full, C), GradeNorm(full, C), MultivectorLayerNorm(full)):
            (grad,) = torch.autograd.grad(layer(Multivector(zero, full)).planes.sum(), zero)
            assert grad.isfinite().all()


def test_versor_layer_learns_a_motion_and_stays_on_the_group(generator: torch.Generator) -> None:
    layer = VersorLayer(Layout.of_grades(PGA3, 3), 2, generator=generator)
    points = PGA3.point(torch.randn(10, 2, 3, generator=generator))
    goal = PGA3.point(torch.randn(10, 2, 3, generator=generator) * 0.1 + 1.0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(points) - goal).planes.square().mean()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert float(versor_error(layer.versor.multivector.detach()).max()) < 1e-6
    moved = layer(points).coefficients.detach()
    start = points.coefficients[:, 0, :3]
    before = torch.cdist(start, start)
    torch.testing.assert_close(torch.cdist(moved[:, 0, :3], moved[:, 0, :3]), before, rtol=1e-4, atol=1e-4)


def test_every_parameter_is_declared(generator: torch.Generator) -> None:
    full = Layout.full(PGA3)
    model = nn.Sequential(
        *(make(full, generator) for name, make in (LAYERS | PROJECTIVE).items()),
        VersorLayer(full, C, generator=generator),
    )
    records = check_grades(model)
    assert all(record.paths for record in records)
    assert len(records) == len(list(model.parameters()))
    broken = VersorLayer(full, C, generator=generator)
    broken.versor.base.planes[0] += 0.1
    with pytest.raises(GradeCheckError, match=r"'0.versor' .* is no versor"):
        check_grades(nn.Sequential(broken))


def test_dense_coefficients_are_checked_or_projected(generator: torch.Generator) -> None:
    full = torch.randn(5, 8, generator=generator)
    with pytest.raises(GradeCheckError, match=r"Cl\(3,0,0\)\[2\] has no room for e, e1, .* project=True"):
        from_dense(VGA3, full, grades=2)
    projected = from_dense(VGA3, full, grades=2, project=True)
    assert torch.equal(projected.coefficients, full[:, 4:7])
    back = to_dense(projected)
    assert torch.equal(back[:, 4:7], full[:, 4:7])
    assert not back[:, :4].any()
    assert torch.equal(from_dense(VGA3, back, grades=2).planes, projected.planes)


def test_assert_equivariant_takes_several_inputs_and_invariants(generator: torch.Generator) -> None:
    x, y = sample(STA, generator, 3).grade(1), sample(STA, generator, 3).grade(2)

    def good(a: Multivector, b: Multivector) -> tuple[Multivector, Tensor]:
        return a * b, a.norm_squared()

    assert_equivariant(good, (x, y), generator=generator, tolerance=1e-10)

    def bad(a: Multivector) -> Tensor:
        return a.planes[0]

    with pytest.raises(EquivarianceError, match=r"function bad on Cl\(1,3,0\)\[1\] .* the rotor exp"):
        assert_equivariant(bad, x, generator=generator)
    with pytest.raises(ValueError, match="groups are spin, pin and orthogonal"):
        random_group_element(STA, generator, "special")


def test_group_elements_preserve_the_metric(generator: torch.Generator) -> None:
    metric = torch.diag(torch.tensor(STA.metric, dtype=D))
    signs = set()
    for _ in range(12):
        m = random_group_element(STA, generator).matrix
        torch.testing.assert_close(m.T @ metric @ m, metric)
        signs.add(round(float(m.det())))
    assert signs == {-1, 1}


def test_bad_input(generator: torch.Generator) -> None:
    vector = Layout.of_grades(VGA3, 1)
    with pytest.raises(AlgebraError, match=r"ProjectiveLinear is for Cl\(d,0,1\)"):
        ProjectiveLinear(vector, 1, 1, generator=generator)
    with pytest.raises(LayoutError, match="takes complete grades"):
        ProjectiveLinear(Layout.of_blades(PGA3, ["e1", "e2"]), 1, 1, generator=generator)
    with pytest.raises(LayoutError, match="which is not stored; take all grades"):
        GeometricBilinear(Layout.of_grades(PGA3, 1), 1, 1, generator=generator)
    with pytest.raises(LayoutError, match="3 heads must divide 4 channels"):
        GeometricAttention(vector, 4, 3, generator=generator)
    with pytest.raises(LayoutError, match=r"takes batch shape \(\*batch, tokens, 4\)"):
        GeometricAttention(vector, 4, generator=generator)(VGA3.vector(torch.ones(4, 3)))
    with pytest.raises(LayoutError, match="GatedGELU needs a scalar part"):
        GatedGELU()(VGA3.vector([1.0, 0.0, 0.0]))
    with pytest.raises(LayoutError, match="stores the grades"):
        FullyConnectedGeometricProduct(vector, 1, 1, out_grades=1, generator=generator)
    assert isinstance(VersorLayer(vector, 1, generator=generator).versor, VersorParameter)
