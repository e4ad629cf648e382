"""Optimizers against rationals and mpmath: every update formed exactly and rounded once."""

import copy
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import torch
from torch import nn

from posit import Format, posit8, posit16
from posit.codec import encode_rational
from posit.errors import NoRuleError
from posit.reference import exact
from posit.torch import PositTensor, posit_tensor
from postrain import optim
from postrain.errors import NaRError, RecipeError
from postrain.optim import SGD, Adafactor, Adam, AdamW, Lion
from postrain.optim._base import residual_unit
from postrain.recipe import Recipe

LR, DECAY = 0.1, 0.01
SIZE = 40


def posit(x: object) -> PositTensor:
    assert isinstance(x, PositTensor)
    return x


def parameter(seed: int, fmt: Format = posit16, shape: tuple[int, ...] = (SIZE,)) -> nn.Parameter:
    return nn.Parameter(posit_tensor(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), fmt))


def gradient(seed: int, fmt: Format = posit16, shape: tuple[int, ...] = (SIZE,)) -> PositTensor:
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(100 + seed))
    grad.view(-1)[::7] = 0.0
    return posit_tensor(grad, fmt)


def rationals(x: object) -> list[Fraction]:
    return [Fraction(v) for v in posit(x).values().reshape(-1).tolist()]


