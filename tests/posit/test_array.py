"""PositArray beside NumPy: shapes, indexing, protocols, scalars, containers, and what it refuses."""

from fractions import Fraction
from typing import Any

import numpy
import pytest

import posit
from posit import PositArray, posit16
from posit.errors import CodeError, FormatMismatch, NoRuleError, ShapeError
from posit.reference.exact import nearest, value

np: Any = numpy  # its stubs know nothing of arrays that join by protocol
FORMATS = ["posit16", "posit64"]


def some(shape: Any = (3, 4), fmt: str = "posit16", seed: int = 0) -> PositArray:
    rng = np.random.default_rng(seed)
    return posit.array(rng.integers(-40, 40, shape) / 4.0, fmt)


def exact_sum(codes: Any, fmt: posit.Format, divisor: int = 1) -> int:
    total = Fraction(0)
    for code in np.asarray(codes).reshape(-1):
        x = value(int(code), fmt)
        if x is None:
            return fmt.nar
        total += x
    return nearest(total / divisor, fmt)


# Making


def test_arrays_come_from_numbers_of_many_kinds() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64, np.uint64, bfloat16):
        x = posit.array(np.array([[0, 1], [2, 3]], dtype), "posit16")
        assert x.shape == (2, 2)
        assert x.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert posit.array([True, False], posit16).tolist() == [1.0, 0.0]
    assert posit.array(10**400, posit16).codes == posit16.maxpos
    assert posit.array(Fraction(-1, 3), "posit32").as_fraction() == value(
        nearest(Fraction(-1, 3), posit.posit32), posit.posit32
    )
    assert posit.array([posit.array(1, posit16), 2.5], posit16).tolist() == [1.0, 2.5]
    assert posit.array([np.nan, np.inf, -np.inf], posit16).codes.tolist() == [0x8000] * 3
    assert posit.array(float("nan"), posit16).codes == 0x8000
    assert posit.array([], posit16).shape == (0,)


def test_lists_are_not_rounded_on_the_way() -> None:
    long = 2**62 + 2**9 + 1  # float64 would make it a tie of posit<64,0>, and round to even
    numbers: list[Any] = [long, 0.5, -(2**63) - 1, Fraction(1, 3)]
    fmt = posit.Format(64, 5)
    assert posit.array(numbers, fmt).codes.tolist() == [nearest(Fraction(x), fmt) for x in numbers]
    assert posit.array([[2**63, -1]], "posit64").codes.tolist() == [
        [nearest(2**63, posit.posit64), 0xC000000000000000]
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([object()]), "dtype object does not become posit16"),
        ([object(), 1], "dtype object"),
        (np.array(["1.5"]), "posit.parse"),
        (np.array([1j]), "complex128"),
        (np.array([1.0], np.longdouble), "longdouble|float128|float96"),
    ],
)
def test_what_is_not_a_number_is_refused(given: Any, message: str) -> None:
    with pytest.raises(FormatMismatch, match=message):
        posit.array(given, posit16)


def test_codes_are_checked() -> None:
    assert posit.from_codes([0, 0xFFFF], "posit16").codes.dtype == np.uint16
    assert posit.from_codes(np.array([-1, -2048], np.int16), "posit<12,1>").codes.tolist() == [0xFFF, 0x800]
    assert posit.from_codes([], "posit16").shape == (0,)
    with pytest.raises(
        CodeError, match=r"must be integers, got dtype float64; to round real numbers use posit\.array"
    ):
        posit.from_codes([0.5], "posit16")
    with pytest.raises(CodeError, match=r"lie in 0 \.\. 0xfff, got 0 \.\. 0x1000"):
        posit.from_codes([0, 0x1000], "posit<12,1>")
    with pytest.raises(CodeError, match="lie in 0"):
        posit.from_codes([-1], "posit16")
    with pytest.raises(CodeError, match="must be integers, got dtype object"):
        posit.from_codes(np.array([object()]), "posit16")
    with pytest.raises(CodeError, match="stored as uint16, got int64"):
        PositArray(np.array([1]), posit16)
    with pytest.raises(posit.errors.FormatError, match="unknown format 'float8'"):
        posit.array(1, "float8")


# Shape and indexing


