"""Whether a code is the exact sum, difference, product or quotient of two others, rounded: the oracle of `wide_pairs`.

It shares nothing with `posit._kernels`.  A result is right if the exact value lies between the two boundaries of its
code, and on a boundary only if the code is even.  The Python functions, on Python integers, are the definition; at
some 25 µs a result they are slow, so ``wide_oracle.c`` says the same in C.  It is compiled when first wanted.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posit import Format

Words = npt.NDArray[np.uint64]
Verdicts = npt.NDArray[np.bool_]  #: True where a result is wrong
Judge = Callable[[str, Words, Words, Words, Format], Verdicts]  #: (operation, a, b, results, format)
Real = tuple[int, int]  #: m * 2**e

OPERATIONS = ("add", "sub", "mul", "div")  #: in the order of the enumeration in wide_oracle.c


def split(body: int, width: int, es: int, bound: int) -> Real:
    """Value of a positive code without its sign bit, `width` bits of it."""
    rest = width
    if body >> (width - 1):
        run = width - (((1 << width) - 1) ^ body).bit_length()
        run = min(run, bound)
        regime = run - 1
    else:
        run = min(width - body.bit_length(), bound)
        regime = -run
    rest = max(width - run - (run < bound), 0)
    tail = body & ((1 << rest) - 1)
    if rest >= es:
        fraction = rest - es
        scale = (regime << es) + (tail >> fraction)
        return (1 << fraction) | (tail & ((1 << fraction) - 1)), scale - fraction
    return 1, (regime << es) + (tail << (es - rest))


def real(code: int, fmt: Format) -> Real:
    """Value of a code that is not NaR."""
    if code == 0:
        return 0, 0
    bound = fmt.max_regime or fmt.nbits
    if code >= fmt.nar:
        m, e = split((1 << fmt.nbits) - code, fmt.nbits - 1, fmt.es, bound)
        return -m, e
    return split(code, fmt.nbits - 1, fmt.es, bound)


def sign_of_difference(numerator: int, denominator: int, e: int, boundary: Real) -> int:
    """Sign of numerator / denominator * 2**e - boundary, for a positive denominator."""
    m, f = boundary
    shift = e - f
    left, right = (
        (numerator << shift, m * denominator) if shift >= 0 else (numerator, m * denominator << -shift)
    )
    return (left > right) - (left < right)


def is_rounded(code: int, numerator: int, denominator: int, e: int, fmt: Format) -> bool:
    """Whether `code` is numerator / denominator * 2**e, rounded by the Posit Standard (2022)."""
    if numerator == 0:
        return code == 0
    if code in (0, fmt.nar):
        return False
    if (numerator < 0) != (code > fmt.nar):
        return False
    if code > fmt.nar:
        code = (1 << fmt.nbits) - code
    bound = fmt.max_regime or fmt.nbits + 1
    for boundary, inside, least in ((2 * code - 1, 1, 1), (2 * code + 1, -1, fmt.maxpos)):
        if code == least:
            continue  # nothing rounds to 0 or beyond maxpos
        side = sign_of_difference(abs(numerator), denominator, e, split(boundary, fmt.nbits, fmt.es, bound))
        if side != inside and (side != 0 or code & 1):
            return False
    return True


def truth(operation: str, a: Real, b: Real) -> tuple[int, int, int]:
    """Exact result as numerator, positive denominator, power of two."""
    (m, e), (n, f) = a, b
    if operation == "mul":
        return m * n, 1, e + f
    if operation == "div":
        return (m if n > 0 else -m), abs(n), e - f
    if operation == "sub":
        n = -n
    low = min(e, f)
    return (m << (e - low)) + (n << (f - low)), 1, low


def wrong(operation: str, a: int, b: int, got: int, fmt: Format) -> bool:
    """Whether a result is not the exact one rounded."""
    if fmt.nar in (a, b) or (operation == "div" and b == 0):
        return got != fmt.nar
    return not is_rounded(got, *truth(operation, real(a, fmt), real(b, fmt)), fmt)


def judge_in_python(operation: str, a: Words, b: Words, results: Words, fmt: Format) -> Verdicts:
    """`wrong` of each element."""
    triples = zip(a.tolist(), b.tolist(), results.tolist(), strict=True)
    return np.array([wrong(operation, x, y, got, fmt) for x, y, got in triples], np.bool_)


@cache
def judge_in_c() -> Judge | None:
    """The same, compiled; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="wide-oracle-") as folder:  # a loaded library outlives its file
        library = Path(folder, "wide_oracle.so")
        source = Path(__file__).with_suffix(".c")
        subprocess.run(
            [compiler, "-O2", "-std=gnu11", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
        )
        check_results = ctypes.CDLL(str(library)).check_results
    words, integer = np.ctypeslib.ndpointer(np.uint64, 1, flags="C"), ctypes.c_int
    verdicts_type = np.ctypeslib.ndpointer(np.bool_, 1, flags="C")
    check_results.restype = None
    check_results.argtypes = [
        integer, ctypes.c_int64, words, words, words, integer, integer, integer, verdicts_type,
    ]  # fmt: skip

    def judge(operation: str, a: Words, b: Words, results: Words, fmt: Format) -> Verdicts:
        if not a.size == b.size == results.size:
            raise ValueError(f"arrays of one length are needed, got {a.size}, {b.size}, {results.size}")
        verdicts = np.empty(a.size, np.bool_)
        number = OPERATIONS.index(operation)
        check_results(number, a.size, a, b, results, fmt.nbits, fmt.es, fmt.max_regime or 0, verdicts)
        return verdicts

    return judge
