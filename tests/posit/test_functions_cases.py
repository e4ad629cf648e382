"""Named cases of the elementary functions: exact results, domains, saturation, codes' dtypes, errors."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

import posit
from posit import Format, posit8, posit16, posit32, posit64
from posit._elementary import evaluate, evaluate2, evaluate_integer
from posit._elementary.rounding import round_fraction, value
from posit._elementary.ziv import settle
from posit.errors import CodeError, ShapeError, UnknownFunctionError
from posit.reference import exact

FORMATS = [posit8, posit16, posit32, posit64]


def apply(name: str, x: Fraction | float, fmt: Format) -> Fraction | None:
    """The value of f(x) for an x of the format; None for NaR."""
    code = exact.nearest(Fraction(x), fmt)
    assert exact.value(code, fmt) == x, "the test's argument is not a posit"
    return exact.value(int(evaluate(name, np.array([code], fmt.storage), fmt)[0]), fmt)


EXACT = [
    ("sqrt", "9/4", "3/2"),
    ("sqrt", "0", "0"),
    ("rsqrt", "4", "1/2"),
    ("rsqrt", "1/16", "4"),
    ("exp", "0", "1"),
    ("exp_minus_1", "0", "0"),
    ("exp2", "-3", "1/8"),
    ("exp2", "10", "1024"),
    ("exp2_minus_1", "3", "7"),
    ("exp2_minus_1", "-2", "-3/4"),
    ("exp10", "0", "1"),
    ("exp10", "1", "10"),
    ("log", "1", "0"),
    ("log_plus_1", "0", "0"),
    ("log2", "1/8", "-3"),
    ("log2", "1024", "10"),
    ("log2_plus_1", "-3/4", "-2"),
    ("log10", "1", "0"),
    ("log10", "10", "1"),
    ("log10_plus_1", "9", "1"),
    ("sin_pi", "1/2", "1"),
    ("sin_pi", "-3/2", "1"),
    ("sin_pi", "6", "0"),
    ("cos_pi", "1", "-1"),
    ("cos_pi", "1/2", "0"),
    ("cos_pi", "-5/2", "0"),
    ("tan_pi", "1/4", "1"),
    ("tan_pi", "-1/4", "-1"),
    ("tan_pi", "3", "0"),
    ("arc_sin_pi", "-1", "-1/2"),
    ("arc_cos", "1", "0"),
    ("arc_cos_pi", "0", "1/2"),
    ("arc_cos_pi", "-1", "1"),
    ("arc_tan_pi", "-1", "-1/4"),
    ("arc_cosh", "1", "0"),
    ("cosh", "0", "1"),
    ("sigmoid", "0", "1/2"),
    ("gelu", "0", "0"),
    ("silu", "0", "0"),
    ("erf", "0", "0"),
]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(("name", "x", "y"), EXACT)
def test_exact_results(name: str, x: str, y: str, fmt: Format) -> None:
    assert apply(name, Fraction(x), fmt) == Fraction(y)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_powers_of_ten_that_posits_hold(fmt: Format) -> None:
    for k in range(1, 6):
        if exact.value(exact.nearest(10**k, fmt), fmt) == 10**k:
            assert apply("log10", Fraction(10**k), fmt) == k
            assert apply("exp10", Fraction(k), fmt) == 10**k


OUTSIDE = [
    ("sqrt", "-1"),
    ("rsqrt", "0"),
    ("rsqrt", "-4"),
    ("log", "0"),
    ("log", "-1"),
    ("log2", "0"),
    ("log10", "-2"),
    ("log_plus_1", "-1"),
    ("log2_plus_1", "-2"),
    ("log10_plus_1", "-1"),
    ("tan_pi", "1/2"),
    ("tan_pi", "-7/2"),
    ("arc_sin", "2"),
    ("arc_cos", "-2"),
    ("arc_sin_pi", "3/2"),
    ("arc_cos_pi", "-3/2"),
    ("arc_cosh", "1/2"),
    ("arc_cosh", "-1"),
    ("arc_tanh", "1"),
    ("arc_tanh", "-1"),
    ("arc_tanh", "2"),
]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(("name", "x"), OUTSIDE)
def test_outside_the_domain_is_nar(name: str, x: str, fmt: Format) -> None:
    assert apply(name, Fraction(x), fmt) is None


ALL_FORMATS = [*FORMATS, Format(16, 1), posit.bposit16, posit.bposit32, posit.bposit64]


@pytest.mark.parametrize("fmt", ALL_FORMATS, ids=str)
def test_nothing_overflows_to_nar_or_underflows_to_zero(fmt: Format) -> None:
    top, bottom = fmt.maxpos_value, fmt.minpos_value
    for name in ("exp", "exp2", "exp10", "exp_minus_1", "sinh", "cosh", "silu", "gelu", "softplus"):
        assert apply(name, top, fmt) == top, name
    for name in ("exp", "exp2", "exp10", "sigmoid", "softplus"):
        assert apply(name, -top, fmt) == bottom, name
    for name in ("silu", "gelu", "sinh"):
        assert apply(name, -top, fmt) == (-top if name == "sinh" else -bottom), name
    for name in ("tanh", "erf", "sigmoid"):
        assert apply(name, top, fmt) == 1, name
    for name in ("sin", "tan", "arc_tan", "sinh", "arc_sinh", "arc_tanh", "exp_minus_1", "log_plus_1"):
        assert apply(name, bottom, fmt) == bottom, name


def test_results_on_a_rounding_boundary_go_to_the_even_code() -> None:
    # posit16 holds 2**52 = 0x7ffe and 2**56 = 0x7fff; 2**54 is the boundary between them
    assert exact.boundary(0x7FFE, posit16) == 2**54
    assert int(evaluate("exp2", np.array([exact.nearest(54, posit16)], np.uint16), posit16)[0]) == 0x7FFE
    assert evaluate("sqrt", np.array([2], np.uint8), Format(3, 5)).tolist() == [2]
    assert apply("sqrt", 2**32, Format(3, 5)) == 1  # 2**16 lies between 1 (even code) and 2**32


def code(x: Fraction | float | str, fmt: Format) -> npt.NDArray[np.unsignedinteger]:
    """An array of one code."""
    return np.array([exact.nearest(Fraction(x), fmt)], fmt.storage)


def rounded(result: str | None, fmt: Format) -> Fraction | None:
    """A rational result as the format holds it; None for NaR."""
    return None if result is None else exact.value(exact.nearest(Fraction(result), fmt), fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(
    ("name", "x", "y", "result"),
    [
        ("hypot", "3", "4", "5"),
        ("hypot", "0", "-2", "2"),
        ("pow", "9", "3/2", "27"),
        ("pow", "-2", "3", "-8"),
        ("pow", "1/4", "-1/2", "2"),
        ("pow", "0", "0", "1"),
        ("pow", "0", "5", "0"),
        ("pow", "0", "-1", None),
        ("pow", "-2", "1/2", None),
        ("pow", "-1", "1000000000000000000", "1"),
        ("pow", "1", "1000000000000000000", "1"),
        ("arc_tan2", "0", "1", "0"),
        ("arc_tan2", "0", "0", None),
        ("arc_tan2_pi", "1", "-1", "3/4"),
        ("arc_tan2_pi", "-2", "0", "-1/2"),
        ("arc_tan2_pi", "0", "-3", "1"),
        ("arc_tan2_pi", "0", "0", None),
    ],
)
def test_exact_results_of_two_arguments(name: str, x: str, y: str, result: str | None, fmt: Format) -> None:
    got = exact.value(int(evaluate2(name, code(x, fmt), code(y, fmt), fmt)[0]), fmt)
    assert got == rounded(result, fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(
    ("name", "x", "n", "result"),
    [
        ("compound", "1/2", 3, "27/8"),
        ("compound", "-1", 0, "1"),
        ("compound", "-1", 4, "0"),
        ("compound", "-1", -4, None),
        ("compound", "-3", 3, "-8"),
        ("root_n", "-27", 3, "-3"),
        ("root_n", "16", -4, "1/2"),
        ("root_n", "16", 0, None),
        ("root_n", "-16", 4, None),
        ("root_n", "0", 5, "0"),
        ("root_n", "0", -5, None),
        ("root_n", "1", 2**62, "1"),
    ],
)
def test_exact_results_with_an_integer(name: str, x: str, n: int, result: str | None, fmt: Format) -> None:
    got = exact.value(int(evaluate_integer(name, code(x, fmt), n, fmt)[0]), fmt)
    assert got == rounded(result, fmt)


def test_signed_codes_give_signed_codes() -> None:
    for fmt in (posit8, Format(12), posit32):
        unsigned = np.random.default_rng(5).integers(0, 1 << fmt.nbits, 100).astype(fmt.storage)
        signed = posit.codec.to_signed(unsigned, fmt)
        wanted = posit.codec.to_signed(evaluate("tanh", unsigned, fmt), fmt)
        got = evaluate("tanh", signed, fmt)
        assert got.dtype == signed.dtype
        assert got.tolist() == wanted.tolist()


def test_shapes_strides_and_empty_arrays() -> None:
    grid = np.arange(60, dtype=np.uint16).reshape(5, 12)[::2, ::-3]
    assert evaluate("exp", grid, posit16).tolist() == evaluate("exp", grid.copy(), posit16).tolist()
    assert evaluate("exp", np.array(0x4000, np.uint16), posit16).shape == ()
    assert evaluate("log", np.empty((0, 3), np.uint32), posit32).shape == (0, 3)
    wide = evaluate2("pow", grid.astype(np.uint32), np.array([[5]], np.uint32), posit32)
    assert wide.shape == grid.shape


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    codes = np.random.default_rng(9).integers(0, 1 << 32, 50_000, dtype=np.uint32)
    before = posit.get_num_threads()
    try:
        posit.set_num_threads(1)
        alone = evaluate("sin", codes, posit32)
        posit.set_num_threads(3)
        assert np.array_equal(evaluate("sin", codes, posit32), alone)
    finally:
        posit.set_num_threads(before)


def test_bad_input_is_named() -> None:
    codes = np.array([1], np.uint16)
    with pytest.raises(UnknownFunctionError, match=r"no function is called 'sine' here; there are arc_cos"):
        evaluate("sine", codes, posit16)
    with pytest.raises(UnknownFunctionError, match="there are arc_tan2, arc_tan2_pi, hypot, pow"):
        evaluate2("fmm", codes, codes, posit16)
    with pytest.raises(CodeError, match=r"codes of posit16 are uint16 or int16, got float64; .* posit.array"):
        evaluate("exp", np.array([1.0]), posit16)
    with pytest.raises(CodeError, match="codes of posit32 are uint32 or int32, got uint16"):
        evaluate("exp", codes, posit32)
    with pytest.raises(CodeError, match="the second argument of root_n must be integers"):
        evaluate_integer("root_n", codes, 2.5, posit16)
    with pytest.raises(ShapeError, match=r"hypot: shapes \(2,\) and \(3,\) do not broadcast"):
        evaluate2("hypot", np.zeros(2, np.uint16), np.zeros(3, np.uint16), posit16)


def test_one_code_at_a_time_agrees_with_the_oracle() -> None:
    formats = [Format(3), Format(3, 5), Format(9, 3, 4), Format(8, 5, 3), posit16, posit64, posit.bposit64]
    for fmt in formats:
        draws = np.random.default_rng(2).integers(0, 1 << fmt.nbits, 300, dtype=np.uint64, endpoint=False)
        for drawn in {int(draw) for draw in draws} | {0, fmt.nar, fmt.maxpos, 1}:
            real = exact.value(drawn, fmt)
            assert value(drawn, fmt) == real
            if real is None or not 0 < drawn < fmt.maxpos:
                continue
            tie = exact.boundary(drawn, fmt)
            for x in (
                real,
                tie,
                tie * (1 + Fraction(1, 1 << 99)),
                tie * (1 - Fraction(1, 1 << 99)),
                -tie / 3,
            ):
                assert round_fraction(x, fmt) == exact.nearest(x, fmt)


def test_a_missing_exact_case_is_an_error_not_an_endless_loop() -> None:
    with pytest.raises(AssertionError, match="exact_cases does not list"):
        settle(lambda ctx: ctx.mpf(2) ** 54, posit16)
