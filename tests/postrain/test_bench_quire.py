"""`postrain bench quire`: every row is there, and a wrong result stops it before it is timed."""

import importlib.util
import json
import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import posit
from posit import Format, PositArray, QuireArray, _blas, posit8, posit16, posit32
from posit.errors import MissingReferenceError
from posit.reference import exact
from postrain.bench import blas, quire, quire_memory, quire_operands, quire_peers, quire_training
from postrain.bench.contest import Row
from postrain.cli import main
from postrain.errors import MeasurementError
from postrain.options import NoProgress

needs_softposit = pytest.mark.skipif(
    importlib.util.find_spec("_softposit") is None and "CI" not in os.environ,
    reason="needs pip install 'postrain[reference]'",
)
OPTIONS = quire.QuireOptions(size=32, elements=3000, repeats=1)
SMALL = ["bench", "quire", "--size", "32", "--elements", "3000", "--repeats", "1"]
NETWORKS = ("MLP 784-512-256-10", "LeNet-5")


@pytest.fixture
def two_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other formats' kernels take half a minute to compile and go the same way."""
    monkeypatch.setattr(quire, "_PRODUCTS", {posit16: 1.3, posit32: 3.0})


@pytest.fixture
def bench() -> quire._Bench:
    return quire._Bench(OPTIONS, np.random.default_rng(0), NoProgress())


@needs_softposit
@pytest.mark.usefixtures("two_formats")
def test_the_command_measures_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = posit.get_num_threads(), blas.get_num_threads()
    file = tmp_path / "quire.json"
    assert main([*SMALL, "--json", str(file)]) == 0
    assert (posit.get_num_threads(), blas.get_num_threads()) == before
    found = json.loads(file.read_text())
    assert (found["options"]["size"], found["options"]["elements"], found["options"]["seed"]) == (32, 3000, 0)
    assert found["machine"]["numpy"] == np.__version__
    assert "BLAS" in found["machine"]

    both = {f"{fmt} 32³" for fmt in (posit16, posit32)}
    both |= {f"{fmt} 32³, each multiply-add" for fmt in (posit16, posit32)}
    both |= {f"posit16 {n}³, growth" for n in (2, 4, 8, 16, 32, 64)} | {"posit16 growth, 2 to 64"}
    both |= {f"{fmt} 8³, every element on a boundary" for fmt in (posit16, posit32)}
    both |= {f"{name} {kind}s, posit16" for name in NETWORKS for kind in quire_training.KINDS}
    both |= {"posit16 64 × (64×64 · 64×64)", "posit16 QuireArray.matmul_add 16³"}
    both |= {f"posit16 {name} of 3000, an element" for name in ("sum", "dot")}
    timed = {
        threads: {row["operation"] for row in found["rows"] if row["threads"] == threads}
        for threads in (1, 2)
    }
    assert timed == {1: both | {"posit16 32×64 · 64×32, a call"}, 2: both}
    untimed = {row["operation"]: row for row in found["rows"] if row["threads"] is None}
    assert set(untimed) == {
        f"{name} {kind}s, posit16" for name in NETWORKS for kind in quire_training.KINDS
    } | {"posit16 128³, memory"}
    for row in found["rows"]:
        assert 0 <= row["best"] <= row["median"]
        assert row["value"] is not None
        assert (row["met"] is None) == (row["target"] is None)
    shares = [row for row in found["rows"] if row["measure"] == "share"]
    assert all("%" in row["note"] and 0 <= row["value"] < 1 for row in shares)
    worst = [row["note"] for row in found["rows"] if "boundary" in row["operation"]]
    assert worst == ["64 quire (100 %)"] * 4
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Machine: CPU" in printed
    assert f"BLAS {found['machine']['BLAS']}" in printed


def spoiled(honest: Callable[..., Any]) -> Callable[..., Any]:
    """A function of posits whose last element is one code off."""

    def wrong(*given: Any, **named: Any) -> Any:
        made = honest(*given, **named)
        array = made[0] if isinstance(made, tuple) else made
        array.codes.reshape(-1)[-1] ^= 1
        return made

    return wrong


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("_products", "matmul", "posit16 32³, rows 0"),
        ("_growth", "matmul", "posit16 2³, growth"),
        (
            "_worst",
            "matmul",
            "posit16 8³, every element on a boundary, known results: 1 of 64 results differ",
        ),
        ("_softposit", "matmul", "posit16 32³, each multiply-add"),
        ("_training", "matmul", "MLP 784-512-256-10 forwards, posit16, product 0"),
        ("_small", "matmul", "posit16 32×64"),
        ("_streams", "sum", "sum of a long vector in posit16"),
        ("_streams", "dot", "dot of a long vector in posit16"),
        ("_memory", "matmul", "posit16 128³"),
    ],
)
def test_a_wrong_result_of_ours_stops_the_run(
    section: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quire, "compete", lambda *given: pytest.fail("it was timed"))
    monkeypatch.setattr(quire, "_SECTIONS", (getattr(quire, section),))
    monkeypatch.setattr(quire_memory, "_ROWS", 128)
    monkeypatch.setattr(posit, name, spoiled(getattr(posit, name)))
    assert main(SMALL) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert "so nothing was timed" in complaint


