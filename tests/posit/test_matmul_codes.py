"""Exact matrix products against rationals, the certificate under attack, and the invariances that users rely on."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import posit
from posit import Format, _blas, _matmul, _matmul_small, posit8, posit16, posit32
from posit._matmul_tiles import tiling
from posit.codec import decode, encode
from posit.errors import ShapeError
from posit.formats import bposit16, bposit32
from posit.reference import exact

FORMATS = [posit8, posit16, posit32, Format(12, 1), bposit16, bposit32]
MARKED = [  # each format compiles kernels of its own
    *FORMATS[:3],
    bposit16,
    *(pytest.param(fmt, marks=pytest.mark.exhaustive) for fmt in (Format(12, 1), bposit32)),
]
Codes = npt.NDArray[np.integer]


def truth(a: Codes, b: Codes, fmt: Format, addend: Codes | None = None) -> list[list[int]]:
    extra = [0] * b.shape[1] if addend is None else [int(code) for code in addend]
    return [
        [
            exact.dot([int(x) for x in row], [int(y) for y in b[:, j]], fmt, extra[j])
            for j in range(b.shape[1])
        ]
        for row in a
    ]


def corner_codes(fmt: Format) -> st.SearchStrategy[int]:
    corners = (0, 1, fmt.nar >> 1, fmt.maxpos, fmt.nar + 1, fmt.code_mask, 3 * fmt.nar >> 1, fmt.nar >> 2)
    return st.sampled_from(corners) | st.integers(0, fmt.code_mask)


@pytest.mark.parametrize("fmt", MARKED, ids=str)
@given(data=st.data())
def test_products_of_any_codes_equal_rationals(fmt: Format, data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 4)) for _ in range(3))
    numbers = data.draw(st.lists(corner_codes(fmt), min_size=m * k + k * n + n, max_size=m * k + k * n + n))
    flat = np.array(numbers, fmt.storage)
    a, b, addend = (
        flat[: m * k].reshape(m, k),
        flat[m * k : m * k + k * n].reshape(k, n),
        flat[m * k + k * n :],
    )
    assert _matmul.matmul_codes(a, b, fmt, addend=addend).codes.tolist() == truth(a, b, fmt, addend)


@pytest.mark.parametrize("fmt", MARKED, ids=str)
def test_massive_cancellation_reaches_the_quire_and_is_right(fmt: Format) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(1, fmt.maxpos, (5, 6)).astype(fmt.storage)
    a = np.concatenate([x, (-x.astype(np.int64) & fmt.code_mask).astype(fmt.storage)], axis=1)
    half = rng.integers(1, fmt.maxpos, (6, 4)).astype(fmt.storage)
    b = np.concatenate([half, half], axis=0)
    b[0] = 1
    result = _matmul.matmul_codes(a, b, fmt)
    assert result.codes.tolist() == truth(a, b, fmt)
    settled = result.tiers.compensated + result.tiers.quire
    assert settled > 0 or result.tiers.by_range == 20  # posit<12,1> is narrow enough for float64


def test_every_float64_result_that_rounds_wrongly_is_repaired() -> None:
    """2**60 + tie - 2**60: float64 loses the last bits; the exact sum lies just beside a rounding boundary."""
    fmt = posit16
    one, tie_low, big = 0x4000, 0x4001, exact.nearest(Fraction(2) ** 26, fmt)
    half_ulp = exact.nearest(Fraction(1, 2**12), fmt)
    tiny = exact.nearest(Fraction(1, 2**40), fmt)
    minus_big = (1 << 16) - big
    a = np.array([[big, one, half_ulp, tiny, minus_big]], np.uint16)
    b = np.array([[big, tie_low, one, tiny, big]], np.uint16).T
    result = _matmul.matmul_codes(a, b, fmt)
    assert result.codes.tolist() == truth(a, b, fmt) == [[0x4002]]
    assert result.tiers.quire == 1
    b[3] = (1 << 16) - tiny  # now the sum is just below the boundary
    assert _matmul.matmul_codes(a, b, fmt).codes.tolist() == truth(a, b, fmt) == [[0x4001]]


@pytest.mark.parametrize("small", [1 << 19, 0], ids=["one kernel", "tiles"])
def test_a_weakened_bound_is_noticed(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    """With the bound shrunk, wrong results appear on cancelling sums: the tests above are able to fail."""
    fmt = posit16
    rng = np.random.default_rng(0)
    x = encode(rng.standard_normal((40, 30)) * 2.0 ** rng.integers(-20, 20, (40, 30)), fmt)
    a = np.concatenate([x, -x.view(np.int16).view(np.uint16)], axis=1)
    y = encode(rng.standard_normal((30, 40)) * 2.0 ** rng.integers(-20, 20, (30, 40)), fmt)
    b = np.concatenate([y, y], axis=0)
    b[-1] = encode(rng.standard_normal(40) * 1e-9, fmt)
    monkeypatch.setattr(_matmul_small, "MOST", small)
    right = _matmul.matmul_codes(a, b, fmt).codes
    monkeypatch.setattr(_matmul, "_slack", 1e-9)
    assert (_matmul.matmul_codes(a, b, fmt).codes != right).any()


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_order_of_terms_memory_layout_and_threads_change_no_bit(fmt: Format) -> None:
    rng = np.random.default_rng(2)
    a = encode(rng.standard_normal((70, 90)) * 2.0 ** rng.integers(-30, 30, (70, 90)), fmt)
    b = encode(rng.standard_normal((90, 50)), fmt)
    expected = _matmul.matmul_codes(a, b, fmt).codes
    order = rng.permutation(90)
    assert (_matmul.matmul_codes(a[:, order], b[order], fmt).codes == expected).all()
    assert (_matmul.matmul_codes(np.asfortranarray(a), np.asfortranarray(b), fmt).codes == expected).all()
    assert (_matmul.matmul_codes(a[::-1], b[:, ::2], fmt).codes == expected[::-1, ::2]).all()
    before = posit.get_num_threads()
    try:
        for count in (1, 3):
            posit.set_num_threads(count)
            assert (_matmul.matmul_codes(a, b, fmt).codes == expected).all()
    finally:
        posit.set_num_threads(before)


def test_nar_reaches_the_results_it_feeds_and_no_other() -> None:
    a = np.full((3, 2), 0x4000, np.uint16)
    b = np.full((2, 4), 0x4000, np.uint16)
    a[1, 0] = b[0, 2] = posit16.nar
    codes = _matmul.matmul_codes(a, b, posit16, addend=np.array([0, posit16.nar, 0, 0], np.uint16)).codes
    is_nar = codes == posit16.nar
    assert is_nar.tolist() == [[False, True, True, False], [True] * 4, [False, True, True, False]]


def test_disjoint_supports_are_exact_zeros_and_need_no_quire() -> None:
    rng = np.random.default_rng(3)
    a = encode(rng.standard_normal((8, 130)) * 2.0 ** rng.integers(-50, 50, (8, 130)), posit16)
    b = encode(rng.standard_normal((130, 8)), posit16)
    a[:4, 65:] = 0
    b[:65, :4] = 0
    result = _matmul.matmul_codes(a, b, posit16)
    assert (result.codes[:4, :4] == 0).all()
    assert result.tiers.zeros + result.tiers.by_range >= 16
    assert sum((result.tiers.by_range, result.tiers.certified, result.tiers.zeros, result.tiers.quire)) == 64


def test_signed_codes_give_signed_results() -> None:
    a = encode(np.array([[-1.5, 2.0]]), Format(12), np.int16)
    result = _matmul.matmul_codes(a, a.T, Format(12)).codes
    assert result.dtype == np.int16
    assert decode(_matmul.matmul_codes(a, -a.T, Format(12)).codes, Format(12)).tolist() == [[-6.25]]


def test_empty_products() -> None:
    empty = np.empty((2, 0), np.uint16)
    assert _matmul.matmul_codes(empty, empty.T, posit16).codes.tolist() == [[0, 0], [0, 0]]
    assert _matmul.matmul_codes(
        np.empty((0, 3), np.uint16), np.empty((3, 2), np.uint16), posit16
    ).codes.shape == (0, 2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"needs shapes .*, got \(2, 3\) and \(2, 3\)"):
        _matmul.matmul_codes(np.zeros((2, 3), np.uint16), np.zeros((2, 3), np.uint16), posit16)
    with pytest.raises(ShapeError, match=r"batches \(3,\) and \(2,\) do not broadcast"):
        _matmul.matmul_codes(np.zeros((3, 1, 1), np.uint16), np.zeros((2, 1, 1), np.uint16), posit16)
    x = np.zeros((2, 2), np.uint16)
    with pytest.raises(ShapeError, match=r"shape \(2, 2\) must broadcast to it, got \(3,\)"):
        _matmul.matmul_codes(x, x, posit16, addend=np.zeros(3, np.uint16))


def test_several_python_threads_at_once_get_the_same_bits() -> None:
    rng = np.random.default_rng(4)
    pairs = [
        (encode(rng.standard_normal((m, 90)), posit16), encode(rng.standard_normal((90, n)), posit16))
        for m, n in ((60, 70), (200, 160), (8, 8), (160, 200))
    ]
    expected = [_matmul.matmul_codes(a, b, posit16).codes for a, b in pairs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda pair: _matmul.matmul_codes(pair[0], pair[1], posit16).codes, pairs)
            for codes, wanted in zip(found, expected, strict=True):
                assert (codes == wanted).all()


def test_the_workspace_is_as_small_as_one_asks_and_changes_no_bit() -> None:
    rng = np.random.default_rng(5)
    a, b = encode(rng.standard_normal((90, 300)), posit16), encode(rng.standard_normal((300, 120)), posit16)
    expected = _matmul.matmul_codes(a, b, posit16).codes
    for workspace in (1, 1 << 14, 1 << 17, 1 << 20):
        tiles = tiling(90, 300, 120, workspace)
        assert tiles.doubles * 8 <= max(workspace, 8 * (2 * 300 + 2))
        assert (_matmul.matmul_codes(a, b, posit16, workspace=workspace).codes == expected).all()


def quire_product(a: Codes, b: Codes, fmt: Format) -> list[list[int]]:
    return [[_matmul.dot_codes(row, b[:, j], fmt) for j in range(b.shape[1])] for row in a]


@pytest.mark.parametrize("small", [1 << 19, 0], ids=["one kernel", "tiles"])
@pytest.mark.parametrize("shape", [(150, 3, 5), (5, 150, 3), (3, 7, 90), (41, 25, 6)], ids=str)
def test_short_rows_that_are_taken_together_keep_their_nars_and_their_scales(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], small: int
) -> None:
    monkeypatch.setattr(_matmul_small, "MOST", small)
    m, k, n = shape
    rng = np.random.default_rng(m)
    rows, columns = 2.0 ** rng.integers(-30, 30, (m, 1)), 2.0 ** rng.integers(-30, 30, n)
    a, b = (
        encode(rng.standard_normal((m, k)) * rows, posit16),
        encode(rng.standard_normal((k, n)) * columns, posit16),
    )
    a[rng.integers(m, size=2), rng.integers(k, size=2)] = posit16.nar
    b[rng.integers(k), rng.integers(n)] = posit16.nar
    a[m // 2], b[:, n // 2] = 0, 0
    expected = quire_product(a, b, posit16)
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            assert _matmul.matmul_codes(left, right, posit16).codes.tolist() == expected


@pytest.mark.parametrize("shape", [(4, 9000, 9), (3000, 90, 7), (6, 300, 2000)], ids=str)
def test_thin_products_are_cut_into_tiles_that_the_cache_holds(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    tiles = tiling(*shape)
    assert tiles.doubles * 8 <= 1 << 20
    assert (tiles.rows, tiles.depth, tiles.columns) != shape
    rng = np.random.default_rng(k)
    a, b = encode(rng.standard_normal((m, k)), posit16), encode(rng.standard_normal((k, n)), posit16)
    found = _matmul.matmul_codes(a, b, posit16).codes
    places = rng.integers(m, size=40), rng.integers(n, size=40)
    expected = [_matmul.dot_codes(a[i], b[:, j], posit16) for i, j in zip(*places, strict=True)]
    assert found[places].tolist() == expected
    assert (_matmul.matmul_codes(b.T, a.T, posit16).codes == found.T).all()


@pytest.mark.parametrize("shape", [(3, 5, 9), (32, 64, 32), (5, 700, 8), (70, 60, 62)], ids=str)
def test_the_product_of_one_call_is_that_of_the_tiles(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    """With NumPy's BLAS, without it, in either order of memory, signed or unsigned, and how it was settled."""
    m, k, n = shape
    rng = np.random.default_rng(k)
    a = encode(rng.standard_normal((m, k)) * 2.0 ** rng.integers(-20, 20, (m, 1)), posit16)
    b = encode(rng.standard_normal((k, n)), posit16)
    a[0, :], b[k // 2, 0] = a[1, :], posit16.nar
    a[2, k // 2 :], b[: k // 2, 1] = 0, 0  # disjoint supports: the compensated way
    with monkeypatch.context() as patch:
        patch.setattr(_matmul_small, "MOST", 0)
        expected = _matmul.matmul_codes(a, b, posit16)
    for address in (_blas.gemm_address(), 0):
        monkeypatch.setattr(_matmul_small, "gemm_address", lambda address=address: address)
        for left in (a, np.asfortranarray(a)):
            for right in (b, np.asfortranarray(b)):
                found = _matmul.matmul_codes(left, right, posit16)
                assert (found.codes == expected.codes).all()
                assert found.tiers.total == m * n
                signed = _matmul.matmul_codes(left.view(np.int16), right.view(np.int16), posit16)
                assert (signed.codes.view(np.uint16) == expected.codes).all()


def test_a_blas_is_found_where_numpy_brings_openblas() -> None:
    told = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    if told.get("name") != "scipy-openblas":
        pytest.skip(f"NumPy multiplies with {told.get('name')}")
    assert _blas.gemm_address() != 0
