"""Losses of differences and their mean or sum: mean squared, absolute and Huber error.

Rounding points: one for the loss, whatever the reduction (the exact real value, in the format of losses); one for each
gradient.  Certified in float64, settled with rational numbers.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit.codec import encode_rational
from posit.errors import NoRuleError, ShapeError
from posit.torch.derivative import OnceDifferentiable
from posit.torch.registry import calling_module, register_function, register_rule
from posit.torch.tensor import PositTensor, outcome

aten = torch.ops.aten
Floats = npt.NDArray[np.float64]
U = 2.0**-53  #: unit of rounding errors
_NONE, _MEAN = 0, 1  # torch.nn._reduction
_REACH = 320  #: formats within 2**±320 have products of three values inside float64's normal range


class _Kind(NamedTuple):
    """A loss of differences d, not negative, and its derivative: in float64 within 16 u, and exact."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    exact_value: Callable[[Fraction], Fraction]
    exact_slope: Callable[[Fraction], Fraction]


_SQUARE = _Kind(lambda d: d * d, lambda d: 2 * d, lambda d: d * d, lambda d: 2 * d)
_ABSOLUTE = _Kind(np.abs, np.sign, abs, lambda d: Fraction((d > 0) - (d < 0)))


def _huber(delta: float, factor: Fraction) -> _Kind:
    """``factor * d**2 / 2`` up to |d| = delta, ``factor * delta * (|d| - delta / 2)`` beyond."""
    bound, scale = Fraction(delta), float(factor)

    def value(d: Floats) -> Floats:
        size = np.abs(d)
        return scale * np.where(size < delta, 0.5 * d * d, delta * (size - 0.5 * delta))

    def exact_value(d: Fraction) -> Fraction:
        return factor * (d * d / 2 if abs(d) < bound else bound * (abs(d) - bound / 2))

    return _Kind(
        value,
        lambda d: scale * np.clip(d, -delta, delta),
        exact_value,
        lambda d: factor * min(max(d, -bound), bound),
    )


@register_rule(aten.mse_loss.default)
def _mse_loss(op: Any, x: PositTensor, y: PositTensor, reduction: int = _MEAN) -> PositTensor:
    """Mean, sum or each of ``(x - y)**2``."""
    return _loss(op, _SQUARE, x, y, reduction)


@register_rule(aten.mse_loss_backward.default)
def _mse_loss_backward(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, reduction: int
) -> PositTensor:
    """``2 g (x - y)``, over the count for the mean."""
    return _gradient(op, _SQUARE, grad, x, y, reduction)


@register_rule(aten.smooth_l1_loss.default)
def _smooth_l1_loss(
    op: Any, x: PositTensor, y: PositTensor, reduction: int = _MEAN, beta: float = 1.0
) -> PositTensor:
    """Mean, sum or each of ``d**2 / (2 beta)`` where |d| < beta, else ``|d| - beta / 2``."""
    return _loss(op, _smooth(op, beta), x, y, reduction)


@register_rule(aten.smooth_l1_loss_backward.default)
def _smooth_l1_loss_backward(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, reduction: int, beta: float
) -> PositTensor:
    """``g d / beta`` where |d| < beta, else g with the sign of d; over the count for the mean."""
    return _gradient(op, _smooth(op, beta), grad, x, y, reduction)


@register_rule(aten.huber_loss.default)
def _huber_loss(
    op: Any, x: PositTensor, y: PositTensor, reduction: int = _MEAN, delta: float = 1.0
) -> PositTensor:
    """Mean, sum or each of ``d**2 / 2`` where |d| < delta, else ``delta (|d| - delta / 2)``."""
    require(delta > 0, op, f"delta above 0, got {delta}")
    return _loss(op, _huber(delta, Fraction(1)), x, y, reduction)


@register_rule(aten.huber_loss_backward.default)
def _huber_loss_backward(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, reduction: int, delta: float
) -> PositTensor:
    """``g d``, |d| held at delta; over the count for the mean."""
    return _gradient(op, _huber(delta, Fraction(1)), grad, x, y, reduction)