def test_a_wrong_quire_array_stops_the_run(monkeypatch: pytest.MonkeyPatch, bench: quire._Bench) -> None:
    monkeypatch.setattr(quire, "compete", lambda *given: pytest.fail("it was timed"))
    monkeypatch.setattr(QuireArray, "to_posit", spoiled(QuireArray.to_posit))
    with pytest.raises(MeasurementError, match="posit16 QuireArray.matmul_add 16³: 1 of 256 results differ"):
        quire._accumulate(bench)


@needs_softposit
def test_a_wrong_result_of_softposit_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, bench: quire._Bench
) -> None:
    honest = quire_peers.softposit_dot

    def wrong(*given: Any) -> Any:
        run, codes = honest(*given)
        return run, codes + 1

    monkeypatch.setattr(quire_peers, "softposit_dot", wrong)
    for fmt in (Format(16, 1), posit32):
        with pytest.raises(MeasurementError, match="SoftPosit's dot product in"):
            quire._c_quire(bench, fmt)


def test_softposit_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch, bench: quire._Bench) -> None:
    def absent(*given: Any) -> Any:
        raise MissingReferenceError("SoftPosit is not installed; install it")

    monkeypatch.setattr(quire_peers, "softposit_dot", absent)
    peer = quire._c_quire(bench, posit32)
    assert (peer.run, peer.note) == (None, "SoftPosit is not installed: not measured")


def test_both_proofs_of_a_product_would_notice() -> None:
    a = PositArray(np.array([[0x4000, 0x4800], [0x5000, 0x4000]], np.uint16), posit16)
    product = posit.matmul(a, a)
    quire_peers.prove_product("a product", a, a, product, 0)
    product.codes[1, 0] += 1
    with pytest.raises(MeasurementError, match="a product, rows 0"):
        quire_peers.prove_product("a product", a, a, product, 0)
    with pytest.raises(MeasurementError, match="a product, row 1, column 0 in rationals"):
        quire_peers.prove_elements("a product", a, a, product, [(0, 0), (1, 0)])


