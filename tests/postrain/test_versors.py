"""Versors as posit parameters: updates to the bit, on the group, saved and loaded whole."""

from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import postrain.optim
from ga import (
    CGA3,
    PGA3,
    STA,
    VGA3,
    Algebra,
    Layout,
    Multivector,
    VersorParameter,
    exp,
    plan_for,
    versor_error,
)
from ga._frames import limited
from ga.errors import ConstraintError, LayoutError
from ga.nn import VersorLayer
from ga.product import sandwich
from ga.versor_parameter import renormalized
from posit import Format, posit16
from posit.codec import encode_rational, to_signed
from posit.errors import FormatMismatch
from posit.torch import PositTensor, posit_tensor
from postrain import _retraction
from postrain.accumulate import accumulate
from postrain.convert import convert, to_float
from postrain.errors import AccumulationError, RecipeError
from postrain.snapshot import capture, restore
from postrain.versors import PositVersor

ALGEBRAS = (VGA3, PGA3, STA, CGA3)


class Turn(nn.Module):
    """Vectors moved by versors."""

    def __init__(
        self, algebra: Algebra, versors: int = 3, size: float = 0.5, metric: str | None = None
    ) -> None:
        super().__init__()
        self.vectors = Layout.of_grades(algebra, 1)
        generator = torch.Generator().manual_seed(algebra.size)
        b = size * torch.randn(versors, algebra.n * (algebra.n - 1) // 2, generator=generator)
        self.by: Any = VersorParameter(exp(algebra.bivector(b)), metric=metric)

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = (self.by.multivector >> Multivector(x, self.vectors)).planes
        return moved


def turned(algebra: Algebra, fmt: str = "posit16", **options: Any) -> tuple[Turn, PositVersor]:
    model = convert(Turn(algebra, **options), fmt)
    return model, model.by


def increments(p: PositVersor, size: float = 0.3) -> PositTensor:
    real = size * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    return posit_tensor(real, p.format)


def real(p: PositVersor) -> Multivector:
    return Multivector(p.held.to_float(torch.float64), p.base.layout, p.base.constraint)


def exact(x: PositTensor) -> "np.ndarray[Any, Any]":
    found: np.ndarray[Any, Any] = np.vectorize(Fraction, otypes=[object])(x.values())
    return found


@pytest.mark.parametrize("metric", ["action", "versor", "bivector"])
@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
def test_an_update_is_the_real_one_rounded_once(algebra: Algebra, metric: str) -> None:
    """The formula in float64, by `ga` and of the same posits: 40 bits agree, so its rounding is ours where no tie is near."""
    _, p = turned(algebra, metric=metric)
    b, frame, before = increments(p), p.frame, real(p)
    change = b.to_float(torch.float64)
    if frame is not None:
        change = torch.einsum("ij...,j...->i...", frame.to_float(torch.float64), change)
    bivector = Multivector(change, p.blades)
    wanted = renormalized(before * exp(limited(bivector) if metric == "action" else bivector))
    p.retract_(b)
    assert torch.equal(p.held.codes, posit_tensor(wanted.planes, "posit16").codes)
    assert not b.codes.any()
    assert not p.codes.any()


@pytest.mark.parametrize("algebra", [PGA3, STA], ids=str)
def test_integers_decide_what_floats_leave_open(algebra: Algebra, monkeypatch: pytest.MonkeyPatch) -> None:
    _, p = turned(algebra)
    other = deepcopy(p)
    p.retract_(increments(p))
    floats = _retraction._in_floats

    def nothing(*args: Any) -> Any:
        values, errors = floats(*args)
        return values, np.full_like(errors, 1e300)

    monkeypatch.setattr(_retraction, "_in_floats", nothing)
    other.retract_(increments(other))
    assert torch.equal(p.held.codes, other.held.codes)


def test_bounds_of_an_update_hold() -> None:
    """Against integers of 512 bits, with increments large and small."""
    _, p = turned(CGA3, versors=4)
    frame = p.frame
    assert frame is not None
    rng = np.random.default_rng(0)
    b = rng.standard_normal((4, 10)) * np.array([3.0, 1.0, 1e-3, 0.0])[:, None]
    versors = _retraction.Versors(
        p.base.layout, p.blades, p.held.values().T.copy(), b, np.moveaxis(frame.values(), -1, 0).copy(), True
    )
    tables = _retraction._tables(p.base.layout, p.blades)
    values, errors = _retraction._in_floats(versors, tables)
    for row in range(4):
        for k, wanted in enumerate(_retraction._in_integers(versors, row, tables, 512)):
            assert abs(Fraction(values[row, k]) - wanted) <= Fraction(errors[row, k])
    assert float((errors / np.abs(values)).max()) < 1e-9  # and are of use


def test_translations_are_exact_sums_and_what_rests_keeps_its_bits() -> None:
    """exp(n) = 1 + n of a null bivector: rational, so ties occur; an increment of 0 changes no bit."""
    identity = exp(PGA3.bivector(torch.zeros(2, 6)))
    module = nn.Module()
    translations = Layout.of_blades(PGA3, [b for b in Layout.of_grades(PGA3, 2).blades if b & PGA3.blades[1]])
    module.by = VersorParameter(identity.grade(0).as_rotor(), metric="versor", bivectors=translations)
    p: Any = convert(module, "posit16").by
    assert p.shape == (3, 2)
    step = torch.tensor([[1 + 2.0**-11, 0.0], [0.0, 0.0], [2.0**-30, 0.0]])  # posit16 ends with 2**-11 there
    p.retract_(posit_tensor(step, "posit16"))
    assert p.held.tolist() == [[1.0, 1.0], [step[0, 0].item(), 0.0], [0.0, 0.0], [2.0**-30, 0.0]]


def test_a_gradient_is_one_exact_sum() -> None:
    _, p = turned(STA)
    grad = posit_tensor(torch.randn(8, 3, generator=torch.Generator().manual_seed(2)), "posit16")
    planes: Any = p.multivector.planes
    torch.autograd.backward(planes, PositTensor(grad.codes, posit16, policy=p.policy))
    frame, r, g = p.frame, exact(p.held), exact(grad)
    assert frame is not None
    f = exact(frame)
    moved = [[Fraction(0)] * 3 for _ in range(6)]
    for k, group in enumerate(plan_for("geometric", p.base.layout, p.blades, p.base.layout).by_output):
        for term in group:
            for t in range(3):
                moved[term.j][t] += term.sign * g[k, t] * r[term.i, t]
    found: Any = p.grad
    for c in range(6):
        for t in range(3):
            wanted = sum(f[a, c, t] * moved[a][t] for a in range(6))
            code = to_signed(np.array([encode_rational(wanted, posit16)], np.uint16), posit16)
            assert int(found.codes[c, t]) == int(code[0])


def test_a_sandwich_is_one_exact_sum_and_so_are_its_gradients() -> None:
    layout, vectors = Layout.of_grades(PGA3, (0, 2, 4)), Layout.of_grades(PGA3, 1)
    inner = plan_for("geometric", layout, vectors)
    outer = plan_for("geometric", inner.out, layout, vectors)
    generator = torch.Generator().manual_seed(3)
    x = posit_tensor(torch.randn(8, 1, generator=generator), "posit16", requires_grad=True)
    y = posit_tensor(torch.randn(4, 3, generator=generator), "posit16", requires_grad=True)
    found: Any = sandwich(x, y, inner, outer)
    grad = posit_tensor(torch.randn(4, 3, generator=generator), "posit16")
    found.backward(grad)
    real_x, real_y = (each.to_float(torch.float64).requires_grad_() for each in (x, y))
    wanted = sandwich(
        real_x, real_y, inner, outer
    )  # float64 holds each sum of 36-bit products but for its last bits
    wanted.backward(grad.to_float(torch.float64))
    for got, real in ((found, wanted.detach()), (x.grad, real_x.grad), (y.grad, real_y.grad)):
        assert isinstance(got, PositTensor)
        assert isinstance(real, Tensor)
        assert torch.equal(got.codes, posit_tensor(real, "posit16").codes)
    with pytest.raises(FormatMismatch, match="sandwich got a torch.float64 operand"):
        sandwich(x, real_y, inner, outer)
    with pytest.raises(LayoutError, match="first operand"):
        sandwich(x[:3], y, inner, outer)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda named: postrain.optim.SGD(named, lr=0.05, momentum=0.5),
    "Adam": lambda named: postrain.optim.Adam(named, lr=0.1),
}


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_and_stays_on_the_group(algebra: Algebra, name: str) -> None:
    """What is left is the rounding of each coefficient: 2 eps of the size of R."""
    model, p = turned(algebra, versors=4, size=0.0)
    target = Turn(algebra, versors=4, size=0.3)
    optimizer, generator = OPTIMIZERS[name](model.named_parameters()), torch.Generator().manual_seed(4)
    losses = []
    for _ in range(30):
        x = torch.randn(algebra.n, 6, 4, generator=generator)
        seen = posit_tensor(target(x).detach(), "posit16")
        given = (PositTensor(posit_tensor(each, "posit16").codes, posit16, policy=p.policy) for each in (x,))
        missing = model(*given) - PositTensor(seen.codes, posit16, policy=p.policy)
        loss: Any = (missing * missing).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        size = real(p).planes.square().sum(0)
        assert float((versor_error(real(p)) / size).max()) < 4 * 2.0**-11
    assert losses[-1] < 0.2 * losses[0]


