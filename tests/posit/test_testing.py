"""`posit.testing`: its oracle, its strategies, and that it finds wrong sums and accuses no right one."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import posit
from posit import Format, posit8, posit16, posit32
from posit._testing import strategies
from posit._testing.cases import Case, exact_sum
from posit._testing.numbers import Numbers, PositNumbers, floor_log2, numbers_of
from posit._testing.report import written
from posit._testing.strategies import value_of
from posit.errors import CheckError, CounterExample, FormatError
from posit.formats import bposit32
from posit.reference import exact
from posit.testing import (
    assert_accumulates_exactly,
    assert_order_independent,
    cancelling_sums,
    factors,
    near_ties,
    posit_arrays,
    posits,
    range_ends,
    summands,
)

ROOT = Path(__file__).parents[2]
Sum = Callable[[posit.PositArray], posit.PositArray]


# The IEEE oracle


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_float_has_numpys_value_and_rounds_to_itself(name: str) -> None:
    numbers = numbers_of(name)
    with np.errstate(invalid="ignore"):
        floats = numbers.array(range(1 << 16)).astype(np.float64).tolist()
    for code, expected in enumerate(floats):
        value = numbers.value(code)
        if isinstance(value, float):
            assert str(value) == str(expected)
        else:
            assert value == expected
            assert numbers.nearest(value) == (code if code != 1 << 15 else 0)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_rounding_is_numpys_at_every_kind_of_boundary(name: str) -> None:
    numbers = numbers_of(name)
    dtype = numbers.array([0]).dtype
    tops = [0, 1, 2, 100, numbers.nearest(Fraction(1)), numbers.maxpos - 1, numbers.maxpos]
    normal = [1 << k for k in range(numbers.nbits - 2)]
    for code in [*tops, *normal, *(c - 1 for c in normal)]:
        tie = numbers.boundary(code)
        offset = tie / (2**12 if name == "bfloat16" else 2**26)  # ml_dtypes rounds by way of float32
        for x in (tie - offset, tie, tie + offset, -tie, -tie - offset):
            with np.errstate(over="ignore"):
                expected = np.array([float(x)]).astype(dtype).view(f"uint{numbers.nbits}")[0]
            assert numbers.nearest(x) == expected, (hex(code), x)


def test_float64_rounds_as_python_divides() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        x = Fraction(int(rng.integers(1, 2**62)), int(rng.integers(1, 2**62))) * Fraction(2) ** int(
            rng.integers(-1100, 900)
        )
        assert numbers_of("float64").value(numbers_of("float64").nearest(x)) == float(x)


def test_sums_of_what_is_not_real_follow_ieee() -> None:
    numbers = numbers_of("float32")
    nan, up, down = numbers.special
    one, zero = numbers.nearest(Fraction(1)), 0
    results = [
        exact_sum(terms, numbers)
        for terms in (
            [(up,), (one,)],
            [(up,), (down,)],
            [(nan,)],
            [(up, zero)],
            [(down, one)],
            [(down, down)],
            [],
        )
    ]
    assert list(map(str, results)) == ["inf", "nan", "nan", "nan", "-inf", "inf", "0"]


# Strategies


@pytest.mark.parametrize("fmt", [posit8, posit16, bposit32, Format(64)], ids=str)
def test_posits_shrink_to_simple_values(fmt: Format) -> None:
    def smallest(strategy: Any, condition: Callable[[Any], bool]) -> Any:
        return hypothesis.find(strategy, condition)

    assert smallest(posits(fmt), lambda x: True) == 0
    assert smallest(posits(fmt), lambda x: bool(x > 0)) == 1
    assert smallest(posits(fmt, allow_nar=False), lambda x: bool(x < 0)) == -1
    assert np.isnan(smallest(posits(fmt), lambda x: bool(np.isnan(x))))
    assert smallest(posits(fmt, min_value=2.5), lambda x: True) == 3
    pair = smallest(posit_arrays(fmt, st.integers(0, 9), allow_nar=False), lambda x: x.size > 1)
    assert pair.tolist() == [0, 0]


@hypothesis.given(st.data())
def test_bounds_hold(data: st.DataObject) -> None:
    assert 0.1 <= float(data.draw(posits("posit16", min_value=0.1, max_value=0.2))) <= 0.2
    x = data.draw(posit_arrays("posit32", (2, 3), min_value=-2, max_value=-1))
    assert x.shape == (2, 3)
    assert ((x <= -1) & (x >= -2)).all()
    assert not np.isnan(data.draw(posits("posit8", allow_nar=False)))


def test_bounds_without_a_posit_between_are_refused() -> None:
    with pytest.raises(FormatError, match="no posit8 lies between 1.01 and 1.02"):
        posits("posit8", min_value=1.01, max_value=1.02)


def drawn(strategy: st.SearchStrategy[Any], count: int = 120) -> list[Any]:
    kept: list[Any] = []

    @hypothesis.settings(max_examples=count, database=None, derandomize=True)
    @hypothesis.given(strategy)
    def keep(x: Any) -> None:
        kept.append(x)

    keep()
    return kept


def total(x: posit.PositArray) -> Fraction:
    return sum((exact.value(int(code), x.format) or Fraction(0) for code in x.codes), Fraction(0))


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
def test_near_ties_are_at_boundaries_and_just_beside(fmt: Format) -> None:
    at = beside = 0
    for x in drawn(near_ties(fmt)):
        value = abs(total(x))
        if not fmt.minpos_value <= value < fmt.maxpos_value:
            continue
        code = exact.nearest(value, fmt)
        distance = min(
            abs(value - exact.boundary(c, fmt)) for c in (max(code - 1, 1), min(code, fmt.maxpos - 1))
        )
        at += distance == 0
        beside += 0 < distance < value / 2**40
    assert at > 20
    assert beside > 20


def test_cancelling_sums_cancel_and_range_ends_are_there() -> None:
    shares = [
        float(abs(total(x)) / max(sum(abs(v) for v in values(x)), 1))
        for x in drawn(cancelling_sums("posit16"))
    ]
    assert sum(share < 1e-6 for share in shares) > 50
    codes = {int(code) for x in drawn(range_ends("posit16")) for code in x.codes}
    assert {1, posit16.maxpos, posit16.nar + 1, posit16.code_mask} < codes


def values(x: posit.PositArray) -> list[Fraction]:
    return [exact.value(int(code), x.format) or Fraction(0) for code in x.codes]


def test_summands_have_all_lengths_and_factors_match() -> None:
    sizes = [x.size for x in drawn(summands("float32", max_size=30, long_size=300), 600)]
    assert min(sizes) == 0
    assert sum(15 < size <= 30 for size in sizes) > 20
    assert 30 < max(sizes) <= 300
    assert all(a.shape == b.shape and a.size >= 2 for a, b in drawn(factors("posit8", min_size=2), 50))


def test_any_code_can_be_drawn() -> None:
    codes = {int(x.codes) for x in drawn(posits("posit8"), 1000)}
    assert len(codes) > 150


# Functions that are wrong, each in one way


def exactly(wrong: Callable[[list[Fraction], Format], Fraction | int]) -> Sum:
    """An exact sum with a fault: `wrong` gives the value to round, or the code."""

    def accumulate(x: posit.PositArray) -> posit.PositArray:
        fmt = x.format
        if bool((x.codes == fmt.nar).any()):
            return posit.from_codes(fmt.nar, fmt)
        given = wrong(values(x), fmt)
        return posit.from_codes(given if isinstance(given, int) else exact.nearest(given, fmt), fmt)

    return accumulate


def forgets_far_sticky_bits(v: list[Fraction], fmt: Format) -> Fraction:
    s = sum(v, Fraction(0))
    unit = Fraction(2) ** (floor_log2(abs(s)) - 40) if s else Fraction(1)
    return int(s / unit) * unit


def forgets_the_seventeenth(v: list[Fraction], fmt: Format) -> Fraction:
    return sum(v[:16] + v[17:], Fraction(0))


def stops_at_130(v: list[Fraction], fmt: Format) -> Fraction:
    return sum(v[:130], Fraction(0))


def rounds_twice(v: list[Fraction], fmt: Format) -> Fraction:
    return Fraction(float(sum(v, Fraction(0))))


def adds_float64(v: list[Fraction], fmt: Format) -> Fraction:
    s = 0.0
    for x in v:
        s += float(x)
    return Fraction(s)


def rounds_ties_away(v: list[Fraction], fmt: Format) -> int:
    s = sum(v, Fraction(0))
    code = exact.nearest(abs(s), fmt)
    if fmt.minpos < code < fmt.maxpos and exact.boundary(code, fmt) == abs(s):
        code += 1
    return code if s >= 0 else (1 << fmt.nbits) - code


def loses_the_carry(v: list[Fraction], fmt: Format) -> Fraction:
    s, m = sum(v, Fraction(0)), 2 * fmt.maxpos_value
    return (s + m) % (2 * m) - m


WRONG = [
    forgets_far_sticky_bits, forgets_the_seventeenth, stops_at_130, rounds_twice, adds_float64, rounds_ties_away,
    loses_the_carry,
]  # fmt: skip


@pytest.mark.parametrize(
    ("fmt", "wrong"),
    [(posit16, wrong) for wrong in WRONG] + [(bposit32, forgets_far_sticky_bits), (bposit32, rounds_twice)],
)
def test_a_wrong_accumulator_is_found_within_the_default_examples(
    fmt: Format, wrong: Callable[[list[Fraction], Format], Fraction | int]
) -> None:
    with pytest.raises(CounterExample, match=f"accumulate is not exact on {fmt}"):
        assert_accumulates_exactly(exactly(wrong), fmt)


def test_forgotten_nar_is_found() -> None:
    def overlooks_nar(x: posit.PositArray) -> posit.PositArray:
        return posit.sum(x[x.codes != x.format.nar])

    with pytest.raises(
        CounterExample, match=r"\[NaR\]\n.*0x8000(.|\n)*expected  NaR = 0x8000\n  exactly   nan"
    ):
        assert_accumulates_exactly(overlooks_nar, "posit16")
    assert_accumulates_exactly(overlooks_nar, "posit16", special=False, examples=50)


@pytest.mark.parametrize(
    ("fn", "fmt", "kind"),
    [
        (exactly(lambda v, fmt: sum(v, Fraction(0))), posit16, "sum"),
        (posit.sum, posit16, "sum"),
        (posit.sum, bposit32, "sum"),
        (np.sum, posit32, "sum"),
        (posit.dot, posit32, "dot"),
        (posit.matmul, posit16, "matmul"),
    ],
)
def test_a_right_one_is_not_accused(fn: Any, fmt: Format, kind: Any) -> None:
    assert_accumulates_exactly(fn, fmt, kind=kind, examples=60)
    assert_order_independent(fn, fmt, kind=kind, examples=15)


def test_order_dependence_alone_is_found() -> None:
    first = lambda x: x[0] if x.size else posit.zeros((), x.format)  # noqa: E731
    with pytest.raises(CounterExample, match=r"depends on the order(.|\n)*in order  \[1, 0\]"):
        assert_order_independent(first, "posit16")
    assert_order_independent(max, "float64", operands="list", min_size=1, special=False, examples=60)


def test_a_counter_example_of_a_matrix_product_is_small() -> None:
    with pytest.raises(CounterExample) as caught:
        assert_accumulates_exactly(np.matmul, "float32", kind="matmul")
    text = str(caught.value)
    assert "A[0]" in text
    assert "B[:, 0]" in text
    assert "A[1]" not in text


def test_answers_that_change_are_found() -> None:
    calls = [0]

    def moody(x: Any) -> Any:
        calls[0] += 1
        return posit.sum(x) if calls[0] % 50 else x.format.maxpos

    with pytest.raises(CounterExample, match="moody"):
        assert_accumulates_exactly(moody, "posit16")


def test_the_same_seed_gives_the_same_message() -> None:
    def message(seed: int) -> str:
        with pytest.raises(CounterExample) as caught:
            assert_accumulates_exactly(exactly(forgets_far_sticky_bits), posit32, seed=seed)
        return str(caught.value)

    assert message(3) == message(3)


def test_operands_are_presented_as_asked() -> None:
    import math

    seen: list[str] = []

    def keep(x: Any) -> float:
        seen.append(type(x).__name__)
        return math.fsum(x)

    def halves(x: Any) -> Any:
        return x[::1]

    assert_accumulates_exactly(keep, "float16", operands="list", result="float64", special=False, examples=5)
    assert seen[-1] == "list"
    assert_accumulates_exactly(keep, "float16", operands=halves, result="float64", special=False, examples=5)
    assert seen[-1] == "ndarray"


def test_torch_tensors_are_presented() -> None:
    import torch

    from posit.torch import PositTensor

    def tensor_sum(x: Any) -> Any:
        assert isinstance(x, PositTensor)
        return x.sum()

    assert_accumulates_exactly(tensor_sum, "posit16", operands="torch", examples=30)
    with pytest.raises(CounterExample, match="sum is not exact on bfloat16"):
        assert_accumulates_exactly(torch.sum, "bfloat16", operands="torch")


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: None, "returned None, not a number"),
        (lambda x: x, r"of shape \(2,\); one number, shape \(\) was wanted"),
        (lambda x: "2", "returned '2', not a number"),
        (lambda x: posit.sum(x).astype("posit32"), "returned posit32, not posit16; .*result='posit32'"),
        (lambda a, b: a, r"raised TypeError: .*missing 1 required positional argument"),
        (lambda x: [1], "returned a list of length 1"),
        (posit.posit16, "a function is checked, got Format"),
    ],
)
def test_what_cannot_be_checked_is_no_counter_example(fn: Any, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        assert_accumulates_exactly(fn, "posit16")


def test_raising_on_some_operands_is_a_counter_example() -> None:
    with pytest.raises(CounterExample, match=r"min_size 1\):\n  x         \[\](.|\n)*raised IndexError"):
        assert_accumulates_exactly(lambda x: x[0] - x[0] + posit.sum(x), "posit16", special=False)


def test_values_beside_the_format_are_named() -> None:
    with pytest.raises(CounterExample, match=r"returned  .*, not a float16 number \(a float64\)"):
        assert_accumulates_exactly(lambda x: np.sum(x, dtype=np.float64), "float16", special=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmt": "float8"}, "unknown format 'float8'"),
        ({"kind": "product"}, "one of sum, dot, matmul, got 'product'"),
        ({"examples": 0}, "at least one example"),
        ({"min_size": 5, "max_size": 3}, "0 <= min <= max, got 5 and 3"),
        ({"operands": "tuple"}, "array, list, torch or by a function"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((CheckError, FormatError), match=message):
        assert_accumulates_exactly(posit.sum, **{"fmt": "posit16", **arguments})


def test_numbers_are_written_exactly() -> None:
    cases = {
        Fraction(0): "0", Fraction(-5, 4): "-1.25", Fraction(2) ** 80 + 1: "2**80 + 1",
        -(Fraction(2) ** -90): "-2**-90", Fraction(1, 2**60) - 2**60: "-2**60 + 2**-60",
    }  # fmt: skip
    assert {value: written(value) for value in cases} == cases
    rng = np.random.default_rng(1)
    for _ in range(200):
        value = Fraction(int(rng.integers(-(2**60), 2**60))) * Fraction(2) ** int(rng.integers(-100, 100))
        text = written(value)
        read = eval(text.replace("2**", "Fraction(2)**")) if "**" in text else Fraction(text)  # noqa: S307
        assert read == value


def test_a_case_is_taken_apart_and_reordered() -> None:
    case = Case("dot", ((1, 2, 3),), ((4, 5, 6),))
    assert len(list(case.orders(0))) == 5
    assert all(sorted(order) == list(range(9)) for order in Case("sum", (tuple(range(9)),)).orders(1))


def test_remainders_complete_a_sum() -> None:
    numbers: Numbers = PositNumbers(posit16)
    target = Fraction(3) + Fraction(1, 2**40)
    for width in (1, 2):
        terms = strategies.remainder(target, numbers, width, 8)
        assert exact_sum(terms, numbers) == target
    steps = [value_of(code, numbers) for code in range(1, 50)]
    assert all(a < b for a, b in pairwise(steps))


# The surroundings


def test_the_examples_say_what_the_guide_says(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "sums"}
    exec((ROOT / "examples/sums.py").read_text(), namespace)  # noqa: S102 - our own file
    assert namespace["main"](40) == {
        "numpy_sum": False, "kahan_sum": False, "loop_sum": False, "exact_sum": True, "exact_dot": True,
        "quire_dot": True,
    }  # fmt: skip
    guide = (ROOT / "docs/testing.md").read_text().replace("\n    ", "\n")
    for block in capsys.readouterr().out.strip().split("\n\n"):
        assert block in guide


def test_without_hypothesis_the_message_says_what_to_install() -> None:
    probe = "import sys; sys.modules['hypothesis'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", probe + "import posit.testing"], capture_output=True, text=True, check=False
    )
    assert "MissingReferenceError: posit.testing draws its examples with Hypothesis" in done.stderr
    command = probe + "from posit.cli import main; sys.exit(main(['check-sum', 'numpy:sum']))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "posit: check-sum draws its examples with Hypothesis, which is not installed: pip install hypothesis\n"
    )
