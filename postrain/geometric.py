"""Geometric products of posits: each output blade is one exact sum of products, rounded once.

Importing this module gives PositTensors rules for the three operators of `ga.product`.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import ga.product  # noqa: F401  (defines torch.ops.ga)
from ga.plan import Term, plan_from_key
from posit import _buffers
from posit._explain import Explanation
from posit.codec import encode, encode_rational, signed_storage
from posit.errors import NoRuleError
from posit.rounding import certified
from posit.torch import PositTensor, register_rule
from posit.torch.ops.observe import Observed, current
from posit.torch.tensor import outcome

Floats = npt.NDArray[np.float64]
_UNIT = 2.0**-53


@dataclass(frozen=True)
class _Sums:
    """Result planes as sums over terms: for each plane, the terms as tuples of factor planes (and their signs).

    `axes` are the batch axes (of the broadcast shape) that a result element sums over.
    """

    factors: tuple[Floats, ...]  #: decoded operands, each (planes, *S)
    planes: tuple[
        tuple[tuple[int, tuple[int, ...]], ...], ...
    ]  #: per result plane: (sign, plane of each factor)
    axes: tuple[int, ...]

    def shape(self) -> tuple[int, ...]:
        """Broadcast batch shape."""
        return np.broadcast_shapes(*(factor.shape[1:] for factor in self.factors))


@register_rule(torch.ops.ga.product.default)
def _product(op: Any, x: PositTensor, y: PositTensor, key: str) -> PositTensor:
    """Rounding points: each coefficient once."""
    planes = tuple(tuple((t.sign, (t.i, t.j)) for t in terms) for terms in plan_from_key(key).by_output)
    return _sum_products(op, (x, y), planes, None)


@register_rule(torch.ops.ga.weighted_product.default)
def _weighted(op: Any, x: PositTensor, y: PositTensor, w: PositTensor, key: str) -> PositTensor:
    """Rounding points: each coefficient once."""
    planes = tuple(tuple(_triple(t) for t in terms) for terms in plan_from_key(key).by_output)
    return _sum_products(op, (x, y, w), planes, None)


@register_rule(torch.ops.ga.weighted_product_grad_weight.default)
def _grad_weight(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, key: str, shape: list[int]
) -> PositTensor:
    """Rounding points: each weight's gradient once, over all terms of its path and the whole batch."""
    planes = tuple(tuple((t.sign, (t.k, t.i, t.j)) for t in terms) for terms in plan_from_key(key).by_path)
    return _sum_products(op, (grad, x, y), planes, tuple(shape))


def _triple(term: Term) -> tuple[int, tuple[int, ...]]:
    return term.sign, (term.i, term.j, term.path)


def _sum_products(
    op: Any,
    operands: tuple[PositTensor, ...],
    planes: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...],
    reduced_to: tuple[int, ...] | None,
) -> PositTensor:
    result = outcome(op, *operands)
    fmt = result.format
    if sum(max(each.format.max_scale, -each.format.lsb_scale) for each in operands) > 900:
        raise NoRuleError(
            f"{op}: products of {len(operands)} values of {operands[0].format} leave float64's range; use es <= 2"
        )
    factors = [operand.values() for operand in operands]
    batch = np.broadcast_shapes(*(factor.shape[1:] for factor in factors))
    aligned = tuple(_align(factor, len(batch)) for factor in factors)
    axes = _summed_axes(batch, reduced_to)
    sums = _Sums(aligned, planes, axes)
    value, error, terms = _evaluate(sums, batch)
    error *= (terms + 4) * _UNIT * (1 + 2.0**-18)
    open_elements: list[int] = []

    def exact(index: int) -> int:
        open_elements.append(index)
        return encode_rational(_exact(sums, value.shape, index), fmt)

    codes = certified(value, error, fmt, exact, signed_storage(fmt))
    shape = (len(planes), *(reduced_to[1:] if reduced_to is not None else batch))
    codes = codes.reshape(shape)
    if (observer := current()) is not None and all(each.format == fmt for each in operands):
        tiers = Explanation(certified=codes.size - len(open_elements), quire=len(open_elements))
        kept = tuple(operand.codes for operand in operands)
        observer(
            GeometricObservation(
                str(op), fmt, kept, codes, tiers, np.array(open_elements, np.int64), sums, value.shape
            )
        )
    return result.wrap(codes)


