"""Stochastic rounding: unbiased, between neighbours, reproducible, independent of threads and cuts."""

import hashlib
from typing import Any

import numpy as np
import pytest

import posit
from posit import round_stochastic
from posit._kernels import stochastic as kernels
from posit.formats import Format
from posit.reference.exact import value


@pytest.mark.parametrize("name", ["posit8", "bposit16"])
def test_the_expected_value_is_the_number_itself(name: str) -> None:
    fmt = Format.parse(name)
    count = 40_000
    for x in (1.03, -1.03, 0.3, 1e5, 3e6, float(fmt.minpos_value) * 0.3, 5.0 * 2**20):
        rounded = round_stochastic(np.full(count, x), fmt, seed=3).to_float()
        low, high = sorted({*rounded})[0], sorted({*rounded})[-1]
        assert low <= x <= high
        p = (x - low) / (high - low) if high > low else 0.0
        sigma = (high - low) * np.sqrt(p * (1 - p) / count)
        assert abs(rounded.mean() - x) <= 5 * sigma + 1e-12 * abs(x)


def test_results_are_one_of_the_two_neighbours() -> None:
    fmt = Format(9, 1)
    x = np.random.default_rng(0).standard_normal(3000) * np.exp2(
        np.random.default_rng(1).uniform(-20, 20, 3000)
    )
    for given, code in zip(x, round_stochastic(x, fmt, seed=0).codes, strict=True):
        v = value(int(code), fmt)
        assert v is not None
        beyond = value((int(code) + (1 if v < given else -1)) & fmt.code_mask, fmt)
        assert beyond is None or min(v, beyond) <= given <= max(v, beyond)


def test_values_of_the_format_stay_and_special_values_are_nar() -> None:
    codes = np.arange(1 << 8, dtype=np.uint8)
    x = posit.from_codes(codes, "posit8")
    np.testing.assert_array_equal(round_stochastic(x, "posit8", seed=1).codes, codes)
    special = round_stochastic(np.array([np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30]), "posit8", seed=1)
    assert special.codes.tolist() == [0x80, 0x80, 0x80, 0, 0x7F, 0x81]


def test_a_seed_and_a_position_fix_every_bit() -> None:
    x = np.random.default_rng(2).standard_normal((300, 1000))
    whole = round_stochastic(x, "posit16", seed=42)
    before = posit.get_num_threads()
    try:
        posit.set_num_threads(1)
        alone = round_stochastic(x, "posit16", seed=42)
    finally:
        posit.set_num_threads(before)
    np.testing.assert_array_equal(whole.codes, alone.codes)
    tail = round_stochastic(x[100:], "posit16", seed=42, offset=100_000)
    np.testing.assert_array_equal(whole.codes[100:], tail.codes)
    assert (round_stochastic(x, "posit16", seed=43).codes != whole.codes).mean() > 0.2
    first = round_stochastic(np.full(4, 1.0002), "posit16", seed=2**64 + 7).codes
    assert first.tolist() == round_stochastic(np.full(4, 1.0002), "posit16", seed=7).codes.tolist()


def test_the_generator_is_splitmix64() -> None:
    """Published outputs of SplitMix64 from state 1234567 (Rosetta Code, Pseudo-random numbers/Splitmix64)."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    got = [int(kernels.uniform(np.uint64(1234567), np.uint64(i)) * 2**53) for i in range(4)]
    assert got == [word >> 11 for word in outputs]


@pytest.mark.parametrize(
    ("x", "fmt", "error", "message"),
    [
        (np.ones(2), "posit64", posit.errors.FormatError, "at most 32 bits, got posit64"),
        (np.ones(2, np.int64), "posit8", posit.errors.FormatMismatch, "got int64"),
        (posit.zeros(2, "posit64"), "posit8", posit.errors.FormatError, "at most 32 bits"),
    ],
)
def test_refusals(x: Any, fmt: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        round_stochastic(x, fmt, seed=0)


def test_the_bits_are_the_recorded_ones() -> None:
    """On any machine, compiled or not: the generator is made of products modulo 2**64."""
    codes = round_stochastic(np.linspace(-3, 3, 500) ** 9, "posit16", seed=42).codes
    assert hashlib.sha256(codes.astype("<u2").tobytes()).hexdigest()[:16] == "bddb3788e6cde5f4"
