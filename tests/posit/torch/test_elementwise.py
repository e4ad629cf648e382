"""Arithmetic, powers, comparisons and selection on PositTensor against rationals, mpmath and float64 PyTorch."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from posit import Format, posit8, posit16, posit32
from posit.errors import FormatMismatch, NonFiniteError, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import Policy, PositTensor, posit_tensor
from tests.posit.torch.samples import value

MIXED = Policy(posit8, Format(12, 1), posit16)
WIDE = Format(20, 5)  # its products leave float64's range
Rational = Fraction | None


def codes(values: list[int], fmt: Format, policy: Policy | None = None) -> Any:  # PositTensor
    dtype = {1: torch.int8, 2: torch.int16, 4: torch.int32}[fmt.storage.itemsize]
    return PositTensor(torch.tensor(values, dtype=dtype), fmt, policy=policy)


def sample(fmt: Format, count: int = 120, seed: int = 0, policy: Policy | None = None) -> Any:
    """Random codes, numbers around 1, zeros, ends, NaR."""
    rng = np.random.default_rng(seed)
    anything = rng.integers(-fmt.maxpos, fmt.maxpos, count // 2).tolist()
    near = posit_tensor(torch.from_numpy(rng.normal(size=count - count // 2)), fmt).codes.tolist()
    mixed = rng.permutation([*anything, *near]).tolist()
    corners = [0, 1, -1, fmt.maxpos, -fmt.maxpos, -fmt.nar, 1 << (fmt.nbits - 2)]
    for place in range(0, count, 9):
        mixed[place] = corners[place // 9 % len(corners)]
    return codes(mixed[:count], fmt, policy)


def sample_pair(a: Format, b: Format, policy: Policy | None = None) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    x = sample(a, 180, 1, policy)
    return x, codes(rng.permutation(sample(b, 180, 2).codes.tolist()).tolist(), b, policy)


def values(x: Any) -> list[Rational]:
    assert isinstance(x, PositTensor)
    return [value(code, x.format) for code in x.codes.reshape(-1).tolist()]


def signed(x: Rational, fmt: Format) -> int:
    code = fmt.nar if x is None else exact.nearest(x, fmt)
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def check(got: Any, wanted: Sequence[Rational], fmt: Format) -> None:
    assert isinstance(got, PositTensor)
    assert got.format == fmt
    assert got.codes.reshape(-1).tolist() == [signed(x, fmt) for x in wanted]


def lifted(function: Callable[..., Rational]) -> Callable[..., Rational]:
    return lambda *given: None if None in given else function(*given)


def quotient(a: Fraction, b: Fraction) -> Rational:
    return a / b if b else None


BINARY: dict[str, tuple[Any, Callable[..., Rational]]] = {
    "add": (torch.add, lambda a, b: a + b),
    "sub": (torch.sub, lambda a, b: a - b),
    "rsub": (torch.rsub, lambda a, b: b - a),
    "mul": (torch.mul, lambda a, b: a * b),
    "div": (torch.div, quotient),
    "add_scaled": (lambda x, y: torch.add(x, y, alpha=0.3), lambda a, b: a + Fraction(0.3) * b),
    "sub_scaled": (lambda x, y: torch.sub(x, y, alpha=-7), lambda a, b: a + 7 * b),
    "maximum": (torch.maximum, max),
    "minimum": (torch.minimum, min),
    "addcmul": (lambda x, y: torch.addcmul(x, y, y, value=0.1), lambda a, b: a + Fraction(0.1) * b * b),
    "addcmul_2": (lambda x, y: torch.addcmul(x, x, y, value=2), lambda a, b: a + 2 * a * b),
    "addcdiv": (
        lambda x, y: torch.addcdiv(x, x, y, value=3),
        lambda a, b: a + 3 * a / b if b else None,
    ),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), lambda a, b: a + Fraction(0.3) * (b - a)),
    "where": (lambda x, y: torch.where(torch.ones(x.shape, dtype=torch.bool), x, y), lambda a, b: a),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, WIDE], ids=str)
def test_operators_of_two_tensors_round_once(name: str, fmt: Format) -> None:
    function, rational = BINARY[name]
    x, y = sample_pair(fmt, fmt)
    if name != "where":
        rational = lifted(rational)
    check(function(x, y), [rational(a, b) for a, b in zip(values(x), values(y), strict=True)], fmt)


@pytest.mark.parametrize("name", BINARY)
def test_operators_of_two_formats_round_once_to_the_policys(name: str) -> None:
    function, rational = BINARY[name]
    x, y = sample_pair(posit16, posit8, MIXED)
    if name != "where":
        rational = lifted(rational)
    got = function(x, y)
    check(got, [rational(a, b) for a, b in zip(values(x), values(y), strict=True)], posit8)
    assert got.policy == MIXED


NUMBERS = [0.1, 2, -0.5, 3, 1e-5, 7.25, 0, 1e-200]


@pytest.mark.parametrize("fmt", [posit8, posit16, Format(12, 1), posit32, WIDE], ids=str)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_python_number_is_exact(fmt: Format, number: float) -> None:
    x, r = sample(fmt), Fraction(number)
    v = values(x)
    check(x + number, [lifted(lambda a: a + r)(a) for a in v], fmt)
    check(number - x, [lifted(lambda a: r - a)(a) for a in v], fmt)
    check(x * number, [lifted(lambda a: a * r)(a) for a in v], fmt)
    check(x / number, [lifted(lambda a: quotient(a, r))(a) for a in v], fmt)
    check(number / x, [lifted(lambda a: quotient(r, a))(a) for a in v], fmt)


@pytest.mark.parametrize("number", [0.1, -3])
def test_tables_of_long_tensors_give_the_same(number: float) -> None:
    every: Any = PositTensor(torch.arange(-(1 << 15), 1 << 15).to(torch.int16), posit16)
    long = every.repeat(2)
    for short, full in ((every[::97] * number, long * number), (number / every[::97], number / long)):
        assert torch.equal(full.codes[: 1 << 16][::97], short.codes)


def test_infinite_numbers_are_refused() -> None:
    x = sample(posit16)
    operations: list[Any] = [lambda: x * math.inf, lambda: x + math.nan, lambda: x.clamp_min(math.inf)]
    for operation in operations:
        with pytest.raises(NonFiniteError, match="posits have no infinities"):
            operation()
    with pytest.raises(NonFiniteError, match=r"masked_fill.* got -inf.*attn_mask"):
        x.masked_fill(x.isnan(), -math.inf)
    with pytest.raises(NoRuleError, match="would hide NaR"):
        x.nan_to_num()


def test_integers_and_masks_are_exact_numbers_and_floats_are_refused() -> None:
    x = sample(posit16)
    whole = torch.arange(x.numel()) - 50
    check(
        x * whole,
        [None if a is None else a * n for a, n in zip(values(x), whole.tolist(), strict=True)],
        posit16,
    )
    mask = whole % 3 == 0
    check(
        x * mask,
        [None if a is None else a * n for a, n in zip(values(x), mask.tolist(), strict=True)],
        posit16,
    )
    floats = torch.ones(120)
    operations: list[Any] = [lambda: x * floats, lambda: x == floats, lambda: floats / x]
    for operation in operations:
        with pytest.raises(FormatMismatch, match="got a torch.float32 operand"):
            operation()


def test_shapes_broadcast_and_strides_do_not_matter() -> None:
    x, y = sample(posit16, 12).view(3, 4), sample(posit16, 30, 3).view(6, 5)[::2, 1:2]
    wanted = [
        None if a is None or b is None else a * b
        for row, b in zip(np.array(values(x), object).reshape(3, 4), values(y), strict=True)
        for a in row
    ]
    check(x * y, wanted, posit16)
    assert torch.equal((x.t() * y.t()).codes, (x * y).codes.t())
    assert (x[:0] + x[:0]).shape == (0, 4)
    with pytest.raises(ShapeError, match=r"shapes \(3, 4\), \(3,\).*do not broadcast"):
        x.mul(y[:, 0])


def test_in_place_forms_write_into_the_tensors_own_format() -> None:
    x, y = sample_pair(posit16, posit8, MIXED)
    pairs = list(zip(values(x), values(y), strict=True))
    for name, rational in (
        ("add_", lambda a, b: a + b),
        ("sub_", lambda a, b: a - b),
        ("mul_", lambda a, b: a * b),
        ("div_", quotient),
    ):
        target = x.clone()
        assert getattr(target, name)(y) is target
        check(target, [lifted(rational)(a, b) for a, b in pairs], posit16)
    target = x.clone()
    view = target[3:5]
    target.neg_().clamp_(-1, 1).mul_(0.3)
    assert torch.equal(view.codes, target.codes[3:5])
    with pytest.raises(ShapeError, match="cannot write a result of shape"):
        x[:1].clone().add_(x)


def test_signs_and_integers() -> None:
    x = sample(posit16)
    v = values(x)
    check(-x, [None if a is None else -a for a in v], posit16)
    check(x.abs(), [None if a is None else abs(a) for a in v], posit16)
    check(x.sign(), [None if a is None else Fraction((a > 0) - (a < 0)) for a in v], posit16)
    check(x.floor(), [None if a is None else Fraction(math.floor(a)) for a in v], posit16)
    check(x.round(), [None if a is None else Fraction(round(a)) for a in v], posit16)
    odd = sample(Format(12, 1))
    check(odd.abs(), [None if a is None else abs(a) for a in values(odd)], Format(12, 1))


SMOOTH: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sqrt": (
        torch.sqrt,
        lambda x: mpmath.sqrt(x) if x >= 0 else None,
        lambda x: 1 / (2 * mpmath.sqrt(x)) if x > 0 else None,
    ),
    "rsqrt": (
        torch.rsqrt,
        lambda x: 1 / mpmath.sqrt(x) if x > 0 else None,
        lambda x: -1 / (2 * x * mpmath.sqrt(x)) if x > 0 else None,
    ),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x if x else None, lambda x: -1 / x**2 if x else None),
    "square": (torch.square, lambda x: x**2, lambda x: 2 * x),
    "sin": (torch.sin, mpmath.sin, mpmath.cos),
    "cos": (torch.cos, mpmath.cos, lambda x: -mpmath.sin(x)),
    "erf": (torch.erf, mpmath.erf, lambda x: 2 * mpmath.exp(-x * x) / mpmath.sqrt(mpmath.pi)),
    "expm1": (torch.expm1, mpmath.expm1, mpmath.exp),
    "log1p": (
        torch.log1p,
        lambda x: mpmath.log1p(x) if x > -1 else None,
        lambda x: 1 / (1 + x) if x > -1 else None,
    ),
    "pow3": (lambda x: x**3, lambda x: x**3, lambda x: 3 * x**2),
    "pow_tenth": (
        lambda x: x**0.1,
        lambda x: x ** mpmath.mpf(0.1) if x >= 0 else None,
        lambda x: mpmath.mpf(0.1) * x ** (mpmath.mpf(0.1) - 1) if x > 0 else None,
    ),
    "pow_minus_2": (
        lambda x: torch.pow(x, -2),
        lambda x: x**-2 if x else None,
        lambda x: -2 * x**-3 if x else None,
    ),
}


def real(function: Callable[[Any], Any], x: Rational, fmt: Format, factor: Rational = Fraction(1)) -> int:
    """Signed code of factor * function(x)."""
    if x is None or factor is None:
        return -fmt.nar
    with mpmath.workprec(700):
        y = function(mpmath.mpf(x.numerator) / x.denominator)
        if y is None:
            return -fmt.nar
        y = mpmath.mpf(y) * factor.numerator / factor.denominator
        if y == 0:
            return 0
        y = mpmath.sign(y) * min(max(abs(y), mpmath.mpf(2) ** -2000), mpmath.mpf(2) ** 2000)
        sign, mantissa, exponent, _ = y._mpf_
        size = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
        return signed(-size if sign else size, fmt)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("fmt", [posit8, posit16, Format(20)], ids=str)
def test_functions_and_derivatives_round_once(name: str, fmt: Format) -> None:
    function, formula, slope = SMOOTH[name]
    x, g = sample_pair(fmt, fmt)
    x.requires_grad_()
    y = function(x)
    assert y.codes.tolist() == [real(formula, a, fmt) for a in values(x)]
    y.backward(g)
    assert isinstance(x.grad, PositTensor)
    assert x.grad.codes.tolist() == [
        real(slope, a, fmt, b) for a, b in zip(values(x), values(g), strict=True)
    ]


def test_powers_of_tensors_agree_with_the_number_layer() -> None:
    x, p = sample_pair(posit16, posit16)
    from posit import _elementary

    wanted = _elementary.evaluate2("pow", x.codes.numpy(), p.codes.numpy(), posit16)
    assert (x**p).codes.tolist() == wanted.tolist()
    twos = 2 ** codes([1 << 14, 0, -(1 << 14)], posit16)
    check(twos, [Fraction(2), Fraction(1), Fraction(1, 2)], posit16)


def test_a_quotients_gradients_round_once_each() -> None:
    x, y = sample_pair(posit16, posit16)
    g = codes(np.random.default_rng(9).permutation(x.codes.tolist()).tolist(), posit16)
    x.requires_grad_()
    y.requires_grad_()
    (x / y).backward(g)
    triples = list(zip(values(g), values(x), values(y), strict=True))
    check(x.grad, [None if g is None or b is None else quotient(g, b) for g, _, b in triples], posit16)
    fall = lifted(lambda g, a, b: -g * a / b**2 if b else None)
    check(y.grad, [fall(*triple) for triple in triples], posit16)
    scale = posit_tensor(torch.tensor(3.0), posit16).requires_grad_()
    (codes([1 << 14] * 5, posit16) / scale).sum().backward()
    assert isinstance(scale.grad, PositTensor)
    third = value(signed(Fraction(-1, 9), posit16), posit16)
    assert third is not None
    check(scale.grad, [5 * third], posit16)
    (3.0 / y).backward(g)  # a number over posits


def leaf(x: torch.Tensor) -> Any:
    return posit_tensor(x, posit32).requires_grad_()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x * y + x - y,
        lambda x, y: torch.where(x.gt(0), x, y * 2),
        lambda x, y: torch.maximum(x, y) * torch.minimum(x, 0.5 * y),
        lambda x, y: x.clamp(-0.5, 0.7) + y.clamp(min=-0.1),
        lambda x, y: (x.abs() + 1).log() * y.exp(),
        lambda x, y: x.masked_fill(y.gt(0), 0.5) * y,
        lambda x, y: torch.lerp(x, y, 0.25),
        lambda x, y: torch.addcmul(x, x, y, value=0.5),
        lambda x, y: (x.view(4, 5) * y[:5]).amax(1),
        lambda x, y: x.view(4, 5).max(1).values * y[:4],
        lambda x, y: x.max() * y.min(),
        lambda x, y: x.topk(3).values.sum() + y.sort().values[2],
        lambda x, y: (x.square() + 1).rsqrt() * (y.square() + 1).pow(1.5),
        lambda x, y: (x.clone().mul_(2).add_(y).relu_() - 1) / (y.square() + 1),
        lambda x, y: 1 / (1 + (-x).exp()) - y,
        lambda x, y: x.tan() + y.sinh() + x.atan(),
    ],
)
def test_gradients_agree_with_float64(function: Any) -> None:
    torch.manual_seed(0)
    x, y = (leaf(torch.randn(20)) for _ in range(2))
    a, b = (each.to_float(torch.float64).requires_grad_() for each in (x, y))
    got, wanted = function(x, y), function(a, b)
    got.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(got.to_float(torch.float64), wanted.detach(), rtol=1e-6, atol=1e-7)
    for mine, theirs in ((x.grad, a.grad), (y.grad, b.grad)):
        assert isinstance(mine, PositTensor)
        torch.testing.assert_close(mine.to_float(torch.float64), theirs, rtol=2e-6, atol=2e-7)


def test_comparisons_follow_the_standards_order() -> None:
    def key(x: Rational) -> Fraction:
        return Fraction(-(10**305)) if x is None else x

    import operator

    x, y = sample_pair(posit16, posit16)
    z = sample(posit8, 180, 4)
    for other, relation in itertools.product((y, z, x), ("eq", "ne", "lt", "le", "gt", "ge")):
        got = getattr(torch, relation)(x, other)
        assert got.dtype == torch.bool
        test = getattr(operator, relation)
        assert got.tolist() == [test(key(a), key(b)) for a, b in zip(values(x), values(other), strict=True)]
    for number, relation in itertools.product(
        (0.5, 0.3, 0, 1e-300, -1e-300, 1e300, -7.0, math.inf, -math.inf), ("eq", "ne", "lt", "le", "gt", "ge")
    ):
        for each in (x, z, sample(Format(12, 1))):
            if number == -math.inf:
                each = codes(
                    [c for c in each.codes.tolist() if c != -each.format.nar], each.format
                )  # NaR is below every real, and there is nothing below -inf
            test = getattr(operator, relation)
            wanted = [test(float(key(a)), number) for a in values(each)]
            assert getattr(torch, relation)(each, number).tolist() == wanted, (number, relation)


def test_nar_is_found_and_wins() -> None:
    x = codes([3, -posit16.nar, 7, -5], posit16)
    assert x.isnan().tolist() == [False, True, False, False]
    assert x.isfinite().tolist() == [True, False, True, True]
    assert not x.isinf().any()
    assert int(x.argmax()) == int(x.argmin()) == 1
    for largest in (x.max(), x.min(), x.amax(0), x.max(dim=0).values, x.amin(0)):
        check(largest, [None], posit16)
    assert x.clamp(0, 1e-30).codes.tolist() == [1, -posit16.nar, 1, 0]
    assert codes([posit16.maxpos, -posit16.nar, 3], posit16)[::2].max().codes.item() == posit16.maxpos
    check(torch.maximum(x, x.flip(0)), values(codes([3, -posit16.nar, -posit16.nar, 3], posit16)), posit16)


def test_order_statistics_agree_with_torch() -> None:
    x: Any = posit_tensor(torch.randn(6, 7, generator=torch.Generator().manual_seed(3)), posit16)
    real = x.to_float()
    assert torch.equal(x.argmax(1), real.argmax(1))
    assert torch.equal(x.sort(dim=0, descending=True).indices, real.sort(dim=0, descending=True).indices)
    assert torch.equal(x.topk(3, dim=1).values.to_float(), real.topk(3, dim=1).values)
    assert torch.equal(x.argsort(), real.argsort())
    assert x.any()
    assert not (x * 0).any()
    assert torch.equal(x.min(1).values.to_float(), real.min(1).values)


def test_masks_select_and_numbers_are_rounded_once() -> None:
    x = sample(posit16, policy=MIXED)
    mask = torch.arange(120) % 2 == 0
    got = x.masked_fill(mask, 0.3)
    check(got, [Fraction(0.3) if m else a for m, a in zip(mask.tolist(), values(x), strict=True)], posit8)
    got = torch.where(mask, x, 0.3)
    check(got, [a if m else Fraction(0.3) for m, a in zip(mask.tolist(), values(x), strict=True)], posit8)
    assert torch.where(mask.view(2, 60), x.view(2, 60)[:1], 0.0).shape == (2, 60)
    y = x.clone()
    y.masked_fill_(mask, math.nan)
    assert y.isnan().tolist() == [m or a is None for m, a in zip(mask.tolist(), values(x), strict=True)]
    with pytest.raises(FormatMismatch, match="needs a mask of torch.bool"):
        torch.ops.aten.where.self(mask.int(), x, x)