def rounded(x: Fraction, fmt: Format = posit16) -> Fraction:
    value = exact.value(exact.nearest(x, fmt), fmt)
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("momentum", "nesterov", "decay"),
    [(0.9, True, DECAY), (0.9, False, DECAY), (0.9, True, 0.0), (0.0, False, DECAY), (0.0, False, 0.0)],
)
def test_sgd(momentum: float, nesterov: bool, decay: float) -> None:
    w = parameter(0)
    optimizer = SGD([("w", w)], lr=LR, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    weights, held = rationals(w), [Fraction(0)] * SIZE
    lr, mu, wd = Fraction(LR), Fraction(momentum), Fraction(decay)
    for step in range(3):
        w.grad = gradient(step)
        optimizer.step()
        for i, g in enumerate(rationals(w.grad)):
            pulled = g + wd * weights[i]
            held[i] = rounded(mu * held[i] + pulled)
            direction = pulled + mu * held[i] if nesterov else held[i] if momentum else pulled
            weights[i] = rounded(weights[i] - lr * direction)
    assert rationals(w) == weights


def real_step(
    w: Fraction, m: Fraction, v: Fraction, betas: tuple[float, float], t: int, decay: float, eps: float
) -> Fraction:
    """Adam's new weight to 400 bits, as a rational."""
    with mpmath.workprec(400):
        first, second = (1 - mpmath.mpf(beta) ** t for beta in betas)
        m_hat, v_hat = (mpmath.mpf(x.numerator) / x.denominator / c for x, c in ((m, first), (v, second)))
        new = (1 - mpmath.mpf(LR) * mpmath.mpf(decay)) * (
            mpmath.mpf(w.numerator) / w.denominator
        ) - mpmath.mpf(LR) * m_hat / (mpmath.sqrt(v_hat) + mpmath.mpf(eps))
        sign, mantissa, exponent, _ = new._mpf_
    size = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -size if sign else size


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("formats", [(posit16, posit16, posit16), (posit16, posit8, posit8)], ids=str)
def test_adam_and_adamw(coupled: bool, formats: tuple[Format, Format, Format]) -> None:
    fmt, grad_format, state_format = formats
    w, betas = parameter(0, fmt), (0.9, 0.999)
    kind: Callable[..., Any] = Adam if coupled else AdamW
    optimizer = kind([("w", w)], lr=LR, weight_decay=DECAY, state_format=state_format)
    b1, b2 = (Fraction(beta) for beta in betas)
    weights, m, v = rationals(w), [Fraction(0)] * SIZE, [Fraction(0)] * SIZE
    for t in range(1, 4):
        w.grad = gradient(t, grad_format)
        optimizer.step()
        for i, g in enumerate(rationals(w.grad)):
            pulled = g + Fraction(DECAY) * weights[i] if coupled else g
            m[i] = rounded(b1 * m[i] + (1 - b1) * pulled, state_format)
            v[i] = rounded(b2 * v[i] + (1 - b2) * pulled**2, state_format)
            new = (
                real_step(weights[i], m[i], v[i], betas, t, 0.0 if coupled else DECAY, 1e-8) if m[i] else None
            )
            keep = 1 if coupled else 1 - Fraction(LR) * Fraction(DECAY)
            weights[i] = rounded(keep * weights[i] if new is None else new, fmt)
    assert rationals(optimizer.state[w]["exp_avg"]) == m
    assert rationals(optimizer.state[w]["exp_avg_sq"]) == v
    assert rationals(w) == weights


def test_adams_step_decides_ties_of_rational_results() -> None:
    """With v' = 1 and m' = 1 exactly: w - lr / (1 + eps) is rational, here a tie between two posits."""
    from postrain.optim._ratio import Rate

    half_step = exact.boundary(0x4000, posit16) - 1
    rate = Rate(Fraction(1), half_step, Fraction(0), Fraction(0), Fraction(0), 1)
    one = Fraction(1)
    for m, wanted in ((-one, 0x4000), (-one - Fraction(1, 2**60), 0x4001)):
        assert rate.code(one, m, one, posit16, Fraction(0), one) == wanted
    odd = Rate(Fraction(1), half_step, Fraction(1, 2**70), Fraction(0), Fraction(0), 1)
    assert odd.code(one, -one, one, posit16, Fraction(0), one) == 0x4000
    assert odd.code(one, -one, one - Fraction(1, 2**40), posit16, Fraction(0), one) == 0x4001


def test_lion() -> None:
    w = parameter(0)
    optimizer = Lion([("w", w)], lr=LR, weight_decay=DECAY)
    weights, m = rationals(w), [Fraction(0)] * SIZE
    b1, b2, lr = Fraction(0.9), Fraction(0.99), Fraction(LR)
    for step in range(3):
        w.grad = gradient(step)
        optimizer.step()
        for i, g in enumerate(rationals(w.grad)):
            c = b1 * m[i] + (1 - b1) * g
            weights[i] = rounded((1 - lr * Fraction(DECAY)) * weights[i] - lr * ((c > 0) - (c < 0)))
            m[i] = rounded(b2 * m[i] + (1 - b2) * g)
    assert rationals(w) == weights
    assert rationals(optimizer.state[w]["exp_avg"]) == m


def test_adafactor_factors_the_second_moment_and_rounds_once() -> None:
    shape = (4, 10)
    w = parameter(0, shape=shape)
    w.grad = gradient(0, shape=shape)
    optimizer = Adafactor([("w", w)], lr=LR, beta2=0.99, clip=float("inf"))
    before, g = rationals(w), rationals(w.grad)
    optimizer.step()
    state = optimizer.state[w]
    share = 1 - Fraction(0.99)
    rows = [
        rounded(share * sum((x * x for x in g[10 * i : 10 * i + 10]), Fraction(0)) / 10) for i in range(4)
    ]
    columns = [rounded(share * sum((x * x for x in g[j::10]), Fraction(0)) / 4) for j in range(10)]
    assert (rationals(state["row"]), rationals(state["column"])) == (rows, columns)
    assert posit(state["row"]).codes.numel() + posit(state["column"]).codes.numel() == 14
    for (i, j), old, grad, new in zip(
        itertools.product(range(4), range(10)), before, g, rationals(w), strict=True
    ):
        v = rows[i] * columns[j] * 4 / sum(rows, Fraction(0))
        wanted = real_step(old, grad, v, (0.0, 0.99), 1, 0.0, 1e-30) if grad else old
        assert new == rounded(wanted)
    vector = parameter(1)
    vector.grad = gradient(1)
    Adafactor([vector]).step()


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_compensated_rounding_loses_nothing_that_plain_rounding_loses(kind: Callable[..., Any]) -> None:
    """A thousand steps, each a twentieth of the distance of two posits: plain rounding never moves."""
    moved = {}
    for rounding in ("nearest", "compensated", "stochastic"):
        # a residual in posit8 keeps two or three bits of a step; see the next test for its exact rule
        w = nn.Parameter(posit_tensor(torch.ones(200), posit16))
        options = {"momentum": 0.0} if kind is SGD else {"betas": (0.0, 0.0), "weight_decay": 0.0}
        optimizer = kind([w], lr=2.0**-11 / 20, rounding=rounding, **options)
        for _ in range(400):
            w.grad = posit_tensor(torch.full((200,), -1.0), posit16)
            optimizer.step()
        moved[rounding] = float(posit(w).values().mean()) - 1
    assert moved["nearest"] == 0.0
    assert moved["compensated"] == pytest.approx(400 * 2.0**-11 / 20, rel=0.15)
    assert moved["stochastic"] == pytest.approx(400 * 2.0**-11 / 20, rel=0.06)


def test_compensated_sgd_rounds_weight_and_residual_once() -> None:
    w = parameter(0)
    optimizer = SGD([w], lr=LR, rounding="compensated", residual_format="posit8")
    weights, rest, unit = rationals(w), [Fraction(0)] * SIZE, Fraction(residual_unit(posit16))
    for step in range(3):
        w.grad = gradient(step)
        optimizer.step()
        for i, g in enumerate(rationals(w.grad)):
            whole = weights[i] - Fraction(LR) * g + rest[i]
            weights[i] = rounded(whole)
            rest[i] = rounded((whole - weights[i]) * unit, posit8) / unit
    assert rationals(w) == weights
    assert rationals(optimizer.state[w]["residual"]) == [r * unit for r in rest]


def test_stochastic_rounding_follows_from_seed_step_and_parameter() -> None:
    def run(seed: int, stop: int) -> tuple[list[list[int]], Any]:
        ws = [parameter(0), parameter(0)]
        optimizer = AdamW(ws, lr=LR, rounding="stochastic", seed=seed)
        for step in range(stop):
            for w in ws:
                w.grad = gradient(step)
            optimizer.step()
        return [posit(w).codes.tolist() for w in ws], (ws, optimizer)

    whole, _ = run(1, 4)
    assert whole == run(1, 4)[0]
    assert whole != run(2, 4)[0]
    assert whole[0] != whole[1]
    _, (ws, optimizer) = run(1, 2)
    again = AdamW(ws, lr=LR, rounding="stochastic", seed=1)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in (2, 3):
        for w in ws:
            w.grad = gradient(step)
        again.step()
    assert [posit(w).codes.tolist() for w in ws] == whole


def test_a_master_copy_takes_the_updates_and_the_weight_is_it_rounded() -> None:
    w = parameter(0, posit8)
    recipe = Recipe.named("posit8_master16")
    optimizer = SGD([w], lr=0.01, momentum=0.9, **optim.options(recipe))
    master, held = rationals(w), [Fraction(0)] * SIZE
    for step in range(3):
        w.grad = gradient(step, posit8)
        optimizer.step()
        for i, g in enumerate(rationals(w.grad)):
            held[i] = rounded(Fraction(0.9) * held[i] + g)
            master[i] = rounded(master[i] - Fraction(0.01) * held[i])
    state = optimizer.state[w]
    assert rationals(state["master"]) == master
    assert rationals(state["momentum"]) == held
    assert rationals(w) == [rounded(x, posit8) for x in master]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Lion, Adafactor])
