"""Generated kernels: equal to the torch path within the roundings of a sum, the same bits wherever an element stands."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ga
from ga import CGA3, PGA3, STA, VGA3, Algebra, Layout, Multivector, _cpu, _evaluate, _threads, plan_for
from ga._kernels import compiled, source
from ga.plan import KINDS, Plan, Term
from ga.product import product

pytestmark = pytest.mark.skipif(bool(_cpu.unavailable()), reason=_cpu.unavailable())


def randoms(plan: Plan, *batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(plan.terms))
    x, y = (
        torch.randn(len(layout), *batch, generator=generator, dtype=dtype)
        for layout in (plan.first, plan.second)
    )
    return x, y


def assert_rounded(out: Tensor, x: Tensor, y: Tensor, plan: Plan) -> None:
    """Every element is the sum in float64 within m roundings of Σ|x y|, where m is its number of terms.

    A sum of m products by multiply-adds has m roundings, without them 2m - 1, each of at most half an eps of a partial
    sum; a wrong sign or operand is wrong by a whole term.  In float64 the reference has as many.
    """
    wanted = _evaluate.product(x.double(), y.double(), plan)
    assert out.shape == wanted.shape
    assert out.dtype == x.dtype
    size = _evaluate.product(x.double().abs(), y.double().abs(), absolute(plan))
    counts = torch.tensor([len(terms) for terms in plan.by_output]).reshape(-1, *(1,) * (out.dim() - 1))
    allowed = 2 * counts * torch.finfo(x.dtype).eps * size
    assert bool(((out.double() - wanted).abs() <= allowed).all()), plan


def absolute(plan: Plan) -> Plan:
    """The same plan with every sign positive."""
    positive = Plan(plan.kind, plan.slots, plan.roles)
    vars(positive)["by_output"] = tuple(
        tuple(Term(i, j, k, 1, path) for i, j, k, _, path in terms) for terms in plan.by_output
    )
    return positive


def check(plan: Plan, *batch: int, dtype: torch.dtype = torch.float32) -> None:
    x, y = randoms(plan, *batch, dtype=dtype)
    assert _cpu._kernel((plan,), dtype, False, False) is not None
    assert_rounded(_cpu.product(x, y, plan), x, y, plan)


def test_the_comparison_would_notice_a_sign() -> None:
    full = Layout.full(VGA3)
    plan = plan_for("geometric", full, full)
    x, y = randoms(plan, 37)
    out = _cpu.product(x, y, plan)
    out[3] -= 2 * x[0] * y[3]
    with pytest.raises(AssertionError):
        assert_rounded(out, x, y, plan)


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA], ids=str)
def test_every_product_and_both_its_derivatives(algebra: Algebra) -> None:
    full = Layout.full(algebra)
    for kind in KINDS:
        plan = plan_for(kind, full, full)
        for each in (plan, plan.adjoint_first, plan.adjoint_second):
            check(each, 37)


def test_the_conformal_products() -> None:
    full = Layout.full(CGA3)
    for kind in KINDS:
        check(plan_for(kind, full, full), 37)
    check(plan_for("geometric", full, full).adjoint_second, 37)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_typed_layouts(dtype: torch.dtype) -> None:
    for algebra, first, second in (
        (VGA3, (0, 2), (1,)),
        (PGA3, (1,), (2,)),
        (PGA3, (0, 2, 4), (0, 2, 4)),
        (STA, (0, 2, 4), (1, 3)),
        (CGA3, (2,), (1,)),
        (Algebra(0, 0, 1), (0, 1), (0, 1)),
    ):
        plan = plan_for("geometric", Layout.of_grades(algebra, first), Layout.of_grades(algebra, second))
        for each in (plan, plan.adjoint_first, plan.adjoint_second):
            check(each, 19, dtype=dtype)
    blades = Layout.of_blades(PGA3, ("e", "e12", "e012"))
    check(plan_for("regressive", Layout.full(PGA3), blades), 3, 7, dtype=dtype)
    check(plan_for("geometric", blades, blades), dtype=dtype)


def test_the_bits_of_an_element_do_not_depend_on_the_batch_around_it() -> None:
    even = Layout.of_grades(PGA3, (0, 2, 4))
    plan = plan_for("geometric", even, even)
    x, y = randoms(plan, 300)
    whole = _cpu.product(x, y, plan)
    assert_rounded(whole, x, y, plan)
    for size in (0, 1, 7, 15, 16, 17, 63, 65, 255):
        assert torch.equal(_cpu.product(x[:, 300 - size :], y[:, 300 - size :], plan), whole[:, 300 - size :])


@pytest.mark.parametrize("algebra", [VGA3, PGA3, STA], ids=str)
def test_a_sandwich_by_one_kernel_has_the_bits_of_two_products(
    algebra: Algebra, monkeypatch: pytest.MonkeyPatch
) -> None:
    even, odd, vector = (Layout.of_grades(algebra, grades) for grades in ((0, 2), (1, 3), 1))
    for first, second, dtype in ((even, vector, torch.float32), (odd, even, torch.float64)):
        x = Multivector(torch.randn(len(first), 3, 37, dtype=dtype), first)
        y = Multivector(torch.randn(len(second), 3, 37, dtype=dtype), second)
        for a, b in ((x, y), (x[0, 0], y), (x, y[0, :1]), (x[0, 0], y[0, 0]), (x[:0], y[:0])):
            with monkeypatch.context() as patch:
                patch.setattr(_cpu, "sandwich", lambda *given: None)
                two = a >> b
            one = a >> b
            assert torch.equal(one.planes, two.planes)
            assert one.layout == two.layout


def test_a_sandwich_that_is_followed_is_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    honest = _cpu.sandwich

    def noted(*given: Any) -> Tensor | None:
        called.append(1)
        return honest(*given)

    monkeypatch.setattr(_cpu, "sandwich", noted)
    even, vector = Layout.of_grades(VGA3, (0, 2)), Layout.of_grades(VGA3, 1)
    x, y = Multivector(torch.randn(4, 5), even), Multivector(torch.randn(3, 5, requires_grad=True), vector)
    (x >> y).planes.sum().backward()
    torch.func.vmap(lambda v: x[0] >> v)(y.detach())
    torch.func.grad(lambda v: (x >> v).planes.sum())(y.detach())
    with Seen() as seen:
        _ = x >> y.detach()
    assert [str(op) for op in seen.found if "ga" in str(op)] == ["ga.product.default"] * 2
    assert not called
    with torch.no_grad():
        _ = x >> y
    assert called == [1]


class Seen(TorchDispatchMode):
    """Notes every operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(func)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("size", [257, 40_003])
