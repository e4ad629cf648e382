"""The number layer beside its peers: the same random numbers, in one process, the contestants in turn.

Every result is proved equal to a reference before it is timed.  The random numbers are more than a branch
predictor can learn: a small array, repeated, flatters scalar code several times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import posit
from posit import Format, arithmetic, bposit32, codec, posit16, posit32
from posit.codec import Codes
from posit.errors import MissingReferenceError
from postrain.bench import numbers_peers as peers
from postrain.bench.contest import Contest, Peer, Row, Run, compete
from postrain.bench.numbers_machine import kernels, machine
from postrain.bench.numbers_startup import measure_startup
from postrain.options import NoProgress, Progress

FORMATS = (posit16, posit32, bposit32)
_OPERATIONS = {"mul": arithmetic.mul, "add": arithmetic.add}
_AT_MOST = {("mul", posit16): 2.0, ("add", posit16): 4.0, ("mul", posit32): 6.0, ("add", posit32): 6.0}
_SOFTPOSIT, _NOT_INSTALLED = 10.0, "not installed: not measured"


@dataclass(frozen=True)
class Numbers:
    """All that one run measured."""

    machine: dict[str, str]
    kernels: dict[str, str]
    elements: int
    repeats: int
    seed: int
    rows: list[Row]


def legend(numbers: Numbers) -> str:
    """What the columns of the table mean."""
    return (
        f"Nanoseconds an element over {numbers.elements} normally distributed numbers (seed {numbers.seed}), best "
        f"and median of {numbers.repeats} turns. Of the best: time, ours over the peer's; speed, the peer's time "
        "over ours; GB/s, bytes moved a second as a share of the peer's. Every result was proved equal to its "
        "reference before it was timed; peers without threads work on slices."
    )


def measure_numbers(elements: int, repeats: int, seed: int, progress: Progress | None = None) -> Numbers:
    """Prove, then time everything; posit's number of threads is what it was afterwards.

    Raises:
        MeasurementError: a result is not that of its reference, or a process failed.
    """
    progress = progress or NoProgress()
    threads_before, ran_on = posit.get_num_threads(), machine()
    try:
        rows = _startup_rows(min(repeats, 3), progress)
        for contest in _contests(elements, seed, progress):
            rows += compete(contest, repeats, progress)
    finally:
        posit.set_num_threads(threads_before)
    return Numbers(ran_on, kernels(FORMATS), elements, repeats, seed, rows)


def _contests(elements: int, seed: int, progress: Progress) -> Iterator[Contest]:
    """Make the contests one after the other, each proved; a stage of the progress shows it."""
    random = np.random.default_rng(seed)
    x, y = (random.standard_normal(elements, np.float32) for _ in range(2))
    makers: list[Callable[[], Contest]] = [partial(make, x) for make in (_encode, _decode, _quantize)]
    for fmt in FORMATS:
        makers += [partial(_binary, operation, fmt, x, y) for operation in _OPERATIONS]
    stage = "prove equal to the references"
    progress.start(stage, len(makers))
    for make in makers:
        contest = make()
        progress.advance(stage)
        yield contest


def _encode(x: Any) -> Contest:
    codes = np.zeros(x.size, np.uint16)
    codec.encode(x, posit16, out=codes)
    peers.prove("encode float32 to posit16", codes, peers.exact_codes(x, posit16))
    casts = peers.bfloat16_casts(x)

    def run(threads: int) -> None:
        codec.encode(x, posit16, out=codes)

    return Contest("encode float32 → posit16", run, _conversion_peers(x, casts and casts[0]), x.size)


def _decode(x: Any) -> Contest:
    codes, values = codec.encode(x, posit16), np.zeros_like(x)
    codec.decode(codes, posit16, np.float32, out=values)
    peers.prove("decode posit16 to float32", values, peers.exact_values(codes, posit16))
    casts = peers.bfloat16_casts(x)

    def run(threads: int) -> None:
        codec.decode(codes, posit16, np.float32, out=values)

    return Contest("decode posit16 → float32", run, _conversion_peers(x, casts and casts[1]), x.size)


def _conversion_peers(x: Any, cast: Run | None) -> tuple[Peer, ...]:
    copy = Peer("np.copyto float32", peers.copying(x.size), "bandwidth", 0.6, bytes_ratio=6 / 8)
    return copy, Peer("ml_dtypes bfloat16", cast, "speed", 1.0, "" if cast else _NOT_INSTALLED)


def _quantize(x: Any) -> Contest:
    codes, values = np.zeros(x.size, np.uint16), np.zeros_like(x)

    def run(threads: int) -> None:
        codec.encode(x, posit16, out=codes)
        codec.decode(codes, posit16, np.float32, out=values)

    run(1)
    peers.prove("quantize to posit16", values, peers.exact_values(peers.exact_codes(x, posit16), posit16))
    found = peers.qtorch_quantizer(x, posit16)
    note = _NOT_INSTALLED
    if found:
        note = f"differs in {np.count_nonzero(found[1]() != values)} of {x.size}"
    peer = Peer("qtorch-plus quantizer", found and found[0], "speed", 20.0, note)
    return Contest("quantize float32 to posit16", run, (peer,), x.size)


def _binary(operation: str, fmt: Format, x: Any, y: Any) -> Contest:
    compute = _OPERATIONS[operation]
    a, b = codec.encode(x, fmt), codec.encode(y, fmt)
    out = np.zeros_like(a)
    compute(a, b, fmt, out=out)
    peers.prove(f"{operation} in {fmt}", out, peers.rounded_codes(operation, a, b, fmt))

    def run(threads: int) -> None:
        compute(a, b, fmt, out=out)

    numpy = Peer(
        f"NumPy float32 {operation}",
        peers.float32_operation(operation, x, y),
        "time",
        _AT_MOST.get((operation, fmt)),
    )
    others = [numpy, _softposit(operation, fmt, a, b, out)]
    if fmt == bposit32:
        c, d = codec.encode(x, posit32), codec.encode(y, posit32)
        room = np.zeros_like(c)

        def in_posit32(threads: int) -> None:
            compute(c, d, posit32, out=room)

        others.append(Peer("our posit32", in_posit32, "time", 1.0))
    return Contest(f"{fmt} {operation}", run, tuple(others), x.size)


def _softposit(operation: str, fmt: Format, a: Codes, b: Codes, ours: Codes) -> Peer:
    name = "SoftPosit in C"
    try:
        run, theirs = peers.softposit_loop(operation, fmt, a, b)
    except MissingReferenceError as error:
        return Peer(name, None, "speed", None if fmt.max_regime else _SOFTPOSIT, peers.missing(error))
    run(1)
    peers.prove(f"{operation} in {fmt} beside SoftPosit", ours, theirs, peers.near_the_ends(ours, fmt))
    return Peer(name, run, "speed", _SOFTPOSIT)


def _startup_rows(repeats: int, progress: Progress) -> list[Row]:
    stage = "start Python anew"
    progress.start(stage, 1)
    found = measure_startup(repeats)
    progress.advance(stage)
    loaded = f"loads {' and '.join(found.loaded)}" if found.loaded else "loads neither torch nor scipy"
    kept = f"{found.kernels} kernels compiled, {found.compiled_again} again in the next process"
    first = "first posit16 encode and mul"
    return [
        _seconds("import posit", found.imports, 1.0, loaded, not found.loaded),
        _seconds("posit show", found.shows, 1.5, "the whole process"),
        _seconds(f"{first}, empty cache", [found.compiled], None, kept),
        _seconds(f"{first}, cached", [found.cached], found.compiled, kept, found.compiled_again == 0),
    ]


def _seconds(what: str, taken: list[float], target: float | None, note: str, also: bool = True) -> Row:
    value = median(taken)
    met = None if target is None else value < target and also
    return Row(what, None, "s", min(taken), value, "", None, None, "seconds", value, target, met, note)
