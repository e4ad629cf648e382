"""Multivectors in torch: transforms, modules, compile, devices, arrays; and conversions of blade orders."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ga import (
    CGA3,
    PGA2,
    PGA3,
    STA,
    VGA2,
    VGA3,
    Algebra,
    AlgebraError,
    BladeNameError,
    Constraint,
    ConstraintError,
    Layout,
    LayoutError,
    Multivector,
    MultivectorParameter,
    exp,
    log,
    plan_for,
    plan_from_key,
)
from ga.product import product

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # what torch.compile says about its own tracing
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
]

STAP = Algebra.from_metric([0, 1, 1, 1, -1])
MIXED = Algebra.from_metric([1, -1, 0, 1])


def test_vmap_maps_multivectors_over_their_batch(generator: torch.Generator) -> None:
    x = VGA3.vector(torch.randn(3, 3, generator=generator))  # as many elements as blades: no mistaking them
    y = VGA3.even(torch.randn(3, 4, generator=generator))
    torch.testing.assert_close(torch.func.vmap(lambda a, b: a * b)(x, y).planes, (x * y).planes)
    one = torch.func.vmap(lambda a, b: (a * b).norm(), in_dims=(0, None))(x, y[0])
    torch.testing.assert_close(one, (x * y[0]).norm())
    inverted = torch.func.vmap(lambda a: a.inverse())(x)
    torch.testing.assert_close(inverted.planes, x.inverse().planes)
    with pytest.raises(LayoutError, match=r"Cl\(3,0,0\)\[1\] got a leaf of shape .* cannot be mapped over"):
        torch.func.vmap(lambda a: a, in_dims=1)(VGA3.vector(torch.ones(5, 3)))


def test_grad_and_jvp_take_multivectors(generator: torch.Generator) -> None:
    x = STA.bivector(0.3 * torch.randn(4, 6, generator=generator, dtype=torch.float64))

    def energy(b: Multivector) -> Tensor:
        total: Tensor = exp(b).coefficients.square().sum()
        return total

    gradient = torch.func.grad(energy)(x)
    assert isinstance(gradient, Multivector)
    assert gradient.layout == x.layout
    tangent = torch.func.jvp(energy, (x,), (x,))[1]
    torch.testing.assert_close(tangent, (gradient.planes * x.planes).sum())
    h = 1e-6
    slope = (energy(x * (1 + h)) - energy(x * (1 - h))) / (2 * h)
    torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=1e-6)
    per_sample = torch.func.vmap(torch.func.grad(energy))(x)
    torch.testing.assert_close(per_sample.planes, gradient.planes)


class Turn(nn.Module):
    """Turns by a learned bivector."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = MultivectorParameter(VGA3.bivector([[0.1, 0.2, 0.3]]))

    def forward(self, x: Multivector) -> Multivector:
        return exp(self.plane.multivector) >> x


def test_a_multivector_is_a_parameter() -> None:
    model = Turn()
    assert [name for name, _ in model.named_parameters()] == ["plane"]
    before = model.plane.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    torch.autograd.backward(model(VGA3.vector([1.0, 0.0, 0.0])).planes[1].sum())
    optimizer.step()
    assert not torch.equal(model.plane, before)
    copied = deepcopy(model)
    assert copied.plane is not model.plane
    assert copied.plane.blades == model.plane.blades
    fresh = Turn()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.plane, model.plane)
    assert isinstance(fresh.double().plane, MultivectorParameter)
    assert fresh.plane.multivector.dtype == torch.float64
    with pytest.raises(ConstraintError, match=r"a rotor of Cl\(3,0,0\)\[0,2\] does not stay one"):
        MultivectorParameter(exp(VGA3.bivector([0.0] * 3)))


def test_compile_gives_the_same(generator: torch.Generator) -> None:
    x, y = (
        VGA3.vector(torch.randn(5, 3, generator=generator)),
        VGA3.even(torch.randn(5, 4, generator=generator)),
    )
    plan = plan_for("geometric", x.layout, y.layout)

    def planes(a: Tensor, b: Tensor) -> Tensor:
        return product(a, b, plan) * 2

    def multivectors(a: Multivector, b: Multivector) -> Multivector:
        return b.reverse() * a + 1.0

    compiled: Any = torch.compile(planes, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x.planes, y.planes), planes(x.planes, y.planes))
    compiled = torch.compile(multivectors, backend="aot_eager")  # breaks its graph at each layout: see docs
    torch.testing.assert_close(compiled(x, y).planes, multivectors(x, y).planes)


def test_moves_copies_and_shapes() -> None:
    rotor = exp(PGA3.bivector(torch.zeros(2, 3, 6)))
    for moved in (rotor.to(torch.float64), rotor.detach(), rotor.clone(), deepcopy(rotor), rotor.reshape(6)):
        assert moved.constraint is Constraint.MOTOR
        assert moved.layout == rotor.layout
    assert rotor.to("meta").device.type == "meta"
    assert rotor.sum(0).shape == (3,)
    assert rotor.sum().shape == ()
    assert rotor.sum().constraint is None
    assert len(rotor) == 2
    assert rotor[:, 0].shape == (2,)
    with pytest.raises(TypeError, match="it has no batch dimension"):
        len(VGA3.e1)
    assert deepcopy(PGA3) == PGA3
    assert "rotor" in repr(exp(VGA3.bivector([0.1, 0.0, 0.0])))


