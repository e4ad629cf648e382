"""Many dot products, of every kind that is hard to sum, against Python integers; a million in `make exhaustive`."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from posit import Format, _matmul, _matmul_small, posit8, posit16, posit32
from posit.codec import encode
from posit.formats import bposit16, bposit32
from posit.reference import exact

Codes = npt.NDArray[np.integer]
FORMATS = [posit8, posit16, posit32, bposit16, bposit32]
KINDS = ["normal", "wide", "cancelling", "ends", "any code"]


def factors(kind: str, m: int, k: int, n: int, fmt: Format, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """Codes (m, k) and (k, n), free of NaR."""
    x, y = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    if kind == "wide":
        x *= 2.0 ** rng.integers(-30, 30, (m, k))
        y *= 2.0 ** rng.integers(-30, 30, (k, n))
    a, b = encode(x, fmt), encode(y, fmt)
    if kind == "cancelling":  # all that is left of most terms is one product, and a tiny one below it
        half = k // 2
        a[:, half : 2 * half] = (-a[:, :half].astype(np.int64) & fmt.code_mask).astype(fmt.storage)
        b[half : 2 * half] = b[:half]
        a[:, 0], b[-1] = rng.integers(1, 6, m), rng.integers(1, 6, n)
    elif kind == "ends":
        ends = np.array([0, 1, 2, fmt.maxpos, fmt.maxpos - 1, fmt.nar >> 1, fmt.nar + 1, fmt.code_mask])
        a, b = (ends[rng.integers(0, ends.size, shape)].astype(fmt.storage) for shape in ((m, k), (k, n)))
    elif kind == "any code":
        a, b = (rng.integers(0, fmt.code_mask + 1, shape).astype(fmt.storage) for shape in ((m, k), (k, n)))
        a[a == fmt.nar], b[b == fmt.nar] = 1, 1
    return a, b


@lru_cache(maxsize=1 << 17)
def scaled_boundary(code: int, fmt: Format) -> int:
    """The rounding boundary above a positive code, in units of which every product is a multiple."""
    scaled = exact.boundary(code, fmt) * (1 << -2 * fmt.lsb_scale)
    assert scaled.denominator == 1
    return scaled.numerator


def is_rounded(code: int, total: int, fmt: Format) -> bool:
    """Whether `code` is the nearest to a sum in these units, a tie to even, nothing to 0 or NaR."""
    if total < 0:
        code, total = -code & fmt.code_mask, -total
    if total == 0 or not 0 < code < fmt.nar:
        return total == code == 0
    low = 0 if code == 1 else scaled_boundary(code - 1, fmt)
    if total < low or (total == low and code % 2):
        return False
    if code == fmt.maxpos:
        return True
    high = scaled_boundary(code, fmt)
    return total < high or (total == high and code % 2 == 0)


def wrong_products(kind: str, count: int, seed: int, fmt: Format, small: bool) -> tuple[int, list[str]]:
    """How many sums were checked, and the wrong ones."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 24))
    n = 40 if small else 600  # at 600 the product takes the way of the tiles
    m = -(-count // n) if small else max(1, -(-count // n), -(-_matmul_small.MOST // (k * n)) + 1)
    a, b = factors(kind, m, k, n, fmt, rng)
    got = _matmul.matmul_codes(a, b, fmt).codes
    unit = 1 << -fmt.lsb_scale

    def integers(codes: Codes) -> npt.NDArray[np.object_]:
        values = (exact.value(code, fmt) for code in codes.ravel().tolist())
        return np.array([int(value * unit) for value in values if value is not None], object).reshape(
            codes.shape
        )

    rows = min(m, -(-count // n))
    totals = integers(a[:rows]) @ integers(b)
    bad = [
        f"{fmt} {kind} k={k} seed={seed} element {i}"
        for i, (code, total) in enumerate(
            zip(got[:rows].ravel().tolist(), totals.ravel().tolist(), strict=True)
        )
        if not is_rounded(code, total, fmt)
    ]
    return totals.size, bad


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)  # each costs seconds to compile
@pytest.mark.parametrize("kind", KINDS)
def test_hard_sums_are_rounded_once(kind: str, fmt: Format) -> None:
    for seed, small in enumerate((True, False)):
        assert wrong_products(kind, 600, seed, fmt, small)[1] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_hard_sums_are_rounded_once(kind: str, fmt: Format) -> None:
    """Over all formats and kinds: 25 times 40 000."""
    checked = 0
    for seed in range(20):
        count, bad = wrong_products(kind, 2000, 100 + seed, fmt, seed % 2 == 0)
        assert bad == []
        checked += count
    assert checked >= 40_000


def test_the_check_sees_a_neighbouring_code() -> None:
    one = 1 << -2 * posit16.lsb_scale
    assert is_rounded(0x4000, one, posit16)
    assert not is_rounded(0x4001, one, posit16)
    assert not is_rounded(0x3FFF, one, posit16)
    tie = scaled_boundary(0x4000, posit16)
    assert is_rounded(0x4000, tie, posit16)
    assert not is_rounded(0x4001, tie, posit16)
    assert is_rounded(0x4001, tie + 1, posit16)