def test_a_loss_scale_changes_nothing_but_the_scale_of_gradients(kind: Callable[..., Any]) -> None:
    results = []
    for scale in (1.0, 8.0):
        w = nn.Parameter(posit_tensor(torch.ones(2, 3), posit16))
        optimizer = kind([w], lr=LR, loss_scale=scale, weight_decay=DECAY)
        for step in (1, 2):
            w.grad = posit_tensor(scale * step * torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 4.0]]), posit16)
            optimizer.step()
        results.append(posit(w).codes.tolist())
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Lion, Adafactor])
def test_groups_schedulers_closures_and_state_dicts(kind: Callable[..., Any]) -> None:
    def build() -> tuple[list[nn.Parameter], Any, Any]:
        ws = [parameter(0, shape=(4, 5)), parameter(1)]
        optimizer = kind([{"params": [ws[0]]}, {"params": [ws[1]], "lr": 0.05}], lr=LR)
        return ws, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def steps(ws: list[nn.Parameter], optimizer: Any, scheduler: Any, which: range) -> None:
        for step in which:

            def closure(step: int = step) -> str:
                for w in ws:
                    w.grad = gradient(step, shape=tuple(w.shape))
                return "loss"

            assert optimizer.step(closure) == "loss"
            scheduler.step()

    ws, optimizer, scheduler = build()
    steps(ws, optimizer, scheduler, range(4))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] < LR
    assert rates[1] == pytest.approx(rates[0] / 2)
    again, optimizer2, scheduler2 = build()
    steps(again, optimizer2, scheduler2, range(2))
    saved = copy.deepcopy((optimizer2.state_dict(), scheduler2.state_dict()))
    _, optimizer3, scheduler3 = build()
    optimizer3 = kind([{"params": [again[0]]}, {"params": [again[1]]}], lr=LR)
    scheduler3 = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer3, 10)
    optimizer3.load_state_dict(saved[0])
    scheduler3.load_state_dict(saved[1])
    steps(again, optimizer3, scheduler3, range(2, 4))
    assert [posit(w).codes.tolist() for w in again] == [posit(w).codes.tolist() for w in ws]
    assert optimizer3.steps == 4


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Lion, Adafactor])
def test_nar_is_named_and_nothing_changes(kind: Callable[..., Any]) -> None:
    first, second = parameter(0), parameter(1)
    optimizer = kind([("first", first), ("second", second)], lr=LR)
    first.grad, second.grad = gradient(0), gradient(1)
    optimizer.step()
    before = [posit(w).codes.tolist() for w in (first, second)], copy.deepcopy(optimizer.state_dict())
    posit(second.grad).codes[3] = -(1 << 15)
    with pytest.raises(NaRError, match="NaR in the gradient of second at step 2"):
        optimizer.step()
    assert [posit(w).codes.tolist() for w in (first, second)] == before[0]
    assert optimizer.steps == 1
    assert repr(optimizer.state_dict()) == repr(before[1])


