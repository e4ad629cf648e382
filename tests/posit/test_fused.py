"""Sums of coefficient times posit against rationals: axpy, the momentum step, and combinations of terms."""

from fractions import Fraction

import numpy as np
import pytest

from posit import Format, bposit16, posit8, posit16, posit32
from posit.codec import Codes, encode, signed_storage
from posit.errors import FormatError, NonFiniteError, ShapeError
from posit.fused import Term, axpy, combination, combination_stochastic, momentum_step
from posit.reference import exact

FORMATS = [posit8, posit16, posit32, bposit16, Format(12, 1)]


def signed(code: int, fmt: Format) -> int:
    return code - (1 << fmt.nbits) if code >= fmt.nar else code


def nearest(x: Fraction, fmt: Format) -> int:
    return signed(exact.nearest(x, fmt), fmt)


def values(codes: Codes, fmt: Format) -> list[Fraction]:
    found = [exact.value(int(code) & fmt.code_mask, fmt) for code in codes.tolist()]
    return [Fraction(0) if value is None else value for value in found]


def numbers(fmt: Format, seed: int, size: int = 300) -> Codes:
    """Short fractions (whose sums with tenths lie near boundaries), any codes, zeros and corners."""
    rng = np.random.default_rng(seed)
    short = encode(rng.integers(-60, 60, size) / 4.0, fmt, signed_storage(fmt))
    any_code = rng.integers(-fmt.maxpos, fmt.nar, size).astype(signed_storage(fmt))
    corners = np.array([0, 1, -1, fmt.maxpos, -fmt.maxpos, 0], short.dtype)
    return np.concatenate([short, any_code, corners, rng.permutation(short)])


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("beta", [0.9, 0.999, 0.3])
def test_combinations_round_the_exact_sum_once(fmt: Format, beta: float) -> None:
    x, y = numbers(fmt, 1), numbers(fmt, 2)
    share = 1 - Fraction(beta)
    got = combination([Term(beta, x, fmt), Term(share, y, fmt)], fmt)
    wanted = [
        nearest(Fraction(beta) * a + share * b, fmt)
        for a, b in zip(values(x, fmt), values(y, fmt), strict=True)
    ]
    assert got.tolist() == wanted


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_products_of_two_posits_are_exact_in_a_sum(fmt: Format) -> None:
    x, y = numbers(fmt, 3), numbers(fmt, 4)
    got = combination([Term(0.9, x, fmt), Term(1 - Fraction(0.9), y, fmt, (x, fmt))], fmt)
    pairs = zip(values(x, fmt), values(y, fmt), strict=True)
    assert got.tolist() == [nearest(Fraction(0.9) * a + (1 - Fraction(0.9)) * a * b, fmt) for a, b in pairs]


def test_ties_and_cancellation_are_settled_exactly() -> None:
    """0.9 x + 0.1 x is x, 0.9 x - 0.9 x is 0, and one step beside a tie decides it."""
    x = numbers(posit16, 5)
    tenth = 1 - Fraction(0.9)
    assert combination([Term(0.9, x, posit16), Term(tenth, x, posit16)], posit16).tolist() == x.tolist()
    assert not combination([Term(0.9, x, posit16), Term(-0.9, x, posit16)], posit16).any()
    one = np.array([0x4000, 0x4001], np.int16)
    half_step = float(exact.boundary(0x4000, posit16) - 1)
    tie = combination([Term(1.0, one, posit16), Term(half_step, one[:1].repeat(2), posit16)], posit16)
    assert tie.tolist() == [0x4000, 0x4002]
    for sign, wanted in ((1, 0x4001), (-1, 0x4000)):
        beside = Fraction(half_step) + sign * Fraction(2) ** -200
        got = combination([Term(1.0, one[:1], posit16), Term(beside, one[:1], posit16)], posit16)
        assert got.tolist() == [wanted]


def test_formats_may_differ_and_nar_spreads() -> None:
    x, y = numbers(posit8, 6), numbers(posit16, 7)
    got = combination([Term(0.5, x, posit8), Term(-0.1, y, posit16)], posit32)
    pairs = zip(values(x, posit8), values(y, posit16), strict=True)
    assert got.tolist() == [nearest(a / 2 - Fraction(0.1) * b, posit32) for a, b in pairs]
    nar = np.array([-128, 64], np.int8)
    assert combination([Term(0.0, nar, posit8)], posit8).tolist() == [-128, 0]