def _align(factor: Floats, ndim: int) -> Floats:
    """Insert batch axes behind the planes, so that NumPy broadcasts the batch shapes from the right."""
    return factor.reshape(factor.shape[0], *(1,) * (ndim + 1 - factor.ndim), *factor.shape[1:])


def _summed_axes(batch: tuple[int, ...], reduced_to: tuple[int, ...] | None) -> tuple[int, ...]:
    if reduced_to is None:
        return ()
    wanted = (1,) * (len(batch) - len(reduced_to) + 1) + reduced_to[1:]
    return tuple(
        axis for axis, (have, want) in enumerate(zip(batch, wanted, strict=True)) if have != want or want == 1
    )


def _evaluate(sums: _Sums, batch: tuple[int, ...]) -> tuple[Floats, Floats, int]:
    """float64 sums, the sums of absolute values, and the largest number of roundings in a sum."""
    kept = tuple(length for axis, length in enumerate(batch) if axis not in sums.axes)
    values, sizes = (_buffers.empty((len(sums.planes), *kept)) for _ in range(2))
    term, total, size = (_buffers.empty(batch) for _ in range(3))
    for plane, terms in enumerate(sums.planes):
        total[...], size[...] = 0.0, 0.0
        for sign, indices in terms:
            first, *rest = (factor[i] for factor, i in zip(sums.factors, indices, strict=True))
            term[...] = first
            for factor in rest:
                term *= factor
            total += np.multiply(term, sign, out=term)
            size += np.abs(term, out=term)
        total.sum(axis=sums.axes, out=values[plane, ...])
        size.sum(axis=sums.axes, out=sizes[plane, ...])
    longest = max((len(terms) for terms in sums.planes), default=1)
    count = longest + len(sums.factors) + math.prod(batch[axis] for axis in sums.axes)
    return values, sizes, count


def _term_values(sums: _Sums, shape: tuple[int, ...], index: int) -> list[tuple[float, ...]]:
    """The signed factors of every term of one result element."""
    plane, *where = (int(part) for part in np.unravel_index(index, shape))
    batch = sums.shape()
    kept = iter(where)
    position: list[Any] = [slice(None) if axis in sums.axes else next(kept) for axis in range(len(batch))]
    found: list[tuple[float, ...]] = []
    for sign, indices in sums.planes[plane]:
        columns = []
        for factor, i in zip(sums.factors, indices, strict=True):
            whole = np.broadcast_to(factor[i], batch)
            columns.append(np.atleast_1d(whole[tuple(position)]).reshape(-1).tolist())
        found += [(sign * first, *rest) for first, *rest in zip(*columns, strict=True)]
    return found


def _exact(sums: _Sums, shape: tuple[int, ...], index: int) -> Fraction:
    total = Fraction(0)
    for factors in _term_values(sums, shape, index):
        total += math.prod((Fraction(factor) for factor in factors), start=Fraction(1))
    return total


@dataclass(frozen=True)
class GeometricObservation(Observed):
    """An exact geometric product as it happened; see `posit.torch.ops.observe.Observation`."""

    sums: _Sums
    shape: tuple[int, ...]

    def terms(self, index: int) -> list[tuple[int, ...]]:
        """Signed codes of the factors of every term of one element."""
        storage = signed_storage(self.format)
        return [
            tuple(int(code) for code in encode(np.array(factors), self.format, storage))
            for factors in _term_values(self.sums, self.shape, index)
        ]

    def in_float32(self) -> npt.NDArray[np.integer]:
        """The same sums accumulated in float32 and rounded to the format afterwards."""
        factors = [factor.astype(np.float32) for factor in self.sums.factors]
        batch = self.sums.shape()
        results = []
        for terms in self.sums.planes:
            total = np.zeros(batch, np.float32)
            for sign, indices in terms:
                total += np.float32(sign) * math.prod(f[i] for f, i in zip(factors, indices, strict=True))
            results.append(total.sum(axis=self.sums.axes, dtype=np.float32))
        stacked = np.stack(results).reshape(self.result.shape)
        return encode(stacked, self.format, signed_storage(self.format))
