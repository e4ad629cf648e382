"""posit.jit: the bits of the array functions inside a user's own compiled loop."""

from typing import Any

import numba
import numpy as np
import pytest

import posit
from posit import arithmetic, conversion
from posit.formats import Format


def loop_of(k: Any) -> Any:
    """A user's kernel: every scalar operation of `k` on each element."""

    @numba.njit
    def run(a, b, c, out, truths, reals, whole):  # type: ignore[no-untyped-def]
        for t in range(len(a)):
            x, y, z = a[t], b[t], c[t]
            out[0, t] = k.add(x, y)
            out[1, t] = k.sub(x, y)
            out[2, t] = k.mul(x, y)
            out[3, t] = k.div(x, y)
            out[4, t] = k.fma(x, y, z)
            out[5, t] = k.sqrt(x)
            out[6, t] = k.nearest_int(x)
            out[7, t] = k.ceil(x)
            out[8, t] = k.floor(x)
            out[9, t] = k.negate(x)
            out[10, t] = k.abs(x)
            out[11, t] = k.sign(x)
            out[12, t] = k.next(x)
            out[13, t] = k.prior(x)
            out[14, t] = k.from_float(k.to_float(x))
            out[15, t] = k.from_int(k.to_int(x))
            truths[0, t] = k.compare_less(x, y)
            truths[1, t] = k.compare_less_equal(x, y)
            truths[2, t] = k.compare_equal(x, y)
            truths[3, t] = k.compare_not_equal(x, y)
            truths[4, t] = k.compare_greater(x, y)
            truths[5, t] = k.compare_greater_equal(x, y)
            truths[6, t] = k.is_nar(x)
            reals[t] = k.to_float(x)
            whole[t] = k.to_int(x)

    return run


OTHERS = [
    pytest.param(name, marks=pytest.mark.exhaustive)
    for name in ("posit<12,1>", "posit32", "bposit32", "posit8", "posit64")
]


@pytest.mark.parametrize("name", ["posit16", *OTHERS])
def test_scalar_functions_have_the_bits_of_the_array_functions(name: str) -> None:
    fmt = Format.parse(name)
    rng = np.random.default_rng(6)
    a, b, c = (
        rng.integers(0, fmt.code_mask, 500, np.uint64, endpoint=True).astype(fmt.storage) for _ in range(3)
    )
    a[:6] = 0, fmt.nar, fmt.maxpos, 1, fmt.nar + 1, fmt.code_mask
    b[::7] = a[::7]
    out = np.zeros((16, 500), fmt.storage)
    truths, reals, whole = np.zeros((7, 500), np.bool_), np.zeros(500), np.zeros(500, np.int64)
    loop_of(posit.jit(fmt))(a, b, c, out, truths, reals, whole)
    f = arithmetic
    integers = conversion.to_integers(a, fmt, np.int64)
    floats = conversion.to_floats(a, fmt, np.float64)
    wanted = [
        f.add(a, b, fmt), f.sub(a, b, fmt), f.mul(a, b, fmt), f.div(a, b, fmt), f.fma(a, b, c, fmt),
        f.sqrt(a, fmt),
        f.nearest_int(a, fmt), f.ceil(a, fmt), f.floor(a, fmt), f.negate(a, fmt),
        f.absolute(a, fmt), f.sign(a, fmt),
        f.next_code(a, fmt), f.prior_code(a, fmt), conversion.from_floats(floats, fmt),
        conversion.from_integers(integers, fmt),
    ]  # fmt: skip
    for row, codes in enumerate(wanted):
        np.testing.assert_array_equal(out[row], codes, err_msg=str(row))
    np.testing.assert_array_equal(reals, floats)
    np.testing.assert_array_equal(whole, integers)
    relations = (np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.greater_equal)
    for row, relation in enumerate(relations):
        np.testing.assert_array_equal(truths[row], f.compare(relation, a, b, fmt))
    np.testing.assert_array_equal(truths[6], a == fmt.nar)


def test_a_parallel_loop_has_the_same_bits() -> None:
    k = posit.jit("posit16")

    @numba.njit(parallel=True)
    def axpy(a, x, y):  # type: ignore[no-untyped-def]
        out = np.empty_like(x)
        for t in numba.prange(len(x)):
            out[t] = k.fma(a, x[t], y[t])
        return out

    x, y = (np.random.default_rng(seed).integers(0, 1 << 16, 1000).astype(np.uint16) for seed in (1, 2))
    a = posit.array(0.3, "posit16").codes
    np.testing.assert_array_equal(axpy(int(a), x, y), arithmetic.fma(a, x, y, posit.posit16))


def test_the_same_format_gives_the_same_functions() -> None:
    assert posit.jit("posit16") is posit.jit(posit.posit16)
    assert posit.jit("posit16").maxpos == 0x7FFF
    with pytest.raises(posit.errors.FormatError, match="unknown format"):
        posit.jit("float16")
