"""Softmax and log-softmax, forward and backward, against mpmath and rational numbers."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit._threads import get_num_threads, set_num_threads
from posit.errors import FormatMismatch
from posit.reference import exact
from posit.torch import Policy, PositTensor, phase, posit_tensor
from posit.torch.ops.softmax import Mask, softmax_rows
from posit.torch.ops.softmax_exact import exact_dot, log_softmax_code, softmax_code
from tests.posit.torch.samples import posit, rounded, signed

aten = torch.ops.aten
FORMATS = [posit8, posit16, posit32, pytest.param(Format(12, 1), marks=pytest.mark.exhaustive)]
ROWS = [
    [1.0, 2.0, -3.0, 0.5, 0.5],
    [0.0, 40.0, -900.0, 1e-7, 39.0],
    [2.0, 2.0, 2.0, 2.0, 2.0],
    [1e30, -1e30, 0.0, 0.0, 0.0],
    [0.001, 0.0011, -0.001, 0.0, 1e-9],
    [-7.0, -7.0, -700.0, -710.0, -7.0],
]


def fractions(x: torch.Tensor) -> list[list[Fraction]]:
    """Rows of exact values."""
    return [[Fraction(value) for value in row] for row in posit(x).values().tolist()]


def nearest(x: mpmath.mpf, fmt: Format) -> int:
    """Code of a real number known to thousands of bits."""
    sign, mantissa, exponent, _ = mpmath.mpf(x)._mpf_
    if mantissa and exponent + int(mantissa).bit_length() < -2000:
        return -1 if sign else 1  # below minpos
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return signed(exact.nearest(-value if sign else value, fmt), fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_softmax_and_log_softmax_are_correctly_rounded(fmt: Format) -> None:
    x = posit_tensor(torch.tensor(ROWS), fmt)
    soft, log = posit(torch.softmax(x, 1)).codes.tolist(), posit(torch.log_softmax(x, -1)).codes.tolist()
    with mpmath.workprec(1500):
        for index, row in enumerate(fractions(x)):
            powers = [mpmath.exp(mpmath.mpf(v.numerator) / v.denominator) for v in row]
            total = mpmath.fsum(powers)
            assert soft[index] == [nearest(power / total, fmt) for power in powers]
            if max(row) - min(row) < 1000:
                assert log[index] == [nearest(mpmath.log(power / total), fmt) for power in powers]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_many_elements_have_the_bits_of_the_slow_way(fmt: Format) -> None:
    x = rounded(12, 7, fmt=fmt, size=3.0)
    values = x.values()
    soft, log = posit(torch.softmax(x, 1)).codes.tolist(), posit(torch.log_softmax(x, 1)).codes.tolist()
    for i in range(12):
        for j in range(7):
            assert soft[i][j] == signed(softmax_code(values[i], j, fmt), fmt)
            assert log[i][j] == signed(log_softmax_code(values[i], j, fmt), fmt)


def test_a_tie_goes_to_the_even_code() -> None:
    fmt = Format(5, 1)  # 1/8 lies half-way between two codes of a short regime's format: exactly rational
    for width in (2, 3, 4, 8, 16, 32, 64, 128):
        x = posit_tensor(torch.full((1, width), 1.5), fmt)
        assert posit(torch.softmax(x, 1)).codes[0, 0].item() == exact.nearest(Fraction(1, width), fmt)


def test_one_class_and_no_rows() -> None:
    one = rounded(3, 1)
    assert posit(torch.softmax(one, 1)).tolist() == [[1.0]] * 3
    assert posit(torch.log_softmax(one, 1)).tolist() == [[0.0]] * 3
    assert torch.softmax(rounded(0, 4), 1).shape == (0, 4)
    assert torch.softmax(rounded(4, 0), 1).shape == (4, 0)
    assert posit(torch.softmax(posit_tensor(torch.tensor(3.0), posit16), 0)).item() == 1.0


def test_nar_makes_its_own_row_nar_forward_and_backward() -> None:
    x = rounded(3, 4)
    x.codes[1, 2] = -(1 << 15)
    for function in (torch.softmax, torch.log_softmax):
        leaf = x.like(x.codes.clone()).requires_grad_()
        y = function(leaf, 1)
        assert np.isnan(posit(y.detach()).values()).tolist() == [[False] * 4, [True] * 4, [False] * 4]
        y.backward(rounded(3, 4, seed=2))
        assert np.isnan(posit(leaf.grad).values()).tolist() == [[False] * 4, [True] * 4, [False] * 4]


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
def test_any_dimension_and_any_strides(function: object) -> None:
    assert callable(function)
    x, g = rounded(3, 4, 5), rounded(3, 4, 5, seed=1)
    for dim in range(3):
        leaf = x.like(x.codes.clone()).requires_grad_()
        y = function(leaf, dim)
        y.backward(g)
        last = x.like(x.codes.movedim(dim, -1).contiguous()).requires_grad_()
        z = function(last, -1)
        z.backward(posit(g.movedim(dim, -1)))
        assert torch.equal(posit(y.detach()).codes.movedim(dim, -1), posit(z.detach()).codes)
        assert torch.equal(posit(leaf.grad).codes.movedim(dim, -1), posit(last.grad).codes)
        strided = x.like(x.codes.movedim(dim, -1))
        assert torch.equal(posit(function(strided, -1)).codes, posit(z.detach()).codes)


@pytest.mark.parametrize(
    "fmt", [*FORMATS, pytest.param(Format(20, 5), marks=pytest.mark.exhaustive)], ids=str
)
def test_the_derivative_of_softmax_rounds_once(fmt: Format) -> None:
    """The last format's products leave float64's range: everything is settled by rational numbers."""
    y, g = posit(torch.softmax(rounded(5, 6, fmt=fmt), 1)), rounded(5, 6, fmt=fmt, seed=3)
    g.codes[2] = 0
    g.codes[3] = g.codes[3, 0].item()
    got = posit(aten._softmax_backward_data(g, y, 1, torch.float32)).codes.tolist()
    for i, (grad, probability) in enumerate(zip(fractions(g), fractions(y), strict=True)):
        dot = sum((a * b for a, b in zip(grad, probability, strict=True)), Fraction(0))
        wanted = [p * (a - dot) for a, p in zip(grad, probability, strict=True)]
        assert got[i] == [signed(exact.nearest(value, fmt), fmt) for value in wanted]


@pytest.mark.parametrize(
    "fmt", [*FORMATS, pytest.param(Format(20, 5), marks=pytest.mark.exhaustive)], ids=str
)
def test_the_derivative_of_log_softmax_rounds_once(fmt: Format) -> None:
    y, g = posit(torch.log_softmax(rounded(6, 5, fmt=fmt, size=4.0), 1)), rounded(6, 5, fmt=fmt, seed=3)
    y.codes[0, 0] = -1  # -minpos: a confident row
    y.codes[1, 1] = 0
    g.codes[0] = torch.tensor([-64, 0, 0, 0, 0], dtype=g.codes.dtype)
    g.codes[2] = 0
    g.codes[3, :2] = torch.tensor([64, -64], dtype=g.codes.dtype)
    g.codes[3, 2:] = 0  # a sum of exactly 0
    got = posit(aten._log_softmax_backward_data(g, y, 1, torch.float32)).codes.tolist()
    with mpmath.workprec(1500):
        for i, (grad, log) in enumerate(zip(fractions(g), fractions(y), strict=True)):
            total = mpmath.fsum(mpmath.mpf(v.numerator) / v.denominator for v in grad)
            for j, (own, exponent) in enumerate(zip(grad, log, strict=True)):
                power = mpmath.exp(mpmath.mpf(exponent.numerator) / exponent.denominator)
                true = mpmath.mpf(own.numerator) / own.denominator - power * total
                assert got[i][j] == nearest(true, fmt)


def test_gradients_agree_with_float64() -> None:
    for function in (functional.softmax, functional.log_softmax):
        x, g = rounded(6, 9, fmt=posit32).requires_grad_(), rounded(6, 9, fmt=posit32, seed=1)
        function(x, dim=1).backward(g)
        real = x.detach().to_float(torch.float64).requires_grad_()  # type: ignore[attr-defined]  # a PositTensor
        function(real, dim=1).backward(g.to_float(torch.float64))
        assert real.grad is not None
        assert (posit(x.grad).to_float(torch.float64) - real.grad).abs().max() < 3e-8


def test_formats_follow_the_policy() -> None:
    policy = Policy(posit8, posit16, posit32)
    x = PositTensor(rounded(3, 4).codes, posit16, policy=policy)
    soft, log = posit(torch.softmax(x, 1)), posit(torch.log_softmax(x, 1))
    assert (soft.format, log.format) == (posit8, posit32)
    values = x.values()
    assert soft.codes[1, 2].item() == signed(softmax_code(values[1], 2, posit8), posit8)
    assert log.codes[1, 2].item() == signed(log_softmax_code(values[1], 2, posit32), posit32)
    g = PositTensor(rounded(3, 4, fmt=posit32, seed=1).codes, posit32, policy=policy)
    with phase(backward=True):
        got = posit(aten._softmax_backward_data(g, soft, 1, torch.float32))
    assert got.format == posit16
    grad, probability = fractions(g)[1], fractions(soft)[1]
    dot = sum((a * b for a, b in zip(grad, probability, strict=True)), Fraction(0))
    assert got.codes[1, 0].item() == signed(exact.nearest(probability[0] * (grad[0] - dot), posit16), posit16)
    with pytest.raises(FormatMismatch, match="operands of formats posit16, posit8"):
        aten._softmax_backward_data(rounded(2, 2), rounded(2, 2, fmt=posit8), 1, torch.float32)


def test_the_same_bits_on_one_and_two_threads_and_in_any_split() -> None:
    x, g = rounded(4000, 33, size=2.0), rounded(4000, 33, seed=1)
    before = get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            y, z = posit(torch.softmax(x, 1)), posit(torch.log_softmax(x, 1))
            back = [
                posit(aten._softmax_backward_data(g, y, 1, torch.float32)).codes,
                posit(aten._log_softmax_backward_data(g, z, 1, torch.float32)).codes,
            ]
            found.append([y.codes, z.codes, *back])
    finally:
        set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    parts = [posit(torch.softmax(part, 1)).codes for part in (x[:1], x[1:1700], x[1700:])]
    assert torch.equal(torch.cat(parts), found[0][0])


@pytest.mark.parametrize("fmt", [posit8, posit16], ids=str)
def test_masked_elements_are_left_out(fmt: Format) -> None:
    x = rounded(6, 5, fmt=fmt, size=3.0)
    x.codes[1, 4] = -(1 << (fmt.nbits - 1))  # NaR where masked
    kept = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], np.uint8)
    places = np.array([0, 0, 1, 2, 0, 2], np.int64)
    got = softmax_rows(x.codes.numpy(), fmt, fmt, Mask(kept, places))
    for i in range(6):
        columns = np.flatnonzero(kept[places[i]])
        wanted = [0] * 5
        for position, j in enumerate(columns):
            wanted[j] = softmax_code(x.values()[i, columns], position, fmt)
        assert got[i].tolist() == wanted


def test_exact_dot_products() -> None:
    x, y = np.array([1e30, 3.0, -1e30, 0.0]), np.array([1.0, 2.0**-80, 1.0, 5.0])
    assert exact_dot(x, y) == 3 * Fraction(2) ** -80
    assert exact_dot(x[:0], y[:0]) == 0