def test_shape_functions_move_codes() -> None:
    x = some((2, 3, 4))
    for function in (
        np.transpose, np.ravel, np.flip, np.squeeze, np.copy,
        lambda a: np.reshape(a, (4, -1)), lambda a: np.moveaxis(a, 0, 2), lambda a: np.expand_dims(a, 1),
        lambda a: np.broadcast_to(a, (5, 2, 3, 4)),
        lambda a: np.roll(a, 2, axis=1), lambda a: np.take(a, [1, 0], axis=2),
        lambda a: np.repeat(a, 2, axis=0), lambda a: np.tile(a, 2),
        lambda a: np.swapaxes(a, 0, 1), np.atleast_3d,
        lambda a: a[1], lambda a: a[..., ::-1], lambda a: a[:, [0, 2]], lambda a: a[None, 1:, 2],
    ):  # fmt: skip
        moved = function(x)
        assert isinstance(moved, PositArray)
        np.testing.assert_array_equal(moved.codes, function(x.codes))
    assert x.T.shape == (4, 3, 2)
    assert [part.shape for part in np.split(x, 3, axis=1)] == [(2, 1, 4)] * 3
    assert x.reshape(6, 4).shape == x.reshape((6, 4)).shape
    assert np.shares_memory(x, x.T)
    assert len(x) == 2
    assert [row.shape for row in x] == [(3, 4), (3, 4)]


def test_masks_select_by_value() -> None:
    x = posit.array([1, -2, 3], posit16)
    assert x[x > 0].tolist() == [1.0, 3.0]


def test_assignment_takes_posits_and_python_numbers() -> None:
    x = some()
    x[0] = 2
    x[1, ::2] = posit.array([0.5, -0.5], posit16)
    x[2, :2] = [7, 8.5]
    assert x[0].tolist() == [2.0] * 4
    assert x[1, 2].item() == -0.5
    assert x[2, :2].tolist() == [7.0, 8.5]
    with pytest.raises(FormatMismatch, match="posit16 met posit8"):
        x[0] = posit.array(1, "posit8")
    with pytest.raises(FormatMismatch, match="NumPy float64"):
        x[0] = np.ones(4)
    with pytest.raises(ValueError, match="broadcast"):
        x[0] = posit.array([1, 2, 3], posit16)
    with pytest.raises(IndexError, match="not indices"):
        x[posit.array(1, posit16)]


def test_joining() -> None:
    x, y = some((2, 3)), some((2, 3), seed=1)
    for function in (np.concatenate, np.stack, np.vstack, np.hstack, np.dstack):
        joined = function([x, y])
        np.testing.assert_array_equal(joined.codes, function([x.codes, y.codes]))
    with pytest.raises(FormatMismatch, match="posit16 and posit8"):
        np.concatenate([x, some((2, 3), "posit8")])
    with pytest.raises(FormatMismatch, match="NumPy"):
        np.concatenate([x, np.ones((2, 3))])
    assert np.where(x > y, x, 0).tolist() == np.where(x.to_float() > y.to_float(), x.to_float(), 0).tolist()


# Arithmetic through the protocols


@pytest.mark.parametrize("fmt", FORMATS)
def test_operators_round_once(fmt: str) -> None:
    x, y = some(fmt=fmt), some((4,), fmt=fmt, seed=2) + 0.125
    form = x.format
    pairs: dict[str, tuple[PositArray, Any]] = {
        "+": (x + y, lambda a, b: a + b), "-": (x - y, lambda a, b: a - b),
        "*": (x * y, lambda a, b: a * b), "/": (x / y, lambda a, b: a / b),
    }  # fmt: skip
    for result, rule in pairs.values():
        for index in np.ndindex(3, 4):
            a, b = x[index].as_fraction(), y[index[1]].as_fraction()
            assert int(result[index].codes) == (
                form.nar if rule(Fraction(1), b) is None else nearest(rule(a, b), form)
            )
    np.testing.assert_array_equal((-x).codes, (0 - x).codes)
    np.testing.assert_array_equal(abs(x).codes, np.absolute(x).codes)
    np.testing.assert_array_equal((+x).codes, x.codes)


def test_python_numbers_are_rounded_first() -> None:
    x = posit.array([1, 2], "posit8")
    assert (x + 0.1).codes.tolist() == (x + posit.array(0.1, "posit8")).codes.tolist()
    assert (2 / x).tolist() == [2.0, 1.0]
    assert (x == 1).tolist() == [True, False]
    assert (x * Fraction(1, 2)).tolist() == [0.5, 1.0]
    assert (x + float("nan")).codes.tolist() == [0x80, 0x80]