def test_lost_updates_and_saturations_are_counted_when_asked_for() -> None:
    w = nn.Parameter(PositTensor(torch.tensor([0x4000, 0x4000, 0x7FFF, 0x4000], dtype=torch.int16), posit16))
    optimizer = SGD([w], lr=1.0, count=True)
    w.grad = posit_tensor(torch.tensor([0.0, 2.0**-20, -1.0, 1.0]), posit16)
    optimizer.step()
    assert optimizer.last_step_counts == optim.StepCounts(updated=4, lost=2, saturated=1)
    assert SGD([w], lr=1.0).last_step_counts is None


def test_silly_hyperparameters_and_floats_are_refused() -> None:
    w = parameter(0)
    for make, message in (
        (lambda: AdamW([w], amsgrad=True), "has no amsgrad"),
        (lambda: Adam([w], betas=(0.9, 1.0)), "Adam needs betas from 0 to below 1"),
        (lambda: SGD([w], lr=0.1, nesterov=True), "SGD needs momentum > 0 for nesterov"),
        (lambda: Lion([nn.Parameter(torch.ones(1))]), "this Lion updates PositTensors"),
        (lambda: SGD([w], lr=0.1, rounding="up"), "rounding must be one of"),
        (lambda: SGD([w], lr=0.1, loss_scale=3.0), "loss_scale must be a power of two"),
    ):
        with pytest.raises(RecipeError, match=message):
            make()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop"])