def test_a_master_format_keeps_small_steps() -> None:
    """Steps of 2e-6 are below a quarter of posit16's spacing from 1/16 on; a master copy in posit32 adds them up."""
    for master, moves in ((None, False), ("posit32", True)):
        model, p = turned(VGA3, versors=1)
        optimizer = postrain.optim.SGD(model.named_parameters(), lr=2e-6, master_format=master, count=True)
        before = p.held.codes.clone()
        for _ in range(150):
            p.grad = PositTensor(posit_tensor(torch.ones(3, 1), "posit16").codes, posit16, policy=p.policy)
            optimizer.step()
        assert torch.equal(p.held.codes, before) is not moves
        counts: Any = optimizer.last_step_counts
        assert (counts.updated, counts.saturated) == (3, 0)
        if not moves:
            assert counts.lost == 3
        else:
            held = optimizer.state[p]["master_versor"]
            assert held.format.name == "posit32"
            assert versor_error(Multivector(held.to_float(torch.float64), p.base.layout)).item() < 1e-8


def test_what_has_no_meaning_for_a_versor_is_refused_before_a_step() -> None:
    model, p = turned(VGA3)
    p.grad = p.like(torch.ones_like(p.codes))
    adam = postrain.optim.AdamW(model.named_parameters())
    with pytest.raises(
        RecipeError, match=r"by is a versor.*AdamW has weight_decay=0.01; put versors into a group"
    ):
        adam.step()
    stochastic = postrain.optim.SGD(model.named_parameters(), lr=0.1, rounding="stochastic")
    with pytest.raises(RecipeError, match=r"by is a versor.*rounding='stochastic'.*master_format"):
        stochastic.step()
    with pytest.raises(
        ConstraintError, match=r"coefficients of 300 together, more than 64; lower the learning rate"
    ):
        p.retract_(posit_tensor(torch.full((3, 3), 100.0), "posit16"))
    p.codes.fill_(1)
    with pytest.raises(RecipeError, match=r"increment 0; call retract_\(\)"):
        torch.autograd.backward(p.multivector.planes.sum())


