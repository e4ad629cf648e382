"""Geometric products beside their peers: the same values, in one process, the contestants in turn.

Every result, ours and the peers', is proved against float64 before it is timed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from ga import CGA3, PGA3, STA, VGA3, Algebra, Layout, Multivector, _cpu, plan_for
from ga.plan import Plan, sandwich_layout
from posit import get_num_threads, set_num_threads
from postrain.bench import ga_layers as layers
from postrain.bench import ga_libraries as libraries
from postrain.bench import ga_peers as peers
from postrain.bench import ga_posits as posits
from postrain.bench.contest import Contest, Peer, Row, compete, met, set_threads
from postrain.bench.numbers_machine import machine, versions
from postrain.options import NoProgress, Progress

_EINSUM, _C, _KINGDON, _COMPILED = 50.0, 0.5, 5.0, 1.0  #: at least so many times the peer's speed
_FIRST, _FIRST_CONFORMAL, _FROM_CACHE = 1.0, 5.0, 0.05  #: seconds, at most
_ALGEBRAS = {"VGA3": VGA3, "PGA3": PGA3, "STA": STA, "CGA3": CGA3}
_TYPED = ("VGA3", "PGA3")  #: algebras of the typed products
_NUMBA_CACHE, _TORCH_CACHE = "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"
_POSITS = "PGA3"  #: the algebra of products of posits


@dataclass(frozen=True)
class GaOptions:
    """What ``postrain bench ga`` is asked to do; the defaults here are the command line's."""

    size: int = 100_000  #: multivectors in a batch
    repeats: int = 7
    seed: int = 0


@dataclass(frozen=True)
class GaMeasured:
    """All that one run measured."""

    machine: dict[str, str]
    options: GaOptions
    rows: list[Row]


@dataclass(frozen=True)
class _Operation:
    """A product of ours and its operands."""

    name: str
    x: Multivector
    y: Multivector
    full: bool = False
    sandwich: bool = False
    rotations: bool = False  #: of three dimensions

    def compute(self) -> Multivector:
        return self.x >> self.y if self.sandwich else self.x * self.y

    def plans(self) -> tuple[Plan, ...]:
        """What straight-line C has to compute: the blades that ours computes."""
        x, y = self.x.layout, self.y.layout
        first = plan_for("geometric", x, y)
        if not self.sandwich:
            return (first,)
        return first, plan_for("geometric", first.out, x, sandwich_layout(x, y, versor=True))


def measure_ga(options: GaOptions | None = None, progress: Progress | None = None) -> GaMeasured:
    """Prove, then time every product; the number of torch's threads is what it was afterwards.

    Raises:
        MeasurementError: a result is not that of float64, or the C compiler refuses its file.
    """
    options, progress = options or GaOptions(), progress or NoProgress()
    facts = machine() | {"torch": str(torch.__version__), "products by": _cpu.engine()}
    facts |= versions(libraries.PACKAGES)
    facts["C compiler"] = peers.c_compiler() or "none"
    before, posit_threads = torch.get_num_threads(), get_num_threads()
    rows: list[Row] = []
    try:
        rows += _first_calls(options, progress)
        with TemporaryDirectory(prefix="postrain-bench-") as folder, _kept_in(_TORCH_CACHE, folder):
            for count, operation in enumerate(_operations(options)):
                place = Path(folder) / str(count)
                place.mkdir()
                contest = _contest(operation, place)
                rows += compete(contest, options.repeats, progress, torch.set_num_threads)
        for contest in layers.contests(options.seed):
            rows += compete(contest, options.repeats, progress, torch.set_num_threads)
        for contest in posits.contests(_POSITS, _ALGEBRAS[_POSITS], options.size, options.seed):
            rows += compete(contest, options.repeats, progress, set_threads)
    finally:
        torch.set_num_threads(before)
        set_num_threads(posit_threads)
    return GaMeasured(facts, options, rows)


def legend(measured: GaMeasured) -> str:
    """What the columns of the table mean."""
    options = measured.options
    return (
        f"Nanoseconds for a product, {options.size} in a batch of float32, best and median of {options.repeats} turns, "
        f"seed {options.seed}. speed is the peer's best time over ours. Every result was proved against float64 before "
        "it was timed. einsum: one contraction with the dense (blades, blades, blades) table, as CGENN and GATr do it, "
        "on full multivectors. C: straight-line code over the same planes into memory that it has already, compiled "
        "with -O3 -march=native. clifford: a Python loop, one thread. "
        "kingdon: what it generates, over the same planes; with torch.compile too, for exactly these shapes, its first "
        "call not counted. PyPose: SO3, its quaternions last. A first call compiles a kernel; from the cache, "
        "another process finds it on disk (LLVM itself is loaded once per process, not counted). In posits every "
        "coefficient is the exact sum rounded once; a sample was proved with rationals. Target: a million a second. "
        "Layers: milliseconds of forward and backward; CGENN's and GATr's way with dense tables, written from the "
        "papers with the same weights, and proved to return the same."
    )


