"""Normalization layers, each one function: one correct rounding of the real-valued formula over the stored posits.

Rounding points: an element of the result, gamma (x - mean) / sqrt(variance + eps) + beta with the exact mean and
variance of the posits x, is rounded once.  So is an element of the input's gradient.  The gradient of gamma sums
g x̂, where x̂ = (x - mean) / sqrt(variance + eps) is rounded once to the format of activations; the sum over the batch
is exact and rounded once, or not at all inside of `gradient_sums`.  The gradient of beta is an exact sum.  A running
mean or variance is (1 - momentum) old + momentum new, new being the exact statistic, rounded once.  eps and momentum
are exact float64 numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit._norms import CHUNK, Norm, Rows, derivative, moments, normalize, whole
from posit.codec import Codes, encode_rational, signed_storage
from posit.errors import NoRuleError, ShapeError
from posit.rounding import certified
from posit.torch.accumulation import active, sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.reductions import sum_leading
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome, to_numpy

Floats = npt.NDArray[np.float64]


@register_function(functional.layer_norm)
def layer_norm(
    input: PositTensor,  # noqa: A002  # torch's name
    normalized_shape: Any,
    weight: PositTensor | None = None,
    bias: PositTensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """`torch.nn.functional.layer_norm`; rounding points are this module's."""
    columns = _trailing("layer_norm", input, normalized_shape, weight, bias)
    return _normalized("layer_norm", input, weight, bias, _Layout(columns, Norm(eps, True, 1, 1)))


@register_function(functional.rms_norm)
def rms_norm(
    input: PositTensor,  # noqa: A002  # torch's name
    normalized_shape: Any,
    weight: PositTensor | None = None,
    eps: float | None = None,
) -> Any:
    """`torch.nn.functional.rms_norm`: weight x / sqrt(mean(x^2) + eps); eps is float32's 2**-23 where it is None."""
    columns = _trailing("rms_norm", input, normalized_shape, weight, None)
    small = torch.finfo(torch.float32).eps if eps is None else eps
    return _normalized("rms_norm", input, weight, None, _Layout(columns, Norm(small, False, 1, 1)))


