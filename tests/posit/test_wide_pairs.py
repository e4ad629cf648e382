"""The oracles of the long run over wide formats: they accept what rationals say, and nothing else, and agree."""

import operator
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from posit import Format
from posit.reference import exact
from tests.exhaustive import wide_inputs, wide_pairs
from tests.exhaustive.wide_inputs import Pairs, corner_pairs, pairs
from tests.exhaustive.wide_oracle import OPERATIONS, judge_in_c, judge_in_python, real, wrong
from tests.exhaustive.wide_pairs import check, compare_oracles, compute, flipped, main

WIDE = [Format(32), Format(64), Format(32, 5, 6), Format(64, 5, 6)]
FORMULAS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}


@pytest.fixture
def compiled() -> None:
    """Skips without a C compiler."""
    if judge_in_c() is None:
        pytest.skip("needs a C compiler")


@pytest.mark.parametrize("fmt", [*WIDE, Format(9, 3, 4)], ids=str)
def test_the_oracle_accepts_the_rounded_result_and_rejects_its_neighbours(fmt: Format) -> None:
    a, b = pairs(80, 1, fmt)
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        left, right = exact.value(x, fmt), exact.value(y, fmt)
        for code in (x, y):
            m, e = (0, 0) if code == fmt.nar else real(code, fmt)
            assert code == fmt.nar or m * Fraction(2) ** e == exact.value(code, fmt)
        for operation, formula in FORMULAS.items():
            if left is None or right is None or (operation == "div" and right == 0):
                truth = fmt.nar
            else:
                truth = exact.nearest(formula(left, right), fmt)
            assert not wrong(operation, x, y, truth, fmt)
            for other in ((truth + 1) & fmt.code_mask, (truth - 1) & fmt.code_mask, fmt.nar ^ truth):
                assert wrong(operation, x, y, other, fmt), (operation, hex(x), hex(y), hex(other))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("fmt", [*WIDE, Format(64, 5), Format(64, 0), Format(9, 3, 4)], ids=str)
def test_both_oracles_give_the_same_verdicts(fmt: Format) -> None:
    for codes in (pairs(300, 3, fmt), corner_pairs(fmt, 1)):
        assert compare_oracles(codes, 5, fmt) == (4 * codes[0].size, [])


@pytest.mark.usefixtures("compiled")
def test_both_oracles_give_the_same_verdicts_on_every_pair_and_result_of_a_small_format() -> None:
    fmt, judge = Format(5, 1, 2), judge_in_c()
    a, b, results = np.indices((32, 32, 32)).reshape(3, -1).astype(np.uint64)
    for operation in OPERATIONS:
        assert judge is not None
        fast = judge(operation, a, b, results, fmt)
        np.testing.assert_array_equal(fast, judge_in_python(operation, a, b, results, fmt))
        assert np.count_nonzero(~fast) == 32 * 32  # one result is right for each pair


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("fmt", WIDE, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_flipped_bit_is_noticed(operation: str, fmt: Format) -> None:
    codes, judge = pairs(20_000, 11, fmt), judge_in_c()
    results = compute(operation, *codes, fmt)
    spoilt = flipped(results, 0, fmt)
    assert judge is not None
    np.testing.assert_array_equal(judge(operation, *codes, spoilt, fmt), spoilt != results)
    assert np.count_nonzero(spoilt != results) == 10_000


@pytest.mark.usefixtures("compiled")
def test_a_disagreement_of_the_oracles_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_pairs, "judge_in_python", lambda *_: np.zeros(60, np.bool_))
    count, found = compare_oracles(pairs(60, 1, Format(32)), 2, Format(32))
    assert (count, len(found)) == (240, 120)  # the flipped ones
    assert "the oracles disagree on" in found[0]


def test_corners_and_hard_pairs_of_each_wide_format_are_right() -> None:
    for fmt in WIDE:
        for codes in (pairs(500, 7, fmt), corner_pairs(fmt, 2)):
            assert check(codes, fmt) == (4 * codes[0].size, [])


def test_a_wrong_operation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(wide_pairs.OPERATIONS, "add", wide_pairs.OPERATIONS["sub"])
    assert len(check(pairs(200, 0, Format(32)), Format(32))[1]) > 100


def test_the_command_counts_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wide_pairs, "COMPARED", 40)
    monkeypatch.setattr(wide_pairs, "corner_pairs", lambda fmt: corner_pairs(fmt, 1))
    arguments = ["--pairs", "60", "--formats", "bposit64", "--workers", "1"]
    assert main(arguments) == 0
    assert "bposit64 60 pairs: 240 results, 0 wrong" in capsys.readouterr().out
    monkeypatch.setitem(wide_pairs.OPERATIONS, "mul", wide_pairs.OPERATIONS["div"])
    assert main(arguments) == 1


def test_without_a_compiler_fewer_pairs_are_checked_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wide_pairs, "judge_in_c", lambda: None)
    monkeypatch.setattr(wide_pairs, "WITHOUT_COMPILER", 30)
    monkeypatch.setattr(wide_pairs, "corner_pairs", lambda fmt: corner_pairs(fmt, 1))
    assert main(["--pairs", "60", "--formats", "posit32", "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "no C compiler: the Python oracle checks 30 pairs of each format" in shown
    assert "posit32 30 pairs: 120 results, 0 wrong" in shown


def distances(family: wide_inputs.Family, formula: Callable[..., Fraction], fmt: Format) -> list[Fraction]:
    """How far results in 1 .. 2**2**es lie from the nearest boundary, in last places."""
    found = []
    a, b = (codes & np.uint64(fmt.code_mask) for codes in family(np.random.default_rng(0), 200, fmt))
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        left, right = exact.value(x, fmt), exact.value(y, fmt)
        if left is None or not right:
            continue
        result = abs(formula(left, right))
        if 1 <= result < 2 ** (2**fmt.es) - 1:
            code = exact.nearest(result, fmt)
            low, high = (exact.boundary(code + step, fmt) for step in (-1, 0))
            found.append(min(result - low, high - result) / (high - low))
    return found


@pytest.mark.parametrize("fmt", WIDE, ids=str)
@pytest.mark.parametrize(
    ("family", "formula", "share"),
    [
        (wide_inputs.half_last_places, operator.add, 0.9),
        (wide_inputs.products_near_ties, operator.mul, 0.2),
        (wide_inputs.quotients_near_ties, operator.truediv, 0.2),
    ],
    ids=["sums", "products", "quotients"],
)
def test_results_lie_next_to_a_tie(
    family: wide_inputs.Family, formula: Callable[..., Fraction], share: float, fmt: Format
) -> None:
    near = distances(family, formula, fmt)
    assert len(near) > 40
    limit = Fraction(1, 2 ** (fmt.nbits // 2 - 3))
    assert sum(distance < limit for distance in near) > share * len(near)


def test_random_pairs_do_not() -> None:
    random: Callable[..., Pairs] = wide_inputs.uniform
    near = distances(random, operator.mul, Format(32))
    assert len(near) > 10
    assert not sum(distance < Fraction(1, 2**13) for distance in near)