def _operations(options: GaOptions) -> Iterator[_Operation]:
    """What is timed."""
    generator = torch.Generator().manual_seed(options.seed)

    def normal(algebra: Algebra, *grades: int) -> Multivector:
        layout = Layout.of_grades(algebra, grades or range(algebra.n + 1))
        return Multivector(torch.randn(len(layout), options.size, generator=generator), layout)

    def rotor(algebra: Algebra) -> Multivector:
        return (normal(algebra, 2) * 0.3).exp()

    for name, algebra in _ALGEBRAS.items():
        yield _Operation(f"{name} full · full", normal(algebra), normal(algebra), full=True)
    for name in _TYPED:
        algebra = _ALGEBRAS[name]
        yield _Operation(f"{name} vector · bivector", normal(algebra, 1), normal(algebra, 2))
        turns = algebra == VGA3
        yield _Operation(f"{name} rotor · rotor", rotor(algebra), rotor(algebra), rotations=turns)
        yield _Operation(
            f"{name} rotor >> vector", rotor(algebra), normal(algebra, 1), sandwich=True, rotations=turns
        )


def _contest(operation: _Operation, folder: Path) -> Contest:
    """An operation and its peers, each proved."""
    x, y, name = operation.x, operation.y, operation.name
    peers.prove(f"{name}, ours", peers.dense(operation.compute()), x, y, operation.sandwich)
    computes: list[tuple[str, peers.Compute | None, float | None]] = [
        ("einsum", peers.einsum(x, y, operation.sandwich), _EINSUM)
    ]
    compiler = peers.c_compiler()
    code = peers.straight_line(operation.plans(), x, y, folder, compiler) if compiler else None
    computes.append(("C", code, _C))
    computes.append(("kingdon, torch", libraries.kingdon(x, y, operation.sandwich), _KINGDON))
    compiled = libraries.kingdon(x, y, operation.sandwich, compiled=True)
    computes.append(("kingdon, torch.compile", compiled, _COMPILED))
    if operation.full:
        computes.append(("clifford", libraries.clifford_loop(x, y), None))
    if operation.rotations:
        computes.append(("PyPose", libraries.pypose(x, y, operation.sandwich), None))
    found = []
    for peer, compute, target in computes:
        if compute is None:
            found.append(Peer(peer, None, "speed", target, "not installed: not measured"))
            continue
        peers.prove(f"{name}, {peer}", compute.result(), x, y, operation.sandwich)
        found.append(Peer(peer, compute.run, "speed", target, compute.note, work=compute.work))

    def run(threads: int) -> None:
        operation.compute()

    return Contest(name, run, tuple(found), float(x.shape[0]))


def _first_calls(options: GaOptions, progress: Progress) -> list[Row]:
    """How long the kernel of a full product takes to be there, compiled and from the cache."""
    if _cpu.unavailable():
        return []
    from ga._kernels import compiled

    rows = []
    for name, algebra in _ALGEBRAS.items():
        layout = Layout.full(algebra)
        stage = f"{name} kernels"
        progress.start(stage, options.repeats)
        first: list[float] = []
        again: list[float] = []
        for _ in range(options.repeats):
            with TemporaryDirectory(prefix="postrain-bench-") as folder, _kept_in(_NUMBA_CACHE, folder):
                for times in (first, again):
                    start = perf_counter()
                    plan = Plan("geometric", (layout, layout, layout), "xyz")
                    compiled.compiled((plan,), "float", (False, False))
                    times.append(perf_counter() - start)
            progress.advance(stage)
        limit = _FIRST_CONFORMAL if algebra.size > 16 else _FIRST
        rows += [
            _seconds(f"{name} full · full, first call", first, limit),
            _seconds(f"{name} full · full, from the cache", again, _FROM_CACHE),
        ]
    return rows


def _seconds(operation: str, times: list[float], limit: float) -> Row:
    best, middle = min(times), median(times)
    return Row(
        operation, None, "ms", 1e3 * best, 1e3 * middle, "", None, None, "seconds", best, limit,
        met("seconds", best, limit), "",
    )  # fmt: skip


@contextmanager
def _kept_in(variable: str, folder: str) -> Iterator[None]:
    """Let what is compiled be kept in a new folder, so that a first call is one."""
    before = os.environ.get(variable)
    os.environ[variable] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