@register_function(functional.group_norm)
def group_norm(
    input: PositTensor,  # noqa: A002  # torch's name
    num_groups: int,
    weight: PositTensor | None = None,
    bias: PositTensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """`torch.nn.functional.group_norm`; rounding points are this module's."""
    channels, area = _channels("group_norm", input, weight, bias)
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(f"group_norm got {channels} channels for {num_groups} groups{calling_module()}")
    layout = _Layout(channels // num_groups * area, Norm(eps, True, num_groups, area))
    return _normalized("group_norm", input, weight, bias, layout)


@register_function(functional.instance_norm)
def instance_norm(
    input: PositTensor,  # noqa: A002  # torch's name
    running_mean: PositTensor | None = None,
    running_var: PositTensor | None = None,
    weight: PositTensor | None = None,
    bias: PositTensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """`torch.nn.functional.instance_norm`; running statistics are read, but there is no rule to update them."""
    channels, area = _channels("instance_norm", input, weight, bias)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None or running_var is not None:
        raise NoRuleError(
            f"instance_norm has no rule that updates running statistics of posits{calling_module()}; use "
            "track_running_stats=False, or group_norm"
        )
    if area < 2:
        raise ShapeError(f"instance_norm needs more than one element a channel{calling_module()}")
    return _normalized("instance_norm", input, weight, bias, _Layout(area, Norm(eps, True, channels, area)))


@register_function(functional.batch_norm)
def batch_norm(
    input: PositTensor,  # noqa: A002  # torch's name
    running_mean: PositTensor | None,
    running_var: PositTensor | None,
    weight: PositTensor | None = None,
    bias: PositTensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """`torch.nn.functional.batch_norm`: statistics of the batch in training, running ones otherwise.

    Raises:
        NoRuleError: training inside of `gradient_sums`, where the split of a batch must not change results.
        ShapeError: one element a channel in training, or none.
    """
    op = "batch_norm"
    channels, area = _channels(op, input, weight, bias)
    count = input.shape[0] * area
    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError(f"{op} needs running statistics outside of training{calling_module()}")
        outcome(op, *(each for each in (input, running_mean, running_var) if each is not None))
        norm = Norm(eps, True, channels, count, running_mean.values(), running_var.values())
        return _normalized(op, input, weight, bias, _Layout(count, norm, by_channel=True))
    if active():
        raise NoRuleError(
            f"{op} in training takes statistics over the batch, so that exact gradient sums would depend on how the "
            f"batch is cut up{calling_module()}; use group_norm or layer_norm, or put the layer in eval mode"
        )
    if count < 2:
        raise ShapeError(f"{op} needs more than one element a channel in training{calling_module()}")
    layout = _Layout(count, Norm(eps, True, channels, count), by_channel=True)
    update = _Running(running_mean, running_var, momentum)
    return _normalized(op, input, weight, bias, layout, update)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a tensor is cut into the rows that are normalized."""

    columns: int
    norm: Norm
    by_channel: bool = False  #: rows are channels, dimension 1 of the tensor

    def rows(self, x: PositTensor) -> Rows:
        codes = x.codes.transpose(0, 1) if self.by_channel else x.codes
        return Rows(to_numpy(codes.contiguous()).reshape(-1, self.columns), x.format)

    def back(self, codes: Codes, x: PositTensor) -> Codes:
        if not self.by_channel:
            return codes.reshape(x.shape)
        turned = codes.reshape(x.shape[1], x.shape[0], *x.shape[2:])
        return np.ascontiguousarray(turned.swapaxes(0, 1))

    def lines(self, parameter: PositTensor | None, default: float) -> Floats:
        """Values of gamma or beta, shape (lines, columns / step)."""
        shape = self.norm.lines, self.columns // self.norm.step
        return np.full(shape, default) if parameter is None else parameter.values().reshape(shape)

    def terms(self, rows: Codes) -> Codes:
        """Rows as (summed over, parameters)."""
        norm = self.norm
        cut = rows.reshape(-1, norm.lines * (self.columns // norm.step), norm.step)
        return np.ascontiguousarray(cut.swapaxes(1, 2)).reshape(-1, cut.shape[1])


@dataclass(frozen=True, slots=True)
class _Running:
    """Statistics that a training step of batch_norm brings up to date."""

    mean: PositTensor | None
    variance: PositTensor | None
    momentum: float

    def update(self, x: Rows, stats: Floats) -> None:
        """Take in the statistics of rows; the variance over the count less one."""
        count = x.codes.shape[1]

        @cache
        def exact(channel: int) -> tuple[Fraction, Fraction]:
            return moments(x.values(slice(channel, channel + 1))[0])

        unbiased = Fraction(count, count - 1)
        if self.mean is not None:
            self._blend(self.mean, stats[:, 0], stats[:, 1], lambda channel: exact(channel)[0])
        if self.variance is not None:
            new, error = (stats[:, i] * float(unbiased) for i in (4, 5))
            self._blend(self.variance, new, error, lambda channel: exact(channel)[1] * unbiased)

    def _blend(self, kept: PositTensor, new: Floats, error: Floats, exact: Callable[[int], Fraction]) -> None:
        """Write (1 - momentum) kept + momentum new, rounded once."""
        outcome("batch_norm", kept)
        momentum, rest, old = self.momentum, 1 - Fraction(self.momentum), kept.values()
        one, other = float(rest) * old, momentum * new
        bound = abs(momentum) * error * (1 + 2.0**-20) + 2.0**-50 * (np.abs(one) + np.abs(other))

        def settle(channel: int) -> int:
            value = rest * Fraction(float(old[channel])) + Fraction(momentum) * exact(channel)
            return encode_rational(value, kept.format)

        codes = certified(one + other, bound, kept.format, settle, signed_storage(kept.format))
        kept.codes.copy_(torch.from_numpy(codes))


def _trailing(op: str, x: PositTensor, shape: Any, *parameters: Any) -> int:
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    if not wanted or tuple(x.shape[-len(wanted) :]) != wanted or prod(wanted) < 1:
        raise ShapeError(f"{op} over {wanted} got an input of shape {tuple(x.shape)}{calling_module()}")
    if any(each is not None and tuple(each.shape) != wanted for each in parameters):
        shapes = [tuple(each.shape) for each in parameters if each is not None]
        raise ShapeError(f"{op} over {wanted} got parameters of shapes {shapes}{calling_module()}")
    return prod(wanted)


def _channels(op: str, x: PositTensor, *parameters: Any) -> tuple[int, int]:
    """Channels, and elements of each in a sample."""
    if x.ndim < 2 or x.shape[1] < 1 or prod(x.shape[2:]) < 1:
        raise ShapeError(f"{op} needs an input (n, channels, ...), got {tuple(x.shape)}{calling_module()}")
    if any(each is not None and tuple(each.shape) != (x.shape[1],) for each in parameters):
        shapes = [tuple(each.shape) for each in parameters if each is not None]
        raise ShapeError(f"{op} of {x.shape[1]} channels got parameters of shapes {shapes}{calling_module()}")
    return x.shape[1], prod(x.shape[2:])


def _normalized(
    op: str, x: PositTensor, weight: Any, bias: Any, layout: _Layout, running: _Running | None = None
) -> Any:
    return _Norm.apply(op, x, weight, bias, layout, running)  # type: ignore[no-untyped-call]


class _Norm(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, op: str, x: Any, weight: Any, bias: Any, layout: Any, running: Any) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.op, ctx.layout = op, layout
        ctx.bias_shape = None if bias is None else bias.shape
        ctx.sums = tuple(None if each is None else sums_for(each) for each in (weight, bias))
        result = outcome(op, *(each for each in (x, weight, bias) if each is not None))
        if not x.numel():
            return result.like(torch.empty_like(x.codes, dtype=_dtype(result.format)))
        rows = layout.rows(x)
        gamma, beta = layout.lines(weight, 1.0), layout.lines(bias, 0.0)
        codes, stats = normalize(rows, layout.norm, gamma, beta, result.format)
        if running is not None:
            running.update(rows, stats)
        return result.wrap(layout.back(codes, x))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved_tensors
        op, layout, (gamma_sum, beta_sum) = ctx.op, ctx.layout, ctx.sums
        result = outcome(op, *(each for each in (grad, x, weight) if each is not None))
        to_x = to_weight = to_bias = None
        if not x.numel():
            shapes = x.shape, None if weight is None else weight.shape, ctx.bias_shape
            zeros = (
                None if each is None else torch.zeros(each, dtype=_dtype(result.format)) for each in shapes
            )
            return None, *(None if each is None else result.like(each) for each in zeros), None, None
        rows = layout.rows(grad)
        if ctx.needs_input_grad[1]:
            gamma = layout.lines(weight, 1.0)
            to_x = result.wrap(
                layout.back(derivative(layout.rows(x), rows, layout.norm, gamma, result.format), x)
            )
        if ctx.needs_input_grad[2]:
            parts = _Terms(grad, x, layout)
            if gamma_sum is None:
                to_weight = parts.sums(op).view(weight.shape)
            else:
                for terms, units in parts:
                    gamma_sum.add_sum_of_products(terms, units)
        if ctx.needs_input_grad[3]:
            terms = grad.like(torch.from_numpy(layout.terms(rows.codes)))
            if beta_sum is None:
                to_bias = sum_leading(op, terms).view(ctx.bias_shape)
            else:
                beta_sum.add(terms)
        return None, to_x, to_weight, to_bias, None, None


def _dtype(fmt: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, signed_storage(fmt))).dtype


@dataclass(frozen=True)
class _Terms:
    """What is multiplied and summed for gamma's gradient, some rows at a time: the gradient, and x normalized.

    Each pair has the shape (summed over, parameters).  (x - mean) / sqrt(variance + eps) is rounded once to the format
    of activations.
    """

    grad: PositTensor
    x: PositTensor
    layout: _Layout

    def __iter__(self) -> Iterator[tuple[PositTensor, PositTensor]]:
        layout, policy = self.layout, self.x.policy
        grad, x = layout.rows(self.grad), layout.rows(self.x)
        fmt = x.format if policy is None else policy.activations
        ones, zeros = layout.lines(None, 1.0), layout.lines(None, 0.0)
        step = layout.norm.lines * max(1, CHUNK // (layout.norm.lines * layout.columns))
        for start in range(0, len(x.codes), step):
            part = slice(start, start + step)
            units, _ = normalize(Rows(x.codes[part], x.format), layout.norm, ones, zeros, fmt)
            terms = self.grad.like(torch.from_numpy(layout.terms(grad.codes[part])))
            yield terms, PositTensor(torch.from_numpy(layout.terms(units)), fmt, policy=policy)

    def sums(self, op: str) -> PositTensor:
        """Exact sums of the products, each rounded once."""
        result = outcome(op, self.grad, self.x)
        sums, squares, count = np.zeros(()), np.zeros((2, 1)), 0
        for terms, units in self:
            left, right = terms.values(), units.values()
            sums = sums + np.einsum("ij,ij->j", left, right)
            squares = squares + np.stack([np.einsum("ij,ij->j", each, each) for each in (left, right)])
            count += len(left)
        # no more than the sum of magnitudes times so many units (Cauchy-Schwarz), in any order of summation
        error = np.sqrt(squares[0] * squares[1]) * ((count + 4) * 2.0**-52)

        def exact(column: int) -> int:
            total = Fraction(0)
            for terms, units in self:
                (p, unit_p), (q, unit_q) = (whole(each.values()[:, column]) for each in (terms, units))
                total += sum(i * j for i, j in zip(p, q, strict=True)) * unit_p * unit_q
            return encode_rational(total, result.format)

        return result.round(sums, error, exact)
