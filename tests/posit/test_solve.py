"""solve and lstsq: every element correctly rounded, proven or eliminated; what has no solution is refused."""

import runpy
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import posit
from posit import Format, PositArray, _refine, _solve, posit8, posit16, posit32, posit64
from posit.errors import FormatMismatch, LinAlgError, ShapeError
from posit.linalg import lstsq, solve
from posit.reference import exact

np: Any = numpy  # its stubs know nothing of arrays that join by protocol
Matrix = list[list[Fraction]]


def fractions(x: PositArray) -> Matrix:
    table = x.codes.reshape(len(x), -1)
    return [[exact.value(int(code), x.format) or Fraction(0) for code in row] for row in table]


def gauss(a: Matrix, b: Matrix) -> Matrix | None:
    """The exact solution by elimination in fractions; None where there is not exactly one."""
    rows = [left + right for left, right in zip(a, b, strict=True)]
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[len(a) :] for row in rows]


def rounded(x: Matrix, fmt: Format) -> list[list[int]]:
    return [[exact.nearest(value, fmt) for value in row] for row in x]


def hilbert(n: int, fmt: Format) -> PositArray:
    return posit.array([[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)], fmt)


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, posit64, posit.bposit32, Format(32, 5)], ids=str)
@settings(max_examples=30)
@given(data=st.data())
def test_solutions_of_any_systems_are_correctly_rounded(fmt: Format, data: st.DataObject) -> None:
    n, p = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
    code = st.integers(0, fmt.code_mask).filter(lambda c: c != fmt.nar) | st.sampled_from(
        [0, fmt.nar >> 1, 1]
    )
    drawn = data.draw(st.lists(code, min_size=n * (n + p), max_size=n * (n + p)))
    table = np.array(drawn, fmt.storage).reshape(n, n + p)
    a, b = PositArray(table[:, :n].copy(), fmt), PositArray(table[:, n:].copy(), fmt)
    x = gauss(fractions(a), fractions(b))
    if x is None:
        with pytest.raises(LinAlgError, match="singular"):
            solve(a, b)
    else:
        assert solve(a, b).codes.tolist() == rounded(x, fmt)


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_hilbert_systems(fmt: Format, n: int) -> None:
    a, b = hilbert(n, fmt), posit.ones(n, fmt)
    x, found = solve(a, b, explain=True)
    expected = gauss(fractions(a), fractions(b))
    assert expected is not None
    assert x.codes.tolist() == [row[0] for row in rounded(expected, fmt)]
    assert found.proven == n  # none needed elimination
    assert "proven by" in str(found)
    wider = solve(a, b, out_format=posit64)
    assert wider.codes.tolist() == [row[0] for row in rounded(expected, posit64)]


def test_a_matrix_too_ill_for_float64_is_solved_in_integers() -> None:
    """The determinant is 2**-116: float64 finds the matrix singular."""
    small = Fraction(1, 2**58)
    a = posit.array([[1 + small, 1], [1, 1 - small]], posit64)
    b = posit.array([1.0, 2.0], posit64)
    x, found = solve(a, b, explain=True)
    expected = gauss(fractions(a), fractions(b))
    assert expected is not None
    assert x.codes.tolist() == [row[0] for row in rounded(expected, posit64)]
    assert (found.proven, found.rational) == (0, 2)
    assert str(found) == "2 elements: 2 by rational elimination"


def test_zeros_in_the_solution() -> None:
    a = posit.array([[3, 1, 2], [1, 7, 5], [0.1, 2, 9]], posit16)
    b = posit.array([1, 7, 2], posit16)  # x = (0, 1, 0)
    assert solve(a, b).tolist() == [0.0, 1.0, 0.0]


def test_refinement_and_elimination_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (
        posit.array(rng.standard_normal((9, 9)), posit32),
        posit.array(rng.standard_normal((9, 2)), posit32),
    )
    x, found = solve(a, b, explain=True)
    assert (found.proven, found.rational) == (18, 0)
    monkeypatch.setattr(_refine, "CONTRACTION", 0.0)
    y, found = solve(a, b, explain=True)
    assert (found.proven, found.rational) == (0, 18)
    assert (x.codes == y.codes).all()


