"""LSTM, GRU and plain RNN through PyTorch's own modules: float64 agrees, rationals decide, refusals are named."""

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

from posit import Format, posit8, posit16, posit32
from posit._polynomials import Leaf, leaf, sum_of_products
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.reference import exact
from posit.torch import Policy, PositTensor, gradient_sums, posit_tensor
from tests.posit.torch.samples import posit

MIXED = Policy(activations=posit8, gradients=posit16, loss=posit16)


def random(shape: tuple[int, ...], fmt: Format, seed: int = 0, policy: Policy | None = None) -> PositTensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return PositTensor(posit_tensor(values, fmt).codes, fmt, policy=policy)


def converted(module: nn.Module, fmt: Format, policy: Policy | None = None) -> tuple[nn.Module, nn.Module]:
    """The module with posit parameters, and its float64 twin with the same numbers."""
    twin = copy.deepcopy(module).double()
    for number, (name, parameter) in enumerate(list(module.named_parameters())):
        rounded = random(tuple(parameter.shape), fmt, 100 + number, policy)
        rounded = PositTensor(posit_tensor(rounded.to_float() / 2, fmt).codes, fmt, policy=policy)
        setattr(module, name, nn.Parameter(rounded))
        twin.get_parameter(name).data.copy_(rounded.to_float(torch.float64))
    return module, twin


MODULES: list[Callable[[], nn.Module]] = [
    lambda: nn.LSTM(5, 7),
    lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True),
    lambda: nn.LSTM(5, 7, bias=False),
    lambda: nn.GRU(5, 7),
    lambda: nn.GRU(5, 7, num_layers=2, bidirectional=True, batch_first=True),
    lambda: nn.GRU(5, 7, bias=False),
    lambda: nn.RNN(5, 7, num_layers=2),
    lambda: nn.RNN(5, 7, nonlinearity="relu", bidirectional=True),
]


@pytest.mark.parametrize("number", range(len(MODULES)))
@pytest.mark.parametrize("initial", [False, True])
def test_sequences_and_their_gradients_agree_with_float64(number: int, initial: bool) -> None:
    module, twin = converted(MODULES[number](), posit32)
    x = random((4, 6, 5), posit32).requires_grad_()
    real = posit(x).to_float(torch.float64).requires_grad_()
    shape = tuple(twin(real)[1][0].shape) if isinstance(module, nn.LSTM) else tuple(twin(real)[1].shape)
    starts = [random(shape, posit32, 7 + n).requires_grad_() for n in range(1 + isinstance(module, nn.LSTM))]
    reals = [posit(start).to_float(torch.float64).requires_grad_() for start in starts]
    got = flat(module(x, states(starts)) if initial else module(x))
    wanted = flat(twin(real, states(reals)) if initial else twin(real))
    grads = [random(tuple(each.shape), posit32, 30 + n) for n, each in enumerate(wanted)]
    torch.autograd.backward(got, grads)
    torch.autograd.backward(wanted, [grad.to_float(torch.float64) for grad in grads])
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(posit(one.detach()).to_float(torch.float64), other, rtol=1e-6, atol=1e-7)
    leaves = [(x, real), *zip(module.parameters(), twin.parameters(), strict=True)]
    leaves += list(zip(starts, reals, strict=True)) if initial else []
    for one, other in leaves:
        assert other.grad is not None
        assert torch.allclose(posit(one.grad).to_float(torch.float64), other.grad, rtol=1e-5, atol=1e-6)


def states(tensors: list[Any]) -> Any:
    return tuple(tensors) if len(tensors) > 1 else tensors[0]


def flat(result: Any) -> list[Any]:
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


