"""Activation functions and their derivatives against mpmath and rationals: every posit8, and posit16 at random."""

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
from posit.errors import NoRuleError
from posit.reference import exact
from posit.torch import Policy, PositTensor, posit_tensor
from posit.torch.ops import formulas
from posit.torch.ops.curves import Curve, multiply_slope
from posit.torch.tensor import Outcome
from tests.posit.torch.samples import value

Real = Callable[[Any], Any]
mp = mpmath.mp


def _to_x(real: Real, start: int) -> Real:
    """A function that falls short of x by less than 2**-600 x from `start` on, where 700 bits no longer show it."""
    return lambda x: real(x) if x < start else x * (1 - mp.mpf(2) ** -600)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _phi(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _tanh_argument(x: Any) -> Any:
    return mp.sqrt(2 / mp.pi) * (x + mp.mpf(44715) / 10**6 * x**3)


def _inside(x: Any) -> Any:
    return min(max(x + 3, mp.mpf(0)), mp.mpf(6))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

#: name: PyTorch's function, the real function, its derivative as PyTorch defines it where there is a kink
ACTIVATIONS: dict[str, tuple[Any, Real, Real]] = {
    "relu": (functional.relu, lambda x: max(x, 0), lambda x: x > 0),
    "relu6": (functional.relu6, lambda x: min(max(x, 0), 6), lambda x: 0 < x < 6),
    "hardtanh": (
        lambda x: functional.hardtanh(x, -0.3, 0.7),
        lambda x: min(max(x, mp.mpf(-0.3)), mp.mpf(0.7)),
        lambda x: -0.3 < x < 0.7,
    ),
    "leaky_relu": (
        lambda x: functional.leaky_relu(x, 0.01),
        lambda x: x if x > 0 else x * mp.mpf(0.01),
        lambda x: 1 if x > 0 else mp.mpf(0.01),
    ),
    "leaky_relu_quarter": (
        lambda x: functional.leaky_relu(x, 0.25),
        lambda x: x if x > 0 else x / 4,
        lambda x: 1 if x > 0 else mp.mpf(0.25),
    ),
    "elu": (
        lambda x: functional.elu(x, 0.7),
        lambda x: x if x > 0 else mp.mpf(0.7) * mp.expm1(x),
        lambda x: 1 if x > 0 else mp.mpf(0.7) * mp.exp(x),
    ),
    "selu": (
        functional.selu,
        lambda x: (x if x > 0 else mp.mpf(SELU_ALPHA) * mp.expm1(x)) * SELU_SCALE,
        lambda x: (1 if x > 0 else mp.mpf(SELU_ALPHA) * mp.exp(x)) * mp.mpf(SELU_SCALE),
    ),
    "celu": (
        lambda x: functional.celu(x, 2.0),
        lambda x: x if x > 0 else 2 * mp.expm1(x / 2),
        lambda x: 1 if x > 0 else mp.exp(x / 2),
    ),
    "silu": (
        functional.silu,
        _to_x(lambda x: x * _sigmoid(x), 480),
        lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    ),
    "gelu": (
        functional.gelu,
        _to_x(lambda x: x * _phi(x), 30),
        lambda x: _phi(x) + x * mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    ),
    "gelu_tanh": (
        lambda x: functional.gelu(x, approximate="tanh"),
        _to_x(lambda x: x * _sigmoid(2 * _tanh_argument(x)), 30),
        lambda x: (
            _sigmoid(2 * _tanh_argument(x))
            + x
            * _sigmoid(2 * _tanh_argument(x))
            * _sigmoid(-2 * _tanh_argument(x))
            * mp.sqrt(8 / mp.pi)
            * (1 + 3 * mp.mpf(44715) / 10**6 * x * x)
        ),
    ),
    "mish": (
        functional.mish,
        _to_x(lambda x: x * mp.tanh(mp.log1p(mp.exp(x))), 240),
        lambda x: mp.tanh(mp.log1p(mp.exp(x))) + x * mp.sech(mp.log1p(mp.exp(x))) ** 2 / (1 + mp.exp(-x)),
    ),
    "softplus": (
        functional.softplus,
        lambda x: x if x > 20 else mp.log1p(mp.exp(x)),
        lambda x: 1 if x > 20 else _sigmoid(x),
    ),
    "softplus_beta": (
        lambda x: functional.softplus(x, 1.7, 5),
        lambda x: x if x * 1.7 > 5 else mp.log1p(mp.exp(x * mp.mpf(1.7))) / mp.mpf(1.7),
        lambda x: 1 if x * 1.7 > 5 else _sigmoid(x * mp.mpf(1.7)),
    ),
    "logsigmoid": (functional.logsigmoid, lambda x: -mp.log1p(mp.exp(-x)), lambda x: _sigmoid(-x)),
    "hardswish": (
        functional.hardswish,
        lambda x: x * _inside(x) / 6,
        lambda x: (2 * x + 3) / 6 if abs(x) < 3 else x > 0,
    ),
    "hardsigmoid": (functional.hardsigmoid, lambda x: _inside(x) / 6, lambda x: mp.mpf(abs(x) < 3) / 6),
}
OF_RESULT: dict[str, tuple[Any, Real, Real]] = {
    "tanh": (torch.tanh, mp.tanh, lambda y: 1 - y * y),
    "sigmoid": (torch.sigmoid, _sigmoid, lambda y: y * (1 - y)),
}
FUNCTIONS = {**ACTIVATIONS, **OF_RESULT}


def nearest(real: Real, x: Fraction, fmt: Format, factor: Fraction = Fraction(1)) -> int:
    """Signed code of factor * real(x), with far more digits than any of these functions needs at such arguments."""
    with mp.workprec(700):
        y = mp.mpf(real(mp.mpf(x.numerator) / x.denominator)) * factor.numerator / factor.denominator
        if y == 0:
            return 0
        tiny = mp.mpf(2) ** -2000
        y = mp.sign(y) * max(abs(y), tiny)
        code = exact.nearest(Fraction(*_ratio(y)), fmt)
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def _ratio(y: Any) -> tuple[int, int]:
    sign, mantissa, exponent, _ = y._mpf_
    top = -int(mantissa) if sign else int(mantissa)
    return (top << exponent, 1) if exponent >= 0 else (top, 1 << -exponent)


def sample(
    fmt: Format, count: int, seed: int = 0
) -> Any:  # a PositTensor, but mypy takes its results for Tensor
    """All codes of a small format, else random ones around 1 and corners."""
    if fmt.nbits <= 8:
        return PositTensor(torch.arange(-(fmt.nar), fmt.nar).to(torch.int8), fmt)
    rng = np.random.default_rng(seed)
    corners = [-fmt.nar, 0, 1, -1, fmt.maxpos, -fmt.maxpos, 1 << (fmt.nbits - 2), -(1 << (fmt.nbits - 2))]
    moderate = posit_tensor(torch.from_numpy(rng.normal(size=count) * 3), fmt).codes.tolist()
    anything = rng.integers(-fmt.maxpos, fmt.maxpos, count // 4).tolist()
    dtype = {1: torch.int8, 2: torch.int16, 4: torch.int32}[fmt.storage.itemsize]
    return PositTensor(torch.tensor([*corners, *moderate, *anything], dtype=dtype), fmt)


def gradients(like: Any, fmt: Format, seed: int = 1) -> PositTensor:
    """Random codes; NaR somewhere."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-fmt.nar, fmt.nar, like.numel())
    near = posit_tensor(torch.from_numpy(rng.normal(size=like.numel()) / 8), fmt).codes.numpy()
    chosen = np.where(rng.random(like.numel()) < 0.3, codes, near)
    return PositTensor(torch.from_numpy(chosen.astype(f"int{8 * fmt.storage.itemsize}")), fmt)


def expected(real: Real, x: Any, to: Format) -> list[int]:
    values = [value(code, x.format) for code in x.codes.tolist()]
    return [-to.nar if each is None else nearest(real, each, to) for each in values]


def expected_back(slope: Real, g: PositTensor, x: Any, to: Format, *, gate: bool) -> list[int]:
    wanted = []
    for a, b in zip(g.codes.tolist(), x.codes.tolist(), strict=True):
        given, at = value(a, g.format), value(b, x.format)
        if gate:
            # selections pass the gradient as it is, NaR included, and where x is NaR
            kept = at is None or bool(slope(mp.mpf(at.numerator) / at.denominator))
            wanted.append(0 if not kept else -to.nar if given is None else nearest(lambda x: x, given, to))
        else:
            nar = given is None or at is None
            wanted.append(-to.nar if nar else nearest(slope, at, to, given))  # type: ignore[arg-type]
    return wanted


GELUS = (formulas.GELU_SLOPE, formulas.GELU_TANH_SLOPE)
GATES = ("relu", "relu6", "hardtanh")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("fmt", [posit8, posit16, Format(24)], ids=str)
def test_forward_is_correctly_rounded(name: str, fmt: Format) -> None:
    function, real, _ = FUNCTIONS[name]
    x = sample(fmt, 24 if fmt.nbits > 16 else 60)
    assert function(x).codes.tolist() == expected(real, x, fmt)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("fmt", [posit8, posit16, Format(24)], ids=str)
def test_backward_rounds_the_product_with_the_derivative_once(name: str, fmt: Format) -> None:
    function, _, slope = FUNCTIONS[name]
    x = sample(fmt, 24 if fmt.nbits > 16 else 60).requires_grad_()
    g = gradients(x, fmt)
    y = function(x)
    y.backward(g)
    saved = y.detach() if name in OF_RESULT else x.detach()
    assert isinstance(x.grad, PositTensor)
    assert x.grad.codes.tolist() == expected_back(slope, g, saved, fmt, gate=name in GATES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_mixed_formats_round_once_to_the_policys(name: str) -> None:
    function, real, slope = FUNCTIONS[name]
    policy = Policy(posit8, Format(12, 1), posit16)
    x: Any = PositTensor(sample(posit16, 40).codes, posit16, policy=policy).requires_grad_()
    y = function(x)
    assert y.format == posit8
    assert y.policy == policy
    assert y.codes.tolist() == expected(real, x, posit8)
    g = PositTensor(gradients(x, posit16).codes, posit16, policy=policy)
    y.backward(g)
    assert isinstance(x.grad, PositTensor)
    assert x.grad.format == Format(12, 1)
    saved = y.detach() if name in OF_RESULT else x.detach()
    assert x.grad.codes.tolist() == expected_back(slope, g, saved, Format(12, 1), gate=name in GATES)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "softplus", "gelu_tanh", "relu"])
def test_large_arguments_on_a_tie_of_a_narrower_format_end(name: str) -> None:
    """In posit16 1.03125 * 2**8 lies between two posit8: x - tiny and x must not be told apart by patience."""
    function = FUNCTIONS[name][0]
    policy = Policy(posit8, posit8, posit8)
    ties = [264.0, 296.0, 1056.0, 2.0**22 * 1.5]
    x: Any = PositTensor(posit_tensor(torch.tensor(ties), posit16).codes, posit16, policy=policy)
    x.requires_grad_()
    y = function(x)
    real = [Fraction(v) for v in ties]
    sign = {"relu": 0, "softplus": 0}.get(name, -1)  # softplus is x itself from 20 on
    hair = Fraction(1, 1 << 200)
    assert [c & 0xFF for c in y.codes.tolist()] == [
        exact.nearest(v * (1 + sign * hair), posit8) for v in real
    ]
    g = PositTensor(x.detach().codes, posit16, policy=policy)
    y.backward(g)
    rise = {"relu": 0, "softplus": 0}.get(name, 1)
    assert isinstance(x.grad, PositTensor)
    assert [c & 0xFF for c in x.grad.codes.tolist()] == [
        exact.nearest(v * (1 + rise * hair), posit8) for v in real
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_backward_agrees_with_torch(name: str) -> None:
    function = FUNCTIONS[name][0]
    x = sample(posit32, 40)[8:48].detach().requires_grad_()
    g = gradients(x, posit32)
    g = PositTensor(torch.where(g.codes == -posit32.nar, 0, g.codes), posit32)
    function(x).backward(g)
    real = x.to_float(torch.float64).requires_grad_()
    function(real).backward(g.to_float(torch.float64))
    assert isinstance(x.grad, PositTensor)
    torch.testing.assert_close(x.grad.to_float(torch.float64), real.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("curve", "slope"),
    [
        (formulas.GELU_SLOPE, ACTIVATIONS["gelu"][2]),
        (formulas.SILU_SLOPE, ACTIVATIONS["silu"][2]),
        (formulas.MISH_SLOPE, ACTIVATIONS["mish"][2]),
        (formulas.GELU_TANH_SLOPE, ACTIVATIONS["gelu_tanh"][2]),
    ],
    ids=["gelu", "silu", "mish", "gelu_tanh"],
)
@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_slopes_near_their_zeros(curve: Curve, slope: Real, fmt: Format) -> None:
    """The derivative's terms cancel there."""
    with mp.workprec(200):
        root = float(mp.findroot(slope, -0.8 if curve in GELUS else -1.2))
    code = int(posit_tensor(torch.tensor([root], dtype=torch.float64), fmt).codes)
    dtype = torch.int16 if fmt.nbits == 16 else torch.int32
    x = PositTensor(torch.arange(code - 4, code + 5).to(dtype), fmt)
    g = gradients(x, fmt, 5)
    got = multiply_slope(curve, g, x, Outcome(fmt, None))
    assert got.codes.tolist() == expected_back(slope, g, x, fmt, gate=False)


@pytest.mark.parametrize(
    "curve", [formulas.GELU_SLOPE, formulas.SILU_SLOPE, formulas.MISH_SLOPE, formulas.GELU_TANH_SLOPE]
)
def test_stated_bounds_hold(curve: Curve) -> None:
    """The float64 slopes are within their bounds wherever these are used."""
    x = np.concatenate([np.linspace(-12, 12, 181), np.array([-36.0, -25.5, 1e-9, -1e-9, 55.0, 300.0])])
    values, bounds = curve.approximate(x)
    bounds = np.broadcast_to(bounds, x.shape)
    for at, got, bound in zip(x.tolist(), values.tolist(), bounds.tolist(), strict=True):
        true = curve.solve(Fraction(at))
        with mp.workprec(400):
            wanted = mp.mpf(true.numerator) / true.denominator if isinstance(true, Fraction) else true(mp)  # type: ignore[misc]
            lost = abs(wanted) < mp.mpf(2) ** -980 > abs(got)  # below every posit
            assert lost or abs(got - wanted) <= abs(wanted) * (bound + 2.0**-200), at


def test_prelu_and_its_weight() -> None:
    layer: Any = nn.PReLU(3, init=0.3)
    layer.weight = nn.Parameter(posit_tensor(layer.weight.detach(), posit16))
    x: Any = posit_tensor(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), posit16)
    x.requires_grad_()
    y = layer(x)
    w = value(int(layer.weight.codes[0]), posit16)
    assert w is not None
    values = [value(c, posit16) for c in x.codes.reshape(-1).tolist()]
    wanted = [nearest(lambda x: x, v if v > 0 else v * w, posit16) for v in values if v is not None]
    assert y.codes.reshape(-1).tolist() == wanted
    y.sum().backward()
    grad: Any = layer.weight.grad
    below = [
        [nearest(lambda x: x, min(v, Fraction(0)), posit16) for v in values[i::3] if v is not None]
        for i in range(3)
    ]
    sums = [sum((value(c, posit16) or Fraction(0) for c in column), Fraction(0)) for column in below]
    assert grad.codes.tolist() == [nearest(lambda x: x, total, posit16) for total in sums]


def test_in_place_forms_keep_the_tensors_format() -> None:
    policy = Policy(posit8, posit8, posit8)
    x = PositTensor(sample(posit16, 30).codes, posit16, policy=policy)
    for name in ("relu_", "tanh_", "sigmoid_"):
        y = x.clone()
        assert getattr(y, name)() is y
        assert y.format == posit16
        assert y.codes.tolist() == expected(FUNCTIONS[name[:-1]][1], x, posit16)
    leaf: Any = PositTensor(sample(posit16, 30).codes, posit16).requires_grad_()
    functional.elu(leaf.clone(), inplace=True).backward(gradients(leaf, posit16))
    assert leaf.grad is not None


def test_what_has_no_rule_says_so() -> None:
    x = posit_tensor(torch.ones(4), posit16)
    with pytest.raises(NoRuleError, match=r"glu.*x.chunk"):
        functional.glu(x)
    with pytest.raises(NoRuleError, match="needs a positive beta"):
        functional.softplus(x, -1.0)
    with pytest.raises(NoRuleError, match=r"rrelu.* has no rule for PositTensor"):
        functional.rrelu(x, training=True)  # draws its slopes
