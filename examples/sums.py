"""Six ways to add numbers up, each asked whether it is exact: ``python examples/sums.py``.

docs/testing.md explains what is printed; tests/posit/test_testing.py holds the answers to it.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

import posit
from posit.errors import CounterExample
from posit.testing import assert_accumulates_exactly, assert_order_independent

Floats = npt.NDArray[np.float32]


def numpy_sum(x: Floats) -> Any:
    """NumPy's pairwise float32 sum."""
    return np.sum(x)


def kahan_sum(x: Floats) -> np.float32:
    """Kahan's compensated sum in float32."""
    total = lost = np.float32(0)
    for number in x:
        corrected = number - lost
        new = total + corrected
        lost = (new - total) - corrected
        total = new
    return total


def loop_sum(x: posit.PositArray) -> posit.PositArray:
    """Posit additions one after the other, each rounded."""
    total = posit.zeros((), x.format)
    for number in x:
        total = total + number
    return total


def exact_sum(x: posit.PositArray) -> posit.PositArray:
    """The exact sum of posits, rounded once."""
    return posit.sum(x)


def exact_dot(a: posit.PositArray, b: posit.PositArray) -> posit.PositArray:
    """The exact sum of products, rounded once."""
    return posit.dot(a, b)


def quire_dot(a: posit.PositArray, b: posit.PositArray) -> posit.PositArray:
    """The same, one product after the other into a quire."""
    quire = posit.Quire(a.format)
    for x, y in zip(a, b, strict=True):
        quire.mul_add(x, y)
    return quire.to_posit()


CHECKS: tuple[tuple[Any, str, Any], ...] = (
    (numpy_sum, "float32", "sum"),
    (kahan_sum, "float32", "sum"),
    (loop_sum, "posit16", "sum"),
    (exact_sum, "posit16", "sum"),
    (exact_dot, "posit16", "dot"),
    (quire_dot, "posit16", "dot"),
)


def main(examples: int = 500) -> dict[str, bool]:
    """Ask both questions of every function, write the answers, return which were exact."""
    verdicts = {}
    for function, fmt, kind in CHECKS:
        failures = []
        for question in (assert_accumulates_exactly, assert_order_independent):
            try:
                question(function, fmt, kind=kind, examples=examples)
            except CounterExample as failure:
                failures.append(str(failure))
        verdicts[function.__name__] = not failures
        sys.stdout.write("\n".join(failures or [f"{function.__name__} is exact on {fmt}"]) + "\n\n")
    return verdicts


if __name__ == "__main__":
    main()
