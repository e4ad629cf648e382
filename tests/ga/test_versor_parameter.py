"""Versor parameters: they stay versors, get the gradient of the group, and live with torch's optimizers."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ga import (
    CGA3,
    PGA3,
    STA,
    VGA3,
    Algebra,
    ConstraintError,
    Layout,
    LayoutError,
    Multivector,
    MultivectorParameter,
    VersorParameter,
    exp,
    versor_error,
)
from ga._frames import action_frame, frame_of, orthonormal_frame
from ga._planes import pick
from ga.conversions import to_matrix

D = torch.float64
ALGEBRAS = [VGA3, PGA3, STA, CGA3]


def rotor(algebra: Algebra, generator: torch.Generator, *batch: int, size: float = 1.0) -> Multivector:
    m = algebra.n * (algebra.n - 1) // 2
    return exp(algebra.bivector(size * torch.randn(*batch, m, generator=generator, dtype=D) / m**0.5))


class Turn(nn.Module):
    """x ↦ R x ~R."""

    def __init__(self, value: Multivector, **options: Any) -> None:
        super().__init__()
        self.by = VersorParameter(value, **options)

    def forward(self, x: Multivector) -> Multivector:
        return self.by.multivector >> x


def loss_of(versor: Multivector, weights: Tensor) -> Tensor:
    """Any function of the coefficients that is not one of the group alone."""
    return (versor.planes.sin() * weights).sum() + (versor.planes**3).sum()


@pytest.mark.parametrize("metric", ["action", "versor", "bivector"])
@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_gradient_is_that_of_moving_along_the_group(
    algebra: Algebra, metric: str, generator: torch.Generator
) -> None:
    r = rotor(algebra, generator, 3)
    p = VersorParameter(r, metric=metric)
    weights = torch.randn(r.planes.shape, generator=generator, dtype=D)
    torch.autograd.backward(loss_of(p.multivector, weights))
    assert p.grad is not None
    assert not p.detach().any()
    frame = frame_of(metric, r, p.blades)
    if frame is None:
        frame = torch.eye(len(p.blades), dtype=D)[..., None]
    h = 1e-6
    for k in range(len(p.blades)):
        step = (h * frame[:, k]).expand(len(p.blades), 3)
        values = []
        for sign in (1.0, -1.0):
            moved = r * exp(Multivector(sign * step, p.blades))
            values.append((pick(moved.planes, moved.layout, r.layout).sin() * weights).sum(0))
            values[-1] = values[-1] + (pick(moved.planes, moved.layout, r.layout) ** 3).sum(0)
        torch.testing.assert_close((values[0] - values[1]) / (2 * h), p.grad[k], rtol=1e-6, atol=1e-7)


def test_gradient_is_the_bivector_part_of_the_reverse_times_the_gradient(generator: torch.Generator) -> None:
    r = rotor(VGA3, generator)
    free = r.planes.clone().requires_grad_()
    weights = torch.randn(4, generator=generator, dtype=D)
    torch.autograd.backward(loss_of(Multivector(free, r.layout), weights))
    p = VersorParameter(r, metric="bivector")
    torch.autograd.backward(loss_of(p.multivector, weights))
    assert free.grad is not None
    expected = (r.reverse().unconstrained() * Multivector(free.grad, r.layout)).grade(2)
    torch.testing.assert_close(p.grad, expected.planes)
    for frame in (orthonormal_frame(r, p.blades), action_frame(r, p.blades)):
        assert torch.allclose(frame, torch.eye(3, dtype=D))  # hence all metrics agree


@pytest.mark.parametrize("algebra", [PGA3, STA, CGA3], ids=str)
def test_steps_in_the_action_frame_change_the_map_of_vectors_by_their_length(
    algebra: Algebra, generator: torch.Generator
) -> None:
    r = rotor(algebra, generator, 3)
    blades = Layout.of_grades(algebra, 2)
    frame, h = action_frame(r, blades), 1e-6
    changes = []
    for k in range(len(blades)):
        step = exp(Multivector(h * frame[:, k], blades)), exp(Multivector(-h * frame[:, k], blades))
        changes.append((to_matrix(r * step[0]) - to_matrix(r * step[1])).flatten(1) / (2 * h))
    found = torch.stack(changes, 1)
    size = to_matrix(r).flatten(1).norm(dim=1) / algebra.n**0.5
    expected = 8 * size[:, None, None] * torch.eye(len(blades), dtype=D)
    torch.testing.assert_close(found @ found.mT, expected, rtol=1e-5, atol=1e-5)


def test_a_step_boosts_by_a_rapidity_of_one_at_most() -> None:
    p = VersorParameter(exp(STA.bivector(torch.zeros(6, dtype=D))))
    p.grad = torch.tensor([-30.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=D)
    torch.optim.SGD([p], lr=1.0).step()
    expected = exp(STA.bivector(torch.tensor([0.5, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=D)))
    torch.testing.assert_close(p.multivector.detach().planes, expected.planes)


def test_metrics_where_a_bivector_moves_nothing() -> None:
    algebra = Algebra(2, 0, 2)
    one = exp(Multivector(torch.zeros(6, dtype=D), Layout.of_grades(algebra, 2)))
    assert VersorParameter(one).metric == "versor"
    with pytest.raises(LayoutError, match=r"metric 'action' on Cl\(2,0,2\)\[2\]: e12 moves no vector"):
        VersorParameter(one, metric="action")
    with pytest.raises(LayoutError, match="takes a metric of .* got 'flat'"):
        VersorParameter(one, metric="flat")


def test_second_derivatives_are_those_of_the_exponential(generator: torch.Generator) -> None:
    p = VersorParameter(rotor(STA, generator))
    weights = torch.randn(8, generator=generator, dtype=D)

    def hessian() -> Tensor:
        (g,) = torch.autograd.grad(loss_of(p.multivector, weights), p, create_graph=True)
        return torch.stack([torch.autograd.grad(e, p, retain_graph=True)[0] for e in g])

    near_zero = hessian()
    with torch.no_grad():
        p.add_(1e-9)  # not zero, so that the exponential itself is taken
    torch.testing.assert_close(near_zero, hessian(), rtol=1e-6, atol=1e-6)


OPTIMIZERS: dict[str, Callable[[list[VersorParameter]], Any]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.2),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0),
    "Adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "Adam fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4),
    "LBFGS line search": lambda p: torch.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_optimizers_fit_a_motor(name: str, generator: torch.Generator) -> None:
    target = rotor(PGA3, generator)
    p = VersorParameter(rotor(PGA3, generator))
    optimizer = OPTIMIZERS[name]([p])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p.multivector.planes - target.planes).square().sum()
        torch.autograd.backward(loss)
        return loss

    first = float(closure().detach())
    for _ in range(40 if "LBFGS" not in name else 8):
        optimizer.step(closure)
        scheduler.step()
        assert not p.detach().any()
    assert float(closure().detach()) < 0.05 * first
    assert float(versor_error(p.multivector.detach())) < 1e-14


def test_an_update_without_an_optimizer_stays_on_the_group(generator: torch.Generator) -> None:
    p = VersorParameter(rotor(CGA3, generator, 5))
    with torch.no_grad():
        p.add_(torch.randn(p.shape, generator=generator, dtype=D))
    before = p.multivector.detach()
    assert float(versor_error(before).max()) < 1e-12
    p.retract_()
    assert not p.detach().any()
    torch.testing.assert_close(p.multivector.detach().planes, before.planes, rtol=1e-12, atol=1e-12)


def test_weight_decay_is_refused(generator: torch.Generator) -> None:
    model = nn.ModuleDict({"turn": Turn(rotor(VGA3, generator)), "linear": nn.Linear(2, 2)})
    message = r"group 0 of AdamW has weight_decay=0.01 and a VersorParameter"
    with pytest.raises(ConstraintError, match=message):
        torch.optim.AdamW(model.parameters()).step()
    groups = [
        {"params": model["linear"].parameters(), "weight_decay": 0.1},
        {"params": model["turn"].parameters(), "weight_decay": 0.2},
    ]
    with pytest.raises(ConstraintError, match=r"group 1 of SGD has weight_decay=0.2"):
        torch.optim.SGD(groups, lr=0.1).step()
    groups[1]["weight_decay"] = 0.0
    groups[1]["params"] = list(model["turn"].parameters())
    torch.optim.SGD(groups, lr=0.1).step()


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_holds_the_versor(assign: bool, generator: torch.Generator) -> None:
    turns = [Turn(rotor(STA, generator, 2)) for _ in range(2)]
    saved, other = (nn.Sequential(nn.Linear(1, 1), turn) for turn in turns)
    state = saved.state_dict()
    torch.testing.assert_close(state["1.by"], turns[0].by.multivector.detach().planes, rtol=0, atol=0)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.load_state_dict(torch.load(file), assign=assign)
    assert isinstance(turns[1].by, VersorParameter)
    assert not turns[1].by.detach().any()
    torch.testing.assert_close(other.state_dict()["1.by"], state["1.by"], rtol=1e-15, atol=1e-15)
    assert state["1.by"].shape == (8, 2)  # the caller's dictionary is left alone


def test_loading_refuses_what_is_no_versor(generator: torch.Generator) -> None:
    model = Turn(rotor(VGA3, generator))
    for planes, message in (
        (torch.ones(4, dtype=D), "versor parameter 'by': .* no rotor"),
        (torch.ones(3, dtype=D), r"versor parameter 'by': .* 4 blades"),
        (rotor(VGA3, generator, 2).planes, r"versor parameter 'by': .* cannot take"),
    ):
        with pytest.raises(RuntimeError, match=message):
            model.load_state_dict({"by": planes})
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})


def test_a_state_in_float32_loads_into_float64(generator: torch.Generator) -> None:
    model = Turn(rotor(STA, generator))
    model.load_state_dict({"by": rotor(STA, generator).planes.float()})
    assert float(versor_error(model.by.multivector.detach())) < 1e-12


def test_deepcopy_and_dtype(generator: torch.Generator) -> None:
    model = Turn(rotor(STA, generator))
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    torch.autograd.backward(twin(STA.vector(torch.ones(4, dtype=D))).planes.square().sum())
    optimizer.step()
    assert not torch.equal(twin.state_dict()["by"], model.state_dict()["by"])
    model.load_state_dict(twin.state_dict())
    low = copy.deepcopy(model).float()
    assert low.by.multivector.dtype == torch.float32
    assert float(versor_error(low.by.multivector.detach())) < 1e-6
    assert low.double().by.multivector.dtype == D
    assert float(versor_error(low.by.multivector.detach())) < 1e-13
    with pytest.raises(TypeError, match="is not pickled"):
        torch.save(model, io.BytesIO())


def test_confined_to_a_subgroup(generator: torch.Generator) -> None:
    identity = PGA3.even(torch.eye(8, dtype=D)[0]).as_rotor()
    translations = Layout.of_blades(PGA3, ["e01", "e02", "e03"])
    p = VersorParameter(identity.grade(0).as_rotor(), metric="versor", bivectors=translations)
    assert p.shape == (3,)
    assert p.multivector.layout.names == ("e", "e01", "e02", "e03")
    p.grad = torch.randn(3, generator=generator, dtype=D)
    torch.optim.SGD([p], lr=1.0).step()
    torch.testing.assert_close(p.multivector.detach().planes[1:], -p.grad)  # translations add


def test_an_odd_versor_stays_odd(generator: torch.Generator) -> None:
    mirror = STA.vector(torch.tensor([0.0, 0.6, 0.8, 0.0], dtype=D)).as_versor()
    p = VersorParameter(mirror)
    p.grad = torch.randn(6, generator=generator, dtype=D)
    torch.optim.SGD([p], lr=1.0).step()
    assert p.multivector.layout.grades == (1, 3)
    assert float(versor_error(p.multivector.detach())) < 1e-13
    assert float(p.multivector.detach().norm_squared()) < 0  # x ~x = -1 here, as before


def test_bad_input(generator: torch.Generator) -> None:
    r = rotor(VGA3, generator)
    with pytest.raises(
        ConstraintError, match=r"takes a versor by type, got Cl\(3,0,0\)\[0,2\]; use as_rotor"
    ):
        VersorParameter(r.unconstrained())
    with pytest.raises(LayoutError, match="increments of grade 2"):
        VersorParameter(r, bivectors=Layout.of_grades(VGA3, 1))
    p = VersorParameter(r)
    p.grad = torch.full((3,), float("nan"), dtype=D)
    with pytest.raises(ConstraintError, match="update of a versor parameter .* is not finite"):
        torch.optim.SGD([p], lr=1.0).step()
    with pytest.raises(ConstraintError, match="takes a Constraint.ROTOR"):
        VersorParameter(r).assign_(r.unconstrained())


def test_double_is_the_batch(generator: torch.Generator) -> None:
    p = VersorParameter(rotor(VGA3, generator, 2, 3))
    assert p.shape == (3, 2, 3)
    assert p.multivector.shape == (2, 3)
    assert "rotor" in repr(p)


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_noisy_steps_after_jumping_targets_do_not_leave_the_group(
    algebra: Algebra, generator: torch.Generator
) -> None:
    """A short run of examples/versor-drift: float32, Adam, three targets; free coefficients leave at once."""
    start = rotor(algebra, generator, 4, size=0.0).to(torch.float32)
    ours, free = VersorParameter(start), MultivectorParameter(start.unconstrained())
    optimizer = torch.optim.Adam([ours, free], lr=0.1)
    for step in range(60):
        if step % 20 == 0:
            target = rotor(algebra, generator, 4, size=2.0).to(torch.float32)
        seen = target.planes + 0.05 * torch.randn(target.planes.shape, generator=generator)
        optimizer.zero_grad()
        for p in (ours, free):
            torch.autograd.backward((p.multivector.planes - seen).square().sum())
        optimizer.step()
    value = ours.multivector.detach()
    size = value.planes.square().sum(0)  # up to 50 for boosts; R ~R is a difference of numbers of this size
    assert float((versor_error(value) / size).max()) < 4 * torch.finfo(torch.float32).eps
    assert float(versor_error(value).max()) < 5e-5
    assert float(versor_error(free.multivector.detach()).max()) > 1e-2
