"""The peers of `postrain bench quire`, and proofs that exact results are what the exact oracle says."""

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from posit import Format, PositArray, QuireArray
from posit.codec import Codes
from posit.reference import exact, softposit
from postrain.bench.contest import Run
from postrain.bench.numbers_peers import prove, sliced

_QUIRES = 1 << 17  #: held at a time
_TERMS = 20_000  #: terms that the exact rationals of one proof add up


def prove_product(what: str, a: PositArray, b: PositArray, product: PositArray, seed: int) -> None:
    """Every element of a matrix product against quires in integers, some against exact rationals.

    Raises:
        MeasurementError: an element differs.
    """
    rows, columns = product.shape
    band = max(1, _QUIRES // max(columns, 1))
    for first in range(0, rows, band):
        part = slice(first, first + band)
        quires = QuireArray(product[part].shape, product.format)
        quires.matmul_add(a[part], b)
        prove(f"{what}, rows {first} …", product[part].codes.ravel(), quires.to_posit().codes.ravel())
    random = np.random.default_rng(seed)
    count = max(1, min(12, _TERMS // max(a.shape[1], 1)))
    places = zip(random.integers(rows, size=count), random.integers(columns, size=count), strict=True)
    prove_elements(what, a, b, product, places)


def prove_elements(
    what: str, a: PositArray, b: PositArray, product: PositArray, places: Iterable[tuple[Any, Any]]
) -> None:
    """Some elements of a matrix product against exact rationals.

    Raises:
        MeasurementError: an element differs.
    """
    for i, j in places:
        wanted = exact.dot(a[i].codes.tolist(), b[:, j].codes.tolist(), product.format)
        found = product.codes[i, j : j + 1]
        prove(f"{what}, row {i}, column {j} in rationals", found, np.array([wanted], found.dtype))


def softposit_dot(fmt: Format, a: Codes, b: Codes) -> tuple[Run, npt.NDArray[np.uint32]]:
    """SoftPosit's quire adding products in a compiled loop, and its posit of the whole sum (one element).

    Raises:
        MissingReferenceError: no wheel, or no quire for the format.
    """
    wanted = softposit.fused_dot(a[:1].tolist(), b[:1].tolist(), fmt)  # raises where there is none
    from posit._kernels import foreign_quire

    library = softposit.library()
    digits, code = (2, ctypes.c_uint16) if fmt.nbits == 16 else (8, ctypes.c_uint32)
    quire: Any = type("Quire", (ctypes.Structure,), {"_fields_": (("v", ctypes.c_uint64 * digits),)})
    rounded = getattr(library, f"q{fmt.nbits}_to_p{fmt.nbits}")
    rounded.restype, rounded.argtypes = code, [quire]
    address = ctypes.cast(getattr(library, f"q{fmt.nbits}_fdp_add"), ctypes.c_void_p).value
    kernel: Any = foreign_quire.dot_loop(address, digits, fmt.nbits)

    def dot(part: slice) -> int:
        register = np.zeros(digits, np.uint64)
        kernel(a[part], b[part], register)
        return int(rounded(quire.from_buffer_copy(register.tobytes())))

    prove("SoftPosit's compiled loop", np.array([dot(slice(0, 1))]), np.array([wanted]))
    return sliced(a.size, dot), np.array([dot(slice(0, a.size))], np.uint32)


def blas_product(a: PositArray, b: PositArray, dtype: npt.DTypeLike = np.float64) -> Run:
    """NumPy's product of the same values; what it computes is not ours, so nothing is compared."""
    x, y = (decoded(operand, dtype) for operand in (a, b))

    def run(threads: int) -> None:
        np.matmul(x, y)

    return run


def decoded(x: PositArray, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """The values, with the strides of the codes."""
    order = np.argsort([-stride for stride in x.codes.strides], kind="stable")
    values = x.transpose(*order.tolist()).to_float().astype(dtype)
    return values.transpose(np.argsort(order))
