"""The exact sum on the wire: limbs of any number of ranks add up to the merged quires, and never overflow."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
from posit import QuireArray, _quire_wire
from posit._quire_division import divided
from posit._quire_totals import Total
from posit.errors import QuireError
from posit.testing import posit_arrays

FORMATS = (posit.posit16, posit.posit8)


def quires_of(fmt: posit.Format, left: list[int], right: list[int]) -> QuireArray:
    """One product of codes for each pair."""
    made = QuireArray((len(left),), fmt)
    a, b = (posit.from_codes(np.array(each, fmt.storage), fmt) for each in (left, right))
    made.mul_add(a, b)
    return made


def product_of(pair: tuple[Any, Any]) -> QuireArray:
    made = QuireArray(pair[0].shape, pair[0].format)
    made.mul_add(*pair)
    return made


def brought_together(parts: list[QuireArray], ranks: int) -> Total:
    """What the exchange does, with `ranks` for the headroom; as many parts of it as given."""
    found = [_quire_wire.extent(each) for each in parts]
    at = _quire_wire.window(max(e.high for e in found), max(e.minus_low for e in found), ranks)
    total = np.zeros((at.count, parts[0].size), np.int64)
    for each in parts:
        limbs = np.empty_like(total)
        cut = parts[0].size // 2
        _quire_wire.pack(each, 0, cut, at, limbs[:, :cut])
        _quire_wire.pack(each, cut, each.size, at, limbs[:, cut:])
        bound = 1 << at.width
        assert ((limbs >= -bound) & (limbs <= bound)).all()  # so that `ranks` of them stay within 2**62
        total += limbs
    return Total(total, at, parts[0]._storage.layout)


def same(total: Total, wanted: QuireArray, divisor: int = 1) -> bool:
    """Whether all fractions are equal, and rounded quotients in two formats."""
    fractions = [total.fraction(index) for index in range(wanted.size)]
    return fractions == list(wanted.to_fraction()) and all(
        (total.rounded(divisor, fmt) == divided(wanted, divisor, fmt)).all() for fmt in FORMATS
    )


@given(data=st.data())
@settings(max_examples=60)
def test_sums_of_limbs_are_sums_of_quires(data: st.DataObject) -> None:
    fmt = data.draw(st.sampled_from(FORMATS))
    ranks = data.draw(st.sampled_from((1, 2, 3, 8, 1024)))
    rows = posit_arrays(fmt, (4,), allow_nar=False)
    parts = data.draw(st.lists(st.tuples(rows, rows).map(product_of), min_size=1, max_size=min(ranks, 4)))
    merged = parts[0].copy()
    for each in parts[1:]:
        merged.merge(each)
    assert same(brought_together(parts, ranks), merged, data.draw(st.sampled_from((1, 3, 60, 64))))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_1024_ranks_of_the_worst_partial_sums(fmt: posit.Format) -> None:
    """Every limb of every rank at its bound, both signs, and the smallest value to hold the window open."""
    big, small, minus = fmt.maxpos, 1, fmt.nar + 1
    for left in ([big, small, minus, 3], [minus, minus, minus, small]):
        one = quires_of(fmt, left, [big, small, big, big])
        for _ in range(7):
            one.merge(one.copy())
        whole = brought_together([one] * 1024, 1024)
        assert [whole.fraction(index) for index in range(4)] == [1024 * x for x in one.to_fraction()]


def test_headroom() -> None:
    """The bound in the docstring, for every number of ranks to 1024 and around powers of two beyond."""
    for ranks in [*range(1, 1025), *(2**k + d for k in range(11, 30) for d in (-1, 0))]:
        assert ranks * 2 ** _quire_wire.limb_bits(ranks) <= 2**62
    assert _quire_wire.limb_bits(1024) == 52
    for ranks in (0, 2**30 + 1):
        with pytest.raises(QuireError, match="limbs have room for 1 to"):
            _quire_wire.limb_bits(ranks)


def test_zeros_need_no_limb_and_nar_is_seen() -> None:
    quires = QuireArray((3,), "posit16")
    found = _quire_wire.extent(quires)
    assert _quire_wire.window(found.high, found.minus_low, 2).count == 0
    quires.add(posit.from_codes(np.array([0, 0x8000, 0], np.uint16), posit.posit16))
    assert _quire_wire.extent(quires).nar
    with pytest.raises(QuireError, match="whole arrays"):
        _quire_wire.extent(quires[1:])


def test_rounded_partial_sums_break_the_invariance() -> None:
    """The trap: each rank rounds its share, and the rounded parts are added, even exactly."""
    rng = np.random.default_rng(0)
    terms = posit.array(rng.standard_normal((60, 64)), "posit16")
    one = posit.array(np.ones((1, 60)), "posit16")
    whole = QuireArray((1, 64), "posit16")
    whole.matmul_add(one, terms)
    for ranks in (2, 3):
        shares = [slice(rank * 60 // ranks, (rank + 1) * 60 // ranks) for rank in range(ranks)]
        exact, rounded = (QuireArray((1, 64), "posit16") for _ in range(2))
        for share in shares:
            part = QuireArray((1, 64), "posit16")
            part.matmul_add(one[:, share], terms[share])
            exact.merge(part)
            rounded.add(part.to_posit())
        assert (exact.to_posit().codes == whole.to_posit().codes).all()
        assert (rounded.to_posit().codes != whole.to_posit().codes).any()


def test_a_sum_that_does_not_fit_is_nar() -> None:
    quires = quires_of(posit.posit8, [posit.posit8.maxpos], [posit.posit8.maxpos])
    for _ in range(30):
        quires.merge(quires.copy())
    assert quires.to_fraction()[0] == Fraction(2) ** (48 + 30)
    assert same(brought_together([quires], 1024), quires)
    total = brought_together([quires] * 2, 1024)
    assert total.fraction(0) is None
    assert total.rounded(3, posit.posit16).tolist() == [-0x8000]  # NaR, as in one quire that took it all
    assert brought_together([minus(quires)] * 2, 1024).fraction(0) is None
    assert same(brought_together([minus(quires)], 1024), minus(quires))


def minus(quires: QuireArray) -> QuireArray:
    made = QuireArray(quires.shape, quires.format)
    made.sub_quire(quires)
    return made


def test_ties_and_numbers_of_many_limbs_are_rounded_as_rationals() -> None:
    """Halfway between two posits, and next to that by the lowest bit of a quire, over divisors of all kinds."""
    fmt = posit.posit16
    tie, lowest = QuireArray((3,), fmt), quires_of(fmt, [0, 1, 0xFFFF], [0, 1, 1])
    tie.add(posit.array([1.0] * 3, fmt))
    tie.add(posit.array([2.0**-12] * 3, fmt))
    assert lowest.to_fraction().tolist() == [0, Fraction(1, 2**112), Fraction(-1, 2**112)]
    for parts in ([tie, lowest], [minus(tie), lowest]):
        merged = parts[0].copy()
        merged.merge(parts[1])
        for divisor in (1, 2, 3, 7, 1 << 20):
            assert same(brought_together(parts, 2), merged, divisor)
