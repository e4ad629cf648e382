"""posit.QuireArray against exact rationals and against posit.Quire: products, matrix products, carries, files, views."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posit
from posit import _quire_matmul, _quire_storage
from posit._quire_array import QuireArray
from posit.errors import FormatMismatch, NonFiniteError, QuireError, ShapeError
from posit.formats import Format
from posit.quire import Quire
from tests.posit.quire_oracle import codes, posits, rounded, scalar, terms, total

FORMATS = [Format.parse(name) for name in (
    "posit8", "posit16", "posit32", "posit64", "posit3", "posit<12,1>", "posit<32,5>", "bposit16", "bposit32", "bposit64",
)]  # fmt: skip
FEW = [Format.parse(name) for name in ("posit16", "posit32", "bposit32", "posit64", "posit<32,5>")]


def products(a: posit.PositArray, b: posit.PositArray) -> list[list[list[tuple[int, int]]]]:
    """The terms of every element of a @ b."""
    return [
        [[(int(x), int(y)) for x, y in zip(row, column, strict=True)] for column in b.codes.T]
        for row in a.codes
    ]


def assert_holds(q: QuireArray, wanted: list[list[Fraction | None]]) -> None:
    """Every element has this exact value (None is NaR), and rounds to its nearest posit."""
    assert q.is_nar.tolist() == [[x is None for x in row] for row in wanted]
    got = [[None if x.is_nar else x.to_fraction() for x in (e.item() for e in row)] for row in q]
    assert got == wanted
    assert q.to_posit().codes.tolist() == [[rounded(x, q.format) for x in row] for row in wanted]


def random_codes(fmt: Format, shape: tuple[int, ...], seed: int, nar: bool = False) -> posit.PositArray:
    """Codes of every magnitude: the hardest content for a product."""
    drawn = np.random.default_rng(seed).integers(0, fmt.code_mask, shape, np.uint64, endpoint=True)
    drawn[(drawn == fmt.nar) & (not nar)] = 1
    return posit.from_codes(drawn.astype(fmt.storage), fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_elementwise_sums_are_those_of_a_quire(fmt: Format, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 4))
    array, singles = QuireArray(size, fmt), [Quire(fmt) for _ in range(size)]
    one = st.lists(codes(fmt), min_size=size, max_size=size)
    for _ in range(data.draw(st.integers(1, 5))):
        a, b = posits(data.draw(one), fmt), posits(data.draw(one), fmt)
        name = data.draw(st.sampled_from(("mul_add", "mul_sub", "add", "sub", "negate")))
        arguments = {"negate": (), "add": (a,), "sub": (a,)}.get(name, (a, b))
        getattr(array, name)(*arguments)
        for t, single in enumerate(singles):
            getattr(single, name)(*(x[t] for x in arguments))
    assert [e.item() for e in array] == singles
    assert array.to_posit().codes.tolist() == [int(single.to_posit().codes) for single in singles]
    assert bool((QuireArray.from_bytes(array.to_bytes(), fmt) == array).all())


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("kind", ["any codes", "near one"])
def test_matrix_products_of_several_calls_are_exact(fmt: Format, kind: str) -> None:
    a, b = random_codes(fmt, (5, 9), 1, nar=fmt.nbits > 8), random_codes(fmt, (9, 4), 2)
    if kind == "near one":
        rng = np.random.default_rng(3)
        a, b = posit.array(rng.standard_normal((5, 9)), fmt), posit.array(rng.standard_normal((9, 4)), fmt)
    q = QuireArray((5, 4), fmt)
    q.matmul_add(a, b)
    q.matmul_add(a[:, ::2], b[::2])
    items = zip(products(a, b), products(a[:, ::2], b[::2]), strict=True)
    wanted = [[total(x + y, fmt) for x, y in zip(*rows, strict=True)] for rows in items]
    assert_holds(q, wanted)


@pytest.mark.parametrize("fmt", FEW, ids=str)
@settings(max_examples=15)
@given(data=st.data())
def test_a_dot_product_of_hard_terms_is_exact_however_it_is_split(fmt: Format, data: st.DataObject) -> None:
    items = data.draw(terms(fmt, nar=True))
    a, b = (posits([item[t] for item in items], fmt) for t in (0, 1))
    cut = data.draw(st.integers(0, len(items)))
    order = np.array(data.draw(st.permutations(range(len(items)))), np.int64)
    whole, first, second, shuffled = (QuireArray((), fmt) for _ in range(4))
    whole.matmul_add(a, b)
    first.matmul_add(a[:cut], b[:cut])
    second.matmul_add(a[cut:], b[cut:])
    second.merge(first)
    shuffled.mul_add(0, 0)
    shuffled.matmul_add(a[order], b[order])
    for q in (whole, second, shuffled):
        assert (None if q.is_nar else q.item().to_fraction()) == total(items, fmt)


def by_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that products take from now on."""
    used: list[str] = []
    for name in ("_add_float64", "_add_slices", "_add_dots", "_add_codes"):
        function = getattr(_quire_matmul, name)

        def noted(*args: Any, name: str = name, function: Any = function) -> Any:
            used.append(name)
            return function(*args)

        monkeypatch.setattr(_quire_matmul, name, noted)
    return used


