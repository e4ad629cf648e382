"""The elementary functions of one argument against 320-bit values and exact rounding boundaries."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from posit import Format, bposit16, bposit32, posit8, posit16, posit32, posit64
from posit._elementary import evaluate
from posit._elementary.registry import FUNCTIONS
from posit._elementary.ziv import settle_code
from posit._kernels import elementary
from posit.codec import Codes, decode
from posit.reference import exact
from tests.posit.real_oracle import REAL, expected

NAMES = sorted(FUNCTIONS)
SMALL = [posit8, Format(8, 0), Format(8, 5), Format(8, 5, 3), Format(3, 5)]


def mismatches(name: str, codes: npt.ArrayLike, fmt: Format) -> list[str]:
    """One line for each code whose result differs from the oracle's."""
    inputs = np.asarray(codes).astype(fmt.storage)
    lines = []
    for code, got in zip(inputs.tolist(), evaluate(name, inputs, fmt).tolist(), strict=True):
        wanted = expected(name, code, fmt)
        if got != wanted:
            lines.append(f"{name}({code:#x}) in {fmt} gave {got:#x}, must be {wanted:#x}")
    return lines


def near(code: int, fmt: Format, reach: int = 2) -> list[int]:
    """Codes around a code."""
    return [(code + step) & fmt.code_mask for step in range(-reach, reach + 1)]


def corners(fmt: Format) -> list[int]:
    """Codes around 0, NaR, maxpos, minpos, ±1, ±1/2, and the ends of the functions' interesting ranges."""
    points = [
        Fraction(p)
        for p in ["1", "1/2", "1/4", "3/2", "2", "3", "10", "100", "88", "710", "1000000", "1/1000"]
    ]
    codes = [code for centre in (0, fmt.nar) for code in near(centre, fmt)]
    for point in points:
        for sign in (1, -1):
            codes += near(exact.nearest(sign * point, fmt), fmt, 1)
    return codes


def test_the_registry_has_every_function_of_the_standard_and_those_of_training() -> None:
    standard = """sqrt rsqrt exp exp_minus_1 exp2 exp2_minus_1 exp10 exp10_minus_1 log log_plus_1 log2
    log2_plus_1
        log10 log10_plus_1 sin sin_pi cos cos_pi tan tan_pi arc_sin arc_sin_pi arc_cos arc_cos_pi arc_tan
        arc_tan_pi sinh cosh tanh arc_sinh arc_cosh arc_tanh"""
    assert set(FUNCTIONS) == set(standard.split()) | {"erf", "sigmoid", "silu", "gelu", "softplus"}
    assert set(FUNCTIONS) == set(REAL)


def test_the_oracle_notices_a_code_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    faithful = evaluate

    def off_by_one(name: str, codes: Codes, fmt: Format) -> Codes:
        return faithful(name, codes, fmt) + np.uint8(codes == 0x41)

    monkeypatch.setattr(f"{__name__}.evaluate", off_by_one)
    assert mismatches("exp", [0x40, 0x41, 0x42], posit8) == ["exp(0x41) in posit8 gave 0x4d, must be 0x4c"]


@pytest.mark.parametrize("fmt", SMALL, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_code_of_small_formats(name: str, fmt: Format) -> None:
    codes = np.arange(1 << fmt.nbits)
    if fmt != posit8:
        codes = np.unique([*codes[:: max(1, len(codes) // 32)], *corners(fmt)])
    assert mismatches(name, codes, fmt) == []


@pytest.mark.parametrize("fmt", [posit16, bposit16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_16_bit_codes(name: str, fmt: Format) -> None:
    sample = np.random.default_rng(16).integers(0, 1 << 16, 40)
    assert mismatches(name, np.unique([*sample, *corners(fmt)]), fmt) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_every_posit16_code(name: str, part: int) -> None:
    assert mismatches(name, np.arange(part << 14, (part + 1) << 14), posit16) == []


@pytest.mark.parametrize("fmt", [posit32, bposit32], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_adversarial_and_random_32_bit_codes(name: str, fmt: Format) -> None:
    sample = np.random.default_rng(32).integers(0, 1 << 32, 40)
    assert mismatches(name, np.unique([*sample, *corners(fmt)]), fmt) == []


@pytest.mark.parametrize("name", NAMES)
def test_64_bit_codes(name: str) -> None:
    sample = np.random.default_rng(64).integers(0, 1 << 64, 6, dtype=np.uint64)
    chosen = [int(code) for code in sample] + near(1 << 62, posit64, 1) + near(0, posit64, 1)
    chosen += near(1 << 63, posit64, 1)
    assert mismatches(name, np.array(chosen, np.uint64), posit64) == []


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_arguments_of_trigonometric_functions(name: str) -> None:
    powers = (57, 80, 110, 119)
    top = [
        code for power in powers for code in near(exact.nearest(Fraction(2) ** power, posit32), posit32, 3)
    ]
    assert mismatches(name, top, posit32) == []


def nearest_to_multiples_of_half_pi(fmt: Format) -> list[int]:
    """The codes next to k pi/2: there sine, cosine or tangent is smallest."""
    pi = Fraction(3141592653589793238462643383279502884197169399375105820974944592307, 10**66)
    multiples = [*range(1, 40), 355, 355 * 2, 103993, 104348, 208341, 312689, 833719, 1146408, 4272943]
    return [code for k in multiples for code in near(exact.nearest(k * pi / 2, fmt), fmt, 1)]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_next_to_multiples_of_half_pi(name: str) -> None:
    assert mismatches(name, nearest_to_multiples_of_half_pi(posit32), posit32) == []


def near_boundaries(name: str, fmt: Format, count: int) -> list[int]:
    """Random codes whose results lie within a relative 2**-42 of a rounding boundary."""
    codes = np.random.default_rng(7).integers(0, 1 << fmt.nbits, 1 << 18).astype(fmt.storage)
    with np.errstate(all="ignore"):
        result = FUNCTIONS[name].approximate(decode(codes, fmt).astype(np.float64))
    values = np.ascontiguousarray(result[0] if isinstance(result, tuple) else result)
    out, unsure = np.empty_like(codes), np.empty(codes.size, np.uint8)
    kernel = elementary.certifier(fmt.nbits, fmt.es, fmt.max_regime or 0, fmt.storage)
    kernel(values, np.full(codes.size, 2.0**-42), out, unsure)
    return [int(code) for code in codes[unsure.view(bool)][:count]]


@pytest.mark.parametrize("name", NAMES)
def test_results_near_rounding_boundaries(name: str) -> None:
    hard = near_boundaries(name, posit32, 20)
    assert len(hard) > 0
    assert mismatches(name, hard, posit32) == []


@pytest.mark.parametrize("name", NAMES)
def test_float64_and_multiple_precision_agree(name: str) -> None:
    for fmt in (posit16, posit32, bposit32, Format(32, 5)):
        codes = np.random.default_rng(3).integers(0, 1 << fmt.nbits, 40).astype(fmt.storage)
        slowly = [settle_code(FUNCTIONS[name], int(code), fmt) for code in codes]
        assert evaluate(name, codes, fmt).tolist() == slowly
