"""The peers of `postrain bench numbers`, references for its results, and the proof that both agree."""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import Format, codec
from posit.codec import Codes
from posit.errors import MissingReferenceError
from posit.reference import exact, softposit
from postrain.bench.contest import Run
from postrain.errors import MeasurementError

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

_CHUNK = 1 << 18  # references work on pieces that fit the cache
_NEAR = 16  #: SoftPosit's p32 is not trusted within so many codes of the ends (docs/softposit.md)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8, thread_name_prefix="peer")


def sliced(size: int, work: Callable[[slice], object]) -> Run:
    """A peer that has no threads of its own: equal slices of its arrays, one for each thread."""

    def run(threads: int) -> None:
        if threads == 1:
            work(slice(0, size))
            return
        edges = [size * part // threads for part in range(threads + 1)]
        list(_pool().map(work, map(slice, edges, edges[1:])))

    return run


def copying(size: int) -> Run:
    """np.copyto of float32: reads 4 and writes 4 bytes an element."""
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)
    return sliced(size, lambda part: np.copyto(target[part], source[part]))


def float32_operation(operation: str, a: Array, b: Array) -> Run:
    """NumPy's float32 ``mul`` or ``add``."""
    ufunc = {"mul": np.multiply, "add": np.add}[operation]
    out = np.zeros_like(a)
    return sliced(a.size, lambda part: ufunc(a[part], b[part], out=out[part]))


def bfloat16_casts(values: Array) -> tuple[Run, Run] | None:
    """ml_dtypes' casts float32 to bfloat16 and back, or None where it is not installed."""
    if importlib.util.find_spec("ml_dtypes") is None:
        return None
    import ml_dtypes

    small, back = np.zeros(values.size, ml_dtypes.bfloat16), np.zeros_like(values)
    np.copyto(small, values, casting="unsafe")
    narrow = sliced(values.size, lambda part: np.copyto(small[part], values[part], casting="unsafe"))
    return narrow, sliced(values.size, lambda part: np.copyto(back[part], small[part], casting="unsafe"))


def softposit_loop(operation: str, fmt: Format, a: Codes, b: Codes) -> tuple[Run, Codes]:
    """SoftPosit's C function in a compiled loop, and the array that it fills.

    Raises:
        MissingReferenceError: no wheel, or no such function.
    """
    binding = softposit.bind(operation, fmt)
    from posit._kernels import foreign

    kernel: Any = foreign.binary_loop(binding.function, binding.shift, binding.width)
    out = np.zeros_like(a)
    return sliced(a.size, lambda part: kernel(a[part], b[part], out[part])), out


def qtorch_quantizer(values: Array, fmt: Format) -> tuple[Run, Callable[[], Array]] | None:
    """qtorch-plus's quantizer float32 to float32, and its result; None where it is not installed."""
    if importlib.util.find_spec("qtorch_plus") is None:
        return None
    import torch

    quantize: Any = importlib.import_module("qtorch_plus.quant").posit_quantize
    given = torch.from_numpy(values)

    def result() -> Array:
        return np.asarray(quantize(given, nsize=fmt.nbits, es=fmt.es).numpy())

    def run(threads: int) -> None:
        torch.set_num_threads(threads)
        result()

    return run, result


def prove(what: str, got: Array, wanted: Array, excepted: npt.NDArray[np.bool_] | None = None) -> None:
    """Let a measurement go on only if two results are equal in every element (NaN equals NaN).

    Raises:
        MeasurementError: they are not; the message names the first difference.
    """
    wrong = (got != wanted) & ~((got != got) & (wanted != wanted))
    if excepted is not None:
        wrong &= ~excepted
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise MeasurementError(
            f"{what}: {np.count_nonzero(wrong)} of {got.size} results differ, so nothing was timed; "
            f"the first is element {first}: {got[first]!r}, wanted {wanted[first]!r}"
        )


def near_the_ends(codes: Codes, fmt: Format) -> npt.NDArray[np.bool_]:
    """Where SoftPosit's p32 functions are known to be wrong: next to ±minpos and ±maxpos."""
    if fmt.nbits != 32:
        return np.zeros(codes.shape, np.bool_)
    distance = codes & np.uint32(fmt.nar - 1)  # from 0 or NaR
    return np.asarray((distance <= _NEAR) | (distance >= fmt.nar - _NEAR))


@cache
def _tables(fmt: Format) -> tuple[Doubles, Doubles]:
    """Of a 16-bit format: the value of each code, and the boundaries above codes 1 to maxpos - 1."""
    reals = (exact.value(code, fmt) for code in range(1 << fmt.nbits))
    values = np.array([np.nan if real is None else float(real) for real in reals])
    return values, np.array([float(exact.boundary(code, fmt)) for code in range(1, fmt.maxpos)])


def exact_values(codes: Codes, fmt: Format) -> Doubles:
    """Values of 16-bit codes, from a table that the exact oracle made."""
    return _tables(fmt)[0][codes]


def exact_codes(values: Array, fmt: Format) -> Codes:
    """Nearest codes of a 16-bit format, by bisection among the exact oracle's rounding boundaries."""
    boundaries = _tables(fmt)[1]
    codes = np.empty(values.shape, fmt.storage)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64)
        size = np.abs(part)
        below = np.searchsorted(boundaries, size)
        tie = boundaries[np.minimum(below, boundaries.size - 1)] == size
        found = below + 1 + (tie & (below % 2 == 0))
        found[part == 0] = 0
        signed = np.where(part < 0, -found, found)
        signed[~np.isfinite(part)] = fmt.nar
        codes[start : start + _CHUNK] = (signed & fmt.code_mask).astype(fmt.storage)
    return codes


def rounded_codes(operation: str, a: Codes, b: Codes, fmt: Format) -> Codes:
    """Codes of a * b or a + b in NumPy's float64, rounded to odd there and so only once in all.

    The significands have at most 28 bits and the scales stay within ±240, so the error of a float64 operation
    is a float64 number (Dekker, Knuth); 53 bits to odd leave the rounding to 32 bits or fewer unharmed.
    """
    rounded = np.empty_like(a)
    errors = {"mul": _product, "add": _sum}[operation]
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = (codec.decode(codes[part], fmt).astype(np.float64, copy=False) for codes in (a, b))
        result, error = errors(x, y)
        even = result.view(np.int64) % 2 == 0
        odd = np.nextafter(result, np.copysign(np.inf, error))
        rounded[part] = codec.encode(np.where((error != 0) & even, odd, result), fmt)
    return rounded


def _sum(x: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _product(x: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
    product = x * y
    (high, low), (upper, lower) = _halves(x), _halves(y)
    return product, ((high * upper - product) + high * lower + low * upper) + low * lower


def _halves(x: Doubles) -> tuple[Doubles, Doubles]:
    scaled = x * (2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high


def missing(error: MissingReferenceError) -> str:
    """The first clause of a message, for a cell of the table."""
    return f"{str(error).partition(';')[0]}: not measured"
