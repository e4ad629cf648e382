"""Negative log-likelihood: exact sums over the stored log-probabilities, rounded once.

Class weights may be posits, or plain float constants, which are taken as they are.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from posit.codec import Codes, encode, encode_rational, signed_storage
from posit.errors import NoRuleError, ShapeError
from posit.torch.ops.reductions import mean_codes
from posit.torch.ops.softmax_exact import exact_dot
from posit.torch.registry import calling_module, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten
Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
_NONE, _MEAN = 0, 1  # torch.nn._reduction


class Labels(NamedTuple):
    """Which class each row has, and how much it counts."""

    kept: npt.NDArray[np.bool_]  #: of n rows: not ignored
    rows: npt.NDArray[np.int64]  #: those that are kept
    classes: npt.NDArray[np.int64]  #: of the kept rows
    weights: Floats | None  #: of the kept rows

    def divisor(self, op: Any, reduction: int) -> Fraction:
        """Sum of the weights for the mean, else 1.

        Raises:
            ShapeError: there is nothing to take a mean of.
        """
        if reduction != _MEAN:
            return Fraction(1)
        total = Fraction(len(self.rows)) if self.weights is None else _sum(self.weights)
        if total == 0:
            what = "an empty batch" if not self.kept.size else "targets of which all are ignored or weigh 0"
            raise ShapeError(f"{op} got {what}{calling_module()}: there is nothing to take the mean of")
        return total


@register_rule(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def _nll_loss(
    op: Any, x: PositTensor, target: torch.Tensor, weight: Any, reduction: int, ignore_index: int
) -> tuple[PositTensor, PositTensor]:
    """-w x at each target; their exact sum, divided by the sum of weights for the mean: one rounding."""
    result = outcome(op, x, loss=True)
    labels = read_labels(op, x, target, weight, ignore_index)
    divisor = labels.divisor(op, reduction)
    picked = by_class(to_numpy(x.codes))[labels.rows, labels.classes]
    if reduction == _NONE:
        codes = np.zeros(labels.kept.size, signed_storage(result.format))
        codes[labels.rows] = _products(result, -_like(x, picked).values(), labels.weights)
        loss = codes.reshape(target.shape)
    elif labels.weights is None and x.format == result.format:
        count = int(divisor) if reduction == _MEAN else 1
        loss = mean_codes(-picked[None, :], count, x.format).reshape(())  # NaR stays NaR
    else:
        loss = _quotient(result, -_like(x, picked).values(), labels.weights, divisor)
    total = encode(np.array(float(divisor)), result.format, signed_storage(result.format))
    return result.wrap(loss), result.wrap(total)


@register_rule(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def _nll_loss_backward(
    op: Any,
    grad: PositTensor,
    x: PositTensor,
    target: torch.Tensor,
    weight: Any,
    reduction: int,
    ignore_index: int,
    total_weight: Any,
) -> PositTensor:
    """-g w (over the sum of weights for the mean) at the targets, rounded once; exact 0 elsewhere."""
    result = outcome(op, grad, x)
    labels = read_labels(op, x, target, weight, ignore_index)
    given = -grad.values().reshape(-1)
    given = given[labels.rows] if reduction == _NONE else np.broadcast_to(given, labels.rows.shape)
    shares = _products(result, given, labels.weights, labels.divisor(op, reduction))
    codes = np.zeros((labels.kept.size, _classes(x)), signed_storage(result.format))
    codes[labels.rows, labels.classes] = shares
    return result.wrap(class_second(codes, tuple(x.shape)))


def read_labels(op: Any, x: PositTensor, target: torch.Tensor, weight: Any, ignore_index: int) -> Labels:
    """Labels of scores (n, classes, ...), checked.

    Raises:
        ShapeError: a shape does not fit or a label is out of range.
        NoRuleError: labels are not integers.
    """
    if isinstance(target, PositTensor) or target.is_floating_point() or target.dtype == torch.bool:
        raise NoRuleError(f"{op} needs integer labels, got {target.dtype}{calling_module()}")
    count = _classes(x)
    wanted = () if x.ndim == 1 else (x.shape[0], *x.shape[2:])
    if x.ndim == 0 or tuple(target.shape) != wanted:
        raise ShapeError(
            f"{op} needs scores (n, classes, ...) and labels (n, ...), got {tuple(x.shape)} and "
            f"{tuple(target.shape)}{calling_module()}"
        )
    classes = to_numpy(target).reshape(-1).astype(np.int64)
    kept = np.asarray(classes != ignore_index)
    outside = kept & ((classes < 0) | (classes >= count))
    if outside.any():
        raise ShapeError(
            f"{op} got label {int(classes[outside][0])}{calling_module()}; labels must be 0 to {count - 1}"
        )
    own = classes[kept]
    values = class_weights(op, weight, count)
    return Labels(kept, np.flatnonzero(kept), own, None if values is None else values[own])


def class_weights(op: Any, weight: Any, count: int) -> Floats | None:
    """Exact values of class weights.

    Raises:
        ShapeError: there is not one finite weight per class.
    """
    if weight is None:
        return None
    values = weight.values() if isinstance(weight, PositTensor) else to_numpy(weight).astype(np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ShapeError(f"{op} needs one finite weight for each of {count} classes, got {weight}")
    return values


def _quotient(result: Outcome, x: Floats, weights: Floats | None, divisor: Fraction) -> Codes:
    """Sum x w / divisor, one rounding."""
    if np.isnan(x).any():
        return np.full((), -result.format.nar, signed_storage(result.format))
    total = _sum(x) if weights is None else exact_dot(x, weights)
    code = encode_rational(total / divisor, result.format)
    return np.array(_signed(code, result.format), signed_storage(result.format))


def _products(result: Outcome, x: Floats, weights: Floats | None, divisor: Fraction | None = None) -> Codes:
    """X w / divisor, elementwise, one rounding each."""
    factors = np.ones(x.shape) if weights is None else weights
    bottom = divisor or Fraction(1)
    approximation = x * factors / float(bottom)

    def exact(index: int) -> int:
        top = Fraction(float(x[index])) * Fraction(float(factors[index]))
        return encode_rational(top / bottom, result.format)

    return to_numpy(result.round(approximation, np.abs(approximation) * 2.0**-50, exact).codes)


def _sum(x: Floats) -> Fraction:
    return exact_dot(x, np.ones(x.shape))


def _classes(x: PositTensor) -> int:
    return x.shape[0 if x.ndim == 1 else 1] if x.ndim else 0


def by_class(x: Array) -> Array:
    """An array (n, classes, ...) as (rows, classes)."""
    if x.ndim == 1:
        return x[None]
    return np.moveaxis(x, 1, -1).reshape(math.prod(x.shape) // max(x.shape[1], 1), x.shape[1])


def class_second(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `by_class`."""
    if len(shape) == 1:
        return rows.reshape(shape)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1))


def _like(x: PositTensor, codes: Codes) -> PositTensor:
    return x.like(torch.from_numpy(np.ascontiguousarray(codes)))


def _signed(code: int, fmt: Any) -> int:
    return code - (1 << fmt.nbits) if code >= fmt.nar else code