def test_a_weakened_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound the first, unrefined solution would pass: the tests above are able to fail."""
    a, b = hilbert(10, posit32), posit.ones(10, posit32)
    right = solve(a, b).codes
    distance = _refine._distance
    monkeypatch.setattr(_refine, "_distance", lambda *args: distance(*args) * 1e-9)  # type: ignore[operator]
    assert (solve(a, b).codes != right).any()


@settings(max_examples=30)
@given(data=st.data())
def test_least_squares_are_correctly_rounded(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    assume(m >= n)
    code = st.integers(0, 0xFFFF).filter(lambda c: c != posit16.nar) | st.just(0)
    drawn = data.draw(st.lists(code, min_size=m * (n + 1), max_size=m * (n + 1)))
    table = np.array(drawn, np.uint16).reshape(m, n + 1)
    a, b = PositArray(table[:, :n].copy(), posit16), PositArray(table[:, n].copy(), posit16)
    rows, right = fractions(a), [row[0] for row in fractions(b)]
    columns = list(zip(*rows, strict=True))
    gram = [[sum((x * y for x, y in zip(p, q, strict=True)), Fraction(0)) for q in columns] for p in columns]
    wanted = [[sum((x * y for x, y in zip(p, right, strict=True)), Fraction(0))] for p in columns]
    x = gauss(gram, wanted)
    if x is None:
        with pytest.raises(LinAlgError, match="singular"):
            lstsq(a, b)
    else:
        assert lstsq(a, b).codes.tolist() == [row[0] for row in rounded(x, posit16)]


def test_least_squares_of_a_square_matrix_is_its_solution() -> None:
    a = hilbert(6, posit32)
    b = posit.ones((6, 2), posit32)
    x, found = lstsq(a, b, explain=True)
    assert x.shape == (6, 2)
    assert (x.codes == solve(a, b).codes).all()
    assert found.proven + found.rational == 12


def test_shapes_and_numpy() -> None:
    a, b = posit.array([[2, 0], [0, 4]], posit16), posit.array([1, 1], posit16)
    assert np.linalg.solve(a, b).tolist() == [0.5, 0.25]
    assert solve(a, b.reshape(2, 1)).shape == (2, 1)
    assert solve(a, posit.zeros((2, 0), posit16)).shape == (2, 0)
    empty = posit.zeros((0, 0), posit16)
    assert solve(empty, posit.zeros(0, posit16)).shape == (0,)
    assert lstsq(posit.zeros((3, 0), posit16), posit.zeros(3, posit16)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, b: solve(a[:1], b), ShapeError, r"square matrix, got shape \(1, 2\)"),
        (lambda a, b: solve(a[0], b), ShapeError, "square"),
        (lambda a, b: solve(a, b[:1]), ShapeError, r"needs b of shape \(2,\) or \(2, p\), got \(1,\)"),
        (lambda a, b: solve(a, b[0]), ShapeError, r"got \(\)"),
        (lambda a, b: solve(a, posit.ones(2, posit8)), FormatMismatch, "posit16 and posit8"),
        (lambda a, b: solve(a, np.ones(2)), FormatMismatch, "takes posit arrays, got ndarray"),
        (lambda a, b: solve(a * np.nan, b), LinAlgError, "solve: A has NaR"),
        (lambda a, b: solve(a, b * np.nan), LinAlgError, "b has NaR"),
        (lambda a, b: solve(posit.ones((2, 2), posit16), b), LinAlgError, "singular: its rank is below 2"),
        (lambda a, b: solve(posit.zeros((2, 2), posit16), b), LinAlgError, "singular"),
        (lambda a, b: lstsq(a[:1], b[:1]), ShapeError, "at least as many rows as columns"),
        (lambda a, b: lstsq(posit.ones((3, 2), posit16), posit.ones(3, posit16)), LinAlgError, "singular"),
    ],
)
def test_what_has_no_solution(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(posit.array([[1, 2], [3, 4]], posit16), posit.array([1, 2], posit16))
    if error is LinAlgError:
        assert isinstance(caught.value, np.linalg.LinAlgError)


def test_numbers_beyond_the_parts_are_eliminated(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = hilbert(4, posit32), posit.ones(4, posit32)
    expected = solve(a, b).codes
    monkeypatch.setattr(_solve, "PARTS", 0)
    x, found = solve(a, b, explain=True)
    assert found.rational == 4
    assert (x.codes == expected).all()


def test_the_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["hilbert.py", "--sizes", "3", "--figure", str(tmp_path / "figure.png")])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "hilbert.py"), run_name="__main__")
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()]
    assert [row[1].strip() for row in rows] == ["n", "---", "2", "3"]
    assert all(float(row[4]) < 1e-7 for row in rows[2:])  # posit32
    assert (tmp_path / "figure.png").stat().st_size > 1000
