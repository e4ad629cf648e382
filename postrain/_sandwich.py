"""The sandwich x y ~x of posits: each coefficient one exact sum of products of three factors, rounded once.

Rounding points: each coefficient once; backward each gradient of x or y once, over all terms and what was broadcast.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from ga.plan import Plan, reverses
from ga.product import _product_shape, sandwich
from posit._planes import Terms
from posit.torch import register_function
from posit.torch.derivative import OnceDifferentiable
from posit.torch.tensor import outcome
from postrain.geometric import sum_planes

_Term = tuple[int, int, int, int, int]
"""Sign, plane of the result, and those of x, y and x again."""


@lru_cache(maxsize=512)
def sandwiches_of(inner: Plan, outer: Plan) -> tuple[Terms, Terms, Terms]:
    """Terms of a sandwich (planes of x, y, x), and of its derivatives in x (of the gradient, y, x) and y (it, x, x).

    >>> from ga import VGA3, Layout, plan_for
    >>> rotor, vector = Layout.of_grades(VGA3, (0, 2)), Layout.of_grades(VGA3, 1)
    >>> inner = plan_for("geometric", rotor, vector)
    >>> forward, _, _ = sandwiches_of(inner, plan_for("geometric", inner.out, rotor, vector))
    >>> [len(terms) for terms in forward.planes]  # 4 squares, and 4 products that occur twice
    [12, 12, 12]
    """
    found = list(_terms(inner, outer))
    to_x = [(sign, i, k, j, m) for sign, k, i, j, m in found] + [
        (sign, m, k, j, i) for sign, k, i, j, m in found
    ]
    to_y = [(sign, j, k, i, m) for sign, k, i, j, m in found]
    return (
        _collected(len(outer.out), ((s, k, (min(i, m), j, max(i, m))) for s, k, i, j, m in found)),
        _collected(len(inner.first), ((s, i, (k, j, m)) for s, i, k, j, m in to_x)),
        _collected(len(inner.second), ((s, j, (k, min(i, m), max(i, m))) for s, j, k, i, m in to_y)),
    )


def _terms(inner: Plan, outer: Plan) -> Iterator[_Term]:
    for k, group in enumerate(outer.by_output):
        for last in group:
            back = -1 if reverses(inner.first.blades[last.j].bit_count()) else 1
            for first in inner.by_output[last.i]:
                yield first.sign * last.sign * back, k, first.i, first.j, last.j


def _collected(planes: int, terms: Iterable[tuple[int, int, tuple[int, ...]]]) -> Terms:
    """Terms by plane, without those that cancel."""
    counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(planes)]
    for sign, plane, places in terms:
        counts[plane][places] += sign
    return Terms(
        [(1 if count > 0 else -1, places) for places, count in each.items() for _ in range(abs(count))]
        for each in counts
    )


@register_function(sandwich)
def _sandwich(x: Any, y: Any, inner: Plan, outer: Plan) -> Any:
    outcome("sandwich", x, y)  # or it says what does not fit
    _product_shape(x, y, inner)
    return _Sandwich.apply(x, y, inner, outer)  # type: ignore[no-untyped-call]


class _Sandwich(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, inner: Plan, outer: Plan) -> Any:
        ctx.save_for_backward(x, y)
        ctx.plans = inner, outer
        return sum_planes("sandwich", (x, y, x), sandwiches_of(inner, outer)[0])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x, y), (_, for_x, for_y) = ctx.saved_tensors, sandwiches_of(*ctx.plans)
        to_x = to_y = None
        if ctx.needs_input_grad[0]:
            to_x = sum_planes("sandwich", (grad, y, x), for_x, tuple(x.shape[1:]))
        if ctx.needs_input_grad[1]:
            to_y = sum_planes("sandwich", (grad, x, x), for_y, tuple(y.shape[1:]))
        return to_x, to_y, None, None