@register_function(functional.l1_loss)
def l1_loss(
    input: PositTensor,  # noqa: A002  # torch's name
    target: PositTensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean, sum or each of ``|input - target|``."""
    if weight is not None:
        raise NoRuleError(f"l1_loss has no rule for weights of elements{calling_module()}")
    number = reduction_number("l1_loss", size_average, reduce, reduction)
    return _Absolute.apply(input, target, number)  # type: ignore[no-untyped-call]


class _Absolute(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, reduction: int) -> Any:
        ctx.save_for_backward(x, y)
        ctx.reduction = reduction
        return _loss("l1_loss", _ABSOLUTE, x, y, reduction)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensors
        to_x = _gradient("l1_loss", _ABSOLUTE, grad, x, y, ctx.reduction)
        to_y = _gradient("l1_loss", _ABSOLUTE, grad, y, x, ctx.reduction) if ctx.needs_input_grad[1] else None
        return to_x, to_y, None


def _smooth(op: Any, beta: float) -> _Kind:
    require(beta >= 0, op, f"beta of at least 0, got {beta}")
    return _huber(beta, 1 / Fraction(beta)) if beta else _ABSOLUTE


def _loss(op: Any, kind: _Kind, x: PositTensor, y: PositTensor, reduction: int) -> PositTensor:
    """The loss, one rounding."""
    result = outcome(op, x, y, loss=True)
    check_pair(op, x, y, reduction)
    a, b = x.values(), y.values()
    terms = kind.value(a - b)
    fmt = result.format

    def exact(index: int) -> Fraction:
        return kind.exact_value(rational(a, index) - rational(b, index))

    if reduction == _NONE:
        error = doubted(terms * (16 * U), terms, x, y)
        return result.round(terms, error, lambda index: encode_rational(exact(index), fmt))
    divisor = terms.size if reduction == _MEAN else 1
    value = np.asarray(terms.sum() / divisor)
    error = doubted(value * ((terms.size + 24) * U), value, x, y)

    def total(_: int) -> int:
        return encode_rational(sum(map(exact, range(terms.size)), Fraction(0)) / divisor, fmt)

    return result.round(value, error, total)


def _gradient(
    op: Any, kind: _Kind, grad: PositTensor, x: PositTensor, y: PositTensor, reduction: int
) -> PositTensor:
    """The gradient of the first, each element one rounding."""
    result = outcome(op, grad, x, y)
    a, b = x.values(), y.values()
    g, divisor = shares(grad, a, reduction)
    approximation = g * kind.slope(a - b) / divisor

    def exact(index: int) -> int:
        slope = kind.exact_slope(rational(a, index) - rational(b, index))
        return encode_rational(rational(g, index) * slope / divisor, result.format)

    error = np.abs(approximation) * (24 * U)
    return result.round(approximation, doubted(error, approximation, grad, x, y), exact)


def doubted(error: Floats, approximation: Floats, *operands: PositTensor) -> Floats:
    """The error bounds, or ones that decide nothing but NaR, where products may leave float64's normal range."""
    if all(max(x.format.max_scale, -x.format.lsb_scale) <= _REACH for x in operands):
        return error
    return np.abs(approximation) + 1.0


def shares(grad: PositTensor, like: Floats, reduction: int) -> tuple[Floats, int]:
    """The gradient of each term's loss, and what it is divided by."""
    return np.broadcast_to(grad.values(), like.shape), like.size if reduction == _MEAN else 1


def rational(x: Floats, index: int) -> Fraction:
    """An element, by flat index."""
    return Fraction(float(x.flat[index]))


def reduction_number(op: Any, size_average: bool | None, reduce: bool | None, reduction: str) -> int:
    """PyTorch's number of a reduction; the two deprecated arguments win where they are given, as in PyTorch."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    names = ("none", "mean", "sum")
    require(reduction in names, op, f"reduction none, mean or sum, got {reduction!r}")
    return names.index(reduction)


def check_pair(op: Any, x: PositTensor, y: PositTensor, reduction: int) -> None:
    """Raise `ShapeError` unless both have one shape, and elements where a mean is asked for."""
    require(x.shape == y.shape, op, f"equal shapes, got {tuple(x.shape)} and {tuple(y.shape)}")
    require(reduction != _MEAN or x.numel() > 0, op, "something to take the mean of, got an empty batch")


def require(holds: bool, op: Any, wanted: str) -> None:
    """Raise `ShapeError` unless it holds."""
    if not holds:
        raise ShapeError(f"{op} needs {wanted}{calling_module()}")