def test_a_sequence_without_a_batch() -> None:
    module, twin = converted(nn.GRU(5, 7), posit32)
    x = random((4, 5), posit32)
    got, wanted = module(x), twin(x.to_float(torch.float64))
    assert got[0].shape == wanted[0].shape
    assert torch.allclose(posit(got[1].detach()).to_float(torch.float64), wanted[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTMCell(5, 7), lambda: nn.GRUCell(5, 7, bias=False), lambda: nn.RNNCell(5, 7)]
)
def test_cells_agree_with_float64(make: Callable[[], nn.Module]) -> None:
    module, twin = converted(make(), posit32)
    x = random((3, 5), posit32)
    got, wanted = module(x), twin(x.to_float(torch.float64))
    got, wanted = (each if isinstance(each, tuple) else (each,) for each in (got, wanted))
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(posit(one.detach()).to_float(torch.float64), other, rtol=1e-6, atol=1e-7)
    grad = random((3, 7), posit32, 1)
    got[0].backward(grad)
    wanted[0].backward(grad.to_float(torch.float64))
    for one, other in zip(module.parameters(), twin.parameters(), strict=True):
        assert other.grad is not None
        assert torch.allclose(posit(one.grad).to_float(torch.float64), other.grad, rtol=1e-5, atol=1e-6)


# The rounding points of an LSTM, one by one, by rationals and mpmath


def nearest(value: Fraction, fmt: Format) -> Fraction:
    found = exact.value(exact.nearest(value, fmt), fmt)
    assert found is not None
    return found


def function(name: str, value: Fraction, fmt: Format) -> Fraction:
    with mpmath.workprec(2000):
        x = mpmath.mpf(value.numerator) / value.denominator
        y = mpmath.tanh(x) if name == "tanh" else 1 / (1 + mpmath.exp(-x))
        return nearest(Fraction(int(y * mpmath.mpf(2) ** 1500), 2**1500), fmt)


def table(x: Any) -> list[list[Fraction]]:
    return [[Fraction(v) for v in row] for row in x.tolist()]


def dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def lstm_by_rationals(
    module: Any, x: list[list[Fraction]], fmt: Format
) -> tuple[list[list[Fraction]], list[dict[str, list[Fraction]]]]:
    """Hidden states and all that each step kept, for a batch of one."""
    w, u = table(module.weight_ih_l0), table(module.weight_hh_l0)
    b = [
        dot([Fraction(1)] * 2, [Fraction(p), Fraction(q)])
        for p, q in zip(module.bias_ih_l0.tolist(), module.bias_hh_l0.tolist(), strict=True)
    ]
    width = len(u[0])
    h = c = [Fraction(0)] * width
    outputs, kept = [], []
    for row in x:
        sums = [nearest(dot(row, w[j]) + dot(h, u[j]) + b[j], fmt) for j in range(4 * width)]
        i, f, g, o = (
            [function("tanh" if block == 2 else "sigmoid", v, fmt) for v in sums[block * width :][:width]]
            for block in range(4)
        )
        before, cell = h, c
        c = [nearest(f[j] * c[j] + i[j] * g[j], fmt) for j in range(width)]
        t = [function("tanh", v, fmt) for v in c]
        h = [nearest(o[j] * t[j], fmt) for j in range(width)]
        outputs.append(h)
        kept.append({"i": i, "f": f, "g": g, "o": o, "c": cell, "t": t, "h": before})
    kept.append({"c": c})
    return outputs, kept


