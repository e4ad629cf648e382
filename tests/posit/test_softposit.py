"""Our arithmetic, the exact oracle and SoftPosit on samples; all pairs: tests/exhaustive/pairs.py."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from posit import Format, arithmetic, posit8, posit16, posit32
from posit.errors import MissingReferenceError
from posit.reference import softposit
from tests.exhaustive import pairs
from tests.posit.test_functions import corners

INSTALLED = importlib.util.find_spec("_softposit") is not None
needs_softposit = pytest.mark.skipif(
    not INSTALLED and "CI" not in os.environ,
    reason="needs pip install 'postrain[reference]'",
)


def near_the_ends(code: int, fmt: Format) -> bool:
    """Within 16 codes of ±maxpos or ±minpos."""
    return min(abs(code - centre) for centre in (0, fmt.nar, 1 << fmt.nbits)) <= 16


@needs_softposit
@pytest.mark.parametrize("operation", pairs.OPERATIONS)
@pytest.mark.parametrize("fmt", [Format(8, 0), posit8], ids=str)
def test_8_bit_pairs(operation: str, fmt: Format) -> None:
    binding = softposit.bind(operation, fmt)
    a, b = (grid.ravel().astype(np.uint8) for grid in np.meshgrid(np.arange(0, 256, 5), np.arange(256)))
    ours = pairs.OPERATIONS[operation](a, b, fmt).tolist()
    theirs = [binding(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert ours == theirs


@needs_softposit
@pytest.mark.parametrize("operation", pairs.OPERATIONS)
@pytest.mark.parametrize("fmt", pairs.FORMATS, ids=str)
def test_rows_of_16_bits(operation: str, fmt: Format) -> None:
    chosen = [*range(5, 1 << 16, 4099), 0, 1, fmt.maxpos, fmt.nar, fmt.nar + 1, 0x4000, 0xFFFF]
    outcome = pairs.run(operation, fmt, chosen, lambda rows: None)
    assert outcome.pairs == len(chosen) << 16
    assert (outcome.differences, outcome.ours_wrong) == (0, 0), outcome.listed[:3]


@needs_softposit
@pytest.mark.parametrize("operation", pairs.OPERATIONS)
def test_posit32_samples(operation: str) -> None:
    random = np.random.default_rng(32)
    a = np.array([*random.integers(0, 1 << 32, 700), *random.choice(corners(posit32), 500)], np.uint32)
    b = np.roll(a, 777)
    binding = softposit.bind(operation, posit32)
    ours = pairs.OPERATIONS[operation](a, b, posit32).tolist()
    for x, y, our in zip(a.tolist(), b.tolist(), ours, strict=True):
        right = pairs.exactly(operation, x, y, posit32)
        assert our == right, (hex(x), hex(y))
        theirs = binding(x, y)
        assert theirs == right or near_the_ends(right, posit32), (hex(x), hex(y), hex(theirs))


@needs_softposit
def test_the_comparison_would_notice() -> None:
    outcome = pairs.Outcome("mul", "posit16")
    every = np.arange(1 << 16, dtype=np.uint16)
    sums = arithmetic.add(np.full(1 << 16, 0x4123, np.uint16), every, posit16).astype(np.uint16)
    found = np.empty((10, 2), np.uint32)
    compare = pairs.compare_row(softposit.bind("mul", posit16))
    assert compare(0x4123, sums, found) > 60_000
    pairs._settle(outcome, 0x4123, found, sums, posit16)
    assert outcome.ours_wrong == 10


@needs_softposit
def test_a_known_wrong_product_of_softposit() -> None:
    a, b = 0x80000007, 0x8C000000
    assert softposit.bind("mul", posit32)(a, b) == 0x7FFFFFFE
    assert pairs.exactly("mul", a, b, posit32) == 0x7FFFFFFF
    assert arithmetic.mul(np.array([a], np.uint32), np.array([b], np.uint32), posit32)[0] == 0x7FFFFFFF


@needs_softposit
def test_quire_sums_of_products() -> None:
    assert softposit.fused_dot([0x4000, 0x4000], [0x4000, 0xC000], Format(16, 1)) == 0
    assert softposit.fused_dot([0x7FFFFFF0, 0x40000000, 0x80000010], [0x40000000] * 3, posit32) == 0x40000000


@needs_softposit
@pytest.mark.parametrize("fmt", [Format(16, 3), Format(32, 1), Format(16, 5, 6), Format(40)], ids=str)
def test_formats_that_softposit_lacks_are_named(fmt: Format) -> None:
    with pytest.raises(
        MissingReferenceError, match=f"SoftPosit has no add for {fmt.name}; it offers add, sub"
    ):
        softposit.bind("add", fmt)


def test_without_the_wheel_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    softposit.library.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"pip install 'postrain\[reference\]' \(built from source"):
            softposit.library()
    finally:
        softposit.library.cache_clear()
    assert "softposit" not in sys.modules
