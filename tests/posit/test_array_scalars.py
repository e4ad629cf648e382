"""PositArray as scalars, text and files; closeness; and what a researcher asks of a format."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest

import posit
from posit import posit16
from posit.errors import CodeError, FormatMismatch, NonFiniteError, ShapeError
from posit.reference.exact import nearest
from tests.posit.test_array import some

np: Any = numpy  # its stubs know nothing of arrays that join by protocol


def test_scalars_behave_as_numbers() -> None:
    x = posit.array(2.75, posit16)
    assert (float(x), int(x), round(x), str(x), repr(x)) == (
        2.75,
        2,
        3,
        "2.75",
        "posit.array(2.75, 'posit16')",
    )
    assert int(posit.array(-2.75, posit16)) == -2
    assert f"{x:.1f}|{x:>6}|{x}" == "2.8|  2.75|2.75"
    assert x in {posit.array(2.75, posit16)}
    assert bool(x)
    assert not posit.array(0, posit16)
    assert str(posit.array(np.nan, posit16)) == "NaR"
    assert np.isnan(float(posit.array(np.nan, posit16)))
    assert eval(repr(x), {"posit": posit}).codes == x.codes  # noqa: S307
    with pytest.raises(NonFiniteError, match="of NaR"):
        int(posit.array(np.nan, posit16))
    with pytest.raises(ShapeError, match="needs one element"):
        float(some())
    with pytest.raises(TypeError, match="unhashable"):
        hash(some())
    with pytest.raises(TypeError, match="no length"):
        len(x)


def test_arrays_print_like_numpy() -> None:
    assert str(posit.array([[1, 2.5]], posit16)) == "[[1.0 2.5]]"
    assert "..." in str(posit.zeros(5000, posit16))
    x = some((2, 2))
    assert eval(repr(x), {"posit": posit}).tolist() == x.tolist()  # noqa: S307


@pytest.mark.parametrize("fmt", ["posit8", "posit<12,1>", "posit32", "bposit64"])
def test_pickle_save_and_load_keep_codes_and_format(fmt: str, tmp_path: Path) -> None:
    x = some((2, 3), fmt)
    again = pickle.loads(pickle.dumps(x))  # noqa: S301
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r", allow_pickle=False)
    for back in (again, posit.from_structured(mapped), posit.array(np.load(tmp_path / "x.npy"), fmt)):
        assert back.format == x.format
        np.testing.assert_array_equal(back.codes, x.codes)
    with pytest.raises(FormatMismatch, match="the array holds"):
        posit.array(np.load(tmp_path / "x.npy"), "posit<9,0>")
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    with pytest.raises(CodeError, match="one field, named by its format"):
        posit.from_structured(np.load(io.BytesIO(file.getvalue())))


def test_closeness() -> None:
    x = posit.array([1, 2, np.nan], posit16)
    assert np.array_equal(x, x)
    assert not np.array_equal(x, x, equal_nan=False)
    assert not np.allclose(x, x)
    assert np.allclose(x, x, equal_nan=True)
    assert np.isclose(x, x + 0.001, atol=0.01).tolist() == [True, True, False]


# What a researcher asks


def test_finfo_spacing_and_steps() -> None:
    for name, largest in (("posit8", 16), ("posit16", 1024), ("posit32", 2**23), ("posit64", 2**48)):
        assert posit.finfo(name).largest_integer == largest
    info = posit.finfo(posit.array(1, posit16))
    assert (info.nmant, info.max_scale, info.quire_bits) == (11, 56, 256)
    assert info.eps.item() == 2.0**-11
    x = posit.array([1.0, 0.0, -3.0, np.nan], posit16)
    assert posit.spacing(x).codes.tolist()[1::2] == [1, 0x8000]
    assert posit.next(posit.prior(x)).codes.tolist() == x.codes.tolist()
    assert posit.nextafter(x, 5)[0] == posit.next(x)[0]
    assert posit.nextafter(x, -5)[0] == posit.prior(x)[0]
    assert posit.ulp_distance(x[0], posit.next(posit.next(x[0]))) == 2
    wide = posit.from_codes([0x7FFFFFFFFFFFFFFF, 0x8000000000000001], "posit64")
    assert int(posit.ulp_distance(wide[0], wide[1])) == 2**64 - 2


def test_fma_rounds_once() -> None:
    x = posit.array(1.1, posit16)
    assert (x * x - x * x).item() == 0.0
    exact = x.as_fraction() ** 2 - (x * x).as_fraction()
    assert int(posit.fma(x, x, -(x * x)).codes) == nearest(exact, posit16)
    assert exact != 0
