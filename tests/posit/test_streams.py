"""Exact sums of vectors and matrices of codes: against the plain quire and rationals, at every edge of a block."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
from posit import Format, _streams, posit8, posit16, posit32
from posit._kernels import exact_sums
from posit._kernels.extent import bounds, extent, finest
from posit.codec import decode, encode, to_signed, to_unsigned
from posit.errors import FormatError, ShapeError
from posit.formats import bposit16, bposit32
from posit.reference import exact

FORMATS = [posit16, posit32, Format(12, 1), bposit16]  # each way of decoding, and spare bits
EDGES = [1, 2, 255, 256, 257, 2047, 2048, 2049, 4096, 4097]
Codes = npt.NDArray[Any]


def plain_sums(rows: Codes, fmt: Format, divisor: int = 1) -> Codes:
    """Sums of rows by the plain quire, one code after the other."""
    base = fmt.lsb_scale - 160 - 32 * exact_sums.SPARE
    limbs = np.zeros((fmt.max_scale + 40 - base) // 32 + 4, np.int64)
    out = np.empty(len(rows), np.int64)
    wide = np.ascontiguousarray(rows).astype(np.int64)
    exact_sums.sums()(wide, divisor, limbs, base, out, fmt.nbits, fmt.es, fmt.max_regime or 0)
    return (out & fmt.code_mask).astype(fmt.storage)


def plain_dot(a: Codes, b: Codes, fmt: Format) -> int:
    from posit._matmul import dot_codes

    return dot_codes(a, b, fmt)


def negated(codes: Codes, fmt: Format) -> Codes:
    return (-codes.astype(np.int64) & fmt.code_mask).astype(fmt.storage)


def mixture(kind: str, count: int, fmt: Format, seed: int) -> Codes:
    """A vector of real codes of some character."""
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        codes = rng.integers(0, fmt.code_mask + 1, count).astype(fmt.storage)
    elif kind == "normal":
        codes = encode(rng.standard_normal(count), fmt)
    elif kind == "relu":
        codes = encode(np.maximum(rng.standard_normal(count), 0), fmt)
    elif kind == "ends":
        codes = rng.choice(np.array([0, 1, fmt.maxpos, fmt.nar + 1, fmt.code_mask], fmt.storage), count)
    elif kind == "cancelling":
        half = rng.integers(1, fmt.maxpos, count).astype(fmt.storage)[: (count + 1) // 2]
        codes = np.concatenate([half, negated(half, fmt)[::-1]])[:count]
    else:  # one large number, minpos everywhere else
        codes = np.ones(count, fmt.storage)
        codes[count // 2] = fmt.maxpos
    codes[codes == fmt.nar] = 1
    return codes


KINDS = ["uniform", "normal", "relu", "ends", "cancelling", "dust"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fmt", [*FORMATS, posit8, bposit32], ids=str)
def test_sums_and_dot_products_equal_the_plain_quire_around_block_edges(fmt: Format, kind: str) -> None:
    for count in EDGES:
        a, b = mixture(kind, count, fmt, count), mixture(kind, count, fmt, count + 1)
        assert _streams.sum_codes(a, fmt) == plain_sums(a[None], fmt)[0], count
        assert _streams.sum_codes(a, fmt, count) == plain_sums(a[None], fmt, count)[0], count
        assert _streams.dot_codes(a, b, fmt) == plain_dot(a, b, fmt), count
        assert _streams.dot_codes(a, negated(a, fmt), fmt) == plain_dot(a, negated(a, fmt), fmt), count


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@settings(max_examples=40)
@given(data=st.data())
def test_any_codes_equal_rationals(fmt: Format, data: st.DataObject) -> None:
    corners = st.sampled_from([0, 1, fmt.nar >> 1, fmt.maxpos, fmt.nar, fmt.nar + 1, fmt.code_mask])
    drawn = corners | st.integers(0, fmt.code_mask)
    pairs = data.draw(st.lists(st.tuples(drawn, drawn), max_size=12))
    repeat = data.draw(st.sampled_from([1, 1, 200]))  # over a block's edge, cancelling or growing
    a = np.array([p for p, _ in pairs] * repeat, fmt.storage)
    b = np.array([q for _, q in pairs] * repeat, fmt.storage)
    assert _streams.dot_codes(a, b, fmt) == exact.dot(a.tolist(), b.tolist(), fmt)
    values = [exact.value(code, fmt) for code in a.tolist()]
    real = [value for value in values if value is not None]
    for divisor in (1, 3, max(len(a), 1)):
        mean = sum(real, Fraction(0)) / divisor
        expected = exact.nearest(mean, fmt) if len(real) == len(values) else fmt.nar
        assert _streams.sum_codes(a, fmt, divisor) == expected
        assert _streams.sums_codes(a[None], 1, fmt, divisor).tolist() == [expected]
        assert _streams.sums_codes(a[:, None], 0, fmt, divisor).tolist() == [expected]


SHAPES = [(1, 1), (3, 10), (300, 7), (7, 300), (129, 257), (2, 3000), (3000, 3), (1, 5000), (0, 4), (4, 0)]


@pytest.mark.parametrize("kind", ["uniform", "normal", "ends"])
@pytest.mark.parametrize("fmt", [*FORMATS, Format(32, 5)], ids=str)
def test_sums_over_rows_and_columns_equal_the_plain_quire(fmt: Format, kind: str) -> None:
    for shape in SHAPES:
        codes = (
            mixture(kind, shape[0] * shape[1], fmt, 3).reshape(shape)
            if 0 not in shape
            else np.zeros(shape, fmt.storage)
        )
        if kind == "normal" and codes.size > 20:
            codes[1 % shape[0], 2 % shape[1]] = fmt.nar
        for axis, divisor in ((0, 1), (1, 1), (0, 7), (1, max(shape[1], 1))):
            expected = plain_sums(codes if axis else codes.T, fmt, divisor)
            for stored in (codes, np.asfortranarray(codes), np.repeat(codes, 2, axis=0)[::2]):
                assert (_streams.sums_codes(stored, axis, fmt, divisor) == expected).all(), (shape, axis)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_strides_storage_order_and_threads_change_no_bit(
    fmt: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = mixture("uniform", 300_000, fmt, 5), mixture("uniform", 300_000, fmt, 6)
    matrix = a.reshape(-1, 12)
    before = posit.get_num_threads()
    monkeypatch.setattr(_streams, "_CHUNK", 10_000)

    def results(x: Codes, y: Codes, z: Codes) -> list[Any]:
        codes = [_streams.sum_codes(x, fmt), _streams.sum_codes(x, fmt, 1000), _streams.dot_codes(x, y, fmt)]
        rows = [_streams.sums_codes(z, axis, fmt) for axis in (0, 1)]
        return codes + [to_unsigned(r, fmt).tolist() if r.dtype.kind == "i" else r.tolist() for r in rows]

    try:
        posit.set_num_threads(1)
        expected = results(a, b, matrix)
        order = np.random.default_rng(7).permutation(a.size)
        assert results(a[order], b[order], matrix) == expected
        assert results(np.repeat(a, 3)[1::3], b, np.repeat(matrix, 2, axis=1)[:, ::2]) == expected
        assert results(a[::-1], b[::-1], matrix) == expected
        assert results(to_signed(a, fmt), to_signed(b, fmt), to_signed(matrix, fmt)) == expected
        posit.set_num_threads(2)
        assert results(a, b, matrix) == expected
    finally:
        posit.set_num_threads(before)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_the_bounds_of_a_block_hold_for_its_values(fmt: Format) -> None:
    """Below 2**top and multiples of 2**bottom, also where the smallest magnitude is not the value with the last bit."""
    for kind in KINDS:
        codes = to_signed(mixture(kind, 500, fmt, 8), fmt)
        spare = 8 * codes.dtype.itemsize - fmt.nbits
        for part in (codes, codes[:1], codes[:3]):
            low, high = extent(part, spare)
            if high == 0:
                continue
            top, bottom = bounds(low, high, spare, fmt.nbits, fmt.es, fmt.max_regime or 0)
            values = decode(part, fmt)
            assert (np.abs(values) < 2.0**top).all()
            assert (np.ldexp(values, -bottom) % 1 == 0).all()


@pytest.mark.parametrize("fmt", [posit8, posit16, Format(12, 1), Format(10, 3, 4), Format(9, 5)], ids=str)
def test_the_finest_bit_never_falls_and_divides_every_value_above(fmt: Format) -> None:
    codes = np.arange(1, fmt.maxpos + 1).astype(fmt.storage)
    finest_bits = np.array([finest(int(c), fmt.nbits, fmt.es, fmt.max_regime or 0) for c in codes])
    assert (np.diff(finest_bits) >= 0).all()
    assert (np.ldexp(decode(codes, fmt), -finest_bits) % 1 == 0).all()


@pytest.mark.parametrize(("fmt", "bits"), [(posit16, 80), (posit32, 90), (bposit16, 80)], ids=str)
def test_a_weakened_condition_is_noticed(fmt: Format, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that a float64 holds more bits than it does, the kernels give wrong sums: the condition is what protects."""
    x = mixture("uniform", 3000, fmt, 9)
    a = np.concatenate([x, negated(x, fmt), mixture("normal", 5, fmt, 10)])
    b = np.concatenate([x, x, mixture("normal", 5, fmt, 11)])
    matrix = np.repeat(a[:, None], 3, axis=1)
    right = (
        _streams.sum_codes(a, fmt), _streams.dot_codes(a, b, fmt), _streams.sums_codes(matrix, 0, fmt)[0],
        _streams.sums_codes(a[None], 1, fmt)[0],
    )  # fmt: skip
    monkeypatch.setattr(_streams, "_WINDOW", bits)
    assert _streams.sum_codes(a, fmt) != right[0]
    assert _streams.dot_codes(a, b, fmt) != right[1]
    assert _streams.sums_codes(matrix, 0, fmt)[0] != right[2]
    assert _streams.sums_codes(a[None], 1, fmt)[0] != right[3]


