"""posit.Quire against exact rationals: sums, bytes, overflow, the 800-bit variant, and every bad input."""

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
from posit._fixed_point import fixed_point
from posit.errors import FormatError, FormatMismatch, NonFiniteError, QuireError, ShapeError
from posit.formats import Format
from posit.quire import Quire
from posit.reference import exact
from tests.posit.quire_oracle import codes, rounded, scalar, terms, total, value

FORMATS = [Format.parse(name) for name in (
    "posit8", "posit16", "posit32", "posit64", "posit<3,0>", "posit3", "posit<12,1>", "posit<32,5>", "bposit16",
    "bposit32", "bposit64", "bposit<8,5,6>", "bposit<9,0,2>",
)]  # fmt: skip
SMALL = [Format(n, es) for n in range(3, 10) for es in (0, 1, 2, 5)] + [
    Format(n, es, rs) for n in (5, 9, 10) for es in (0, 2, 5) for rs in (2, 3, 6)
]


def filled(items: list[tuple[int, int]], fmt: Format, variant: str = "exact") -> Quire:
    quire = Quire(fmt, variant)
    for a, b in items:
        quire.mul_add(scalar(a, fmt), scalar(b, fmt))
    return quire


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_every_code_lies_on_the_grid_of_its_format(fmt: Format) -> None:
    for code in range(1 << fmt.nbits):
        fixed, truth = fixed_point(code, fmt), value(code, fmt)
        assert (None if fixed is None else fixed * Fraction(2) ** fmt.lsb_scale) == truth, hex(code)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_sums_of_products_are_exact_in_any_order_and_grouping(fmt: Format, data: st.DataObject) -> None:
    items = data.draw(terms(fmt))
    cut = data.draw(st.integers(0, len(items)))
    truth = total(items, fmt)
    whole = filled(items, fmt)
    assert whole.to_fraction() == truth
    assert int(whole.to_posit().codes) == rounded(truth, fmt)
    parts = [filled(items[:cut], fmt), filled(items[cut:], fmt)]
    parts[1].merge(parts[0])
    assert parts[1] == whole == filled(data.draw(st.permutations(items)), fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_the_other_functions_of_the_standard(fmt: Format, data: st.DataObject) -> None:
    p, a, b = (data.draw(codes(fmt, nar=False)) for _ in range(3))
    x, y, z = (value(code, fmt) for code in (p, a, b))
    assert x is not None
    assert y is not None
    assert z is not None
    quire = Quire.from_posit(scalar(p, fmt))
    assert quire.to_fraction() == x
    assert int(quire.to_posit().codes) == p
    quire.mul_sub(scalar(a, fmt), scalar(b, fmt))
    assert quire.to_fraction() == x - y * z
    quire.add(scalar(a, fmt))
    quire.sub(scalar(b, fmt))
    now = x - y * z + y - z
    assert quire.to_fraction() == now
    twin = quire.copy()
    twin.negate()
    assert twin.to_fraction() == -now
    twin.abs()
    assert twin.to_fraction() == abs(now)
    quire.sub_quire(twin)
    assert quire.to_fraction() == now - abs(now)
    quire.sub_quire(quire)
    assert quire == Quire(fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_extreme_products_are_kept_to_the_last_bit(fmt: Format) -> None:
    items = [(1, 1), (fmt.maxpos, fmt.maxpos), (fmt.maxpos, fmt.code_mask), (fmt.nar + 1, fmt.maxpos)]
    quire = filled(items[:3], fmt)
    assert quire.to_fraction() == total(items[:3], fmt)
    quire.mul_sub(scalar(fmt.maxpos, fmt), scalar(fmt.maxpos, fmt))
    assert quire.to_fraction() == total([items[0], items[2]], fmt)
    assert filled(items, fmt).to_fraction() == total(items, fmt)


def test_nar_comes_from_operands_and_stays() -> None:
    fmt = posit.posit16
    nar = scalar(fmt.nar, fmt)
    spoilers: tuple[Callable[[Quire], None], ...] = (
        lambda q: q.add(nar), lambda q: q.sub(float("nan")), lambda q: q.mul_add(nar, 0), lambda q: q.mul_sub(0, nar),
        lambda q: q.merge(Quire.from_posit(nar)), lambda q: q.sub_quire(Quire.from_posit(nar)),
    )  # fmt: skip
    for spoil in spoilers:
        quire = Quire(fmt)
        quire.add(1.5)
        spoil(quire)
        quire.add(1)
        quire.negate()
        quire.abs()
        assert quire.is_nar
        assert int(quire.to_posit().codes) == fmt.nar
        assert quire == Quire.from_posit(nar)
        assert "NaR" in repr(quire)
        with pytest.raises(NonFiniteError, match="to_fraction.. of a NaR quire"):
            quire.to_fraction()
        quire.clear()
        assert quire == Quire(fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_the_width_decides_what_overflows(fmt: Format) -> None:
    """The largest real is 01...1, the smallest 10...01; one more is NaR, and it stays NaR."""
    nbytes = fmt.quire_bits // 8
    most = Quire.from_register(b"\xff" * (nbytes - 1) + b"\x7f", fmt)
    least = Quire.from_register(b"\x01" + bytes(nbytes - 2) + b"\x80", fmt)
    assert (
        most.to_fraction()
        == -least.to_fraction()
        == (2 ** (fmt.quire_bits - 1) - 1) * Fraction(4) ** fmt.lsb_scale
    )
    assert int(most.to_posit().codes) == fmt.maxpos
    for full, sign in ((most, 1), (least, -1)):
        over = full.copy()
        minpos = scalar(1, fmt)
        (over.mul_add if sign > 0 else over.mul_sub)(minpos, minpos)
        assert over.is_nar
        (over.mul_sub if sign > 0 else over.mul_add)(minpos, minpos)
        assert over.is_nar
    most.add_quire(least)
    assert most == Quire(fmt)
    assert Quire.from_register(bytes(nbytes - 1) + b"\x80", fmt).is_nar


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_31_carry_bits_hold_2_to_the_31_minus_1_largest_products(fmt: Format) -> None:
    largest = filled([(fmt.maxpos, fmt.maxpos)], fmt)
    quire, doubled = Quire(fmt), largest.copy()
    for _ in range(31):  # 1 + 2 + 4 + ... + 2**30
        quire.merge(doubled)
        doubled.add_quire(doubled.copy())
    assert quire.to_fraction() == (2**31 - 1) * largest.to_fraction()


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_bytes_are_the_twos_complement_register_behind_a_header(fmt: Format, data: st.DataObject) -> None:
    quire = filled(data.draw(terms(fmt, nar=True)), fmt)
    written = quire.to_bytes()
    register = int.from_bytes(written[12:], "little", signed=True)
    assert len(written) == 12 + fmt.quire_bits // 8
    if quire.is_nar:
        assert register == -(1 << (fmt.quire_bits - 1))
    else:
        assert register * Fraction(4) ** fmt.lsb_scale == quire.to_fraction()
    again = pickle.loads(pickle.dumps(quire))  # noqa: S301 - our own bytes
    assert Quire.from_bytes(written, fmt) == quire == again == copy.deepcopy(quire)


def test_widths_of_the_standard_and_of_bposits() -> None:
    assert [Quire(Format(n)).bits for n in (8, 16, 32, 64)] == [128, 256, 512, 1024]
    assert [Quire(f"bposit{n}").bits for n in (16, 32, 64)] == [808, 840, 904]
    assert [Quire(f"bposit{n}", variant="800-bit").bits for n in (16, 32, 64)] == [800] * 3


def test_python_numbers_round_to_the_format_first() -> None:
    quire = Quire("posit8")
    quire.add(0.1)
    quire.mul_add(Fraction(1, 3), 3)
    third = exact.value(exact.nearest(Fraction(1, 3), posit.posit8), posit.posit8)
    tenth = exact.value(exact.nearest(Fraction(1, 10), posit.posit8), posit.posit8)
    assert third is not None
    assert tenth is not None
    assert quire.to_fraction() == tenth + 3 * third


# The 800-bit register of the b-posit paper


@pytest.mark.parametrize(("name", "code"), [("bposit16", 1), ("bposit32", 3), ("bposit64", 0x1D)])
def test_the_800_bit_quire_loses_a_product_that_the_exact_one_keeps(name: str, code: int) -> None:
    """The counter-example of docs/quire.md: p * p is no multiple of 2**-384."""
    fmt = Format.parse(name)
    p, minpos = scalar(code, fmt), scalar(1, fmt)
    paper, whole = Quire(fmt, "800-bit"), Quire(fmt)
    for quire in (paper, whole):
        quire.mul_add(p, p)
        quire.mul_sub(scalar(1, fmt), p)
        quire.mul_sub(minpos, p)
        quire.mul_add(minpos, minpos)
    x, m = value(code, fmt), value(1, fmt)
    assert x is not None
    assert m is not None
    assert whole.to_fraction() == (x - m) ** 2
    assert not whole.inexact
    assert paper.inexact
    single = Quire(fmt, "800-bit")
    single.mul_add(p, p)
    assert single.inexact
    assert single.to_fraction() == Fraction(int(x * x * 2**384), 2**384) < x * x
    assert "inexact" in repr(single)


def test_the_800_bit_quire_gives_a_posit_of_the_wrong_sign() -> None:
    """3 * (22 * 23) - 2 * (17 * 31) = 464 units of 2**-392; with the last 8 bits of each cut, 768 - 1024 = -256."""
    fmt = posit.bposit16  # code c = 1 .. 15 is (16 + c) * 2**-196
    paper, whole = Quire(fmt, "800-bit"), Quire(fmt)
    for quire in (paper, whole):
        for _ in range(3):
            quire.mul_add(scalar(6, fmt), scalar(7, fmt))
        for _ in range(2):
            quire.mul_sub(scalar(1, fmt), scalar(15, fmt))
    assert whole.to_fraction() == Fraction(464, 2**392)
    assert paper.to_fraction() == Fraction(-256, 2**392)
    assert int(whole.to_posit().codes) == fmt.minpos
    assert int(paper.to_posit().codes) == fmt.code_mask  # -minpos
    assert (paper.inexact, whole.inexact) == (True, False)
    paper.clear()
    assert not paper.inexact


@settings(max_examples=25)
@given(data=st.data())
def test_the_800_bit_quire_is_exact_exactly_when_it_says_so(data: st.DataObject) -> None:
    fmt = posit.bposit16
    items = data.draw(terms(fmt))
    quire = filled(items, fmt, "800-bit")
    fits = all((total([item], fmt) or Fraction(0)) * 2**384 % 1 == 0 for item in items)
    assert quire.inexact != fits
    if fits:
        assert quire.to_fraction() == total(items, fmt)
    again = Quire.from_bytes(quire.to_bytes())
    assert again == quire
    other = Quire(fmt, "800-bit")
    other.merge(again)
    assert other.inexact == quire.inexact


# Bad input


def test_bytes_that_are_no_quire_of_the_format_are_refused() -> None:
    good = filled([(0x4C91, 0x4C91)], posit.posit16).to_bytes()
    for bad, message in (
        (b"", "header of 12 bytes, got 0 bytes"),
        (b"XXXX" + good[4:], "starts with b'PQR1', got b'XXXX'"),
        (good[:4] + b"\x02" + good[5:], "of version 2 came, this posit reads version 1"),
        (good[:6] + b"\x02" + good[7:], "names no quire: nbits must be"),
        (
            good[:9] + b"\x07" + good[10:],
            "names no quire: a quire is 'exact', '800-bit' or 'three factors', got variant '7'",
        ),
        (good[:9] + b"\x01" + good[10:], "800-bit quire is that of bposits"),
        (good[:6] + b"\x20" + good[7:], "says 32 bytes for posit32, whose quire has 64"),
        (good[:-1], "has 44 bytes and flags 0 or 1, got 43 bytes"),
        (good + b"\x00", "has 44 bytes and flags 0 or 1, got 45 bytes"),
        (good[:5] + b"\x09" + good[6:], "flags 9"),
    ):
        with pytest.raises(QuireError, match=message):
            Quire.from_bytes(bad)
    with pytest.raises(QuireError, match="a quire of posit32 was wanted, the bytes hold one of posit16"):
        Quire.from_bytes(good, "posit32")
    with pytest.raises(QuireError, match="a register of posit16 has 32 bytes, got 31"):
        Quire.from_register(bytes(31), "posit16")


def test_bad_operands_raise_and_leave_the_quire_unchanged() -> None:
    quire = filled([(0x4C91, 0x4C91)], posit.posit16)
    before = quire.copy()
    one = scalar(0x40, posit.posit8)
    calls: list[tuple[type[Exception], str, Callable[[], None]]] = [
        (FormatMismatch, "posit16 met posit8", lambda: quire.add(one)),
        (FormatMismatch, "posit16 met posit8", lambda: quire.mul_sub(1, one)),
        (FormatMismatch, "posit16 met a NumPy float64", lambda: quire.add(np.float64(1))),
        (FormatMismatch, "met str", lambda: quire.mul_add("1", 1)),
        (ShapeError, r"one posit at a time, got shape \(2,\)", lambda: quire.add(posit.ones(2, "posit16"))),
        (
            QuireError,
            "different formats do not merge: posit16 .* met posit8",
            lambda: quire.merge(Quire("posit8")),
        ),
        (QuireError, "got PositArray; use add", lambda: quire.sub_quire(scalar(1, posit.posit16))),  # type: ignore[arg-type]
    ]
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()
        assert quire == before
    exact_one, paper = Quire("bposit16"), Quire("bposit16", "800-bit")
    with pytest.raises(
        QuireError, match="do not merge: bposit16 .exact, 808 bits. met bposit16 .800-bit, 800 bits."
    ):
        exact_one.merge(paper)
    with pytest.raises(
        FormatError, match="800-bit quire is that of bposits with es = 5 and max_regime = 6, not of posit16"
    ):
        Quire("posit16", variant="800-bit")
    with pytest.raises(FormatError, match="got variant 'fast'"):
        Quire("bposit16", variant="fast")
    with pytest.raises(FormatMismatch, match="from_posit needs a posit array"):
        Quire.from_posit(1.0)  # type: ignore[arg-type]
    assert exact_one != paper
    assert quire != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(quire)
