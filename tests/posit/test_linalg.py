"""posit.linalg against exact rationals: matmul and its operands, dot, sums, einsum, norm2, axpy, and what they refuse."""

from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
import posit.rounding as rounding
from posit import Format, PositArray, linalg, posit8, posit16, posit32, posit64
from posit.errors import FormatMismatch, NonFiniteError, NoRuleError, ShapeError
from posit.reference import exact

np: Any = numpy  # its stubs know nothing of arrays that join by protocol
SAME = (posit16, posit16, posit16)
MIXED = (posit8, posit16, posit32)
WIDE = (posit64, posit16, posit64)


def codes(fmt: Format) -> st.SearchStrategy[int]:
    corners = (0, 1, fmt.nar >> 1, fmt.maxpos, fmt.nar + 1, fmt.code_mask, 3 * fmt.nar >> 1)
    return st.sampled_from(corners) | st.integers(0, fmt.code_mask) | st.just(fmt.nar)


def array(data: st.DataObject, shape: tuple[int, ...], fmt: Format) -> PositArray:
    size = int(np.prod(shape, dtype=np.int64))
    drawn = data.draw(st.lists(codes(fmt), min_size=size, max_size=size))
    return PositArray(np.array(drawn, fmt.storage).reshape(shape), fmt)


def values(x: PositArray) -> Any:
    flat = np.empty(x.size + 1, object)
    flat[:-1] = [exact.value(int(code), x.format) for code in x.codes.flat]
    return flat[:-1].reshape(x.shape)


def rounded(terms: list[Any], fmt: Format) -> int:
    """Code of the sum of products of the terms; a None is NaR."""
    factors = [factor for term in terms for factor in term]
    if any(factor is None for factor in factors):
        return fmt.nar
    return exact.nearest(sum((np.prod(np.array(term, object)) for term in terms), Fraction(0)), fmt)


def truth(a: PositArray, b: PositArray, c: PositArray) -> Any:
    """A B + C for two or more axes, as codes."""
    x, y = values(a), values(b)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = np.broadcast_to(x, batch + x.shape[-2:]), np.broadcast_to(y, batch + y.shape[-2:])
    shape = (*batch, x.shape[-2], y.shape[-1])
    z = np.broadcast_to(values(c), shape)
    result = np.empty(shape, c.format.storage)
    for at in np.ndindex(*shape):
        row, column = x[(*at[:-2], at[-2])], y[at[:-2]][:, at[-1]]
        result[at] = rounded([*zip(row, column, strict=True), (z[at],)], c.format)
    return result


# matmul


@pytest.mark.parametrize("formats", [SAME, MIXED, WIDE], ids=["same", "mixed", "wide"])
@settings(max_examples=40)
@given(data=st.data())
def test_products_of_any_formats_and_batches_are_rounded_once(formats: Any, data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 3)) for _ in range(3))
    left, right, extra = data.draw(
        st.sampled_from(
            [
                ((), (), (m, n)),
                ((2,), (2,), (n,)),
                ((2, 1), (3,), (2, 3, m, n)),
                ((), (2,), ()),
                ((1,), (), (1, n)),
            ]
        )
    )
    a, b = array(data, (*left, m, k), formats[0]), array(data, (*right, k, n), formats[1])
    c = array(data, extra, formats[2])
    got = posit.matmul(a, b, out_format=formats[2], addend=c)
    assert got.format == formats[2]
    assert got.codes.tolist() == truth(a, b, c).tolist()


def test_strides_transposes_and_one_axis() -> None:
    rng = np.random.default_rng(0)
    a = posit.array(rng.standard_normal((6, 8)) * 2.0 ** rng.integers(-20, 20, (6, 8)), posit16)
    b = posit.array(rng.standard_normal((8, 5)), posit16)
    full = (a @ b).codes
    assert (posit.matmul(a[::-2], b[:, ::2]).codes == full[::-2, ::2]).all()
    assert (posit.matmul(b.T, a.T).codes == full.T).all()
    assert (posit.matmul(a[2], b).codes == full[2]).all()
    assert (posit.matmul(a, b[:, 3]).codes == full[:, 3]).all()
    assert posit.matmul(a[2], b[:, 3]).codes == full[2, 3]
    stacked = np.broadcast_to(a, (3, 6, 8))
    assert (posit.matmul(stacked, b).codes == full).all()
    ones = posit.ones(8, posit16)
    assert posit.matmul(a, ones, addend=a[:, 0]).codes.tolist() == [
        rounded([*((x, 1) for x in row), (row[0],)], posit16) for row in values(a)
    ]
    assert posit.matmul(ones, b, addend=1).shape == (5,)