def test_arrays_and_numbers_are_scalars() -> None:
    x = VGA2.vector([[1.0, 2.0], [3.0, 4.0]])
    factor = np.array([2.0, 10.0])
    for scaled in (x * factor, factor * x, x / (1 / factor)):
        assert scaled.coefficients.tolist() == [[2.0, 4.0], [30.0, 40.0]]
    for moved in (x + factor, factor + x):
        assert moved.coefficients.tolist() == [[2.0, 1.0, 2.0], [10.0, 3.0, 4.0]]
    assert (factor - x).coefficients.tolist() == [[2.0, -1.0, -2.0], [10.0, -3.0, -4.0]]
    assert (np.float32(2.0) * VGA2.e1).coefficients.tolist() == [2.0]


def test_blades_are_attributes_in_any_spelling() -> None:
    assert repr(VGA3.e12) == "Multivector(1.0 e12, Cl(3,0,0){e12})"
    assert torch.equal(VGA3.e21.planes, -VGA3.e12.planes)
    assert torch.equal(PGA3.e032.planes, -PGA3.e023.planes)
    assert torch.equal((VGA3.e3 * VGA3.e1 * VGA3.e2).planes, VGA3.e312.planes)
    for name in ("e4", "e11", "e0"):
        with pytest.raises(BladeNameError, match=rf"Cl\(3,0,0\) has no blade '{name}'"):
            getattr(VGA3, name)
    assert not hasattr(VGA3, "nonsense")
    assert not hasattr(VGA3, "e9")


def test_custom_metrics() -> None:
    assert Algebra(3, 1, 1) == STAP
    assert STAP.metric == (0, 1, 1, 1, -1)
    assert (MIXED.p, MIXED.q, MIXED.r, str(MIXED)) == (2, 1, 1, "Cl(+-0+)")
    assert eval(repr(MIXED), {"Algebra": Algebra}) == MIXED  # noqa: S307  # our own text
    assert MIXED.names[:3] == ("e", "e1", "e2")  # the null generator is not the first
    assert [float((g * g).planes.sum()) for g in (MIXED.e1, MIXED.e2, MIXED.e4)] == [1.0, -1.0, 1.0]
    assert (MIXED.e3 * MIXED.e3).layout.blades == ()
    full = Layout.full(MIXED)
    plan = plan_for("geometric", full, full)
    assert plan_from_key(plan.key) is plan
    b = MIXED.bivector(torch.linspace(-0.3, 0.3, 6, dtype=torch.float64))
    torch.testing.assert_close(log(exp(b)).planes, b.planes)
    for metric in ([2, 1], [], [1.0, 1], [1] * 9):
        with pytest.raises(AlgebraError, match="metric is made of|generators, supported"):
            Algebra.from_metric(metric)  # type: ignore[arg-type]  # a float is one of the wrong cases
    with pytest.raises(AlgebraError, match=r"metric \(1, 1\) does not have 1 ones, 1 minus ones"):
        Algebra(1, 1, 0, (1, 1))


@pytest.mark.parametrize(
    ("algebra", "name"),
    [(PGA2, "kingdon 2DPGA"), (PGA3, "kingdon 3DPGA"), (STAP, "kingdon STAP"), (Algebra(2, 1, 2), "kingdon")],
)
def test_orders_carry_products_over(algebra: Algebra, name: str, generator: torch.Generator) -> None:
    """A product in the other basis, made from its spelled blades, is ours carried over."""
    order = algebra.order(name)
    if name == "kingdon":  # p, q, r: the null generators last
        spelled = Algebra.from_metric([1, 1, -1, 0, 0])
        x, y = torch.randn(2, algebra.size, generator=generator)
        theirs = (spelled.multivector(x) * spelled.multivector(y)).coefficients
        ours = algebra.multivector(order.to_ours(x)) * algebra.multivector(order.to_ours(y))
        torch.testing.assert_close(order.from_ours(ours.coefficients), theirs)
    x = torch.randn(2, algebra.size, generator=generator)
    assert torch.equal(order.from_ours(order.to_ours(x)), x)
    for k, (blade, sign) in enumerate(zip(order.blades, order.signs, strict=True)):
        unit = torch.eye(algebra.size)[k]
        assert order.to_ours(unit)[algebra.blades.index(blade)] == sign


def test_named_orders() -> None:
    assert CGA3.order("clifford").blades == CGA3.blades
    assert VGA3.order("bitmap").blades == tuple(range(8))
    assert PGA3.order("kingdon").blades == PGA3.blades
    point = PGA3.order("kingdon 3DPGA").from_ours(PGA3.multivector(torch.zeros(16)).coefficients)
    assert point.shape == (16,)
    with pytest.raises(AlgebraError, match=r"unknown order 'matlab' of Cl\(3,0,0\); known are clifford"):
        VGA3.order("matlab")
    with pytest.raises(AlgebraError, match=r"order of Cl\(2,0,0\) must spell each of its 4 blades once"):
        VGA2.order(["e", "e1", "e2", "e2"])
    with pytest.raises(LayoutError, match=r"converts all 4 coefficients, blades last; got shape \(3,\)"):
        VGA2.order("bitmap").to_ours(torch.ones(3))


def test_constructors_by_grade() -> None:
    assert VGA3.scalar([1.0, 2.0]).shape == (2,)
    assert PGA3.even(torch.ones(8)).grades == (0, 2, 4)
    assert PGA3.odd(torch.ones(8)).grades == (1, 3)
    assert VGA3.pseudoscalar_part(2.0).grades == (3,)
    with pytest.raises(LayoutError, match=r"Cl\(3,0,0\)\[2\] wants 3 coefficients"):
        VGA3.bivector([1.0])
    with pytest.raises(AlgebraError, match=r"Cl\(3,0,1\) has no point at infinity"):
        PGA3.infinity()
    with pytest.raises(AlgebraError, match=r"Cl\(4,1,0\) has no ideal points"):
        CGA3.direction([1.0, 0.0, 0.0])
