"""Explanations: counts by tier of one call, of blocks that nest, and of threads."""

import contextvars
import threading

import numpy as np

import posit
from posit import Explanation, posit16


def test_counts_add_up_and_name_the_tiers() -> None:
    x = posit.array([[2.0**20, 1.0, -(2.0**20)], [0, 1, 2]], posit16)
    y = posit.array([[2.0**30, 1], [2.0**-50, 2], [2.0**30, 0]], posit16)
    product, found = posit.matmul(x, y, explain=True)
    assert (product.codes == (x @ y).codes).all()
    assert found.total == 4
    assert (found.by_range, found.certified) == (2, 1)
    assert found.compensated + found.quire == 1  # it cancels to its last bit
    assert "2 exact by range (50 %)" in str(found)
    assert posit.dot(x[0], x[0], explain=True)[1].total == 1


def test_structural_zeros_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    x = posit.array(rng.standard_normal((4, 40)) * 2.0 ** rng.integers(-40, 40, (4, 40)), posit16)
    y = posit.array(rng.standard_normal((40, 4)), posit16)
    x[:2, 20:] = 0
    y[:20, :2] = 0
    found = posit.matmul(x, y, explain=True)[1]
    assert found.zeros + found.by_range >= 4
    assert found.total == 16


def test_blocks_nest_and_end() -> None:
    x = posit.ones((2, 2), posit16)
    with posit.explain() as outer:
        _ = x @ x
        with posit.explain() as inner:
            posit.sum(x, axis=0)
            posit.norm2(x)
        _ = posit.matmul(x, x, explain=True)
    _ = x @ x
    assert inner.counts.total == 3
    assert outer.counts.total == 4 + 3 + 4
    assert str(inner) == str(inner.counts)


def test_an_error_ends_the_block() -> None:
    x = posit.ones((2, 2), posit16)
    try:
        with posit.explain() as found:
            _ = x @ posit.ones((3, 2), posit16)
    except posit.errors.ShapeError:
        pass
    _ = x @ x
    assert found.counts == Explanation()


def test_threads_count_in_their_own_block_or_a_copied_context() -> None:
    x = posit.ones((2, 2), posit16)

    def work() -> None:
        for _ in range(20):
            _ = x @ x

    with posit.explain() as found:
        copies = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
        strangers = [threading.Thread(target=work)]
        for thread in copies + strangers:
            thread.start()
        for thread in copies + strangers:
            thread.join()
    assert found.counts.total == 4 * 20 * 4


def test_text() -> None:
    assert str(Explanation()) == "0 elements"
    assert str(Explanation(zeros=1)) == "1 element: 1 structural zero (100 %)"
    assert str(Explanation(by_range=10**6 - 1, quire=1)) == (
        "1000000 elements: 999999 exact by range (99.99 %), 1 quire (0.0001 %)"
    )
