"""Geometric products of posits: each output blade is one exact sum of products, rounded once.

Importing this module gives PositTensors rules for the three operators of `ga.product`, and for the functions of `ga.nn`
that are more than those (`postrain._geometric_layers`).

Rounding points: each coefficient of a product once, of a weighted product too (an exact sum of products of three
factors); each element of the gradient of a weight once, over all terms of its path and the whole batch, or none where
it is kept as a `GradientSum`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ga._shapes import sum_to_shape
from ga.plan import Plan, plan_from_key
from ga.product import weighted_planes, weighted_product
from posit import _buffers
from posit._explain import Explanation
from posit._planes import Factor, Terms, sum_products, workspace
from posit.codec import Codes, decode, encode, signed_storage
from posit.errors import FormatError, NoRuleError
from posit.torch import GradientSum, PositTensor, register_function, register_rule
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.observe import Observed, current
from posit.torch.registry import calling_module
from posit.torch.tensor import outcome, to_numpy

Shape = tuple[int, ...]


@lru_cache(maxsize=512)
def products_of(plan: Plan) -> Terms:
    """Terms of a product: planes of the first and the second operand."""
    return Terms([(t.sign, (t.i, t.j)) for t in terms] for terms in plan.by_output)


@lru_cache(maxsize=512)
def weighted_products_of(plan: Plan) -> Terms:
    """Terms of a weighted product: planes of both operands and of the weight."""
    return Terms([(t.sign, (t.i, t.j, t.path)) for t in terms] for terms in plan.by_output)


@lru_cache(maxsize=512)
def weight_gradients_of(plan: Plan) -> Terms:
    """Terms of the gradient of a weight: planes of the result's gradient and of both operands."""
    return Terms([(t.sign, (t.k, t.i, t.j)) for t in terms] for terms in plan.by_path)


@register_rule(torch.ops.ga.product.default)
def _product(op: Any, x: PositTensor, y: PositTensor, key: str) -> PositTensor:
    """Rounding points: each coefficient once."""
    return sum_planes(op, (x, y), products_of(plan_from_key(key)))


@register_rule(torch.ops.ga.weighted_product.default)
def _weighted(op: Any, x: PositTensor, y: PositTensor, w: PositTensor, key: str) -> PositTensor:
    """Rounding points: each coefficient once."""
    return sum_planes(op, (x, y, w), weighted_products_of(plan_from_key(key)))


@register_rule(torch.ops.ga.weighted_product_grad_weight.default)
def _grad_weight(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, key: str, shape: list[int]
) -> PositTensor:
    """Rounding points: each weight's gradient once, over all terms of its path and the whole batch."""
    return sum_planes(op, (grad, x, y), weight_gradients_of(plan_from_key(key)), tuple(shape[1:]))


@register_function(weighted_planes)
def _weighted_planes(x: Any, y: Any, w: Any, plan: Plan) -> Any:
    """As `ga.product` differentiates it, to any order; or once, where the gradient of the weight is an exact sum."""
    sums = sums_for(w)
    if sums is None or not torch.is_grad_enabled():
        return weighted_planes.__wrapped__(x, y, w, plan)  # type: ignore[attr-defined]  # `overridable` wraps it
    return _SummedWeight.apply(x, y, w, plan, sums)  # type: ignore[no-untyped-call]


class _SummedWeight(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, w: Any, plan: Plan, sums: GradientSum) -> Any:
        ctx.save_for_backward(x, y, w)
        ctx.plan, ctx.sums = plan, sums
        return weighted_product(x, y, w, plan)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x, y, w), plan = ctx.saved_tensors, ctx.plan
        to_x = to_y = None
        if ctx.needs_input_grad[0]:
            to_x = sum_to_shape(weighted_product(grad, y, w, plan.adjoint_first), x.shape)
        if ctx.needs_input_grad[1]:
            to_y = sum_to_shape(weighted_product(x, grad, w, plan.adjoint_second), y.shape)
        if ctx.needs_input_grad[2]:
            add_planes(ctx.sums, (grad, x, y), weight_gradients_of(plan), tuple(w.shape[1:]))
        return to_x, to_y, None, None, None


