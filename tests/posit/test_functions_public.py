"""The public face of the elementary functions: arrays in, arrays out, Python numbers beside them, errors."""

from typing import Any

import numpy as np
import pytest

import posit
from posit import functions
from posit._elementary import evaluate
from posit._elementary.registry import FUNCTIONS
from posit.errors import CodeError, FormatMismatch, ShapeError

SEVERAL = ("hypot", "pow", "arc_tan2", "arc_tan2_pi", "fmm", "compound", "root_n")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_keeps_shape_and_format_and_is_documented(name: str) -> None:
    x = posit.from_codes(np.arange(60, dtype=np.uint16).reshape(3, 20) * 1000, posit.posit16)
    function = getattr(functions, name)
    result = function(x)
    assert (result.format, result.codes.shape) == (posit.posit16, (3, 20))
    assert np.array_equal(result.codes, evaluate(name, x.codes, posit.posit16))
    assert function.__name__ == name
    assert FUNCTIONS[name].formula in function.__doc__
    assert getattr(posit, name) is function


def test_every_public_name_exists() -> None:
    assert set(functions.__all__) == {*FUNCTIONS, *SEVERAL, "BY_UFUNC"}
    assert all(hasattr(functions, name) for name in functions.__all__)


@pytest.mark.parametrize("ufunc", functions.BY_UFUNC, ids=lambda ufunc: ufunc.__name__)
def test_numpy_ufuncs_reach_the_same_bits(ufunc: np.ufunc) -> None:
    x = posit.array([0.25, 0.5, 1.5, -0.75], posit.posit32)
    operands = [x] * ufunc.nin
    assert np.array_equal(ufunc(*operands).codes, functions.BY_UFUNC[ufunc](*operands).codes)


def test_python_numbers_are_rounded_to_the_format_first() -> None:
    x = posit.array([2.0, 3.0], posit.posit16)
    third = posit.array(1 / 3, posit.posit16)
    assert np.array_equal(functions.pow(x, 1 / 3).codes, functions.pow(x, third).codes)
    assert functions.root_n(x, [[2], [3]]).codes.shape == (2, 2)


def test_errors_name_what_came() -> None:
    x, y = posit.array([1.0, 2.0], posit.posit16), posit.array([1.0, 2.0], posit.posit32)
    with pytest.raises(FormatMismatch, match="posit16 and posit32"):
        functions.hypot(x, y)
    not_posits: Any = np.array([1.0, 2.0])
    with pytest.raises(FormatMismatch, match="no posit array"):
        functions.exp(not_posits)
    with pytest.raises(FormatMismatch, match="float64"):
        functions.pow(x, not_posits)
    with pytest.raises(ShapeError, match=r"hypot: shapes \(2,\) and \(3,\)"):
        functions.hypot(x, posit.array([1.0, 2.0, 3.0], posit.posit16))
    with pytest.raises(CodeError, match="the second argument of compound must be integers"):
        functions.compound(x, 0.5)
