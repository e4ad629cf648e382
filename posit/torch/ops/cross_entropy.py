"""Cross-entropy with labels, smoothed labels or class probabilities.

Rounding points with labels: the log-softmax (in the format of losses) and the loss; backward the gradient of the
log-softmax (-g w over the sum of weights, at the labels) and that of the scores.  With label smoothing or class
probabilities: forward the same two, backward one, of the gradient of the scores over the stored log-softmax.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit.codec import encode_rational
from posit.errors import NoRuleError, ShapeError
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.element_losses import reduction_number
from posit.torch.ops.losses import by_class, class_second, class_weights, read_labels
from posit.torch.ops.softmax_exact import difference_code
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome

aten = torch.ops.aten
Floats = npt.NDArray[np.float64]
_NAME = "cross_entropy"
_U = 2.0**-53


@register_function(functional.cross_entropy)
def cross_entropy(
    input: PositTensor,  # noqa: A002  # torch's name
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of scores with labels or class probabilities; the module's docstring has the rounding points.

    Args:
        input: Scores, shape (n, classes), (n, classes, d1, ...) or (classes,).
        target: Integer labels without the dimension of classes, or posits of the shape of the scores.
        weight: One weight per class.
        size_average: Deprecated, like `reduce`; they are honoured as PyTorch does.
        ignore_index: Label of what is left out.
        reduce: See `size_average`.
        reduction: "mean" (over the weights of the labels), "sum" or "none".
        label_smoothing: Share of the probability that is spread over all classes, 0 to 1.

    Raises:
        ShapeError: shapes do not fit, a label is out of range, or a mean is over nothing.
    """
    reduction = ("none", "mean", "sum")[reduction_number(_NAME, size_average, reduce, reduction)]
    if target.is_floating_point() or label_smoothing:
        smoothing = _smoothing(input, target, weight, ignore_index, reduction, label_smoothing)
        return _Smoothed.apply(input, smoothing, reduction)  # type: ignore[no-untyped-call]
    scores = functional.log_softmax(input, dim=0 if input.ndim == 1 else 1)
    return functional.nll_loss(scores, target, weight, ignore_index=ignore_index, reduction=reduction)


class _Smoothing(NamedTuple):
    """The distribution that scores are compared with: mass = w ((1 - epsilon) q + epsilon / classes)."""

    q: Floats  #: (rows, classes)
    weights: Floats  #: (classes,)
    epsilon: float
    kept: npt.NDArray[np.bool_]  #: (rows,)
    divisor: Fraction

    def masses(self) -> Floats:
        """In float64, within 8 u of the sum of the sizes of its parts; 0 in rows that are left out."""
        mass = self.weights * ((1 - self.epsilon) * self.q + self.epsilon / self.q.shape[1])
        return np.where(self.kept[:, None], mass, 0.0)

    def exact(self, row: int) -> list[Fraction]:
        """Masses of one row."""
        epsilon, count = Fraction(self.epsilon), self.q.shape[1]
        pairs = zip(self.weights.tolist(), self.q[row].tolist(), strict=True)
        return [Fraction(w) * ((1 - epsilon) * Fraction(q) + epsilon / count) for w, q in pairs]


def _smoothing(
    x: PositTensor, target: torch.Tensor, weight: Any, ignore_index: int, reduction: str, epsilon: float
) -> _Smoothing:
    if not 0 <= epsilon <= 1:
        raise ShapeError(f"{_NAME} needs label_smoothing from 0 to 1, got {epsilon}{calling_module()}")
    count = x.shape[0 if x.ndim == 1 else 1] if x.ndim else 0
    weights = class_weights(_NAME, weight, count)
    factors = np.ones(count) if weights is None else weights
    mean = 1 if reduction == "mean" else 0
    if not target.is_floating_point():
        labels = read_labels(_NAME, x, target, weight, ignore_index)
        q = np.zeros((labels.kept.size, count))
        q[labels.rows, labels.classes] = 1.0
        return _Smoothing(q, factors, epsilon, labels.kept, labels.divisor(_NAME, mean))
    outcome(_NAME, x, target)  # which refuses plain floats
    if target.shape != x.shape or not isinstance(target, PositTensor):
        raise ShapeError(
            f"{_NAME} needs class probabilities of the shape of the scores, {tuple(x.shape)}, got "
            f"{tuple(target.shape)}{calling_module()}"
        )
    if target.requires_grad:
        raise NoRuleError(f"{_NAME} has no gradient for class probabilities{calling_module()}; detach them")
    q = by_class(target.values())
    kept = np.ones(len(q), bool)
    if mean and not len(q):
        raise ShapeError(
            f"{_NAME} got an empty batch{calling_module()}: there is nothing to take the mean of"
        )
    return _Smoothing(q, factors, epsilon, kept, Fraction(len(q) if mean else 1))


class _Smoothed(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, smoothing: _Smoothing, reduction: str) -> Any:
        scores = aten._log_softmax.default(x, 0 if x.ndim == 1 else 1, False)
        ctx.save_for_backward(scores)
        ctx.smoothing, ctx.reduction = smoothing, reduction
        ctx.shape = tuple(x.shape)
        result = outcome(_NAME, x, loss=True)
        values = by_class(scores.values())
        used = np.where(smoothing.kept[:, None], values, 0.0)
        terms = smoothing.masses() * -used
        apart = reduction == "none"
        axis, divisor = (1, 1.0) if apart else (None, float(smoothing.divisor))
        count = terms.shape[1] if apart else terms.size
        error = np.asarray(np.abs(terms).sum(axis=axis) / divisor * ((count + 24) * _U))

        def exact(index: int) -> int:
            rows = [index] if apart else range(len(values))
            total = sum((_loss(smoothing, used, row) for row in rows), Fraction(0))
            return encode_rational(total / (1 if apart else smoothing.divisor), result.format)

        loss = result.round(np.asarray(terms.sum(axis=axis) / divisor), error, exact)
        return loss.view(ctx.shape[:1] + ctx.shape[2:] if len(ctx.shape) > 1 else ()) if apart else loss

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (scores,) = ctx.saved_tensors
        smoothing = ctx.smoothing
        result = outcome(_NAME, grad, scores)
        values = by_class(scores.values())
        divisor = Fraction(1) if ctx.reduction == "none" else smoothing.divisor
        given = np.broadcast_to(grad.values().reshape(-1), (len(values),))
        share = (given / float(divisor))[:, None]
        masses = smoothing.masses()
        sizes = np.abs(masses)
        power = np.exp(values)
        approximation = share * (power * masses.sum(axis=1, keepdims=True) - masses)
        bound = power * sizes.sum(axis=1, keepdims=True) * ((values.shape[1] + 64) * _U) + sizes * (16 * _U)
        error = np.abs(share) * bound
        approximation[~smoothing.kept] = 0.0
        error[~smoothing.kept] = 0.0

        def exact(index: int) -> int:
            row, column = divmod(index, values.shape[1])
            own = smoothing.exact(row)
            factor = -Fraction(float(given[row])) / divisor
            return difference_code(
                factor * own[column],
                factor * sum(own, Fraction(0)),
                float(values[row, column]),
                result.format,
            )

        codes = result.round(approximation, error, exact).codes.numpy()
        return result.wrap(class_second(codes, ctx.shape)), None, None


def _loss(smoothing: _Smoothing, values: Floats, row: int) -> Fraction:
    if not smoothing.kept[row]:
        return Fraction(0)
    pairs = zip(smoothing.exact(row), values[row].tolist(), strict=True)
    return sum((-mass * Fraction(value) for mass, value in pairs), Fraction(0))