def test_saved_and_loaded_to_the_bit_with_the_frame() -> None:
    model, p = turned(PGA3)
    optimizer = postrain.optim.Adam(model.named_parameters(), lr=0.1)

    def step(turn: Turn, adam: Any) -> Tensor:
        turn.by.grad = PositTensor(increments(turn.by).codes, posit16, policy=turn.by.policy)
        adam.step()
        return turn.by.held.codes.clone()  # type: ignore[no-any-return]  # of a module's attribute

    step(model, optimizer)
    state = deepcopy(capture(model, optimizer))
    assert tuple(state["model"]["by"].shape) == (8, 3)
    wanted = step(model, optimizer)
    again, _ = turned(PGA3, size=0.1)
    other = postrain.optim.Adam(again.named_parameters(), lr=0.1)
    restore(state, again, other)
    assert torch.equal(step(again, other), wanted)
    third, _ = turned(PGA3, size=0.1)
    third.load_state_dict(model.state_dict())
    assert torch.equal(third.by.held.codes, wanted)
    copied = deepcopy(model)
    assert torch.equal(step(copied, postrain.optim.SGD(copied.parameters(), lr=0.1)), copied.by.held.codes)
    assert torch.equal(p.held.codes, wanted)  # a copy shares nothing


def test_states_that_are_no_versors_are_refused_by_name() -> None:
    model, p = turned(PGA3)
    for planes, reason in (
        (posit_tensor(torch.ones(8, 3), "posit16"), r"'by': R ~R differs from 1 .* no versor in posit16"),
        (posit_tensor(torch.ones(8, 2), "posit16"), r"'by': .*shape \(8, 3\), got \(8, 2\)"),
        (torch.ones(8, 3), r"'by': it takes planes in posit16; load before converting"),
    ):
        before = p.held.codes.clone()
        with pytest.raises(RuntimeError, match=reason):
            model.load_state_dict({"by": planes})
        assert torch.equal(p.held.codes, before)


def test_converted_on_and_back() -> None:
    model, p = turned(CGA3, fmt="posit32")
    wide = p.held.codes.clone()
    assert convert(model, "posit16").by is p
    assert p.held.format == p.format == posit16
    assert torch.equal(p.held.codes, posit_tensor(_values(wide), "posit16").codes)
    back: Any = to_float(model).by
    assert isinstance(back, VersorParameter)
    assert float((back.base.planes - p.held.to_float()).abs().max()) < 2e-3
    layer = VersorLayer(Layout.of_grades(PGA3, 3), 2, generator=torch.Generator().manual_seed(0))
    moved: Any = convert(layer, "posit16")(PGA3.point(torch.randn(5, 2, 3)))
    assert moved.planes.format == posit16
    assert repr(layer.versor).startswith("PositVersor(")


def _values(codes: Tensor) -> Tensor:
    return PositTensor(codes, Format(32)).to_float(torch.float64)


def test_exact_accumulation_refuses_what_is_rounded_on_its_way() -> None:
    """The gradient of R is rounded for each micro-batch, so that of b would depend on the split."""
    model, _ = turned(PGA3)
    with pytest.raises(AccumulationError, match="gradient of by was rounded"), accumulate(model):
        torch.autograd.backward(model(torch.ones(4, 2, 3)).sum())