@pytest.mark.parametrize("other", [np.ones(2), np.float64(1), np.array([1, 2]), np.int64(3), "1", None, 1j])
def test_other_things_do_not_mix(other: Any) -> None:
    x = posit.array([1, 2], posit16)
    with pytest.raises((FormatMismatch, TypeError), match=r"posit16 met|unsupported operand"):
        x + other
    with pytest.raises((FormatMismatch, TypeError), match=r"posit16 met|unsupported operand"):
        other * x


def test_mixed_formats_raise_everywhere() -> None:
    x, y = posit.array([1, 2], posit16), posit.array([1, 2], "posit32")
    for function in (
        np.add,
        np.equal,
        np.dot,
        np.matmul,
        np.maximum,
        posit.ulp_distance,
        np.allclose,
        np.array_equal,
    ):
        with pytest.raises(FormatMismatch, match="posit16 and posit32"):
            function(x, y)
    with pytest.raises(FormatMismatch, match="one format is needed"):
        posit.fma(x, x, y)


def test_in_place_and_out() -> None:
    x = posit.array([1, 2], posit16)
    same = x
    x += 1
    assert same.tolist() == [2.0, 3.0]
    out = posit.zeros(2, posit16)
    assert np.add(x, x, out=out) is out
    assert out.tolist() == [4.0, 6.0]
    out.codes.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        np.add(x, x, out=out)
    with pytest.raises(FormatMismatch, match="out is posit8"):
        np.add(x, x, out=posit.zeros(2, "posit8"))
    with pytest.raises(FormatMismatch, match="out is a NumPy float64"):
        np.add(x, x, out=np.zeros(2))


def test_comparisons_follow_the_standard() -> None:
    nar = posit.array(np.nan, posit16)
    one = posit.array(1, posit16)
    assert bool(nar == nar)
    assert bool(nar < one)
    assert bool(nar < posit.from_codes(0x8001, posit16))
    assert not bool(nar != nar)
    assert np.isnan(nar)
    assert np.isfinite(one)
    assert not np.isinf(nar)
    assert np.maximum(nar, one).item() == 1.0


def test_order_functions_agree_with_values() -> None:
    x = some((5, 6))
    plain = x.to_float()
    np.testing.assert_array_equal(np.sort(x, axis=0).to_float(), np.sort(plain, axis=0))
    np.testing.assert_array_equal(np.argsort(x, kind="stable"), np.argsort(plain, kind="stable"))
    assert x.argmax() == plain.argmax()
    assert np.argmin(x, axis=1).tolist() == plain.argmin(axis=1).tolist()
    assert x.max(axis=0).tolist() == plain.max(axis=0).tolist()
    assert np.min(x, axis=1, keepdims=True).shape == (5, 1)
    assert np.unique(x).tolist() == np.unique(plain).tolist()
    assert np.clip(x, -1, 1).tolist() == np.clip(plain, -1, 1).tolist()
    assert np.searchsorted(posit.array([1, 2, 3], posit16), 2.5) == 2
    assert np.sort(posit.array([1.0, np.nan], posit16)).codes[0] == 0x8000
    x.sort(axis=1)
    np.testing.assert_array_equal(x.to_float(), np.sort(plain, axis=1))


# Sums and products


@pytest.mark.parametrize("fmt", [*FORMATS, "posit<32,5>"])
def test_sums_are_exact_and_rounded_once(fmt: str) -> None:
    form = posit.Format.parse(fmt)
    rng = np.random.default_rng(9)
    codes = rng.integers(0, form.code_mask, (4, 31), dtype=np.uint64, endpoint=True).astype(form.storage)
    codes[codes == form.nar] = 0
    codes[0, ::2] = -codes[0, 1::2][:1]
    x = posit.from_codes(codes, fmt)
    assert int(np.sum(x).codes) == exact_sum(codes, form)
    assert int(np.mean(x).codes) == exact_sum(codes, form, codes.size)
    assert x.sum(axis=1).codes.tolist() == [exact_sum(row, form) for row in codes]
    assert x.mean(axis=0).codes.tolist() == [exact_sum(row, form, 4) for row in codes.T]
    dots = (x @ x.T).codes
    for i, j in np.ndindex(4, 4):
        total = Fraction(0)
        for a, b in zip(codes[i], codes[j], strict=True):
            total += (value(int(a), form) or 0) * (value(int(b), form) or 0)
        assert int(dots[i, j]) == nearest(total, form)