@pytest.mark.parametrize(
    "formats", [(posit8, posit16, posit16), (posit16, posit8, posit16), (posit16, posit32, posit8)]
)
@pytest.mark.parametrize(("alpha", "scale"), [(0.9, 1.0), (-0.1, 2.0**-7), (1e-30, 1.0)])
def test_axpy_of_mixed_formats(formats: tuple[Format, Format, Format], alpha: float, scale: float) -> None:
    x_format, y_format, fmt = formats
    x, y = numbers(x_format, 8), numbers(y_format, 9)
    got = axpy(alpha, x, y, fmt, x_format=x_format, y_format=y_format, scale=scale)
    assert got.dtype == signed_storage(fmt)
    pairs = zip(values(x, x_format), values(y, y_format), strict=True)
    assert got.tolist() == [nearest(Fraction(alpha) * a + Fraction(scale) * b, fmt) for a, b in pairs]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("alpha", [0.9, -0.01, 1 + 2.0**-52, 2.0**-59, 2.0**59 / 3, 1.0])
def test_sums_that_cancel_lie_on_boundaries_or_are_far_apart(fmt: Format, alpha: float) -> None:
    """Terms x against the posits nearest to -alpha x, their neighbours, and a permutation."""
    x = numbers(fmt, 10)
    near = [nearest(-Fraction(alpha) * a, fmt) for a in values(x, fmt)]
    rng = np.random.default_rng(0)
    for y in (
        np.array(near),
        np.clip(np.array(near) + rng.integers(-1, 2, len(near)), -fmt.maxpos, fmt.maxpos),
        x[::-1],
    ):
        codes = np.ascontiguousarray(y).astype(x.dtype)
        pairs = zip(values(x, fmt), values(codes, fmt), strict=True)
        assert axpy(alpha, x, codes, fmt).tolist() == [
            nearest(Fraction(alpha) * a + b, fmt) for a, b in pairs
        ]


@pytest.mark.parametrize(
    "formats", [(posit16,) * 3, (posit8, posit16, posit16), (posit8, posit16, posit8), (posit32,) * 3]
)
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_a_momentum_step_is_two_sums(formats: tuple[Format, Format, Format], scale: float) -> None:
    grad_format, held_format, fmt = formats
    grad, held, weights = (numbers(each, seed, 700) for seed, each in enumerate(formats, 20))
    new_held = axpy(0.9, held, grad, held_format, x_format=held_format, y_format=grad_format, scale=scale)
    new_weights = axpy(-0.01, new_held, weights, fmt, x_format=held_format)
    momentum_step(
        0.9, 0.01, grad, held, weights, fmt, grad_format=grad_format, held_format=held_format, scale=scale
    )
    assert held.tolist() == new_held.tolist()
    assert weights.tolist() == new_weights.tolist()


def test_stochastic_sums_are_right_on_average_and_follow_from_the_seed() -> None:
    x = np.full(20000, encode(np.array(1.0), posit8), np.int8)
    terms = [Term(1.0, x, posit8), Term(0.01, x, posit8)]
    got = combination_stochastic(terms, posit8, seed=3)
    step = float(exact.value(65, posit8) or 0) - 1
    assert set(got.tolist()) == {64, 65}
    assert float((got == 65).mean()) == pytest.approx(0.01 / step, abs=0.02)
    assert got.tolist() == combination_stochastic(terms, posit8, seed=3).tolist()
    assert got.tolist() != combination_stochastic(terms, posit8, seed=4).tolist()
    assert (
        combination_stochastic([Term(1.0, numbers(posit16, 1), posit16)], posit16, 0).tolist()
        == numbers(posit16, 1).tolist()
    )


def test_what_cannot_be_exact_is_refused() -> None:
    one = np.array([0x4000], np.int16)
    with pytest.raises(NonFiniteError, match="a sum of 5 float64 numbers"):
        combination([Term(Fraction(1, 3), one, posit16)], posit16)
    with pytest.raises(NonFiniteError, match="a scale must be a power of two"):
        axpy(1.0, one, one, posit16, scale=3.0)
    with pytest.raises(ShapeError, match="must have one shape"):
        combination([Term(1.0, one, posit16), Term(1.0, one.repeat(2), posit16)], posit16)
    wide, code = Format(32, 4), np.array([1], np.int32)
    with pytest.raises(FormatError, match="leave the float64 carrier"):
        combination([Term(1.0, code, wide, (code, wide))], wide)
