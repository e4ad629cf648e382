"""Exact linear algebra beside its peers: the same values, in one process, the contestants in turn.

Every result of ours is proved before it is timed: all elements against quires in integers, or SoftPosit's, and some
against exact rationals.  What float64 BLAS computes of the same values is rounded and compared with nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

import posit
from posit import Explanation, Format, PositArray, QuireArray, bposit32, posit8, posit16, posit32
from posit.errors import MissingReferenceError
from posit.reference import exact
from postrain.bench import blas
from postrain.bench import quire_peers as peers
from postrain.bench.contest import THREADS, Contest, Peer, Row, compete, met
from postrain.bench.numbers_machine import machine
from postrain.bench.numbers_peers import missing, prove, sliced
from postrain.bench.quire_memory import measure_memory
from postrain.bench.quire_operands import exact_dot, exact_total, normal, worst_case
from postrain.bench.quire_training import FORWARD, Recorded, multiplying, record
from postrain.options import NoProgress, Progress

_PRODUCTS = {posit16: 1.3, posit8: 1.3, posit32: 3.0, bposit32: 3.0}  #: at most so many times BLAS
_GROWTH, _SOFTPOSIT, _TRAINING, _OPEN = 1.5, 700.0, 1.5, 0.1
_SMALL, _BATCHED, _ACCUMULATE, _STREAM = 5.0, 2.0, 6.0, 0.5
_C_QUIRES = {posit16: Format(16, 1), posit32: posit32}  #: our formats, and those of SoftPosit's quires
_CALLS = 200  #: of a product of small matrices in one turn
_BLAS = "NumPy float64"


@dataclass(frozen=True)
class QuireOptions:
    """What `postrain bench quire` is asked to do; the defaults here are the command line's."""

    size: int = 1024  #: n of the square products, at least 32; the others are multiples and fractions of it
    elements: int = 10_000_000  #: of the long vectors
    repeats: int = 7
    seed: int = 0
    data: str = "digits"  #: that the recorded networks are trained on
    data_dir: Path | None = None


@dataclass(frozen=True)
class Quires:
    """All that one run measured."""

    machine: dict[str, str]
    options: QuireOptions
    rows: list[Row]


@dataclass(frozen=True)
class _Bench:
    """A run: its options, its random numbers and whom to tell."""

    options: QuireOptions
    random: np.random.Generator
    progress: Progress

    def compete(self, contest: Contest) -> list[Row]:
        return compete(contest, self.options.repeats, self.progress, _use_threads)

    def normal(self, *shape: int, fmt: Format) -> PositArray:
        return normal(shape, fmt, self.random)

    def proved(self, what: str, a: PositArray, b: PositArray) -> Explanation:
        """How the elements of a product were settled, once they are proved to be right."""
        product, tiers = posit.matmul(a, b, explain=True)
        peers.prove_product(what, a, b, product, self.options.seed)
        return tiers


def measure_quire(options: QuireOptions | None = None, progress: Progress | None = None) -> Quires:
    """Prove, then time everything; the numbers of threads are what they were afterwards.

    Raises:
        MeasurementError: a result is not that of its reference.
        DataError: the data set cannot be read.
    """
    options = options or QuireOptions()
    bench = _Bench(options, np.random.default_rng(options.seed), progress or NoProgress())
    before, ran_on = (posit.get_num_threads(), blas.get_num_threads()), machine() | blas.facts()
    rows: list[Row] = []
    try:
        for section in _SECTIONS:
            rows += section(bench)
    finally:
        posit.set_num_threads(before[0])
        blas.set_num_threads(before[1])
    return Quires(ran_on, options, rows)


def legend(quires: Quires) -> str:
    """What the columns of the table mean."""
    options = quires.options
    return (
        f"Best and median of {options.repeats} turns, seed {options.seed}; random values are normally distributed. Of "
        "the best: time, ours over the peer's; speed, the peer's time over ours; each, ours alone; open, results that "
        "float64 and its error bound did not settle; growth, the largest rise of the ratio of times from a smaller n "
        "to a larger; memory, the peaks of NumPy's buffers beside the operands (BLAS's own are not seen). Every exact "
        "result was proved before it was timed; float64 products of the same values are rounded and compared with "
        "nothing. Peers without threads work on slices."
    )


def _use_threads(count: int) -> None:
    posit.set_num_threads(count)
    blas.set_num_threads(count)


def _settled(tiers: Explanation) -> str:
    return str(tiers).partition(": ")[2] or "nothing to settle"