@pytest.mark.parametrize(("forward", "backward"), [(posit16, posit16), (posit8, posit16)], ids=str)
def test_every_rounding_point_of_an_lstm(forward: Format, backward: Format) -> None:
    policy = Policy(forward, backward, backward)
    module, _ = converted(nn.LSTM(2, 3), backward, policy)
    x = random((4, 1, 2), forward, 1, policy).requires_grad_()
    rows = table(x.reshape(4, 2))
    output, (hidden, cell) = module(x)
    assert posit(output).format == forward
    wanted, kept = lstm_by_rationals(module, rows, forward)
    assert table(output.reshape(4, 3)) == wanted
    assert table(hidden.reshape(1, 3)) == wanted[-1:]
    assert table(cell.reshape(1, 3)) == [kept[-1]["c"]]

    grad = random((4, 1, 3), backward, 2, policy)
    output.backward(grad)
    given, u = table(grad.reshape(4, 3)), table(module.weight_hh_l0)
    gates: list[list[Fraction]] = [[] for _ in range(4)]
    into_c = [Fraction(0)] * 3
    for t in range(3, -1, -1):
        k = kept[t]
        after = [Fraction(0)] * 3
        if t < 3:
            after = [dot(gates[t + 1], [u[row][j] for row in range(12)]) for j in range(3)]
        h = [nearest(given[t][j] + after[j], backward) for j in range(3)]
        c = [nearest(h[j] * k["o"][j] * (1 - k["t"][j] ** 2) + into_c[j], backward) for j in range(3)]
        exact_gates = (
            [c[j] * k["g"][j] * k["i"][j] * (1 - k["i"][j]) for j in range(3)]
            + [c[j] * k["c"][j] * k["f"][j] * (1 - k["f"][j]) for j in range(3)]
            + [c[j] * k["i"][j] * (1 - k["g"][j] ** 2) for j in range(3)]
            + [h[j] * k["t"][j] * k["o"][j] * (1 - k["o"][j]) for j in range(3)]
        )
        gates[t] = [nearest(v, backward) for v in exact_gates]
        into_c = [c[j] * k["f"][j] for j in range(3)]
    steps = [[step[row] for step in gates] for row in range(12)]
    inputs = [[row[j] for row in rows] for j in range(2)]
    before = [[k["h"][j] for k in kept[:4]] for j in range(3)]
    found = module.weight_ih_l0.grad
    assert posit(found).format == backward
    assert table(found) == [[nearest(dot(s, v), backward) for v in inputs] for s in steps]
    assert table(module.weight_hh_l0.grad) == [[nearest(dot(s, v), backward) for v in before] for s in steps]
    biases = [nearest(sum(s, Fraction(0)), backward) for s in steps]
    for name in ("bias_ih_l0", "bias_hh_l0"):
        assert table(module.get_parameter(name).grad[None])[0] == biases  # type: ignore[index]
    w = table(module.weight_ih_l0)
    to_x = [
        [nearest(dot(step, [w[row][j] for row in range(12)]), backward) for j in range(2)] for step in gates
    ]
    assert table(posit(x.grad).reshape(4, 2)) == to_x


def test_a_gru_rounds_its_candidate_where_it_says() -> None:
    module, _ = converted(nn.GRU(2, 3), posit16)
    x = random((3, 1, 2), posit16, 1)
    w, u = table(module.weight_ih_l0), table(module.weight_hh_l0)
    b, d = (table(module.get_parameter(name)[None])[0] for name in ("bias_ih_l0", "bias_hh_l0"))
    h = [Fraction(0)] * 3
    for row, got in zip(table(x.reshape(3, 2)), table(module(x)[0].reshape(3, 3)), strict=True):
        r, z = (
            [
                function("sigmoid", nearest(dot(row, w[j]) + b[j] + dot(h, u[j]) + d[j], posit16), posit16)
                for j in range(block, block + 3)
            ]
            for block in (0, 3)
        )
        halves = [
            (nearest(dot(row, w[j]) + b[j], posit16), nearest(dot(h, u[j]) + d[j], posit16))
            for j in range(6, 9)
        ]
        n = [
            function("tanh", nearest(halves[j][0] + r[j] * halves[j][1], posit16), posit16) for j in range(3)
        ]
        h = [nearest((1 - z[j]) * n[j] + z[j] * h[j], posit16) for j in range(3)]
        assert got == h


