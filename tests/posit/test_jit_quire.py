"""The quire of posit.jit: the bits of posit.Quire inside a user's own compiled loop, in parallel too."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

import posit
from posit._kernels import scalar_quires
from posit.formats import Format
from posit.quire import Quire

Codes = npt.NDArray[Any]


def run_of(k: Any) -> Any:
    """A user's kernel that calls every quire function."""

    @numba.njit
    def run(a, b, out, nars):  # type: ignore[no-untyped-def]
        q, r = k.quire(), k.quire()
        for t in range(len(a)):
            k.quire_mul_add(q, a[t], b[t])
            k.quire_add(q, a[t])
            k.quire_mul_sub(r, b[t], b[t])
            k.quire_sub(r, a[t])
            if t % 3 == 0:
                k.quire_merge(q, r)
                k.quire_negate(r)
            if t % 11 == 10:
                k.quire_sub_quire(r, q)
                k.quire_clear(q)
            out[0, t], out[1, t] = k.quire_to_posit(q), k.quire_to_posit(r)
            nars[t] = k.quire_is_nar(q)

    return run


def wanted_of(a: posit.PositArray, b: posit.PositArray) -> tuple[list[int], list[int]]:
    q, r = Quire(a.format), Quire(a.format)
    first, second = [], []
    for t in range(len(a)):
        q.mul_add(a[t], b[t])
        q.add(a[t])
        r.mul_sub(b[t], b[t])
        r.sub(a[t])
        if t % 3 == 0:
            q.merge(r)
            r.negate()
        if t % 11 == 10:
            r.sub_quire(q)
            q.clear()
        first.append(int(q.to_posit().codes))
        second.append(int(r.to_posit().codes))
    return first, second


OTHERS = [
    pytest.param(name, marks=pytest.mark.exhaustive)
    for name in ("posit8", "posit32", "posit64", "posit<3,0>", "bposit16", "bposit32")
]


@pytest.mark.parametrize("name", ["posit16", *OTHERS])
def test_the_quire_has_the_bits_of_quire(name: str) -> None:
    fmt = Format.parse(name)
    rng = np.random.default_rng(1)
    a, b = (
        rng.integers(0, fmt.code_mask, 60, np.uint64, endpoint=True).astype(fmt.storage) for _ in range(2)
    )
    a[a == fmt.nar], b[b == fmt.nar] = 1, 0
    a[:5], b[:5] = (0, 1, fmt.maxpos, 1, fmt.nar + 1), (1, 1, fmt.maxpos, fmt.maxpos, fmt.maxpos)
    a[50] = fmt.nar
    out, nars = np.zeros((2, 60), fmt.storage), np.zeros(60, np.bool_)
    run_of(posit.jit(fmt))(a, b, out, nars)
    first, second = wanted_of(posit.from_codes(a, fmt), posit.from_codes(b, fmt))
    assert out[0].tolist() == first
    assert out[1].tolist() == second
    assert nars.tolist() == [code == fmt.nar for code in first]


def test_a_parallel_loop_sums_in_a_quire_for_each_part() -> None:
    k = posit.jit("posit16")

    @numba.njit(parallel=True)
    def dot(a, b, parts):  # type: ignore[no-untyped-def]
        quires = np.zeros((parts, k.quire_size), np.int64)
        for p in numba.prange(parts):
            for t in range(p, len(a), parts):
                k.quire_mul_add(quires[p], a[t], b[t])
        for p in range(1, parts):
            k.quire_merge(quires[0], quires[p])
        return k.quire_to_posit(quires[0])

    rng = np.random.default_rng(2)
    x, y = (
        posit.array(rng.standard_normal(999) * 2.0 ** rng.integers(-20, 20, 999), "posit16") for _ in range(2)
    )
    wanted = int(posit.dot(x, y).codes)
    assert [int(dot(x.codes, y.codes, parts)) for parts in (1, 2, 7)] == [wanted] * 3


def test_carries_are_folded_in_time_and_overflow_is_nar() -> None:
    """The count inside the array is set as after 2**29 - 1 additions, digits as large as they can be then."""
    k, fmt = posit.jit("posit16"), posit.posit16
    length = k.quire_size - scalar_quires.SIZE
    q = k.quire()
    k.quire_add(q, 0x4000)
    most = (1 << 29) - 3
    q[length + scalar_quires.USED] = most + 2
    q[: length - 1] += most << 32
    q[1:length] -= most  # the same value
    for _ in range(3):
        k.quire_add(q, 0x4000)
    assert int(abs(q[:length]).max()) < 2**33
    assert k.quire_to_posit(q) == 0x5000  # 1 + 3
    k.quire_clear(q)
    k.quire_mul_add(q, fmt.maxpos, fmt.maxpos)
    single = Quire(fmt)
    single.mul_add(posit.from_codes(fmt.maxpos, fmt), posit.from_codes(fmt.maxpos, fmt))
    for _ in range(32):
        k.quire_merge(q, q.copy())
        single.merge(single.copy())
        assert bool(k.quire_is_nar(q)) == single.is_nar
    assert k.quire_is_nar(q)


def test_products_overflow_at_the_same_count_as_in_a_quire() -> None:
    k, fmt = posit.jit("posit16"), posit.posit16
    q, power = k.quire(), k.quire()
    k.quire_mul_add(power, fmt.maxpos, fmt.maxpos)
    for _ in range(31):
        k.quire_merge(q, power)
        k.quire_merge(power, power.copy())
    assert not k.quire_is_nar(q)  # 2**31 - 1 products
    k.quire_mul_add(q, fmt.maxpos, fmt.maxpos)
    assert k.quire_is_nar(q)
    assert k.quire_to_posit(q) == fmt.nar