def test_nar_stays_in_its_row() -> None:
    x = posit.array([[1, 2], [np.nan, 1]], posit16)
    assert np.isnan(x.sum(axis=1)).tolist() == [False, True]
    assert np.isnan((x @ posit.ones((2, 1), posit16))[:, 0]).tolist() == [False, True]


def test_empty_reductions() -> None:
    x = posit.zeros((0, 3), posit16)
    assert x.sum(axis=0).tolist() == [0.0] * 3
    assert x.prod().item() == 1.0
    assert np.isnan(np.mean(x))
    assert (x.T @ x).tolist() == [[0.0] * 3] * 3


def test_prod_rounds_after_each_factor() -> None:
    x = posit.array([1.1, 1.1, 1.1, 3.0], "posit8")
    step = x[0]
    for factor in x[1:]:
        step = step * factor
    assert int(np.prod(x).codes) == int(step.codes)
    assert np.prod(posit.array([[1, 2], [3, 4]], posit16), axis=0).tolist() == [3.0, 8.0]


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 2)]), ("ij,kj->ki", [(3, 4), (2, 4)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 2)]),
        ("i,i->", [(5,), (5,)]), ("i,j->ij", [(3,), (2,)]), ("ij->ji", [(3, 4)]),
        ("ii", [(3, 3)]), ("ij->i", [(3, 4)]),
        ("ii->i", [(3, 3)]), ("ij,ik->k", [(3, 4), (3, 2)]), ("abc,cd", [(2, 3, 2), (2, 4)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
    ],
)  # fmt: skip
def test_einsum_agrees_with_numpy_on_small_integers(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(4)
    plain = [rng.integers(-3, 4, shape).astype(float) for shape in shapes]
    got = np.einsum(subscripts, *(posit.array(p, "posit32") for p in plain))
    np.testing.assert_array_equal(got.to_float(), np.einsum(subscripts, *plain))


def test_contractions_agree_with_numpy_on_small_integers() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(-3, 4, (2, 3, 4)).astype(float), rng.integers(-3, 4, (4, 3, 2)).astype(float)
    x, y = posit.array(a, "posit32"), posit.array(b, "posit32")
    functions: list[Any] = [
        lambda p, q: np.tensordot(p, q, axes=([1, 2], [1, 0])), lambda p, q: np.tensordot(p, q, 1),
        lambda p, q: np.dot(p, q.transpose(1, 0, 2)),
        lambda p, q: np.inner(p[..., :3], q[:, :, 0]), lambda p, q: np.outer(p[0, 0], q[0, 0]),
        lambda p, q: np.vdot(p, q), lambda p, q: np.matmul(p, q[:, 0]),
        lambda p, q: p @ q.transpose(1, 0, 2)[0], lambda p, q: np.trace(p[0, :, :3]),
    ]  # fmt: skip
    for function in functions:
        np.testing.assert_array_equal(function(x, y).to_float(), function(a, b))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.matmul(x, 2), "at least one axis"),
        (lambda x: x @ x, r"\(..., m, k\)"),
        (lambda x: np.einsum("ij,jk->ik", x, x), "sizes"),
        (lambda x: np.einsum("ij->k", x), "each letter"),
        (lambda x: np.einsum("ijk", x), "do not fit shape"),
        (lambda x: np.tensordot(x, x, 1), "lengths differ"),
        (lambda x: x + posit.ones(5, posit16), "do not broadcast"),
    ],
)
def test_shapes_that_do_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(some((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.linalg.inv(x), "np.inv has no rule"),
        (lambda x: np.cumsum(x), "np.cumsum has no rule"),
        (lambda x: np.var(x), "np.var has no rule"),
        (lambda x: np.fmod(x, x), "np.fmod has no rule"),
        (lambda x: x // x, "np.floor_divide has no rule"),
        (lambda x: np.add.accumulate(x), "np.add.accumulate has no rule"),
        (lambda x: np.einsum("i...,i...->...", x, x), "no rule"),
        (lambda x: np.einsum("i,i,i->", x, x, x), "no rule"),
        (lambda x: np.add(x, x, where=np.array(True)), "takes no where"),
        (lambda x: np.sum(x, dtype=float), "dtype="),
        (lambda x: np.asarray(x), "does not become a NumPy array silently"),
        (lambda x: x.astype(complex), "do not convert to complex128"),
        (lambda x: round(x[0], 2), "nearest_int"),
    ],
)
def test_nothing_passes_through_floats_silently(call: Any, message: str) -> None:
    with pytest.raises(NoRuleError, match=message):
        call(some((4,)))