def _square(bench: _Bench, n: int, fmt: Format, name: str, target: float | None) -> Contest:
    """A product of square matrices beside BLAS."""
    a, b = (bench.normal(n, n, fmt=fmt) for _ in range(2))
    note = _settled(bench.proved(name, a, b))
    others = [Peer(_BLAS, peers.blas_product(a, b), "time", target, note)]
    if fmt == posit8:
        near = peers.blas_product(a, b, np.float32)
        others.append(Peer("NumPy float32", near, "time", None, "how near the shorter carrier is"))

    def run(threads: int) -> None:
        posit.matmul(a, b)

    return Contest(name, run, tuple(others), 1, "ms")


def _products(bench: _Bench) -> list[Row]:
    n = bench.options.size
    rows = []
    for fmt, target in _PRODUCTS.items():
        rows += bench.compete(_square(bench, n, fmt, f"{fmt} {n}³", target))
    return rows


def _growth(bench: _Bench) -> list[Row]:
    """Doubled sizes up to twice the usual one."""
    sizes = [2 * bench.options.size >> shift for shift in range(5, -1, -1)]
    rows = []
    for n in sizes:
        rows += bench.compete(_square(bench, n, posit16, f"posit16 {n}³, growth", None))
    for threads in THREADS:
        rows.append(growth_row(sizes, [row for row in rows if row.threads == threads], threads))
    return rows


def growth_row(sizes: list[int], timed: list[Row], threads: int) -> Row:
    """How far the times of rows of growing sizes rise above the peer's own curve."""
    ratios = [row.value for row in timed if row.value is not None]
    rise = max(later / ratio for t, ratio in enumerate(ratios) for later in ratios[t:])
    ours, theirs = timed[-1].best / timed[0].best, 0.0
    if timed[0].peer_best and timed[-1].peer_best:
        theirs = timed[-1].peer_best / timed[0].peer_best
    note = "ratios " + ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return Row(
        f"posit16 growth, {sizes[0]} to {sizes[-1]}", threads, "×", ours, ours, _BLAS, theirs, theirs, "growth",
        rise, _GROWTH, met("growth", rise, _GROWTH), note,
    )  # fmt: skip