def test_the_addend_is_inside_the_one_rounding() -> None:
    x = posit.array([[2.0**20, 1]], posit16)
    y = posit.array([[1.0], [2.0**-4]], posit16)
    assert posit.matmul(x, y, addend=-(2.0**20)).item() == 2.0**-4
    assert (x @ y - 2.0**20).item() == 0
    assert posit.matmul(x[:, :0], y[:0], addend=3).tolist() == [[3.0]]


def test_nar_reaches_what_it_feeds() -> None:
    a, b, c = (posit.ones((2, 3), posit16), posit.ones((3, 2), posit8), posit.zeros((2, 2), posit32))
    a[0, 1] = np.nan
    c[1, 1] = np.nan
    got = posit.matmul(b.T, a.T, out_format="posit32", addend=c.T).T
    assert np.isnan(got).tolist() == [[True, True], [False, True]]
    assert np.isnan(posit.sum(a, axis=0, out_format="posit8")).tolist() == [False, True, False]
    assert np.isnan(posit.norm2(a, axis=1)).tolist() == [True, False]


def test_out_may_be_an_operand() -> None:
    rng = np.random.default_rng(1)
    a, b = (posit.array(rng.standard_normal((4, 4)), posit16) for _ in range(2))
    expected = (a @ b).codes
    assert posit.matmul(a, b, out=a) is a
    assert (a.codes == expected).all()
    both = posit.array(rng.standard_normal((5, 4)), posit16)  # overlapping, not the same
    expected = (both[:4] @ b).codes
    posit.matmul(both[:4], b, out=both[1:])
    assert (both.codes[1:] == expected).all()
    strided = posit.zeros((4, 8), posit16)
    posit.matmul(b, b, out=strided[:, ::2])
    assert (strided.codes[:, ::2] == (b @ b).codes).all()
    assert not strided.codes[:, 1::2].any()


