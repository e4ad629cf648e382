"""Arithmetic against exact rationals: all posit8 pairs, corners of larger formats, three ways to compute."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
from posit import arithmetic
from posit._kernels import arithmetic as kernels
from posit.codec import signed_storage, to_signed, to_unsigned
from posit.formats import Format
from posit.reference.exact import boundary, nearest, value

BINARY: dict[str, tuple[Callable[..., Any], Callable[[Fraction, Fraction], Fraction]]] = {
    "add": (arithmetic.add, lambda x, y: x + y),
    "sub": (arithmetic.sub, lambda x, y: x - y),
    "mul": (arithmetic.mul, lambda x, y: x * y),
    "div": (arithmetic.div, lambda x, y: x / y),
}
LARGE = [
    Format.parse(name) for name in ("posit16", "posit32", "bposit32", "posit64", "bposit64", "posit<32,5>")
]


def exact(real: Callable[[Fraction, Fraction], Fraction], a: int, b: int, fmt: Format) -> int:
    x, y = value(a, fmt), value(b, fmt)
    if x is None or y is None:
        return fmt.nar
    try:
        return nearest(real(x, y), fmt)
    except ZeroDivisionError:
        return fmt.nar


def exact_sqrt(a: int, fmt: Format) -> int:
    x = value(a, fmt)
    if x is None or x < 0:
        return fmt.nar
    bits = 2200  # more than twice any boundary's
    root = Fraction(math.isqrt((x.numerator << 2 * bits) // x.denominator), 1 << bits)
    return nearest(root if root * root == x else root + Fraction(1, 1 << (bits + 1)), fmt)


def codes_of(fmt: Format) -> st.SearchStrategy[int]:
    """Any code of a format, its corners and neighbours of powers of two often; shrinks towards 0."""
    corners = [0, 1, 2, 3, fmt.nar >> 1, (fmt.nar >> 1) + 1, (fmt.nar >> 1) - 1, fmt.maxpos, fmt.maxpos - 1]
    corners += [fmt.nar, fmt.nar + 1, fmt.nar + 2, fmt.code_mask, fmt.code_mask - 1, 3 * fmt.nar // 2]
    shifted = st.builds(
        lambda k, d: ((1 << k) + d) & fmt.code_mask, st.integers(0, fmt.nbits - 1), st.integers(-2, 2)
    )
    return st.sampled_from(corners) | shifted | st.integers(0, fmt.code_mask)


@pytest.mark.parametrize("name", BINARY)
def test_every_pair_of_posit8(name: str) -> None:
    fmt = Format(8)
    function, real = BINARY[name]
    codes = np.arange(256, dtype=np.uint8)
    got = function(codes[:, None], codes, fmt)
    values = [value(code, fmt) for code in range(256)]
    cache: dict[Fraction, int] = {}
    for a, x in enumerate(values):
        for b, y in enumerate(values):
            if x is None or y is None or (name == "div" and y == 0):
                wanted = fmt.nar
            else:
                result = real(x, y)
                wanted = cache.setdefault(result, -1) if result in cache else nearest(result, fmt)
                cache[result] = wanted
            assert int(got[a, b]) == wanted, (hex(a), hex(b))


@pytest.mark.parametrize("name", ["bposit<6,1,3>", "posit<5,5>"])
def test_every_pair_of_an_odd_format(name: str) -> None:
    fmt = Format.parse(name)
    codes = np.arange(1 << fmt.nbits, dtype=np.uint8)
    for function, real in BINARY.values():
        got = function(codes[:, None], codes, fmt)
        wanted = [[exact(real, a, b, fmt) for b in range(len(codes))] for a in range(len(codes))]
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("fmt", LARGE, ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_large_formats_against_rationals(fmt: Format, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(codes_of(fmt), codes_of(fmt)), min_size=1, max_size=8))
    near = data.draw(st.integers(-3, 3))
    pairs += [(a, (-a + near) & fmt.code_mask) for a, _ in pairs]  # cancellation
    a, b = (np.array([pair[i] for pair in pairs], fmt.storage) for i in (0, 1))
    for function, real in BINARY.values():
        assert function(a, b, fmt).tolist() == [exact(real, x, y, fmt) for x, y in pairs]
    assert arithmetic.sqrt(a, fmt).tolist() == [exact_sqrt(x, fmt) for x, _ in pairs]


@pytest.mark.parametrize("fmt", LARGE, ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_fma_against_rationals(fmt: Format, data: st.DataObject) -> None:
    a, b = data.draw(codes_of(fmt)), data.draw(codes_of(fmt))
    x, y = value(a, fmt), value(b, fmt)
    product = fmt.nar if x is None or y is None else nearest(-x * y, fmt)
    c = data.draw(codes_of(fmt) | st.builds(lambda d: (product + d) & fmt.code_mask, st.integers(-2, 2)))
    z = value(c, fmt)
    wanted = fmt.nar if x is None or y is None or z is None else nearest(x * y + z, fmt)
    first, second, third = (np.array([code], fmt.storage) for code in (a, b, c))
    assert arithmetic.fma(first, second, third, fmt).tolist() == [wanted]


@pytest.mark.parametrize("fmt", [Format(16), Format(32), Format(32, 5, 6)], ids=str)
def test_sums_that_lie_beside_a_tie_round_to_the_right_side(fmt: Format) -> None:
    """A + b is a boundary, give or take the smallest b: the sticky bit lies far below."""
    rng = np.random.default_rng(7)
    for code in rng.integers(fmt.nar // 4, 3 * fmt.nar // 4, 100):
        tie = boundary(int(code), fmt)
        half = tie - value(int(code), fmt)  # type: ignore[operator]
        b = nearest(half, fmt)
        if value(b, fmt) != half:
            continue
        for nudged in (b - 1, b, b + 1):
            got = arithmetic.add(np.array([code], fmt.storage), np.array([nudged], fmt.storage), fmt)
            assert int(got[0]) == exact(BINARY["add"][1], int(code), nudged, fmt)


@pytest.mark.parametrize("fmt", LARGE, ids=str)
def test_a_tiny_addend_breaks_the_tie_of_a_product(fmt: Format) -> None:
    """The product is exactly half-way between two posits, and c lies hundreds of bits below: one sticky bit decides."""
    scale = fmt.max_scale // 2
    power = Fraction(2) ** scale
    b = np.array([nearest(power, fmt)], fmt.storage)
    found = 0
    for code in range(int(b[0]), int(b[0]) + 40):
        tie = boundary(code, fmt)
        a = nearest(tie / power, fmt)
        if value(a, fmt) != tie / power:
            continue
        found += 1
        for c in (fmt.minpos, fmt.code_mask, 0):
            wanted = nearest(tie + (value(c, fmt) or 0), fmt)
            got = arithmetic.fma(np.array([a], fmt.storage), b, np.array([c], fmt.storage), fmt)
            assert int(got[0]) == wanted, (hex(a), hex(int(b[0])), hex(c))
    assert found


@pytest.mark.parametrize("fmt", [*LARGE, Format(64, 2, 3), Format(63, 5, 6), Format(64, 0)], ids=str)
def test_results_beyond_maxpos_stay_there(fmt: Format) -> None:
    """Also just beyond: with 64 bits, rounding the code of maxpos up would leave the integers."""
    largest = np.array([fmt.maxpos], fmt.storage)
    one = 1 << (fmt.nbits - 2)
    for code in (one, one + 1, one + 2, one + 3 * one // 4, fmt.maxpos):
        factor = np.array([code], fmt.storage)
        for a, b in ((largest, factor), (arithmetic.negate(largest, fmt), factor)):
            assert int(arithmetic.mul(a, b, fmt)[0]) == exact(BINARY["mul"][1], int(a[0]), int(b[0]), fmt)
            assert int(arithmetic.add(a, b, fmt)[0]) == exact(BINARY["add"][1], int(a[0]), int(b[0]), fmt)
    for above in (fmt.maxpos_value * (1 + Fraction(1, 2**50)), fmt.maxpos_value * Fraction(5, 4)):
        assert int(posit.array(above, fmt).codes) == fmt.maxpos
        if above < 2**1023:
            assert int(posit.array(np.array([float(above)]), fmt).codes[0]) == fmt.maxpos


def test_the_product_that_rounds_twice_through_float64() -> None:
    a, b = np.array([0x40E4E1E1], np.uint32), np.array([0x471D6663], np.uint32)
    assert arithmetic.mul(a, b, Format(32)).tolist() == [0x4866EB87]
    through_float64 = posit.array(
        posit.from_codes(a, "posit32").to_float() * posit.from_codes(b, "posit32").to_float(), "posit32"
    )
    assert through_float64.codes.tolist() == [0x4866EB86]


@pytest.mark.parametrize("fmt", [Format(32), Format(32, 5, 6)], ids=str)
def test_float64_and_integers_agree(fmt: Format) -> None:
    rng = np.random.default_rng(11)
    a, b, c = (rng.integers(-(1 << 31), 1 << 31, 100_000).astype(np.int32) for _ in range(3))
    parameters = fmt.nbits, fmt.es, fmt.max_regime or 0
    fast, slow = np.empty_like(a), np.empty_like(a)
    for op in (kernels.ADD, kernels.SUB, kernels.MUL, kernels.DIV):
        kernels.binary(op, *parameters)(a, b, fast)
        kernels._generic_binary(False)(op, a, b, slow, *parameters)
        np.testing.assert_array_equal(fast, slow)
    kernels.fma(*parameters)(a, b, c, fast)
    kernels._generic_fma(False)(a, b, c, slow, *parameters)
    np.testing.assert_array_equal(fast, slow)


def adversarial(fmt: Format, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed codes: random ones, few significant bits, range ends, and pairs that nearly cancel."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (fmt.nbits - 1)), 1 << (fmt.nbits - 1)
    a, b, c = (rng.integers(low, high, count, np.int64) for _ in range(3))
    quarter = count // 4
    spared = rng.integers(0, fmt.nbits - 1, quarter)
    a[:quarter] = a[:quarter] >> spared << spared  # few bits: ties are likely
    b[:quarter] = (b[:quarter] >> spared << spared) + rng.integers(-2, 3, quarter)
    b[quarter : 2 * quarter] = -a[quarter : 2 * quarter] + rng.integers(-9, 10, quarter)
    a[-quarter:] = np.where(rng.random(quarter) < 0.5, high - 1, low + 1) ^ rng.integers(0, 64, quarter)
    spare = 64 - fmt.nbits
    made = [(codes << spare >> spare).astype(signed_storage(fmt)) for codes in (a, b, c)]
    return made[0], made[1], made[2]


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", [Format(32), Format(32, 5, 6), Format(16), Format(16, 5, 6)], ids=str)
def test_ten_million_pairs_by_two_algorithms(fmt: Format) -> None:
    """float64 rounded to odd (or 32-bit lanes) and integers share only the decoding of fields and agree everywhere."""
    a, b, c = adversarial(fmt, 10_000_000, 17)
    parameters = fmt.nbits, fmt.es, fmt.max_regime or 0
    fast, slow = np.empty_like(a), np.empty(a.shape, np.int32)
    wide_a, wide_b, wide_c = (codes.astype(np.int32) for codes in (a, b, c))
    for op in (kernels.ADD, kernels.SUB, kernels.MUL, kernels.DIV):
        kernels.binary(op, *parameters)(a, b, fast)
        kernels._generic_binary(False)(op, wide_a, wide_b, slow, *parameters)
        np.testing.assert_array_equal(fast, slow)
    kernels.fma(*parameters)(a, b, c, fast)
    kernels._generic_fma(False)(wide_a, wide_b, wide_c, slow, *parameters)
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", LARGE, ids=str)
def test_many_adversarial_pairs_against_rationals(fmt: Format) -> None:
    signed_a, signed_b, _ = adversarial(fmt, 20_000, 23)
    a, b = to_unsigned(signed_a, fmt), to_unsigned(signed_b, fmt)
    for function, real in BINARY.values():
        for x, y, got in zip(a, b, function(a, b, fmt), strict=True):
            assert int(got) == exact(real, int(x), int(y), fmt), (hex(x), hex(y))


@pytest.mark.parametrize("fmt", [Format(8), Format(9, 1), Format(32), Format(64), Format(64, 5)], ids=str)
def test_integer_functions(fmt: Format) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, fmt.code_mask, 200, dtype=np.uint64, endpoint=True).astype(fmt.storage)
    codes[:3] = 0, fmt.nar, fmt.maxpos
    rules: dict[Any, Callable[[Fraction], int]] = {
        arithmetic.nearest_int: round,
        arithmetic.ceil: math.ceil,
        arithmetic.floor: math.floor,
    }
    for function, rule in rules.items():
        for code, got in zip(codes, function(codes, fmt), strict=True):
            x = value(int(code), fmt)
            assert int(got) == (fmt.nar if x is None else nearest(rule(x), fmt)), hex(code)


@pytest.mark.parametrize("fmt", [Format(8), Format(12, 1), Format(64)], ids=str)
def test_functions_of_the_code_alone(fmt: Format) -> None:
    one = 1 << (fmt.nbits - 2)
    codes = np.array([0, 1, one, fmt.maxpos, fmt.nar, fmt.nar + 1, fmt.code_mask], fmt.storage)
    mask = fmt.code_mask
    assert arithmetic.negate(codes, fmt).tolist() == [-int(c) & mask for c in codes]
    assert arithmetic.absolute(codes, fmt).tolist() == [0, 1, one, fmt.maxpos, fmt.nar, fmt.maxpos, 1]
    assert arithmetic.sign(codes, fmt).tolist() == [0, one, one, one, fmt.nar, -one & mask, -one & mask]
    assert arithmetic.next_code(codes, fmt).tolist() == [(int(c) + 1) & mask for c in codes]
    assert arithmetic.prior_code(codes, fmt).tolist() == [(int(c) - 1) & mask for c in codes]
    order = arithmetic.compare(np.less, codes[:, None], codes, fmt)
    signed = [value(int(c), fmt) for c in codes]
    assert order.tolist() == [[y is not None and (x is None or x < y) for y in signed] for x in signed]


@pytest.mark.parametrize("name", ["posit8", "posit16", "posit<12,1>", "posit32", "posit64"])
def test_signed_codes_give_signed_codes(name: str) -> None:
    fmt = Format.parse(name)
    codes = np.random.default_rng(0).integers(0, fmt.code_mask, 50, dtype=np.uint64).astype(fmt.storage)
    signed = to_signed(codes, fmt)
    result = arithmetic.mul(signed, signed, fmt)
    assert result.dtype == signed_storage(fmt)
    np.testing.assert_array_equal(to_unsigned(result, fmt), arithmetic.mul(codes, codes, fmt))
    np.testing.assert_array_equal(
        to_unsigned(arithmetic.negate(signed, fmt), fmt), arithmetic.negate(codes, fmt)
    )


def test_threads_and_strides_change_no_bit() -> None:
    fmt = Format(16)
    codes = np.random.default_rng(1).integers(0, 1 << 16, (600, 700), dtype=np.uint16)
    before = posit.get_num_threads()
    try:
        posit.set_num_threads(1)
        one = arithmetic.add(codes[::-1, ::2], codes[:, 1::2], fmt)
        posit.set_num_threads(2)
        two = arithmetic.add(codes[::-1, ::2], codes[:, 1::2], fmt)
    finally:
        posit.set_num_threads(before)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, arithmetic.add(codes[::-1, ::2].copy(), codes[:, 1::2].copy(), fmt))


@pytest.mark.parametrize("name", ["posit16", "posit<12,1>", "posit64"])
def test_results_go_where_they_are_wanted(name: str) -> None:
    fmt = Format.parse(name)
    codes = (
        np.random.default_rng(3).integers(0, fmt.code_mask, 40, np.uint64).astype(fmt.storage).reshape(5, 8)
    )
    wanted = arithmetic.mul(codes, codes[:1], fmt)
    out = np.zeros_like(codes)
    assert arithmetic.mul(codes, codes[:1], fmt, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    first = codes[:1].copy()
    np.testing.assert_array_equal(arithmetic.mul(codes, first, fmt, out=codes), wanted)
    read_only = out.copy()
    read_only.flags.writeable = False
    unfit: list[Any] = [out[:3], out.T, out[:, ::2], read_only, out.astype(np.float64)]
    for bad in unfit:
        with pytest.raises(posit.errors.ShapeError, match="out must be contiguous and writeable"):
            arithmetic.mul(codes, first, fmt, out=bad)


def test_wrong_codes_are_refused() -> None:
    codes = np.zeros(3, np.uint16)
    with pytest.raises(posit.errors.CodeError, match="dtype uint16 or int16, got float64"):
        arithmetic.add(codes, np.zeros(3), Format(16))  # type: ignore[arg-type]
    with pytest.raises(posit.errors.ShapeError, match=r"shapes \(3,\), \(2,\) do not broadcast"):
        arithmetic.add(codes, codes[:2], Format(16))
