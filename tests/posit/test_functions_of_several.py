"""hypot, pow, arc_tan2, fmm, compound, root_n against 320-bit values and exact rounding boundaries."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from posit import Format, bposit32, posit8, posit16, posit32, posit64
from posit._elementary import evaluate2, evaluate3, evaluate_integer
from posit.reference import exact
from tests.posit.several_oracle import SEVERAL, WITH_INTEGER, expected2, expected_integer
from tests.posit.test_functions import corners

INTEGERS = (0, 1, -1, 2, -2, 3, -3, 5, 8, 17, 100, -1001, 2**40, -(2**40) + 1, 2**63 - 1, -(2**63))


def mismatches2(name: str, a: npt.ArrayLike, b: npt.ArrayLike, fmt: Format) -> list[str]:
    """One line for each pair whose result differs from the oracle's."""
    left, right = np.asarray(a).astype(fmt.storage), np.asarray(b).astype(fmt.storage)
    got = evaluate2(name, left, right, fmt)
    lines = []
    for x, y, result in zip(left.tolist(), right.tolist(), got.tolist(), strict=True):
        wanted = expected2(name, x, y, fmt)
        if result != wanted:
            lines.append(f"{name}({x:#x}, {y:#x}) in {fmt} gave {result:#x}, must be {wanted:#x}")
    return lines


def drawn_pairs(fmt: Format, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Random pairs and pairs of corners, small integers among them (there powers are exact or ties)."""
    random = np.random.default_rng(seed)
    small = [exact.nearest(Fraction(k, 4), fmt) for k in range(-24, 25)]
    pool = np.array(corners(fmt) + small, np.uint64)
    top = (1 << fmt.nbits) - 1
    kinds = [
        (random.integers(0, top, count, dtype=np.uint64, endpoint=True), random.choice(pool, count)),
        (random.choice(pool, count), random.integers(0, top, count, dtype=np.uint64, endpoint=True)),
        (random.choice(pool, count), random.choice(pool, count)),
        (random.choice(pool[-49:], count), random.choice(pool[-49:], count)),
    ]
    return [int(x) for a, _ in kinds for x in a], [int(y) for _, b in kinds for y in b]


@pytest.mark.parametrize(
    ("fmt", "count"),
    [(posit8, 500), (Format(8, 5), 200), (posit16, 250), (posit32, 150), (bposit32, 80)],
    ids=str,
)
@pytest.mark.parametrize("name", SEVERAL)
def test_functions_of_two_posits(name: str, fmt: Format, count: int) -> None:
    assert mismatches2(name, *drawn_pairs(fmt, count, 1), fmt) == []


@pytest.mark.parametrize("name", SEVERAL)
def test_64_bit_pairs(name: str) -> None:
    assert mismatches2(name, *drawn_pairs(posit64, 12, 2), posit64) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", SEVERAL)
def test_all_posit8_pairs(name: str, part: int) -> None:
    a, b = np.meshgrid(np.arange(part * 64, part * 64 + 64), np.arange(256))
    assert mismatches2(name, a.ravel(), b.ravel(), posit8) == []


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, Format(8, 5)], ids=str)
@pytest.mark.parametrize("name", WITH_INTEGER)
def test_functions_of_a_posit_and_an_integer(name: str, fmt: Format) -> None:
    codes = np.array(drawn_pairs(fmt, 10, 3)[0]).astype(fmt.storage)
    for n in INTEGERS:
        got = evaluate_integer(name, codes, n, fmt)
        assert got.tolist() == [expected_integer(name, int(code), n, fmt) for code in codes], n


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", WITH_INTEGER)
def test_every_posit8_code_with_small_integers(name: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    for n in range(-20, 21):
        got = evaluate_integer(name, codes, n, posit8)
        assert got.tolist() == [expected_integer(name, code, n, posit8) for code in range(256)], n


@pytest.mark.parametrize(
    "fmt", [posit8, Format(8, 5), posit16, posit32, Format(32, 5), bposit32, posit64], ids=str
)
def test_the_fused_product_is_the_rounded_rational(fmt: Format) -> None:
    a, b = drawn_pairs(fmt, 100, 4)
    c = list(reversed(a))
    left, middle, right = (np.array(codes, np.uint64).astype(fmt.storage) for codes in (a, b, c))
    got = evaluate3("fmm", left, middle, right, fmt)
    for x, y, z, result in zip(a, b, c, got.tolist(), strict=True):
        values = [exact.value(code, fmt) for code in (x, y, z)]
        product = None if None in values else values[0] * values[1] * values[2]  # type: ignore[operator]
        assert result == (fmt.nar if product is None else exact.nearest(product, fmt)), (x, y, z)


def test_the_oracle_notices_swapped_arguments() -> None:
    pair = (np.array([0x40], np.uint8), np.array([0x48], np.uint8))
    assert evaluate2("arc_tan2", *pair, posit8)[0] == expected2("arc_tan2", 0x40, 0x48, posit8)
    assert evaluate2("arc_tan2", *pair, posit8)[0] != expected2("arc_tan2", 0x48, 0x40, posit8)