def test_threads_give_the_same_bits(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Layout.full(VGA3)
    plan = plan_for("geometric", full, full)
    x, y = randoms(plan, size)
    monkeypatch.setattr(_threads, "_WORTH", 1)
    parts: list[int] = []
    honest = _cpu._kernel((plan,), torch.float32, False, False)
    assert honest is not None

    def noted(*given: int) -> None:
        parts.append(threading.get_ident())
        honest(*given)

    monkeypatch.setattr(_cpu, "_kernel", lambda *given: noted)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(_cpu.product(x, y, plan))
            assert len(parts) == count
            parts.clear()
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def fail(start: int, stop: int) -> None:
        if start:
            raise RuntimeError("in the second half")

    with pytest.raises(RuntimeError, match="second half"):
        _threads.split(1000, 1e9, fail)


def test_operands_that_broadcast_or_are_not_contiguous() -> None:
    even, vector = (Layout.of_grades(VGA3, grades) for grades in ((0, 2), 1))
    plan = plan_for("geometric", even, vector)
    one, many = torch.randn(4), torch.randn(3, 5, 21)
    pairs = [
        (one, many),
        (one[:, None], many),
        (torch.randn(4, 5, 21), torch.randn(3)),
        (torch.randn(4, 21), many),
        (torch.randn(4, 5, 1), torch.randn(3, 1, 21)),
        (torch.randn(5, 21, 4).movedim(-1, 0), many),
        (torch.randn(4, 5, 42)[..., ::2], many),
        (torch.randn(4, 1, 1).expand(4, 5, 21), many),
        (torch.randn(6, 5, 21)[1:5], many[:, :, :1].expand(3, 5, 21)),
        (torch.randn(4, 0), torch.randn(3, 1)),
        (torch.randn(4, 0, 1), torch.randn(3, 7)),
        (one, torch.randn(3)),
        (torch.randn(4, 1), torch.randn(3)),
    ]
    for x, y in pairs:
        assert_rounded(_cpu.product(x, y, plan), x, y, plan)


def test_what_kernels_do_not_take_runs_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Layout.full(VGA3)
    plan = plan_for("geometric", full, full)
    x, y = randoms(plan, 5)
    monkeypatch.setattr(_cpu, "_kernel", lambda *given: pytest.fail("a kernel was asked for"))
    for a, b in (
        (x, y.double()),
        (x.bfloat16(), y.bfloat16()),
        (x.to(torch.complex64), y.to(torch.complex64)),
    ):
        assert torch.equal(product(a, b, plan), _evaluate.product(a, b, plan))
    nothing = plan_for("outer", Layout.of_grades(VGA3, 3), Layout.of_grades(VGA3, 1))
    assert product(torch.randn(1, 5), torch.randn(3, 5), nothing).shape == (0, 5)


def test_nan_and_infinity_stay() -> None:
    vector = Layout.of_grades(VGA3, 1)
    plan = plan_for("scalar", vector, vector)
    x = torch.tensor([[float("nan"), float("inf"), 1.0]] * 3)
    out = _cpu.product(x, torch.ones(3, 3), plan)
    assert out[0].isnan().tolist() == [True, False, False]
    assert out[0, 1:].tolist() == [float("inf"), 3.0]


@pytest.mark.parametrize(
    "machine",
    [source.Machine(16, 16, False), source.Machine(16, 16, True), source.Machine(16, 32, False)],
    ids=str,
)
def test_kernels_for_other_vectors(machine: source.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "machine", lambda: machine)
    full = Layout.full(PGA3)
    plan = plan_for("geometric", full, full)
    for scalar, dtype in (("float", torch.float32), ("double", torch.float64)):
        kernel = compiled.compiled((plan,), scalar, (False, False))
        x, y = randoms(plan, 23, dtype=dtype)
        out = torch.full((16, 23), float("nan"), dtype=dtype)
        kernel(x.data_ptr(), y.data_ptr(), out.data_ptr(), 23, 23, 23, 0, 23, 1)
        assert_rounded(out, x, y, plan)


@pytest.mark.parametrize("registers", [8, 16, 32])
@pytest.mark.parametrize("algebra", [PGA3, CGA3], ids=str)
def test_tiles_hold_every_term_once_and_fit_in_registers(algebra: Algebra, registers: int) -> None:
    full = Layout.full(algebra)
    for kind in ("geometric", "regressive"):
        plan = plan_for(kind, full, full)
        cut = list(source.tiles(plan, registers))
        found = [term for tile in cut for group in tile.terms for term in group]
        assert sorted(found) == sorted(plan.terms)
        assert sorted(k for tile in cut for k in tile.outs) == list(range(algebra.size))
        for tile in cut:
            for group in tile.terms:
                assert len(tile.outs) + len({term.i for term in group}) + 1 < registers


_SECOND = """
import sys, torch
from ga import PGA3, Layout, plan_for, _cpu
from ga._kernels import compiled
def refuse(text): raise SystemExit("it was compiled again")
compiled._machine_code = refuse
full = Layout.full(PGA3)
plan = plan_for("geometric", full, full)
x, y, out = torch.load(sys.argv[1])
print(torch.equal(_cpu.product(x, y, plan), out))
"""


def test_the_next_process_finds_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    full = Layout.full(PGA3)
    plan = plan_for("geometric", full, full)
    kernel = compiled.compiled((plan,), "float", (False, False))
    assert [path.suffix for path in compiled.cache_folder().iterdir()] == [".o"]
    x, y = randoms(plan, 37)
    out = torch.empty(16, 37)
    kernel(x.data_ptr(), y.data_ptr(), out.data_ptr(), 37, 37, 37, 0, 37, 0)
    torch.save((x, y, out), tmp_path / "planes.pt")
    root = Path(ga.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", _SECOND, tmp_path / "planes.pt"],
        capture_output=True, text=True, check=False, cwd=root, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert (ran.stdout.strip(), ran.returncode) == ("True", 0), ran.stderr


def test_a_damaged_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    vector = Layout.of_grades(VGA3, 1)
    plan = plan_for("geometric", vector, vector)
    compiled.compiled((plan,), "float", (False, False))
    (file,) = compiled.cache_folder().iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-1], b"", whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        file.write_bytes(damaged)
        compiled.compiled((plan,), "float", (False, False))
        assert file.read_bytes() == whole
    monkeypatch.setattr(compiled, "_machine_code", lambda text: pytest.fail("compiled, though it was there"))
    compiled.compiled((plan,), "float", (False, False))


def test_a_folder_that_refuses_files_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    vector = Layout.of_grades(VGA3, 1)
    plan = plan_for("scalar", vector, vector)
    out = torch.empty(1, 1)
    x = torch.tensor([[1.0], [2.0], [3.0]])
    kernel = compiled.compiled((plan,), "float", (False, False))
    kernel(x.data_ptr(), x.data_ptr(), out.data_ptr(), 1, 1, 1, 0, 1, 0)
    assert out.item() == 14.0


def test_nothing_is_compiled_where_numba_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "NUMBA_DISABLE_JIT" in _cpu.unavailable.__wrapped__()
    monkeypatch.setattr(_cpu, "unavailable", lambda: "no LLVM")
    assert _cpu.engine() == "torch (no LLVM)"
    assert _cpu._kernel.__wrapped__(None, torch.float32, False, False) is None
    monkeypatch.setattr(_cpu, "_kernel", _cpu._kernel.__wrapped__)
    vector = Layout.of_grades(VGA3, 1)
    plan = plan_for("geometric", vector, vector)
    x, y = randoms(plan, 5)
    assert torch.equal(product(x, y, plan), _evaluate.product(x, y, plan))


def test_a_layout_keeps_its_hash_in_a_pickle() -> None:
    even = Layout.of_grades(CGA3, (0, 2, 4))
    copy = pickle.loads(pickle.dumps(even))  # noqa: S301  # our own bytes
    assert (copy, hash(copy), repr(copy)) == (even, hash(even), repr(even))
