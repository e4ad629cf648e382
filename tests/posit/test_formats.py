"""Formats are values: parsing, normalisation, limits, refusals."""

import pickle
import subprocess
import sys
from fractions import Fraction

import pytest

import posit
from posit.formats import Format
from posit.reference.exact import value
from tests.posit import loops


@pytest.mark.parametrize("fmt", [*loops.every_format(3, 9), posit.posit64, posit.bposit32], ids=str)
def test_name_repr_and_pickle_give_the_format_back(fmt: Format) -> None:
    assert Format.parse(fmt.name) == fmt
    assert eval(repr(fmt), {"Format": Format}) == fmt  # noqa: S307
    assert pickle.loads(pickle.dumps(fmt)) == fmt  # noqa: S301
    assert hash(Format.parse(fmt.name)) == hash(fmt)


@pytest.mark.parametrize("fmt", loops.every_format(3, 9), ids=str)
def test_limits_are_those_of_the_codes(fmt: Format) -> None:
    values = [v for code in range(1, fmt.nar) if (v := value(code, fmt)) is not None]
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (fmt.minpos_value, fmt.maxpos_value)
    assert 2**fmt.max_scale <= values[-1] < 2 * 2**fmt.max_scale
    assert all((v / Fraction(2) ** fmt.lsb_scale).denominator == 1 for v in values)


def test_a_bound_that_cannot_bind_is_none() -> None:
    assert Format(8, 2, 7) == Format(8)
    assert Format(8, 2, 6).max_regime == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2,), "nbits must be an integer from 3 to 64, got 2"),
        ((65,), "nbits .* got 65"),
        ((16, 6), "es must be an integer from 0 to 5, got 6"),
        ((16, True), "es .* got True"),
        ((16, 2, 1), "max_regime .* at least 2, got 1"),
        ((16.0,), "nbits .* got 16.0"),
    ],
)
def test_impossible_formats_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(posit.errors.FormatError, match=message):
        Format(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["posit", "float16", "posit<16>", "bposit<16,5>", "posit<16,1,4>", "", "posit1000"]
)
def test_unknown_names_are_refused(text: str) -> None:
    with pytest.raises(posit.errors.FormatError, match="unknown format|nbits"):
        Format.parse(text)


def test_quire_widths() -> None:
    widths = [
        Format.parse(name).quire_bits
        for name in ("posit8", "posit16", "posit32", "bposit16", "bposit32", "bposit64")
    ]
    assert widths == [128, 256, 512, 808, 840, 904]


def test_kernels_may_be_used_first_by_several_threads_at_once() -> None:
    """Each waits for the import to end; reading sys.modules instead gave a half-made module."""
    script = (
        "import threading, numpy as np, posit\n"
        "from posit import arithmetic\n"
        "x = np.full(3, 0x4000, np.uint16)\n"
        "wrong = []\n"
        "def run():\n"
        "    try:\n"
        "        assert arithmetic.add(x, x, posit.posit16).tolist() == [0x4800] * 3\n"
        "    except BaseException as error:\n"
        "        wrong.append(error)\n"
        "threads = [threading.Thread(target=run) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "assert not wrong, wrong\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