def dense(fmt: Format, spread: int, seed: int) -> tuple[posit.PositArray, posit.PositArray]:
    rng = np.random.default_rng(seed)
    return tuple(  # type: ignore[return-value]
        posit.array(rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, spread + 1, shape), fmt)
        for shape in ((33, 70), (70, 21))
    )


@pytest.mark.parametrize(
    ("name", "spread", "way"),
    [
        ("posit8", 0, ["_add_float64"]),  # every pair is narrow
        ("posit16", 12, ["_add_slices"]),  # every pair is wide
        ("posit32", 3, ["_add_slices"]),
        ("bposit32", 180, ["_add_float64", "_add_dots"]),  # hundreds of slices would cost more
        ("posit<32,5>", 0, ["_add_codes"]),  # float64 has not the range
        ("posit64", 0, ["_add_codes"]),
    ],
)
def test_every_way_of_a_product_is_exact(
    name: str, spread: int, way: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fmt = Format.parse(name)
    a, b = dense(fmt, spread, 4)
    used = by_way(monkeypatch)
    q = QuireArray((33, 21), fmt)
    q.matmul_add(a, b)
    assert [step for step in used if step != "_add_float64" or "_add_slices" not in used][: len(way)] == way
    plain = QuireArray((33, 21), fmt)
    for t in range(70):
        plain.mul_add(a[:, t : t + 1], b[t : t + 1, :])
    assert bool((q == plain).all())
    assert_holds(q[:2, :2], [[total(x, fmt) for x in row] for row in products(a[:2], b[:, :2])])


def test_a_few_wide_rows_and_columns_are_sliced_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = posit.posit16
    a, b = dense(fmt, 0, 5)
    a[3, 5], a[4, 6], b[7, 2], b[8, 3] = 2.0**-50, 2.0**50, 2.0**-49, 2.0**45
    used = by_way(monkeypatch)
    for cost, way in ((1e9, "_add_slices"), (0, "_add_dots")):
        monkeypatch.setattr(_quire_matmul, "_DIRECT_COST", cost)
        q, plain = QuireArray((33, 21), fmt), QuireArray((33, 21), fmt)
        q.matmul_add(a, b)
        for t in range(70):
            plain.mul_add(a[:, t : t + 1], b[t : t + 1, :])
        assert bool((q == plain).all())
        assert used[0] == "_add_float64"
        assert used.count(way) == 2  # wide rows with all columns, the other rows with wide columns
        used.clear()


def test_blocks_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = dense(posit.posit16, 8, 6)
    wanted = QuireArray((33, 21), "posit16")
    wanted.matmul_add(a, b)
    monkeypatch.setattr(_quire_matmul, "_OUTER", 10)
    monkeypatch.setattr(_quire_matmul, "_INNER", 16)
    before = posit.get_num_threads()
    try:
        for threads in (1, 3):
            posit.set_num_threads(threads)
            q = QuireArray((33, 21), "posit16")
            q.matmul_add(a, b)
            assert bool((q == wanted).all())
    finally:
        posit.set_num_threads(before)


def test_slices_that_are_one_bit_too_wide_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on widths is needed: with 12 bits more float64 rounds, and the tests above could see it."""
    a, b = dense(posit.posit32, 3, 7)
    wanted = QuireArray((33, 21), "posit32")
    wanted.matmul_add(a, b)
    choose = _quire_matmul._widths
    monkeypatch.setattr(_quire_matmul, "_widths", lambda x, y, room: choose(x, y, room + 12))
    q = QuireArray((33, 21), "posit32")
    q.matmul_add(a, b)
    assert not (q == wanted).all()


def test_matmul_add_takes_the_shapes_of_matmul() -> None:
    fmt = posit.posit16
    a, b = random_codes(fmt, (2, 1, 3, 4), 1), random_codes(fmt, (5, 4, 2), 2)
    q = QuireArray((2, 5, 3, 2), fmt)
    q.matmul_add(a, b)
    assert (q.to_posit().codes == posit.matmul(a, b).codes).all()
    row = QuireArray((5, 2), fmt)
    row.matmul_add(a[0, 0, 1], b)
    assert bool((row == q[0, :, 1]).all())
    column = QuireArray((2, 1, 3), fmt)
    column.matmul_add(a, b[4, :, 1])
    assert bool((column[:, 0] == q[:, 4, :, 1]).all())
    empty = QuireArray((2, 3), fmt)
    empty.matmul_add(posit.zeros((2, 0), fmt), posit.zeros((0, 3), fmt))
    assert (empty.to_posit().codes == 0).all()


def test_nar_reaches_the_elements_it_feeds_and_no_other() -> None:
    for fmt in (posit.posit16, posit.posit64):
        a, b = posit.ones((3, 2), fmt), posit.ones((2, 4), fmt)
        a.codes[1, 0] = b.codes[0, 2] = fmt.nar
        q = QuireArray((3, 4), fmt)
        q.matmul_add(a, b)
        wanted = [[False, False, True, False], [True] * 4, [False, False, True, False]]
        assert q.is_nar.tolist() == wanted
        q.matmul_add(posit.ones((3, 2), fmt), posit.ones((2, 4), fmt))
        q.merge(q)
        assert q.is_nar.tolist() == wanted
        with pytest.raises(NonFiniteError, match="of 6 NaR quires"):
            q.to_fraction()
        assert q[0, 0].to_fraction() == 8


# Carries, overflow


def test_an_element_beside_the_largest_one_overflows_alone_and_stays_nar() -> None:
    fmt = posit.posit16
    maxpos = scalar(fmt.maxpos, fmt)
    q = QuireArray(3, fmt)
    q[1:].mul_add(maxpos, maxpos)
    q[:2].add(1)
    for _ in range(31):
        q.merge(q)
    assert q.is_nar.tolist() == [False, True, True]
    assert q[0].to_fraction() == 2**31
    q.sub_quire(q)
    assert q.is_nar.tolist() == [False, True, True]
    q.clear()
    assert (q.to_posit().codes == 0).all()


def test_the_31_carry_bits_are_used_to_the_last() -> None:
    for fmt in (posit.posit16, posit.bposit16, Format(3, 0)):
        maxpos = scalar(fmt.maxpos, fmt)
        single, q, power = Quire(fmt), QuireArray(1, fmt), QuireArray(1, fmt)
        single.mul_add(maxpos, maxpos)
        power.mul_add(maxpos, maxpos)
        for _ in range(31):
            q.merge(power)
            power.merge(power)
        assert q[0].to_fraction() == (2**31 - 1) * single.to_fraction()
        assert not q.is_nar.any()
        q.mul_add(maxpos, maxpos)
        whole = Quire.from_register(q[0].item().to_bytes()[12:], fmt)
        assert bool(q.is_nar[0]) == whole.is_nar == (fmt.quire_bits == 16 * fmt.nbits)


def spend(q: QuireArray, adds: int) -> None:
    """As if so many additions had been made since the last fold, each as large as can be."""
    digits = q._storage.planes[:-1]
    q._storage.counters[0] = adds
    digits[:-1] += (adds - 2) << 32
    digits[1:] -= adds - 2  # the same value


@pytest.mark.parametrize("fmt", [posit.posit16, posit.posit64], ids=str)
def test_carries_are_folded_before_a_digit_overflows(fmt: Format) -> None:
    a = random_codes(fmt, (4, 4), 8)
    q = QuireArray((4, 4), fmt)
    q.matmul_add(a, a)
    wanted = q.copy()
    spend(q, _quire_storage.ADDS_BEFORE_FOLD)
    assert bool((q == wanted).all())
    calls: tuple[Callable[[QuireArray], None], ...] = (
        lambda x: x.matmul_add(a, a), lambda x: x.mul_add(a, a), lambda x: x.merge(x.copy()), lambda x: x.sub(a),
    )  # fmt: skip
    for call in calls:
        spend(q, _quire_storage.ADDS_BEFORE_FOLD)
        call(q)
        call(wanted)
        assert int(abs(q._storage.planes[:-1]).max()) <= 2**61 + 2**34
        assert bool((q == wanted).all())


def test_without_the_fold_digits_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arrays at an allowance 4 times as large do not fit int64 together: the bound is what keeps the sum right."""
    monkeypatch.setattr(_quire_storage, "ADDS_BEFORE_FOLD", 1 << 40)
    q = QuireArray(1, "posit16")
    q.add(1)
    wanted = q.copy()
    spend(q, 1 << 31)
    wanted.merge(wanted)
    q.merge(q)
    assert not (q == wanted).any()


def test_fold_changes_no_value() -> None:
    a = random_codes(posit.posit16, (3, 3), 9)
    q = QuireArray((3, 3), "posit16")
    for _ in range(5):
        q.mul_add(a, a)
    twin = q.copy()
    q.fold()
    assert bool((q == twin).all())
    assert int(q._storage.planes[:-2].min()) >= 0
    assert int(q._storage.planes[:-2].max()) < 2**32


# Views, bytes, files


def test_views_share_storage_and_add_up_in_it() -> None:
    q = QuireArray((4, 6), "posit16")
    q[1:3, ::2].add(1)
    q[..., 5].add(posit.array([1, 2, 3, 4], "posit16"))
    q.reshape(2, 2, 6)[1, 0].mul_add(2, 3)
    q.reshape(24)[23:].sub(0.5)
    q[0][None, 1:2].matmul_add(posit.ones((1, 3), "posit16"), posit.ones((3, 1), "posit16"))
    wanted = np.zeros((4, 6))
    wanted[1:3, ::2] += 1
    wanted[:, 5] += [1, 2, 3, 4]
    wanted[2] += 6
    wanted[3, 5] -= 0.5
    wanted[0, 1] += 3
    assert (q.to_posit().astype(np.float64) == wanted).all()
    assert [len(q), q.ndim, q.size, q.nbytes] == [4, 2, 24, 24 * 72]
    copy = q[1:3].copy()
    copy.add(1)
    assert (q.to_posit().astype(np.float64) == wanted).all()
    assert (copy.to_posit().astype(np.float64) == wanted[1:3] + 1).all()
    with pytest.raises(ShapeError, match="has no view of shape"):
        q[:, 1:4].reshape(12)
    with pytest.raises(ShapeError, match="do not reshape to"):
        q.reshape(5, 5)
    for index in ([0, 1], np.array([True] * 4), True, 1.0):
        with pytest.raises(IndexError, match="indexed by integers, slices"):
            q[index]


def test_merging_views_of_one_array_reads_before_it_writes() -> None:
    q = QuireArray(5, "posit16")
    q.add(posit.array([1, 2, 4, 8, 16], "posit16"))
    q[1:].merge(q[:-1])
    assert q.to_posit().tolist() == [1, 3, 6, 12, 24]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_bytes_hold_shape_and_registers(fmt: Format) -> None:
    q = QuireArray.from_posit(random_codes(fmt, (2, 3), 1, nar=True))
    q[0, 0].add(float("nan"))
    written = q.to_bytes()
    registers = written[12 + 8 * 3 :]
    nbytes = fmt.quire_bits // 8
    assert [q[i, j].item().to_bytes()[12:] for i in range(2) for j in range(3)] == [
        registers[t * nbytes : (t + 1) * nbytes] for t in range(6)
    ]
    back = QuireArray.from_bytes(written)
    assert bool((back == q).all())
    assert back.to_bytes() == written
    assert bool((pickle.loads(pickle.dumps(q)) == q).all())  # noqa: S301 - our own bytes
    back.add(q.to_posit())


def test_arrays_without_elements(tmp_path: Path) -> None:
    q = QuireArray((0, 3), "posit16")
    q.matmul_add(posit.zeros((0, 4), "posit16"), posit.zeros((4, 3), "posit16"))
    q.add(1)
    q.merge(q)
    q.fold()
    assert q.to_posit().shape == QuireArray.from_bytes(q.to_bytes()).shape == (0, 3)
    assert q.reshape(3, 0).to_fraction().shape == (3, 0)
    QuireArray.memmap(tmp_path / "none", (0, 3), "posit16", mode="w+").add(1)
    assert QuireArray.memmap(tmp_path / "none").shape == (0, 3)


def test_bytes_that_are_no_array_of_quires_are_refused() -> None:
    good = QuireArray((2, 3), "posit16").to_bytes()
    for bad, message in (
        (Quire("posit16").to_bytes(), "starts with b'PQA1', got b'PQR1'"),
        (good[:-1], r"shape \(2, 3\) has 228 bytes, got 227"),
        (good[:12], "has 0 to 32 axes, the bytes say -1"),
        (good[:12] + b"\xff" * 8 + good[20:], "the bytes say -1"),
        (good[:20] + b"\xff" * 8 + good[28:], "negative length"),
        (good[:4] + b"\x05" + good[5:], "version 5 came"),
    ):
        with pytest.raises(QuireError, match=message):
            QuireArray.from_bytes(bad)
    with pytest.raises(QuireError, match="quires of posit8 were wanted, the bytes hold posit16"):
        QuireArray.from_bytes(good, "posit8")


def test_quires_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sums.quire"
    a = random_codes(posit.posit16, (20, 20), 3)
    made = QuireArray.memmap(path, (20, 20), "posit16", mode="w+")
    plain = QuireArray((20, 20), "posit16")
    for q in (made, plain):
        q.matmul_add(a, a)
        q[3].add(float("nan"))
    made.flush()
    del made
    again = QuireArray.memmap(path)
    assert bool((again == plain).all())
    again.matmul_add(a, a)
    again.flush()
    plain.matmul_add(a, a)
    read = QuireArray.memmap(path, (20, 20), "posit16", mode="r")
    assert bool((read == plain).all())
    assert (read.to_posit().codes == plain.to_posit().codes).all()
    writes: tuple[Callable[[], None], ...] = (
        lambda: read.add(1),
        read.clear,
        read.negate,
        read.fold,
        lambda: read.merge(plain),
        lambda: read.matmul_add(a, a),
    )
    for call in writes:
        with pytest.raises(QuireError, match="these quires are read-only"):
            call()
    scratch = QuireArray.memmap(path, mode="c")
    scratch.add(1)
    assert not (scratch == read).all()
    assert bool((QuireArray.memmap(path, mode="r") == plain).all())
    plain.merge(read)
    assert [file.name for file in tmp_path.iterdir()] == ["sums.quire"]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sums.quire"
    QuireArray.memmap(path, 3, "posit16", mode="w+")
    with pytest.raises(
        QuireError, match=r"posit16 and shape \(4,\) were wanted, .* holds posit16 and shape \(3,\)"
    ):
        QuireArray.memmap(path, 4)
    with pytest.raises(QuireError, match="quires of posit8 and"):
        QuireArray.memmap(path, 3, "posit8")
    with pytest.raises(QuireError, match="mode must be"):
        QuireArray.memmap(path, mode="x")
    with pytest.raises(QuireError, match="needs a shape and a format"):
        QuireArray.memmap(tmp_path / "new", mode="w+")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(QuireError, match="must have 728 bytes, got 720"):
        QuireArray.memmap(path)
    path.write_bytes(b"nothing")
    with pytest.raises(QuireError, match="header of 12 bytes, got 7 bytes"):
        QuireArray.memmap(path)


def test_bad_operands_raise_and_leave_the_array_unchanged() -> None:
    q = QuireArray((2, 3), "posit16")
    q.add(1.5)
    before, counters = q.copy(), q._storage.counters.copy()
    ones = posit.ones((2, 3), "posit16")
    calls: list[tuple[type[Exception], str, Any]] = [
        (FormatMismatch, "posit16 met posit8", lambda: q.add(posit.ones((2, 3), "posit8"))),
        (FormatMismatch, "met a NumPy float64", lambda: q.mul_add(ones, np.ones((2, 3)))),
        (ShapeError, r"shape \(3, 2\) does not broadcast", lambda: q.mul_sub(ones.T, 1)),
        (
            ShapeError,
            r"shape \(2, 2, 3\) does not broadcast",
            lambda: q.add(posit.ones((2, 2, 3), "posit16")),
        ),
        (
            ShapeError,
            r"needs \(..., m, k\) and \(..., k, n\), got \(2, 3\) and \(2, 3\)",
            lambda: q.matmul_add(ones, ones),
        ),
        (ShapeError, r"another shape than the quires, \(2, 3\)", lambda: q.matmul_add(ones, ones.T)),
        (ShapeError, "needs .* got", lambda: q.matmul_add(ones[0, 0], ones)),
        (
            QuireError,
            "different formats do not merge: posit16 met posit32",
            lambda: q.merge(QuireArray((2, 3), "posit32")),
        ),
        (QuireError, "merge with their like, got Quire", lambda: q.merge(Quire("posit16"))),  # type: ignore[arg-type]
        (
            ShapeError,
            r"when their shapes are equal, got \(2, 3\) and \(3,\)",
            lambda: q.sub_quire(QuireArray(3, "posit16")),
        ),
        (FormatMismatch, "from_posit needs a posit array", lambda: QuireArray.from_posit(1)),  # type: ignore[arg-type]
        (ShapeError, r"item.. needs one element, got shape \(2, 3\)", q.item),
        (FormatMismatch, "posit16 met posit8", lambda: q == QuireArray((2, 3), "posit8")),
        (ShapeError, "do not compare", lambda: q == QuireArray(3, "posit16")),
        (TypeError, "unhashable", lambda: hash(q)),
        (TypeError, "has no length", lambda: len(q[0, 0])),
    ]
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()
        assert bool((q == before).all()), message
        assert (q._storage.counters == counters).all(), message
    assert repr(q) == "<QuireArray posit16 of shape (2, 3)>"