def sum_planes(
    op: Any, operands: Sequence[PositTensor], terms: Terms, reduced_to: Shape | None = None
) -> PositTensor:
    """Sums of products of planes, shape (planes, *batch) each; batches broadcast.

    Args:
        op: What to call it in messages.
        operands: Two or three, in the order of the terms' planes.
        terms: What is summed for each plane of the result.
        reduced_to: Batch shape of the result, of which the rest is summed over too; the broadcast one if left out.

    Returns:
        Shape (planes, *batch), each element rounded once.
    """
    batch, factors, shape = _factors(operands, reduced_to)
    result = summed_factors(op, operands, factors, terms, shape)
    return result.like(result.codes.reshape(len(terms), *(batch if reduced_to is None else reduced_to)))


def add_planes(sums: GradientSum, operands: Sequence[PositTensor], terms: Terms, reduced_to: Shape) -> None:
    """Add to a parameter's exact gradient what `sum_planes` would round."""
    _, factors, shape = _factors(operands, reduced_to)
    sums.add_form(operands, factors, terms, shape)


def _factors(
    operands: Sequence[PositTensor], reduced_to: Shape | None
) -> tuple[Shape, list[Factor], tuple[int, int, int]]:
    """The batch that operands broadcast to, the operands as factors, and (outer, summed, lanes)."""
    batch = np.broadcast_shapes(*(tuple(operand.shape[1:]) for operand in operands))
    summed = _summed_axes(batch, reduced_to)
    shape, arranged = arrange([tuple(operand.shape) for operand in operands], batch, summed)
    factors = [
        Factor(_arranged(to_numpy(each.codes), batch, summed, to), each.format)
        for each, to in zip(operands, arranged, strict=True)
    ]
    return batch, factors, shape


def planes_workspace(shapes: Sequence[Shape], planes: int, reduced_to: Shape | None, width: int) -> int:
    """Bytes that `sum_planes` holds at most besides its result, where operands lie in memory in order, on one thread.

    Args:
        shapes: Of the operands, (planes, *batch).
        planes: Of the result.
        reduced_to: As `sum_planes` takes it.
        width: Bytes of a code of the result.
    """
    batch = np.broadcast_shapes(*(shape[1:] for shape in shapes))
    shape, arranged = arrange(shapes, batch, _summed_axes(batch, reduced_to))
    return workspace(arranged, planes, shape, width)


def summed_factors(
    op: Any,
    operands: Sequence[PositTensor],
    factors: Sequence[Factor],
    terms: Terms,
    shape: tuple[int, int, int],
) -> PositTensor:
    """`posit._planes.sum_products` in the format that results of these operands are to have, told to an observer."""
    result = outcome(op, *operands)
    try:
        found = sum_products(factors, terms, result.format, shape)
    except FormatError as error:
        raise NoRuleError(f"{op}: {error}{calling_module()}") from error
    observer = current()
    if observer is not None and all(each.format == result.format for each in operands):
        tiers = Explanation(certified=found.codes.size - found.open.size, quire=found.open.size)
        kept = tuple(operand.codes for operand in operands)
        observer(
            GeometricObservation(
                str(op), result.format, kept, found.codes, tiers, found.open, tuple(factors), terms, shape
            )
        )
    return result.wrap(found.codes)


def arrange(shapes: Sequence[Shape], batch: Shape, summed: Shape) -> tuple[tuple[int, int, int], list[Shape]]:
    """Shapes (planes, 1, summed, lanes) of operands (planes, *batch), and (1, summed, lanes).

    Of a batch that is not summed over, an operand may keep the trailing part that it has: it repeats along the lanes.
    """
    count = math.prod(batch[axis] for axis in summed)
    lanes = math.prod(batch) // max(count, 1) if math.prod(batch) else 0
    full: list[Shape] = [(shape[0], 1, count, lanes) for shape in shapes]
    if summed:
        return (1, count, lanes), full
    periods = [_period(shape[1:], batch) for shape in shapes]
    longest = max((p for p in periods if p not in (None, 1, lanes)), default=1)
    arranged: list[Shape] = [
        (*each[:3], period) if period in (1, longest) else each
        for each, period in zip(full, periods, strict=True)
    ]
    return (1, 1, lanes), arranged