def test_an_out_that_does_not_fit_is_refused_and_unchanged() -> None:
    a = posit.ones((2, 2), posit16)
    frozen = posit.ones((2, 2), posit16)
    frozen.codes.flags.writeable = False
    for out, error, message in (
        (posit.ones((3, 2), posit16), ShapeError, r"of shape \(2, 2\); got shape \(3, 2\)"),
        (posit.ones((1, 2, 2), posit16), ShapeError, "got shape"),
        (posit.ones((2, 2), posit8), FormatMismatch, "the result is posit16, out is posit8"),
        (np.ones((2, 2)), FormatMismatch, "out is ndarray"),
        (frozen, ShapeError, "writeable: False"),
    ):
        with pytest.raises(error, match=message):
            posit.matmul(a, a, out=out)
        assert (out.tolist() == np.ones(out.shape)).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: posit.matmul(x, y), FormatMismatch, r"matmul of posit16 and posit8 .* out_format='posit16'"),
        (lambda x, y: posit.dot(x, y), FormatMismatch, "dot of posit16 and posit8"),
        (lambda x, y: posit.einsum("ij,jk", x, y), FormatMismatch, "einsum of posit16 and posit8"),
        (lambda x, y: posit.tensordot(x, y, 1), FormatMismatch, "tensordot of posit16 and posit8"),
        (lambda x, y: x @ y, FormatMismatch, "one format is needed"),
        (lambda x, y: posit.matmul(x, np.ones((2, 2))), FormatMismatch, "takes posit arrays, got ndarray"),
        (lambda x, y: posit.matmul(x, x, addend=y), FormatMismatch, "posit16 met posit8"),
        (lambda x, y: posit.matmul(x, x, addend=np.ones(2)), FormatMismatch, "NumPy float64"),
        (lambda x, y: posit.matmul(x, x, addend=posit.ones(3, posit16)), ShapeError, r"shape \(3,\) does not broadcast"),
        (lambda x, y: posit.matmul(x, x, addend=posit.ones((2, 2, 2), posit16)), ShapeError, "does not broadcast"),
        (lambda x, y: posit.matmul(x, x[:1]), ShapeError, r"\(2, 2\) and \(1, 2\)"),
        (lambda x, y: posit.matmul(x, x[0, 0]), ShapeError, "at least one axis"),
        (lambda x, y: posit.matmul(np.stack([x, x]), np.stack([x, x, x])), ShapeError, "do not broadcast together"),
        (lambda x, y: posit.tensordot(x, x, 3), ShapeError, "over 3 axes"),
        (lambda x, y: posit.sum(x.codes), FormatMismatch, "no posit array"),
        (lambda x, y: posit.sum(x.codes, out_format=posit16), FormatMismatch, "no posit array"),
        (lambda x, y: posit.mean(x, axis=2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda x, y: posit.axpy(2.0, x, y), FormatMismatch, "posit16 and posit8"),
        (lambda x, y: posit.axpy(y[0, 0], x, x), FormatMismatch, "posit8 and posit16"),
        (lambda x, y: posit.axpy(x, x, x), ShapeError, "alpha must be a scalar"),
        (lambda x, y: posit.axpy(True, x, x), FormatMismatch, "got bool"),
        (lambda x, y: posit.axpy(float("inf"), x, x), NonFiniteError, "must be finite"),
        (lambda x, y: posit.axpy(2, x, posit.ones(3, posit16)), ShapeError, "do not broadcast"),
        (lambda x, y: posit.axpy(2, x.codes, x), FormatMismatch, "takes posit arrays"),
        (lambda x, y: np.linalg.norm(x, 1), NoRuleError, "norm2"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(posit.ones((2, 2), posit16), posit.ones((2, 2), posit8))


# dot, sums, einsum


@given(data=st.data())
@settings(max_examples=40)
def test_dot_of_vectors(data: st.DataObject) -> None:
    k = data.draw(st.integers(0, 6))
    a, b = array(data, (k,), posit16), array(data, (k,), posit16)
    terms = list(zip(values(a), values(b), strict=True))
    assert int(posit.dot(a, b).codes) == rounded(terms, posit16)
    assert int(posit.dot(a, b, out_format=posit8).codes) == rounded(terms, posit8)


def test_dot_of_many_axes_and_scalars() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(-3, 4, (2, 3, 4)).astype(float), rng.integers(-3, 4, (5, 4, 2)).astype(float)
    x, y = posit.array(a, posit8), posit.array(b, posit16)
    for left, right in (
        (0, 0),
        (0, (0,)),
        ((0, 0), (0, slice(None), 0)),
        ((), ()),
        ((0, 0, 0), ()),
        ((), (0, 0, 0)),
    ):
        if left == 0 and right == (0,):
            right = 0
        got = posit.dot(x[left], y[right], out_format=posit32)
        np.testing.assert_array_equal(got.to_float(), np.dot(a[left], b[right]))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 0, 1), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_over_axes(axis: Any, keepdims: bool) -> None:
    rng = np.random.default_rng(3)
    plain = rng.integers(-3, 4, (2, 4, 3)) * 2.0 ** rng.integers(-6, 7, (2, 4, 3))
    x = posit.array(plain, posit16).transpose(2, 0, 1)
    total = plain.transpose(2, 0, 1).sum(axis=axis, keepdims=keepdims)  # exact in float64
    for out_format in (posit16, posit8):
        got = posit.sum(x, axis, keepdims, out_format=out_format)
        assert got.codes.tolist() == posit.array(total, out_format).codes.tolist()
    count = 24 // max(1, np.size(total))
    means = posit.mean(x, axis=axis, keepdims=keepdims)
    assert means.shape == total.shape
    assert means.codes.ravel().tolist() == [
        exact.nearest(Fraction(t) / count, posit16) for t in np.ravel(total)
    ]


def test_einsum_of_two_formats() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(-3, 4, (2, 3, 4)).astype(float), rng.integers(-3, 4, (2, 4, 5)).astype(float)
    x, y = posit.array(a, posit8), posit.array(b, posit16)
    for letters in ("bij,bjk->bik", "bij,bjk->ki", "bij,cjk->bcik", "bij,bjk->"):
        got = posit.einsum(letters, x, y, out_format=posit32)
        np.testing.assert_array_equal(got.to_float(), np.einsum(letters, a, b))
    assert posit.einsum("bij->jb", x, out_format=posit32).format == posit32
    assert (
        posit.einsum("bij->jib", x, out_format=posit32).to_float().tolist() == a.transpose(2, 1, 0).tolist()
    )


@pytest.mark.parametrize("axis", [None, 0])
def test_long_vectors(axis: Any) -> None:
    """Long enough for the kernels of posit._streams; strided, and with NaR at the end."""
    rng = np.random.default_rng(6)
    plain = rng.integers(-99, 99, (2**14, 2)) * 2.0 ** rng.integers(-12, 13, (2**14, 2))
    x = posit.array(plain, posit16)
    plain = x.to_float()  # sums and products of which are exact in float64
    assert posit.sum(x, axis).codes.tolist() == posit.array(plain.sum(axis=axis), posit16).codes.tolist()
    mean = np.ravel(plain.sum(axis=axis)) / (x.size / np.size(plain.sum(axis=axis)))
    assert posit.mean(x, axis).codes.ravel().tolist() == posit.array(mean, posit16).codes.tolist()
    dot, found = posit.dot(x[:, 0], x[:, 1], explain=True)
    assert dot.codes == posit.array(float(plain[:, 0] @ plain[:, 1]), posit16).codes
    assert found.total == 1
    x[-1, 0] = np.nan
    assert np.isnan(posit.dot(x[:, 0], x[:, 1]))
    assert np.isnan(posit.sum(x, axis=0)).tolist() == [True, False]


# norm2


def nearest_root(square: Fraction, fmt: Format) -> int:
    """Code of sqrt(square) by bisection on squares."""
    if square == 0:
        return 0
    low, high = 1, fmt.maxpos
    if square <= fmt.minpos_value**2 or square >= fmt.maxpos_value**2:
        return low if square <= fmt.minpos_value**2 else high
    while high - low > 1:
        middle = (low + high) // 2
        root = exact.value(middle, fmt)
        assert root is not None
        low, high = (middle, high) if root**2 <= square else (low, middle)
    half_way = exact.boundary(low, fmt) ** 2
    return high if square > half_way or (square == half_way and low % 2) else low


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, posit.bposit32, posit64, Format(32, 5)], ids=str)
@given(data=st.data())
@settings(max_examples=40)
def test_norms_are_correctly_rounded(fmt: Format, data: st.DataObject) -> None:
    x = array(data, (data.draw(st.integers(0, 5)),), fmt)
    parts = values(x)
    wanted = fmt.nar if None in parts else nearest_root(sum((v * v for v in parts), Fraction(0)), fmt)
    assert int(posit.norm2(x).codes) == wanted