def test_parameter_gradients_do_not_depend_on_the_order_of_the_batch_and_merge_exactly() -> None:
    x, grad = random((3, 8, 4), posit16, 1), random((3, 8, 5), posit16, 2)
    order = torch.tensor([5, 1, 7, 0, 2, 6, 3, 4])

    def gradients(parts: list[Any]) -> list[torch.Tensor]:
        module, _ = converted(nn.GRU(4, 5), posit16)
        with gradient_sums([posit(p) for p in module.parameters()]) as sums:
            for part in parts:
                module(posit(x[:, part]))[0].backward(posit(grad[:, part]))
        return [torch.from_numpy(each.quires.to_posit().codes.view(np.int16)) for each in sums]

    whole = gradients([order])
    split = gradients([slice(0, 3), slice(3, 8)])
    module, _ = converted(nn.GRU(4, 5), posit16)
    module(x)[0].backward(grad)
    rounded = [posit(p.grad).codes for p in module.parameters()]
    for one, other, third in zip(whole, split, rounded, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_nar_feeds_its_own_sequence_from_its_step_on() -> None:
    module, _ = converted(nn.LSTM(2, 3), posit16)
    x = random((4, 2, 2), posit16)
    clean = posit(module(x)[0]).codes
    x.codes[2, 1, 0] = -posit16.nar
    found = posit(module(x)[0]).codes
    nar = found == -posit16.nar
    assert nar[2:, 1].all()
    assert not nar[:, 0].any()
    assert not nar[:2].any()
    assert torch.equal(found[:, 0], clean[:, 0])


def test_what_is_refused_is_named() -> None:
    module, _ = converted(nn.LSTM(5, 6, proj_size=3), posit16)
    with pytest.raises(NoRuleError, match=r"lstm of posits has no proj_size \(in LSTM\)"):
        module(random((4, 2, 5), posit16))
    module, _ = converted(nn.GRU(5, 6), posit16)
    packed = nn.utils.rnn.PackedSequence(random((6, 5), posit16), torch.tensor([2, 2, 1, 1]))
    with pytest.raises(NoRuleError, match="gru of posits takes no PackedSequence"):
        module(packed)
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 operand among PositTensors"):
        module(torch.zeros(4, 2, 5))
    with pytest.raises(FormatMismatch, match=r"got an initial state of torch.float32"):
        module(random((4, 2, 5), posit16), torch.ones(1, 2, 6))
    with pytest.raises(FormatMismatch, match="operands of formats posit16, posit8"):
        module(random((4, 2, 5), posit8))
    with pytest.raises(ShapeError, match="needs at least one step"):
        torch.gru(
            random((0, 2, 5), posit16), torch.zeros(1, 2, 6), list(module.parameters()), True, 1, 0.0, False,
            False, False,
        )  # fmt: skip
    foreign = Policy(Format(16, 3), posit16, posit16)
    cell, _ = converted(nn.RNNCell(5, 6), posit16, foreign)
    with pytest.raises(FormatMismatch, match="exactly only where these differ in width alone"):
        cell(random((2, 5), posit16, 0, foreign))


# Sums of products


@pytest.mark.parametrize(
    "fmt",
    [
        posit8,
        posit16,
        posit32,
        pytest.param(Format(16, 5, 6), marks=pytest.mark.exhaustive),
        pytest.param(Format(32, 4), marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_sums_of_products_round_once(fmt: Format) -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(1 - fmt.nar, fmt.nar, 60).astype(f"i{fmt.storage.itemsize}") for _ in range(3)]
    codes[1][:20] = codes[0][:20]  # products cancel
    codes[2][:30] = posit_tensor(torch.rand(30), fmt).codes.numpy()
    codes[0][59] = -fmt.nar
    a, b, c = (leaf(each, fmt) for each in codes)
    for terms in ([[a, b]], [[a, c], [b.negative, c]], [[a, c.complement, c, c.successor], [b]]):
        got = sum_of_products(fmt, *terms)
        for index in range(59):
            total = sum((product(term, index) for term in terms), Fraction(0))
            code = exact.nearest(total, fmt)
            assert int(got[index]) & fmt.code_mask == code, (index, terms)
        assert got[59] == -fmt.nar


def product(term: list[Leaf], index: int) -> Fraction:
    result = Fraction(1)
    for factor in term:
        result *= factor.offset + factor.sign * Fraction(float(factor.values[index]))
    return result
