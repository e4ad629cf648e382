"""The oracle of the long run over wide formats: it accepts what rationals say, and nothing else."""

import operator
from fractions import Fraction

import pytest

from posit import Format
from posit.reference import exact
from tests.exhaustive.wide_pairs import OPERATIONS, check, pairs, real, wrong


@pytest.mark.parametrize(
    "fmt", [Format(32), Format(64), Format(32, 5, 6), Format(64, 5, 6), Format(9, 3, 4)], ids=str
)
def test_the_oracle_accepts_the_rounded_result_and_rejects_its_neighbours(fmt: Format) -> None:
    formulas = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
    a, b = pairs(60, 1, fmt)
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        left, right = exact.value(x, fmt), exact.value(y, fmt)
        for code in (x, y):
            m, e = (0, 0) if code == fmt.nar else real(code, fmt)
            assert code == fmt.nar or m * Fraction(2) ** e == exact.value(code, fmt)
        for operation, formula in formulas.items():
            if left is None or right is None or (operation == "div" and right == 0):
                truth = fmt.nar
            else:
                truth = exact.nearest(formula(left, right), fmt)
            assert not wrong(operation, x, y, truth, fmt)
            for other in ((truth + 1) & fmt.code_mask, (truth - 1) & fmt.code_mask, fmt.nar ^ truth):
                assert wrong(operation, x, y, other, fmt), (operation, hex(x), hex(y), hex(other))


def test_a_block_of_each_wide_format_is_right() -> None:
    for name in ("posit32", "bposit32", "posit64", "bposit64"):
        assert check((name, 7, 500)) == (4 * 500, [])


def test_a_wrong_operation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "add", OPERATIONS["sub"])
    assert len(check(("posit32", 0, 200))[1]) > 100