def _period(own: Shape, batch: Shape) -> int | None:
    """Elements after which an operand repeats along the batch; None where it does so in another way."""
    trailing = tuple(own)
    while trailing and trailing[0] == 1:
        trailing = trailing[1:]
    return math.prod(trailing) if trailing == batch[len(batch) - len(trailing) :] else None


def _arranged(codes: Codes, batch: Shape, summed: Shape, to: Shape) -> Codes:
    """Codes (planes, *own batch) in another shape: what is summed first, written out where it must be."""
    if math.prod(codes.shape) == math.prod(to) and not summed:
        return codes.reshape(to)
    own = (1,) * (len(batch) + 1 - codes.ndim) + codes.shape[1:]
    spread = np.broadcast_to(codes.reshape(codes.shape[0], *own), (codes.shape[0], *batch))
    kept = [axis for axis in range(len(batch)) if axis not in summed]
    order = [0, *(axis + 1 for axis in (*summed, *kept))]
    turned = spread.transpose(order)
    if turned.flags.c_contiguous:
        return turned.reshape(to)
    copy = _buffers.empty(turned.shape, codes.dtype)
    copy[...] = turned
    return copy.reshape(to)


def _summed_axes(batch: Shape, reduced_to: Shape | None) -> Shape:
    if reduced_to is None:
        return ()
    wanted = (1,) * (len(batch) - len(reduced_to)) + reduced_to
    return tuple(axis for axis, (have, want) in enumerate(zip(batch, wanted, strict=True)) if have != want)


@dataclass(frozen=True)
class GeometricObservation(Observed):
    """An exact geometric product as it happened; see `posit.torch.ops.observe.Observation`."""

    factors: tuple[Factor, ...]
    summed: Terms
    shape: tuple[int, int, int]

    def terms(self, index: int) -> list[tuple[int, ...]]:
        """Signed codes of the factors of every term of one element."""
        outer, count, lanes = self.shape
        plane, row, lane = (int(at) for at in np.unravel_index(index, (len(self.summed), outer, lanes)))
        found: list[tuple[int, ...]] = []
        for r in range(count):
            for sign, places in self.summed.planes[plane]:
                codes = [
                    int(each.codes[(place, *self._at(each, row, r, lane))])
                    for each, place in zip(self.factors, places, strict=True)
                ]
                nar = codes[0] == -self.format.nar
                found.append((codes[0] if nar else sign * codes[0], *codes[1:]))
        return found

    def in_float32(self) -> npt.NDArray[np.integer]:
        """The same sums accumulated in float32 and rounded to the format afterwards."""
        outer, count, lanes = self.shape
        factors = [decode(self._spread(each), each.format, np.float32) for each in self.factors]
        results = []
        for terms in self.summed.planes:
            total = np.zeros((outer, count, lanes), np.float32)
            for sign, places in terms:
                total += np.float32(sign) * math.prod(f[i] for f, i in zip(factors, places, strict=True))
            results.append(total.sum(axis=1, dtype=np.float32))
        stacked = np.stack(results).reshape(self.result.shape)
        return encode(stacked, self.format, signed_storage(self.format))

    def _spread(self, factor: Factor) -> Codes:
        codes, lanes = factor.codes, self.shape[2]
        repeats = 1 if codes.shape[3] in (1, lanes) else lanes // codes.shape[3]
        return np.tile(codes, (1, 1, 1, repeats))

    @staticmethod
    def _at(factor: Factor, *place: int) -> tuple[int, ...]:
        return tuple(at % size for at, size in zip(place, factor.codes.shape[1:], strict=True))


import postrain._geometric_layers  # noqa: E402
import postrain._sandwich  # noqa: E402, F401  (they need the functions above)
