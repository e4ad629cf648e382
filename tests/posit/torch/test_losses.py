"""Losses and their gradients against rationals, mpmath and float64; labels, reductions, refusals."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import Policy, PositTensor, posit_tensor
from tests.posit.torch.samples import posit, rounded, signed

FORMATS = [posit8, posit16]
REDUCTIONS = ["none", "mean", "sum"]
LABELS = torch.tensor([0, 4, -100, 2, 2, 1])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.3, 0.1])


def fractions(x: torch.Tensor) -> list[Fraction]:
    return [Fraction(value) for value in posit(x).values().reshape(-1).tolist()]


def codes(values: list[Fraction], fmt: Format) -> list[int]:
    return [signed(exact.nearest(value, fmt), fmt) for value in values]


def nearest(x: mpmath.mpf, fmt: Format) -> int:
    sign, mantissa, exponent, _ = mpmath.mpf(x)._mpf_
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return signed(exact.nearest(-value if sign else value, fmt), fmt)


def reduced(
    terms: list[Fraction], reduction: str, fmt: Format, divisor: Fraction | int | None = None
) -> list[int]:
    if reduction == "none":
        return codes(terms, fmt)
    total = sum(terms, Fraction(0))
    return codes([total / (divisor or len(terms)) if reduction == "mean" else total], fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_negative_log_likelihood_rounds_once(fmt: Format, reduction: str, weighted: bool) -> None:
    x = posit(rounded(6, 5, fmt=fmt).requires_grad_())
    weight = WEIGHTS if weighted else None
    loss = functional.nll_loss(x, LABELS, weight, reduction=reduction)
    g = rounded(6, fmt=fmt, seed=1) if reduction == "none" else posit_tensor(torch.tensor(0.7), fmt)
    loss.backward(g)
    table = np.array(fractions(x), object).reshape(6, 5)
    shares = [
        Fraction(0) if t < 0 else Fraction(float(WEIGHTS[t])) if weighted else Fraction(1)
        for t in LABELS.tolist()
    ]
    terms = [
        -share * table[i, max(t, 0)] for i, (share, t) in enumerate(zip(shares, LABELS.tolist(), strict=True))
    ]
    divisor = sum(shares, Fraction(0))
    assert posit(loss.detach()).codes.reshape(-1).tolist() == reduced(terms, reduction, fmt, divisor)
    given = fractions(g) * (1 if reduction == "none" else 6)
    wanted = [[Fraction(0)] * 5 for _ in range(6)]
    for i, t in enumerate(LABELS.tolist()):
        if t >= 0:
            wanted[i][t] = -given[i] * shares[i] / (divisor if reduction == "mean" else 1)
    assert posit(x.grad).codes.tolist() == [codes(row, fmt) for row in wanted]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3), (2, 5, 3, 1), (5,)], ids=str)
def test_cross_entropy_agrees_with_float64(
    shape: tuple[int, ...], weight: torch.Tensor | None, smoothing: float, reduction: str
) -> None:
    x = rounded(*shape, fmt=posit32, size=2.0).requires_grad_()
    labels = LABELS[3] if len(shape) == 1 else LABELS.reshape(shape[0], *shape[2:])
    kw: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    loss = functional.cross_entropy(x, labels, weight, **kw)
    real = posit(x.detach()).to_float(torch.float64).requires_grad_()
    wanted = functional.cross_entropy(real, labels, None if weight is None else weight.double(), **kw)
    g = rounded(*wanted.shape, fmt=posit32, seed=1)
    loss.backward(g)
    wanted.backward(g.to_float(torch.float64))
    assert loss.shape == wanted.shape
    assert real.grad is not None
    assert (posit(loss.detach()).to_float(torch.float64) - wanted).abs().max() < 1e-6
    assert (posit(x.grad).to_float(torch.float64) - real.grad).abs().max() < 1e-7


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_with_probabilities_agrees_with_float64(reduction: str) -> None:
    x, q = (
        rounded(4, 5, 3, fmt=posit32).requires_grad_(),
        posit(torch.softmax(rounded(4, 5, 3, fmt=posit32, seed=1), 1)),
    )
    real = posit(x.detach()).to_float(torch.float64).requires_grad_()
    loss = functional.cross_entropy(x, q, WEIGHTS, reduction=reduction, label_smoothing=0.2)
    wanted = functional.cross_entropy(
        real, q.to_float(torch.float64), WEIGHTS.double(), reduction=reduction, label_smoothing=0.2
    )
    g = rounded(*wanted.shape, fmt=posit32, seed=2)
    loss.backward(g)
    wanted.backward(g.to_float(torch.float64))
    assert real.grad is not None
    assert (posit(loss.detach()).to_float(torch.float64) - wanted).abs().max() < 1e-6
    assert (posit(x.grad).to_float(torch.float64) - real.grad).abs().max() < 1e-7


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_smoothed_cross_entropy_rounds_once_over_the_stored_log_softmax(fmt: Format, reduction: str) -> None:
    x = posit(rounded(6, 5, fmt=fmt).requires_grad_())
    x.codes.data[1] = 64  # all equal
    scores = posit(torch.log_softmax(x.detach(), 1))
    loss = functional.cross_entropy(x, LABELS, WEIGHTS, reduction=reduction, label_smoothing=0.25)
    g = rounded(6, fmt=fmt, seed=1) if reduction == "none" else posit_tensor(torch.tensor(0.7), fmt)
    loss.backward(g)
    weights = [Fraction(float(w)) for w in WEIGHTS]
    masses = [
        [
            w * (Fraction(3, 4) * (c == t) + Fraction(1, 20)) if t >= 0 else Fraction(0)
            for c, w in enumerate(weights)
        ]
        for t in LABELS.tolist()
    ]
    table = np.array(fractions(scores), object).reshape(6, 5)
    terms = [
        -sum((m * v for m, v in zip(row, line, strict=True)), Fraction(0))
        for row, line in zip(masses, table, strict=True)
    ]
    divisor = (
        sum((weights[t] for t in LABELS.tolist() if t >= 0), Fraction(0))
        if reduction == "mean"
        else Fraction(1)
    )
    assert posit(loss.detach()).codes.reshape(-1).tolist() == reduced(terms, reduction, fmt, divisor)
    given = fractions(g) * (1 if reduction == "none" else 6)
    got = posit(x.grad).codes.tolist()
    with mpmath.workprec(1000):
        for i, row in enumerate(masses):
            total = sum(row, Fraction(0))
            for j, mass in enumerate(row):
                power = mpmath.exp(mpmath.mpf(table[i, j].numerator) / table[i, j].denominator)
                share = given[i] / divisor
                true = power * share.numerator * total.numerator / share.denominator / total.denominator
                own = share * mass
                assert got[i][j] == nearest(true - mpmath.mpf(own.numerator) / own.denominator, fmt)


def test_labels_and_batches_that_make_no_sense_are_refused() -> None:
    x, labels = rounded(2, 5), torch.tensor([1, 7])
    cross = functional.cross_entropy
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: cross(x, labels), ShapeError, "got label 7; labels must be 0 to 4"),
        (lambda: cross(x, labels, label_smoothing=0.1), ShapeError, "got label 7; labels must be 0 to 4"),
        (lambda: cross(x, torch.tensor([1, -1])), ShapeError, "got label -1"),
        (lambda: nn.CrossEntropyLoss()(x, labels), ShapeError, "got label 7 .in CrossEntropyLoss"),
        (lambda: cross(rounded(0, 5), labels[:0]), ShapeError, "empty batch.*nothing to take the mean of"),
        (lambda: cross(rounded(0, 5), labels[:0], label_smoothing=0.1), ShapeError, "empty batch"),
        (lambda: cross(x, torch.tensor([-100, -100])), ShapeError, "all are ignored"),
        (lambda: cross(x, torch.rand(2, 5)), FormatMismatch, "got a torch.float32 operand"),
        (lambda: cross(x, rounded(2, 4)), ShapeError, "class probabilities of the shape"),
        (lambda: cross(x, x.like(x.codes).requires_grad_()), NoRuleError, "detach them"),
        (lambda: cross(x, torch.tensor([1, 2]), label_smoothing=1.5), ShapeError, "from 0 to 1, got 1.5"),
        (lambda: cross(x, torch.tensor([1, 2]), WEIGHTS[:4]), (ShapeError, RuntimeError), "weight"),  # type: ignore[list-item]  # PyTorch's or ours
        (lambda: functional.mse_loss(rounded(0), rounded(0)), ShapeError, "mean of, got an empty batch"),
        (lambda: functional.l1_loss(x, rounded(2, 4)), ShapeError, "equal shapes"),
        (lambda: functional.mse_loss(x, torch.ones(2, 5)), FormatMismatch, "got a torch.float32 operand"),
        (lambda: functional.huber_loss(x, x, delta=-1.0), (ShapeError, RuntimeError), "delta"),  # type: ignore[list-item]  # PyTorch's or ours
        (
            lambda: functional.binary_cross_entropy_with_logits(x, rounded(2, 5) * 9.0),
            ShapeError,
            "targets from 0 to 1",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_sums_over_nothing_are_zero() -> None:
    assert functional.cross_entropy(rounded(0, 5), LABELS[:0], reduction="sum").item() == 0
    assert functional.mse_loss(rounded(0), rounded(0), reduction="sum").item() == 0
    assert functional.cross_entropy(rounded(0, 5), LABELS[:0], reduction="none").shape == (0,)


def test_nar_reaches_the_loss_and_its_row() -> None:
    x, t = rounded(3, 4), torch.tensor([0, 1, 2])
    x.codes[1, 3] = -(1 << 15)
    for smoothing in (0.0, 0.1):
        leaf = posit(x.like(x.codes.clone()).requires_grad_())
        each = functional.cross_entropy(leaf, t, reduction="none", label_smoothing=smoothing)
        assert np.isnan(posit(each.detach()).values()).tolist() == [False, True, False]
        loss = functional.cross_entropy(leaf, t, label_smoothing=smoothing)
        assert np.isnan(loss.item())
        loss.backward()
        assert np.isnan(posit(leaf.grad).values()).any(axis=1).tolist() == [False, True, False]
    y = rounded(3, 4, seed=1)
    for function in (
        functional.mse_loss,
        functional.l1_loss,
        functional.huber_loss,
        functional.smooth_l1_loss,
    ):
        leaf = posit(x.like(x.codes.clone()).requires_grad_())
        loss = function(leaf, y)
        loss.backward()
        assert np.isnan(loss.item())
        assert np.argwhere(np.isnan(posit(leaf.grad).values())).tolist() == [[1, 3]]
    leaf = posit(x.like(x.codes.clone()).requires_grad_())
    loss = functional.binary_cross_entropy_with_logits(leaf, posit(torch.softmax(y, 1)))
    loss.backward()
    assert np.isnan(loss.item())
    assert np.argwhere(np.isnan(posit(leaf.grad).values())).tolist() == [[1, 3]]


def _huber(d: Fraction, delta: Fraction, factor: Fraction) -> Fraction:
    return factor * (d * d / 2 if abs(d) < delta else delta * (abs(d) - delta / 2))


def _huber_slope(d: Fraction, delta: Fraction, factor: Fraction) -> Fraction:
    return factor * (d if abs(d) < delta else delta * (1 if d > 0 else -1))


THIRD = Fraction(0.3)
KINDS: dict[str, tuple[Any, Callable[[Fraction], Fraction], Callable[[Fraction], Fraction]]] = {
    "mse": (functional.mse_loss, lambda d: d * d, lambda d: 2 * d),
    "l1": (functional.l1_loss, abs, lambda d: Fraction((d > 0) - (d < 0))),
    "smooth l1": (
        lambda x, y, reduction: functional.smooth_l1_loss(x, y, reduction=reduction, beta=0.3),
        lambda d: _huber(d, THIRD, 1 / THIRD),
        lambda d: _huber_slope(d, THIRD, 1 / THIRD),
    ),
    "huber": (
        lambda x, y, reduction: functional.huber_loss(x, y, reduction=reduction, delta=0.75),
        lambda d: _huber(d, Fraction(3, 4), Fraction(1)),
        lambda d: _huber_slope(d, Fraction(3, 4), Fraction(1)),
    ),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "fmt", [posit8, posit16, posit32, pytest.param(Format(32, 5), marks=pytest.mark.exhaustive)], ids=str
)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_differences_round_once(kind: str, fmt: Format, reduction: str) -> None:
    function, value, slope = KINDS[kind]
    x, y = rounded(4, 3, fmt=fmt), rounded(4, 3, fmt=fmt, seed=1)
    x.codes[0, 0] = y.codes[0, 0]
    x.codes[0, 1], y.codes[0, 1] = y.codes[0, 1] + 1, y.codes[0, 1]
    for shift, column in ((0.75, 0), (-0.75, 1), (1e-9, 2)):
        y.codes[1, column], x.codes[1, column] = 0, posit_tensor(torch.tensor(shift), fmt).codes.item()
    x, y = posit(x.requires_grad_()), posit(y.requires_grad_())
    loss = function(x, y, reduction=reduction)
    g = rounded(4, 3, fmt=fmt, seed=2) if reduction == "none" else posit_tensor(torch.tensor(0.7), fmt)
    loss.backward(g)
    differences = [a - b for a, b in zip(fractions(x), fractions(y), strict=True)]
    assert posit(loss.detach()).codes.reshape(-1).tolist() == reduced(
        list(map(value, differences)), reduction, fmt
    )
    given = fractions(g) * (1 if reduction == "none" else 12)
    wanted = [
        a * slope(d) / (12 if reduction == "mean" else 1) for a, d in zip(given, differences, strict=True)
    ]
    assert posit(x.grad).codes.reshape(-1).tolist() == codes(wanted, fmt)
    assert posit(y.grad).codes.reshape(-1).tolist() == codes([-each for each in wanted], fmt)


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_logistic_loss_rounds_once(fmt: Format, reduction: str, weighted: bool) -> None:
    x = posit_tensor(
        torch.tensor([[0.0, 1.5, -40.0, 30.0], [-0.1, 200.0, -1e4, 0.0], [3.0, -3.0, 1e-3, 2.0]]), fmt
    )
    y = posit_tensor(torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.25, 0.0, 1.0, 0.5], [1.0, 0.0, 1.0, 0.0]]), fmt)
    x = posit(x.requires_grad_())
    w, p = (
        (torch.tensor([[0.3], [1.0], [2.5]]), torch.tensor([0.1, 1.0, 3.0, 0.7]))
        if weighted
        else (None, None)
    )
    loss = functional.binary_cross_entropy_with_logits(x, y, w, reduction=reduction, pos_weight=p)
    g = rounded(3, 4, fmt=fmt, seed=2) if reduction == "none" else posit_tensor(torch.tensor(0.7), fmt)
    loss.backward(g)
    ones = torch.ones(3, 4)
    factors = [(ones if part is None else part.expand(3, 4)).reshape(-1).tolist() for part in (w, p)]
    given = fractions(g) * (1 if reduction == "none" else 12)
    values, slopes = [], []
    with mpmath.workprec(16000):
        for a, b, own, positive, share in zip(fractions(x), fractions(y), *factors, given, strict=True):
            up, down = (mpmath.mpf(f.numerator) / f.denominator for f in (1 - b, Fraction(positive) * b))
            power = mpmath.exp(mpmath.mpf(a.numerator) / a.denominator)
            values.append(mpmath.mpf(own) * (up * mpmath.log1p(power) + down * mpmath.log1p(1 / power)))
            slope = mpmath.mpf(own) * (up * power - down) / (1 + power)
            slopes.append(slope * share.numerator / share.denominator / (12 if reduction == "mean" else 1))
        if reduction != "none":
            values = [mpmath.fsum(values) / (12 if reduction == "mean" else 1)]
        assert posit(loss.detach()).codes.reshape(-1).tolist() == [capped(v, fmt) for v in values]
        assert posit(x.grad).codes.reshape(-1).tolist() == [capped(v, fmt) for v in slopes]


def capped(x: mpmath.mpf, fmt: Format) -> int:
    """The nearest code; what is far below minpos is minpos."""
    if x != 0 and abs(x) < mpmath.mpf(2) ** -2000:
        return 1 if x > 0 else -1
    return nearest(x, fmt)


def test_formats_follow_the_policy() -> None:
    policy = Policy(posit8, posit16, posit32)
    x, y = (PositTensor(rounded(4, 3, seed=s).codes, posit16, policy=policy) for s in range(2))
    t = torch.tensor([0, 2, 1, 1])
    calls: list[Callable[[PositTensor], torch.Tensor]] = [
        lambda a: functional.cross_entropy(a, t),
        lambda a: functional.cross_entropy(a, t, label_smoothing=0.1),
        lambda a: functional.mse_loss(a, y),
        lambda a: functional.l1_loss(a, y),
        lambda a: functional.binary_cross_entropy_with_logits(a, posit(torch.softmax(y, 1))),
        lambda a: functional.nll_loss(a, t, reduction="sum"),
    ]
    for call in calls:
        leaf = posit(x.like(x.codes.clone()).requires_grad_())
        loss = call(leaf)
        assert posit(loss).format == posit32
        loss.backward()
        assert posit(leaf.grad).format == posit16
    picked = [-fractions(x)[3 * i + int(c)] for i, c in enumerate(t)]
    assert posit(functional.nll_loss(x, t)).codes.item() == codes([sum(picked, Fraction(0)) / 4], posit32)[0]


def test_a_large_sum_has_the_bits_of_any_order() -> None:
    x, y = rounded(5000), rounded(5000, seed=1)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    one = functional.mse_loss(x, y, reduction="sum")
    other = functional.mse_loss(x.like(x.codes[order]), y.like(y.codes[order]), reduction="sum")
    assert posit(one).codes.item() == posit(other).codes.item()
