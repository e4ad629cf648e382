"""conv2d: the definition in exact rationals, torch's parameters, NaR, blocks, and what does not fit."""

from fractions import Fraction
from typing import Any

import numpy
import pytest

import posit
from posit import PositArray, _conv, posit16, posit32
from posit.errors import FormatMismatch, ShapeError
from posit.reference import exact

np: Any = numpy  # its stubs know nothing of arrays that join by protocol


def adversarial(rng: Any, shape: tuple[int, ...]) -> PositArray:
    """Numbers of very different sizes that often cancel."""
    return posit.array(rng.choice([-1.0, 1.0], shape) * 2.0 ** rng.choice([-30, -1, 0, 14], shape), posit16)


def test_every_element_is_one_exact_sum() -> None:
    """By the definition, for stride, padding, dilation and groups at once."""
    rng = np.random.default_rng(0)
    x, w, b = (adversarial(rng, shape) for shape in ((2, 4, 5, 6), (6, 2, 2, 3), (6,)))
    got = posit.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2)
    padded = np.pad(x.to_float(), ((0, 0), (0, 0), (1, 1), (2, 2)))
    weights, bias = w.to_float(), b.to_float()
    assert got.shape == (2, 6, 3, 8)
    for n, o, i, j in np.ndindex(*got.shape):
        total = Fraction(bias[o])
        for c, r, s in np.ndindex(2, 2, 3):
            total += Fraction(weights[o, c, r, s]) * Fraction(
                padded[n, 2 * (o // 3) + c, 2 * i + 2 * r, j + s]
            )
        assert int(got.codes[n, o, i, j]) == exact.nearest(total, posit16)


@pytest.mark.parametrize(
    "parameters",
    [
        {}, {"stride": 2}, {"padding": 1}, {"padding": (2, 0), "stride": (1, 3)}, {"dilation": 2, "padding": 2},
        {"groups": 2}, {"groups": 4, "stride": 2, "padding": 1, "dilation": (1, 2)},
    ],
)  # fmt: skip
def test_parameters_mean_what_they_mean_in_torch(parameters: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    channels = 4 // parameters.get("groups", 1)
    plain = [rng.integers(-4, 5, shape).astype(float) for shape in ((2, 4, 7, 8), (4, channels, 3, 3), (4,))]
    expected = torch.nn.functional.conv2d(*(torch.from_numpy(p) for p in plain), **parameters).numpy()
    x, w, b = (posit.array(p, posit16) for p in plain)
    got = posit.conv2d(x, w, b, **parameters)
    np.testing.assert_array_equal(got.to_float(), expected)
    np.testing.assert_array_equal(posit.conv2d(x[1], w, b, **parameters).codes, got.codes[1])


def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, w = adversarial(rng, (2, 2, 9, 5)), adversarial(rng, (3, 2, 2, 2))
    whole = posit.conv2d(x, w, padding=1).codes
    for block in (1, 100, 150):
        monkeypatch.setattr(_conv, "BLOCK", block)
        assert (posit.conv2d(x, w, padding=1).codes == whole).all()


def test_nar_reaches_its_windows_only() -> None:
    x, w = posit.ones((1, 1, 4, 4), posit16), posit.ones((2, 1, 2, 2), posit16)
    x[0, 0, 0, 0] = np.nan
    got = np.isnan(posit.conv2d(x, w, bias=posit.array([0, np.nan], posit16)))
    assert got[0, 0].sum() == 1
    assert got[0, 0, 0, 0]
    assert got[0, 1].all()


def test_formats_may_differ_where_the_result_is_named() -> None:
    x, w = posit.ones((1, 1, 2, 2), "posit8"), posit.ones((1, 1, 2, 2), posit16)
    got = posit.conv2d(x, w, bias=[0.25], out_format=posit32)
    assert got.format == posit32
    assert got.tolist() == [[[[4.25]]]]
    with pytest.raises(FormatMismatch, match="conv2d of posit8 and posit16"):
        posit.conv2d(x, w)


def test_no_samples_and_no_channels_give_the_bias_or_nothing() -> None:
    x, w = posit.ones((0, 1, 3, 3), posit16), posit.ones((2, 1, 2, 2), posit16)
    assert posit.conv2d(x, w).shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": (4, 4)}, r"needs \(n, c, h, w\)"),
        ({"w": (2, 2, 3)}, r"and \(2, 2, 3\)"),
        ({"w": (2, 3, 3, 3)}, "1 groups of 3 channels and 2 outputs do not fit 2 channels"),
        ({"groups": 2, "w": (3, 1, 3, 3)}, "divisible by groups"),
        ({"groups": 0}, "0 groups"),
        ({"w": (2, 2, 6, 3)}, r"windows \(6, 3\) with dilation \(1, 1\) do not fit the input \(4, 4\)"),
        ({"dilation": 2}, "do not fit"),
        ({"stride": 0}, "stride must be an integer of at least 1"),
        ({"padding": -1}, "padding must be"),
        ({"stride": (1, 2, 3)}, r"two of them, got \(1, 2, 3\)"),
        ({"bias": posit.ones(3, posit16)}, r"bias needs shape \(2,\), got \(3,\)"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    x = posit.ones(changes.pop("x", (1, 2, 4, 4)), posit16)
    w = posit.ones(changes.pop("w", (2, 2, 3, 3)), posit16)
    with pytest.raises(ShapeError, match=message):
        posit.conv2d(x, w, **changes)
