"""The logistic loss of scores: `F.binary_cross_entropy_with_logits`.

Rounding points: one for the loss, whatever the reduction (the exact real value, in the format of losses); one for each
gradient.  Certified in float64, settled with mpmath.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.nn import functional

from posit.codec import encode_rational
from posit.errors import NoRuleError
from posit.rounding import nearest_real
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.element_losses import (
    U,
    check_pair,
    doubted,
    rational,
    reduction_number,
    require,
    shares,
)
from posit.torch.ops.softmax_exact import exp_real
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor, outcome

Floats = npt.NDArray[np.float64]
_NAME = "binary_cross_entropy_with_logits"
_NONE, _MEAN = 0, 1  # torch.nn._reduction


@register_function(functional.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(
    input: PositTensor,  # noqa: A002  # torch's name
    target: PositTensor,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Mean, sum or each of ``w ((1 - y) softplus(x) + p y softplus(-x))`` for targets y from 0 to 1: one rounding.

    Weights w and p (of positives) are posits or plain float constants that broadcast to the input.
    """
    number = reduction_number(_NAME, size_average, reduce, reduction)
    outcome(_NAME, input, target)  # refuses plain floats
    check_pair(_NAME, input, target, number)
    if target.requires_grad:
        raise NoRuleError(f"{_NAME} has no gradient for targets{calling_module()}; detach them")
    shape = tuple(input.shape)
    y, w, p = target.values(), *(_constants(each, shape) for each in (weight, pos_weight))
    require(not ((y < 0) | (y > 1)).any(), _NAME, "targets from 0 to 1")
    return _Logistic.apply(input, _Logits(y, w, p), number)  # type: ignore[no-untyped-call]


class _Logits(NamedTuple):
    """Targets, weights of elements and of positives: a loss is w ((1 - y) softplus(x) + p y softplus(-x))."""

    y: Floats
    w: Floats
    p: Floats

    def exact(self, index: int) -> tuple[Fraction, Fraction]:
        """Factors of softplus(x) and softplus(-x)."""
        w, y, p = (rational(part, index) for part in (self.w, self.y, self.p))
        return w * (1 - y), w * p * y


class _Logistic(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, logits: _Logits, reduction: int) -> Any:
        ctx.save_for_backward(x)
        ctx.logits, ctx.reduction = logits, reduction
        result = outcome(_NAME, x, loss=True)
        values = x.values()
        # softplus(x) = max(x, 0) + t and softplus(-x) = max(-x, 0) + t: nothing cancels
        t = np.log1p(np.exp(np.maximum(-np.abs(values), -690.0)))
        up, down = logits.w * (1 - logits.y), logits.w * logits.p * logits.y
        terms = up * (np.maximum(values, 0) + t) + down * (np.maximum(-values, 0) + t)
        fmt = result.format
        apart = reduction == _NONE
        sums = terms if apart else np.asarray(terms.sum())
        divisor = values.size if reduction == _MEAN else 1
        count = 1 if apart else values.size

        def exact(index: int) -> int:
            pairs = [logits.exact(i) for i in ([index] if apart else range(values.size))]
            chosen = values.reshape(-1)[index : index + 1] if apart else values.reshape(-1)
            if not any(first or second for first, second in pairs):
                return 0
            return nearest_real(lambda bits: _logistic_real(pairs, chosen, divisor, bits), fmt)

        bound = sums / divisor * ((count + 100) * U)
        return result.round(sums / divisor, doubted(bound, sums, x), exact)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        logits = ctx.logits
        result = outcome(_NAME, grad, x)
        values = x.values()
        g, divisor = shares(grad, values, ctx.reduction)
        small = np.exp(np.maximum(-np.abs(values), -690.0))
        high, low = 1 / (1 + small), small / (1 + small)
        rising, falling = np.where(values >= 0, high, low), np.where(values >= 0, low, high)
        up, down = logits.w * (1 - logits.y) * rising, logits.w * logits.p * logits.y * falling
        approximation = g * (up - down) / divisor
        error = np.abs(g) * (up + down) / divisor * (100 * U)
        fmt = result.format

        def exact(index: int) -> int:
            first, second = logits.exact(index)
            value, share = float(values.flat[index]), rational(g, index) / divisor
            if value == 0 or first + second == 0 or share == 0:
                return encode_rational(share * (first - second) / 2, fmt)
            return nearest_real(lambda bits: _slope_real(share, first, second, value, bits), fmt)

        return result.round(approximation, doubted(error, approximation, grad, x), exact), None, None


def _logistic_real(pairs: list[tuple[Fraction, Fraction]], x: Floats, divisor: int, bits: int) -> Any:
    """All terms positive: no digits are lost."""
    import mpmath

    with mpmath.workprec(bits + 64):
        total = mpmath.mpf(0)
        for (up, down), value in zip(pairs, x.tolist(), strict=True):
            t = mpmath.log1p(exp_real(-abs(value)))
            own = [(up, max(value, 0.0)), (down, max(-value, 0.0))]
            total += sum((t + part) * factor.numerator / factor.denominator for factor, part in own)
        return total / divisor


def _slope_real(share: Fraction, up: Fraction, down: Fraction, value: float, bits: int) -> Any:
    """``share (up / (1 + exp(-value)) - down / (1 + exp(value)))``."""
    import mpmath

    working = 2 * bits
    while True:
        with mpmath.workprec(working):
            power = exp_real(-abs(value))
            near, far = 1 / (1 + power), power / (1 + power)
            left = mpmath.mpf(up.numerator) / up.denominator * (near if value > 0 else far)
            right = mpmath.mpf(down.numerator) / down.denominator * (far if value > 0 else near)
            result = left - right
            if result != 0 and abs(result) > (abs(left) + abs(right)) * mpmath.mpf(2) ** (
                bits - working + 16
            ):
                return result * share.numerator / share.denominator
        working *= 2


def _constants(x: Any, shape: tuple[int, ...]) -> Floats:
    """Weights as float64, 1 where there are none."""
    if x is None:
        return np.ones(shape)
    values = x.values() if isinstance(x, PositTensor) else x.detach().numpy().astype(np.float64)
    require(bool((np.isfinite(values) & (values >= 0)).all()), _NAME, "finite weights of at least 0")
    return np.broadcast_to(values, shape)