def test_nar_anywhere_reaches_its_own_sum_only() -> None:
    for where in (0, 2047, 2048, 9999):
        a = mixture("normal", 10_000, posit16, 1)
        b = np.zeros_like(a)  # NaR times 0 is NaR
        a[where] = posit16.nar
        assert _streams.sum_codes(a, posit16) == posit16.nar
        assert _streams.dot_codes(a, b, posit16) == _streams.dot_codes(b, a, posit16) == posit16.nar
        rows = a.reshape(100, 100)
        for axis, hit in ((0, where % 100), (1, where // 100)):
            sums = _streams.sums_codes(rows, axis, posit16)
            assert np.flatnonzero(sums == posit16.nar).tolist() == [hit]


def test_empty_sums_are_zero() -> None:
    none = np.empty(0, np.uint16)
    assert _streams.sum_codes(none, posit16) == _streams.dot_codes(none, none, posit16) == 0
    assert _streams.sums_codes(np.empty((2, 0), np.int16), 1, posit16).tolist() == [0, 0]
    assert _streams.sums_codes(np.empty((0, 3), np.int16), 0, posit16).tolist() == [0, 0, 0]


def test_squares_stay_exact_in_limbs() -> None:
    codes = mixture("uniform", 5000, posit32, 12)
    held = _streams.squares(codes, posit32)
    limbs = sum(int(digit) << (32 * t) for t, digit in enumerate(held.limbs))
    values = [exact.value(code, posit32) for code in codes.tolist()]
    assert Fraction(limbs) * Fraction(2) ** held.base == sum(
        (v * v for v in values if v is not None), Fraction(0)
    )


def test_what_cannot_be_summed_is_refused() -> None:
    codes = np.zeros((2, 3), np.uint16)
    with pytest.raises(ShapeError, match=r"needs two vectors of one length, got shapes \(2,\) and \(3,\)"):
        _streams.dot_codes(codes[:, 0], codes[0], posit16)
    with pytest.raises(ShapeError, match=r"needs shape \(k,\), got \(2, 3\)"):
        _streams.sum_codes(codes, posit16)
    with pytest.raises(ShapeError, match=r"need shape \(m, k\), got \(2, 3\) and axis 2"):
        _streams.sums_codes(codes, 2, posit16)
    with pytest.raises(ShapeError, match="divides by 1 to 2\\*\\*31 - 1, got 0"):
        _streams.sum_codes(codes[0], posit16, 0)
    with pytest.raises(ShapeError, match="room for 2\\*\\*31 - 1 terms, got 2147483648"):
        _streams.sum_codes(np.broadcast_to(codes[0, :1], 1 << 31), posit16)
    with pytest.raises(FormatError, match="posit64 does not fit the float64 carrier of exact sums"):
        _streams.sum_codes(np.zeros(2, np.uint64), Format(64))
    with pytest.raises(FormatError, match="does not fit the float64 carrier of exact products"):
        _streams.dot_codes(np.zeros(2, np.uint32), np.zeros(2, np.uint32), Format(32, 5))