def _worst(bench: _Bench) -> list[Row]:
    """A quarter of the usual size: every element goes the whole way to the quire."""
    n, rows = max(bench.options.size // 4, 8), []
    for fmt in (posit16, posit32):
        name = f"{fmt} {n}³, every element on a boundary"
        a, b, right = worst_case(n, fmt, bench.random)
        prove(f"{name}, known results", posit.matmul(a, b).codes.ravel(), right.ravel())
        peer = Peer(_BLAS, peers.blas_product(a, b), "time", None, _settled(bench.proved(name, a, b)))
        rows += bench.compete(Contest(name, multiplying([(a, b)], posit.matmul), (peer,), 1, "ms"))
    return rows


def _softposit(bench: _Bench) -> list[Row]:
    """Per multiply-add: ours in a large product, SoftPosit's C quire in one long dot product."""
    n, rows = bench.options.size, []
    for fmt, theirs in _C_QUIRES.items():
        a, b = (bench.normal(n, n, fmt=fmt) for _ in range(2))
        name = f"{fmt} {n}³, each multiply-add"
        bench.proved(name, a, b)
        contest = Contest(name, multiplying([(a, b)], posit.matmul), (_c_quire(bench, theirs),), n**3)
        rows += bench.compete(contest)
    return rows


def _c_quire(bench: _Bench, fmt: Format) -> Peer:
    length = min(bench.options.elements, 1_000_000)  # more than a branch predictor learns
    name = f"SoftPosit's C quire, {fmt}"
    a, b, total = exact_dot(length, fmt, bench.random)
    try:
        run, theirs = peers.softposit_dot(fmt, a, b)
    except MissingReferenceError as error:
        return Peer(name, None, "speed", _SOFTPOSIT, missing(error))
    prove(f"SoftPosit's dot product in {fmt}", theirs, np.array([exact.nearest(total, fmt)], np.uint32))
    return Peer(name, run, "speed", _SOFTPOSIT, f"a proved dot product of {length}", work=length)


def _training(bench: _Bench) -> list[Row]:
    """The products of a training step, as many images as an eighth of the usual size."""
    options, rows = bench.options, []
    batch = max(4, min(128, options.size // 8))
    for recorded in record(options.data, options.data_dir, batch, options.seed):
        rows += _recorded_rows(bench, recorded, f"{options.data}, batch {batch}")
    return rows


def _recorded_rows(bench: _Bench, recorded: Recorded, where: str) -> list[Row]:
    name = f"{recorded.network} {recorded.kind}s, posit16"
    tiers = Explanation()
    for layer, (a, b) in enumerate(recorded.products):
        tiers += bench.proved(f"{name}, product {layer}", a, b)
    share = 100 * (tiers.compensated + tiers.quire) / tiers.total
    values = [(peers.decoded(a), peers.decoded(b)) for a, b in recorded.products]
    target = None if recorded.kind == FORWARD else _TRAINING
    peer = Peer(_BLAS, multiplying(values, np.matmul), "time", target, where)
    rows = bench.compete(Contest(name, multiplying(recorded.products, posit.matmul), (peer,), 1, "ms"))
    limit = None if recorded.kind == FORWARD else _OPEN
    reached = met("share", share, limit)
    rows.append(
        Row(name, None, "%", share, share, "", None, None, "share", share, limit, reached, _settled(tiers))
    )
    return rows


def _small(bench: _Bench) -> list[Row]:
    """Products that a call's overhead decides."""
    a, b = bench.normal(32, 64, fmt=posit16), bench.normal(64, 32, fmt=posit16)
    x, y = peers.decoded(a), peers.decoded(b)
    note = _settled(bench.proved("posit16 32×64 · 64×32", a, b))
    calls = Contest(
        "posit16 32×64 · 64×32, a call",
        multiplying([(a, b)] * _CALLS, posit.matmul),
        (Peer(_BLAS, multiplying([(x, y)] * _CALLS, np.matmul), "time", _SMALL, note),),
        _CALLS,
        "µs",
        threads=(1,),
    )
    c, d = (bench.normal(64, 64, 64, fmt=posit16) for _ in range(2))
    products, tiers = posit.matmul(c, d, explain=True)
    for item in range(64):
        peers.prove_product(f"posit16 batch, item {item}", c[item], d[item], products[item], item)
    peer = Peer(_BLAS, peers.blas_product(c, d), "time", _BATCHED, _settled(tiers))
    batch = Contest("posit16 64 × (64×64 · 64×64)", multiplying([(c, d)], posit.matmul), (peer,), 1, "ms")
    return bench.compete(calls) + bench.compete(batch)


def _accumulate(bench: _Bench) -> list[Row]:
    """Half the usual size: a product added to an array of quires, nothing rounded."""
    n = bench.options.size // 2
    a, b = (bench.normal(n, n, fmt=posit16) for _ in range(2))
    quires, name = QuireArray((n, n), posit16), f"posit16 QuireArray.matmul_add {n}³"
    quires.matmul_add(a, b)
    product = quires.to_posit()
    prove(name, product.codes.ravel(), posit.matmul(a, b).codes.ravel())
    peers.prove_elements(name, a, b, product, bench.random.integers(n, size=(12, 2)).tolist())
    peer = Peer(_BLAS, peers.blas_product(a, b), "time", _ACCUMULATE)
    return bench.compete(Contest(name, multiplying([(a, b)], quires.matmul_add), (peer,), 1, "ms"))


def _streams(bench: _Bench) -> list[Row]:
    """Long vectors; the target is for one thread."""
    count = bench.options.elements
    a, b = (bench.normal(count, fmt=posit16) for _ in range(2))
    x, y = (peers.decoded(vector) for vector in (a, b))  # products of two are exact in float64
    _prove_total("sum", posit.sum(a), exact_total(x))
    _prove_total("dot", posit.dot(a, b), exact_total(x * y))
    u, v = x.astype(np.float32), y.astype(np.float32)

    def dot(threads: int) -> None:
        np.dot(u, v)

    contests = (
        ("sum", partial(posit.sum, a), sliced(count, lambda part: u[part].sum())),
        ("dot", partial(posit.dot, a, b), dot),
    )
    rows = []
    for threads, target in zip(THREADS, (_STREAM, None), strict=True):
        for name, ours, theirs in contests:
            peer = Peer(f"NumPy float32 {name}", theirs, "each", target)
            label = f"posit16 {name} of {count}, an element"
            rows += bench.compete(Contest(label, _ignoring(ours), (peer,), count, threads=(threads,)))
    return rows


def _prove_total(name: str, found: PositArray, total: Fraction) -> None:
    wanted = np.array([exact.nearest(total, found.format)], found.codes.dtype)
    prove(f"{name} of a long vector in {found.format}", found.codes.reshape(1), wanted)


def _ignoring(work: Callable[[], object]) -> Callable[[int], None]:
    def run(threads: int) -> None:
        work()

    return run


def _memory(bench: _Bench) -> list[Row]:
    n = 4 * bench.options.size
    _use_threads(1)
    a, b = (bench.normal(n, n, fmt=posit16) for _ in range(2))
    stage = f"peak of a product {n}³"
    bench.progress.start(stage, 1)
    row = measure_memory(a, b, bench.options.seed)
    bench.progress.advance(stage)
    return [row]


_SECTIONS: tuple[Callable[[_Bench], list[Row]], ...] = (
    _products, _growth, _worst, _softposit, _training, _small, _accumulate, _streams, _memory,
)  # fmt: skip