def test_stock_optimizers_are_refused_by_the_name_of_ours(name: str) -> None:
    w = parameter(0)
    w.grad = gradient(0)
    before = posit(w).codes.tolist()
    ours = (
        f"use postrain.optim.{name}"
        if name in ("SGD", "Adam", "AdamW")
        else "use one of postrain.optim: SGD, Adam"
    )
    with pytest.raises(RecipeError, match=f"torch.optim.{name} would round.*{ours}"):
        getattr(torch.optim, name)([w], lr=LR).step()
    assert posit(w).codes.tolist() == before
    real = nn.Parameter(torch.ones(2))
    real.grad = torch.ones(2)
    getattr(torch.optim, name)([real], lr=LR).step()


def test_stock_clipping_and_foreach_are_refused_by_the_name_of_ours() -> None:
    w = parameter(0)
    w.grad = gradient(0)
    with pytest.raises(NoRuleError, match=r"use\s+postrain.optim.clip_grad_norm_"):
        nn.utils.clip_grad_norm_([w], 1.0)
    with pytest.raises(NoRuleError, match="the optimizers of postrain.optim"):
        torch._foreach_mul_([w.detach()], 0.5)


@pytest.mark.parametrize("norm_type", [2.0, float("inf")])
def test_clipping_rounds_the_norm_once_and_each_gradient_once(norm_type: float) -> None:
    ws = [parameter(0), parameter(1, posit8, (3, 4))]
    ws[0].grad, ws[1].grad = gradient(0), gradient(1, posit8, (3, 4))
    before = [rationals(w.grad) for w in ws]
    values = [x for group in before for x in group]
    got = optim.clip_grad_norm_([("a", ws[0]), ("b", ws[1])], 0.5, norm_type)
    with mpmath.workprec(300):
        square = sum((x * x for x in values), Fraction(0))
        root = mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator)
        _, mantissa, exponent, _ = root._mpf_
    norm = Fraction(int(mantissa)) * Fraction(2) ** int(exponent) if norm_type == 2 else max(map(abs, values))
    assert Fraction(got.item()) == rounded(norm)
    for w, old, fmt in zip(ws, before, (posit16, posit8), strict=True):
        assert rationals(w.grad) == [rounded(x / 2 / norm, fmt) for x in old]
    clipped = [posit(w.grad).codes.tolist() for w in ws]
    optim.clip_grad_norm_(ws, 100.0)
    assert [posit(w.grad).codes.tolist() for w in ws] == clipped
    posit(ws[0].grad).codes[0] = -(1 << 15)
    with pytest.raises(NaRError, match="the gradient of parameter 0"):
        optim.clip_grad_norm_(ws, 1.0)


def test_clipping_by_a_rational_norm_decides_ties() -> None:
    w = nn.Parameter(posit_tensor(torch.zeros(2), posit8))
    w.grad = posit_tensor(torch.tensor([3.0, 4.0]), posit8)
    assert optim.clip_grad_norm_([w], 2.5).item() == 5.0
    assert rationals(w.grad) == [Fraction(3, 2), Fraction(2)]


@pytest.mark.parametrize(
    ("function", "weights"), [(optim.swa_avg_fn(), None), (optim.ema_avg_fn(0.9), Fraction(0.9))]
)
def test_averaged_models_round_each_average_once(function: Any, weights: Fraction | None) -> None:
    model = nn.Linear(3, 3, bias=False)
    model.weight = parameter(0, shape=(3, 3))
    averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=function)
    average = rationals(model.weight)
    averaged.update_parameters(model)
    for n in (1, 2):
        posit(model.weight).codes.copy_(gradient(n, shape=(3, 3)).codes)
        averaged.update_parameters(model)
        new = rationals(model.weight)
        old = weights if weights is not None else Fraction(n, n + 1)
        average = [rounded(old * a + (1 - old) * b) for a, b in zip(average, new, strict=True)]
    assert rationals(averaged.module.weight) == average


def test_encode_rational_is_what_exact_says() -> None:
    """The two oracles used here agree."""
    for value in (Fraction(1, 3), Fraction(-5, 7), Fraction(0)):
        assert encode_rational(value, posit16) == exact.nearest(value, posit16)
