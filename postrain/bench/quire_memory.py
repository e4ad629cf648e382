"""The peak of an exact product's buffers beside that of NumPy's float64 product of the same values."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import posit
from posit import PositArray
from postrain.bench.contest import Row, met
from postrain.bench.quire_peers import decoded, prove_product

_AT_MOST = 3.0
_MIB = 1 << 20
_ROWS = 8  #: of the product that are proved


def measure_memory(a: PositArray, b: PositArray, seed: int) -> Row:
    """Multiply once each and compare the peaks, operands not counted; some rows of the product are proved.

    Raises:
        MeasurementError: an element of the product is wrong.
    """
    posit.matmul(a[:, :1], b[:1])  # compiled before it is measured
    product, ours = _peak(lambda: posit.matmul(a, b))
    n = len(a)
    chosen = np.random.default_rng(seed).choice(n, min(_ROWS, n), replace=False)
    some = posit.from_codes(a.codes[chosen], a.format)
    prove_product(f"{a.format} {n}³", some, b, posit.from_codes(product.codes[chosen], a.format), seed)
    x, y = decoded(a), decoded(b)
    _, theirs = _peak(lambda: np.matmul(x, y))
    ratio = ours / theirs
    mine = (a.codes.nbytes + b.codes.nbytes + ours) / _MIB
    others = (x.nbytes + y.nbytes + theirs) / _MIB
    return Row(
        f"{a.format} {n}³, memory", None, "MiB", ours / _MIB, ours / _MIB, "NumPy float64", theirs / _MIB,
        theirs / _MIB, "memory", ratio, _AT_MOST, met("memory", ratio, _AT_MOST),
        f"with operands {mine:.0f} and {others:.0f} MiB",
    )  # fmt: skip


def _peak(multiply: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the most bytes that it added to Python's and NumPy's allocations meanwhile."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        made = multiply()
        return made, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