def on_boundaries() -> list[tuple[PositArray, int]]:
    """Vectors (3, 4) h, (5, 12) h, (8, 15) h of posits whose norms 5 h, 13 h, 17 h lie between two posits."""
    found = []
    for p, q, norm in ((3, 4, 5), (5, 12, 13), (8, 15, 17)):
        for h in range(2**8 + 1, 2**9, 2):
            x = posit.array([p * h, q * h, 0], posit16)
            code = exact.nearest(Fraction(norm * h), posit16)
            if x.tolist() == [p * h, q * h, 0] and exact.value(code, posit16) != norm * h:
                found.append((x, code))
    return found


def test_norms_on_a_boundary_go_to_even_and_beside_it_where_they_belong() -> None:
    cases = on_boundaries()
    assert len(cases) > 20
    moved = 0
    for x, code in cases:
        assert int(posit.norm2(x).codes) == code
        x[2] = 2.0**-28  # far below float64's last bit of the sum
        above = nearest_root(sum((v * v for v in values(x)), Fraction(0)), posit16)
        assert int(posit.norm2(x).codes) == above
        moved += above != code
    assert moved > 10


def test_a_weakened_bound_of_the_norm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    certified = rounding.certified
    monkeypatch.setattr(rounding, "certified", lambda x, error, *rest: certified(x, error * 0, *rest))
    wrong = 0
    for x, code in on_boundaries():
        x[2] = 2.0**-28
        wrong += code % 2 == 0 and int(posit.norm2(x).codes) == code
    assert wrong > 10


def test_norms_of_long_vectors_and_axes() -> None:
    rng = np.random.default_rng(5)
    x = posit.array(rng.standard_normal((3, 2, 400)), posit32)
    got = posit.norm2(x, axis=(0, 2), keepdims=True)
    assert got.shape == (1, 2, 1)
    for j in range(2):
        square = sum((v * v for v in values(x[:, j]).flat), Fraction(0))
        assert int(got.codes[0, j, 0]) == nearest_root(square, posit32)
    assert np.linalg.norm(x).codes == posit.norm2(x).codes
    assert posit.norm2(posit.zeros(0, posit16)).item() == 0


# axpy


@pytest.mark.parametrize("fmt", [posit16, posit64], ids=str)
@given(data=st.data())
@settings(max_examples=40)
def test_axpy_rounds_once(fmt: Format, data: st.DataObject) -> None:
    x, y = array(data, (2, 1), fmt), array(data, (3,), fmt)
    numbers = st.fractions(max_denominator=9) | st.floats(-1e30, 1e30) | st.integers(-(2**70), 2**70)
    alpha = data.draw(numbers | codes(fmt).map(lambda c: posit.from_codes(c, fmt)))
    factor = exact.value(int(alpha.codes), fmt) if isinstance(alpha, PositArray) else Fraction(alpha)
    expected = [[rounded([(factor, p), (q,)], fmt) for q in values(y)] for p in values(x)[:, 0]]
    assert linalg.axpy(alpha, x, y).codes.tolist() == expected


def test_long_vectors_of_a_format_beyond_the_carrier_go_through_limbs() -> None:
    """posit<32,4> fits float64, sums of its products do not: `dot` and `norm2` raised from 8192 elements on."""
    fmt = Format(32, 4)
    x = posit.full(9000, 2, fmt)
    assert float(posit.dot(x, x)) == 36000
    assert float(posit.norm2(posit.full(1 << 14, 2, fmt))) == 256