def test_the_formats_and_targets_are_the_promised_ones(
    bench: quire._Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = {str(fmt): target for fmt, target in quire._PRODUCTS.items()}
    assert promised == {"posit16": 1.3, "posit8": 1.3, "posit32": 3.0, "bposit32": 3.0}
    monkeypatch.setattr(quire._Bench, "proved", lambda *given: posit.Explanation(by_range=1024))
    names = [(peer.name, peer.target) for peer in quire._square(bench, 32, posit8, "posit8", 1.3).peers]
    assert names == [("NumPy float64", 1.3), ("NumPy float32", None)]


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
@pytest.mark.parametrize("n", [8, 11])
def test_the_worst_case_is_the_worst(fmt: Format, n: int) -> None:
    a, b, codes = quire_operands.worst_case(n, fmt, np.random.default_rng(3))
    product, tiers = posit.matmul(a, b, explain=True)
    assert tiers == posit.Explanation(quire=n * n)
    assert np.array_equal(product.codes, codes)
    for i in range(n):
        assert exact.dot(a[i].codes.tolist(), b[:, 0].codes.tolist(), fmt) == codes[i, 0]


def test_exact_total() -> None:
    random = np.random.default_rng(5)
    terms = random.standard_normal(400) * 2.0 ** random.integers(-200, 200, 400)
    terms[:3] = 0.0, 2.0**-300, -(2.0**300)
    assert quire_operands.exact_total(terms) == sum(map(Fraction, terms.tolist()))


@pytest.mark.parametrize("fmt", [Format(16, 1), posit32], ids=str)
def test_exact_dot(fmt: Format) -> None:
    a, b, total = quire_operands.exact_dot(50, fmt, np.random.default_rng(6))
    assert exact.dot(a.tolist(), b.tolist(), fmt) == exact.nearest(total, fmt)


def test_growth_is_the_largest_rise_of_the_ratio() -> None:
    timed = [
        Row("", 1, "ms", ours, ours, "", theirs, theirs, "time", ours / theirs, None, None, "")
        for ours, theirs in ((6.0, 2.0), (10.0, 10.0), (130.0, 100.0), (1200.0, 1000.0))
    ]
    row = quire.growth_row([8, 16, 32, 64], timed, 1)
    assert row.value == pytest.approx(1.3)
    assert (row.best, row.peer_best, row.met) == (200.0, 500.0, True)
    assert row.note == "ratios 3.00, 1.00, 1.30, 1.20"


def floats(factors: tuple[PositArray, PositArray]) -> torch.Tensor:
    a, b = (torch.from_numpy(x.to_float()) for x in factors)
    return a @ b


def quarters(*shape: int) -> torch.Tensor:
    """Multiples of 1/4 that every format holds."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(sum(shape))) / 4


@pytest.mark.parametrize("edge", [0, 2])
def test_the_products_of_a_convolution_are_its_gradients(edge: int) -> None:
    layer = nn.Conv2d(2, 3, 5, padding=edge, bias=False)
    with torch.no_grad():
        layer.weight.copy_(quarters(3, 2, 5, 5))
    x = quarters(2, 2, 7, 7).requires_grad_()
    y = layer(x)
    gradient = quarters(*y.shape)
    y.backward(gradient)
    assert layer.weight.grad is not None
    assert x.grad is not None
    made = quire_training.convolution_products(layer, x, gradient)

    def rows(images: torch.Tensor) -> torch.Tensor:
        return images.detach().double().movedim(1, -1).reshape(-1, images.shape[1])

    assert torch.equal(floats(made[quire_training.FORWARD]), rows(y))
    assert torch.equal(floats(made[quire_training.WEIGHT]), layer.weight.grad.double().reshape(3, -1))
    assert torch.equal(floats(made[quire_training.INPUT]), rows(x.grad))


def test_the_products_of_a_linear_layer_are_its_gradients() -> None:
    layer = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(quarters(4, 6))
    x = quarters(5, 6).requires_grad_()
    y = layer(x)
    gradient = quarters(5, 4)
    y.backward(gradient)
    assert layer.weight.grad is not None
    assert x.grad is not None
    made = quire_training.linear_products(layer, x, gradient)
    wanted = (y.detach(), layer.weight.grad, x.grad)
    for kind, result in zip(quire_training.KINDS, wanted, strict=True):
        assert torch.equal(floats(made[kind]), result.double())


def test_what_is_recorded() -> None:
    recorded = list(quire_training.record("digits", None, batch=4, seed=0, steps=1))
    assert [(each.network, each.kind) for each in recorded] == [
        (name, kind) for name in NETWORKS for kind in quire_training.KINDS
    ]
    assert [len(each.products) for each in recorded] == [3, 3, 2, 5, 5, 4]
    first, second = recorded[4].products[0], recorded[1].products[0]
    assert (first[0].shape, first[1].shape) == ((6, 4 * 784), (4 * 784, 25))
    assert (second[0].shape, second[1].shape) == ((512, 4), (4, 784))
    again = list(quire_training.record("digits", None, batch=4, seed=0, steps=1))
    assert np.array_equal(again[5].products[0][0].codes, recorded[5].products[0][0].codes)


def test_the_number_of_blas_threads() -> None:
    before = blas.get_num_threads()
    if before is None:
        assert "BLAS threads" in blas.facts()
        blas.set_num_threads(2)
        return
    try:
        for count in (1, 2):
            blas.set_num_threads(count)
            assert blas.get_num_threads() == count
    finally:
        blas.set_num_threads(before)
    blas.set_num_threads(None)
    assert blas.get_num_threads() == before
    assert blas.facts()["BLAS kernel"]


def test_another_blas_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blas, "_library", lambda: None)
    assert blas.get_num_threads() is None
    blas.set_num_threads(2)
    assert blas.facts()["BLAS threads"] == "as the environment says, in every row"


def test_decoded_values_keep_the_strides() -> None:
    x = posit.array(np.arange(12.0).reshape(3, 4), posit16)
    for y in (x, x.T):
        values = quire_peers.decoded(y)
        assert np.array_equal(values, y.to_float())
        assert values.strides == tuple(4 * stride for stride in y.codes.strides)
