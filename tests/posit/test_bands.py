"""Exact sums in limbs, against rationals and against quires."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from posit import Format, PositArray, QuireArray, _bands, array, posit8, posit16, posit32
from posit._bands import Bands
from posit._quire_wire import window
from posit.codec import decode, encode, encode_rational
from posit.formats import bposit16
from tests.posit.test_dot_products import KINDS, factors

Codes = npt.NDArray[np.integer]


def fractions(codes: Codes, fmt: Format) -> npt.NDArray[np.object_]:
    values = [Fraction(x) for x in decode(codes, fmt, np.float64).ravel().tolist()]
    return np.array(values, object).reshape(codes.shape)


def unsigned(codes: Codes, fmt: Format) -> list[int]:
    return [int(code) & fmt.code_mask for code in codes.ravel()]


def refuse(a: Codes, b: Codes, row: int) -> None:
    raise AssertionError("not added")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, bposit16], ids=str)
def test_sums_of_products_are_those_of_rationals(fmt: Format, kind: str) -> None:
    """Three products of different magnitudes, one of them of later rows only; NaR-free, so quires take the rest."""
    rng = np.random.default_rng(5)
    m, n = 5, 3
    sums, quires = Bands(m * n, fmt), QuireArray((m, n), fmt)
    wanted, left = np.full((m, n), Fraction(0), object), 0

    def otherwise(a: Codes, b: Codes, row: int) -> None:
        nonlocal left
        left += 1
        quires[row : row + len(a)].matmul_add(PositArray(a, fmt), PositArray(b, fmt))

    for rows, k, divide in ((m, 6, 0), (2, 9, 4), (m, 1, -6)):
        a, b = factors(kind, rows, k, n, fmt, rng)
        a = encode(decode(a, fmt, np.float64) * 2.0**divide, fmt)
        sums.add_product(a, b, otherwise, m - rows)
        wanted[m - rows :] += fractions(a, fmt) @ fractions(b, fmt)
    assert not (left and kind == "normal")
    if not left:
        for divisor in (1, 8, 7):
            exact = [encode_rational(x / divisor, posit16) for x in wanted.ravel()]
            assert unsigned(sums.rounded(divisor, posit16), posit16) == exact
    sums.move_to(quires.reshape(m * n))
    assert (quires.to_fraction() == wanted).all()
    assert sums.nbytes == 0


def test_tiles_and_transposed_factors_add_the_same() -> None:
    rng = np.random.default_rng(1)
    a = array(rng.standard_normal((70, 200)) * 2.0 ** rng.integers(-9, 9, (70, 200)), posit16)
    b = array(rng.standard_normal((200, 90)), posit16)
    assert _bands._tile(70, 200, 90) != (70, 200)  # more than one tile
    quires = QuireArray((70, 90), posit16)
    quires.matmul_add(a, b)
    wanted = quires.to_posit().codes.astype(np.int16)
    for left, right in ((a.codes, b.codes), (np.asfortranarray(a.codes), np.asfortranarray(b.codes))):
        sums = Bands(wanted.size, posit16)
        sums.add_product(left, right, refuse)
        assert (sums.rounded(1, posit16).reshape(wanted.shape) == wanted).all()
    sums = Bands(wanted.size, posit16)
    for k in range(0, 200, 37):
        sums.add_product(a.codes[:, k : k + 37], b.codes[k : k + 37], refuse)
    assert (sums.rounded(1, posit16).reshape(wanted.shape) == wanted).all()


def test_limbs_grow_below_and_above() -> None:
    sums, one = Bands(1, posit32), array([[1.0]], posit32).codes
    total = Fraction(0)
    for scale in (0, 30, -30, 55, -55, 70, -70):
        x = array([[3.0 * 2.0**scale]], posit32).codes
        y = x if scale else one
        sums.add_product(x, y, refuse)
        total += (fractions(x, posit32) @ fractions(y, posit32)).item()
    quires = QuireArray(1, posit32)
    assert sums.nbytes > 2 * 8
    sums.move_to(quires)
    assert quires.to_fraction().item() == total


@pytest.mark.parametrize("sign", [1, -1])
def test_as_many_additions_as_limbs_bear_and_then_carries(sign: int) -> None:
    """All but the last limb get what one addition can bring, 2**39 - 1 units, more often than float64 would bear."""
    sums = Bands(1, posit16)
    sums.add_values(np.array([[2.0**-56]]))  # two limbs, the lower one's unit far below
    most = 2.0 ** (sums._base + 39) - 2.0**sums._base
    values = np.full((40_000, 1), sign * most)
    assert sums.add_values(values)
    assert abs(sums._limbs).max() < 2.0 ** (sums._base + 92)
    quires = QuireArray(1, posit16)
    sums.move_to(quires)
    assert quires.to_fraction().item() == Fraction(2) ** -56 + 40_000 * sign * Fraction(most)


def test_rows_by_index_and_what_is_left_to_quires() -> None:
    sums, rows = Bands(6, posit16), np.array([2, 0, 2])
    values = np.array([[1.0, 2.0], [-3.0, 2.0**-56], [0.5, 8.0]])
    assert sums.add_values(values.copy(), rows)
    found = decode(sums.rounded(1, posit16), posit16, np.float64)
    assert found.tolist() == [-3.0, 2.0**-56, 0.0, 0.0, 1.5, 10.0]
    assert not sums.add_values(np.array([[np.nan, 1.0]]), np.array([0]))
    left: list[int] = []
    nar = np.array([[posit16.nar]], np.uint16)
    sums.add_product(nar, nar, lambda a, b, row: left.append(row), 3)
    sums.add_product(np.array([[posit16.maxpos], [1]], np.uint16), nar * 0 + 1, refuse)
    assert left == [3]


def test_ties_and_sums_of_nothing_are_read_without_error() -> None:
    """A tie of posit8 that only the lower limb breaks, and one that nothing breaks."""
    tie, low = 1.0 + 2.0**-4, 2.0**-24
    sums = Bands(3, posit8)
    assert sums.add_values(np.array([[tie, tie, tie]]))
    assert sums.add_values(np.array([[low, 0.0, -low]]))
    wanted = [encode_rational(Fraction(tie) + Fraction(x), posit8) for x in (low, 0.0, -low)]
    assert unsigned(sums.rounded(1, posit8), posit8) == wanted
    assert len(set(wanted)) == 2
    assert not Bands(3, posit8).rounded(3, posit8).any()


@pytest.mark.parametrize("ranks", [1, 3, 1024])
def test_limbs_of_the_wire_stand_for_the_sums(ranks: int) -> None:
    rng = np.random.default_rng(ranks)
    values = rng.standard_normal((3, 50)) * 2.0 ** rng.integers(-40, 8, (3, 50))
    exact = np.array([[Fraction(x) for x in row] for row in values.tolist()], object).sum(axis=0)
    sums = Bands(50, posit32)
    assert sums.add_values(values.copy())
    found = sums.extent()
    assert all(-(Fraction(2) ** found.high) <= x < Fraction(2) ** found.high for x in exact)
    for low in (found.minus_low, found.minus_low + 70):  # another rank's may be lower
        at = window(found.high, low, ranks)
        out = np.empty((at.count, 50), np.int64)
        sums.pack(0, 50, at, out)
        assert abs(out).max() <= 2**at.width + 1
        weights = [Fraction(2) ** (at.low + at.width * t) for t in range(at.count)]
        assert (sum(w * row.astype(object) for w, row in zip(weights, out, strict=True)) == exact).all()
    assert Bands(50, posit32).extent().high < -1000
