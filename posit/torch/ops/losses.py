"""Softmax and losses: one correct rounding of the real-valued formula over the stored posits.

Each is evaluated in float64 with an error bound, certified, and where that does not decide, in higher precision
(mpmath) or with rationals.  The bounds allow 16 units in the last place for exp, log1p and sums, several times what
any libm in use is known to need, so results do not depend on the libm.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posit.codec import decode, encode, encode_rational
from posit.errors import NoRuleError, ShapeError
from posit.rounding import certified, nearest_real
from posit.torch.ops.reductions import mean_codes
from posit.torch.tensor import PositTensor, register_rule, same_format, to_numpy, wrap

aten = torch.ops.aten
Floats = npt.NDArray[np.float64]
_MEAN, _SUM = 1, 2  # torch.nn._reduction


def _values(x: PositTensor) -> Floats:
    return np.asarray(decode(to_numpy(x.codes), x.format), np.float64)


@register_rule(aten._log_softmax.default)
def _log_softmax(op: Any, x: PositTensor, dim: int, half_to_float: bool) -> PositTensor:
    """x_j - log(sum_i exp(x_i)) along `dim`, one rounding; a NaR makes its whole row NaR."""
    values = np.moveaxis(_values(x), dim, -1)
    rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    approximation, error = _log_softmax_float(rows)
    width = rows.shape[1]

    def exact(index: int) -> int:
        row, column = divmod(index, width)
        return nearest_real(lambda bits: _log_softmax_real(rows[row], column, bits), x.format)

    codes = certified(approximation, error, x.format, exact, to_numpy(x.codes).dtype)
    return wrap(np.ascontiguousarray(np.moveaxis(codes.reshape(values.shape), -1, dim)), x.format)


def _log_softmax_float(rows: Floats) -> tuple[Floats, Floats]:
    """float64 log-softmax and its error bound.

    With m the largest element, x_j - m - log1p(T), T the sum of exp(x_i - m) over all but one largest element: for
    that element the result is -log1p(T) alone, so its relative error stays small however confident the row is.
    exp underflows to 0 far below every posit; T is kept positive, because a posit never rounds to 0.
    """
    largest = rows.argmax(axis=1)
    shifted = rows - rows[np.arange(len(rows)), largest][:, None]
    exponentials = np.exp(shifted)
    exponentials[np.arange(len(rows)), largest] = np.where(np.isnan(shifted[:, 0]), np.nan, 0.0)
    rest = exponentials.sum(axis=1, keepdims=True)
    if rows.shape[1] > 1:
        rest = np.maximum(rest, 2.0**-900)
    log = np.log1p(rest)
    scale = 2.0**-48 * (1 + rows.shape[1] / 16)
    return shifted - log, scale * (np.abs(shifted) + log)


def _log_softmax_real(row: Floats, column: int, bits: int) -> Any:
    import mpmath

    with mpmath.workprec(bits + 64 + 2 * int(np.log2(1 + np.abs(row).max()))):
        # the difference may cancel: keep twice the digits and check the size of the result
        working = 2 * bits
        while True:
            with mpmath.workprec(working):
                top = mpmath.mpf(float(row.max()))
                total = mpmath.fsum(mpmath.exp(mpmath.mpf(float(value)) - top) for value in row)
                result = mpmath.mpf(float(row[column])) - top - mpmath.log(total)
                if result != 0 and mpmath.log(abs(result), 2) > bits - working + 16:
                    return result
            working *= 2


@register_rule(aten._log_softmax_backward_data.default)
def _log_softmax_backward(
    op: Any, grad: PositTensor, output: PositTensor, dim: int, input_dtype: torch.dtype
) -> PositTensor:
    """g_j - exp(y_j) sum_i g_i along `dim` over the stored output y, one rounding."""
    fmt = same_format(op, grad, output)
    g, y = (np.moveaxis(_values(tensor), dim, -1) for tensor in (grad, output))
    rows_g, rows_y = (np.ascontiguousarray(part).reshape(-1, part.shape[-1]) for part in (g, y))
    total = rows_g.sum(axis=1, keepdims=True)
    share = np.exp(rows_y) * total
    scale = 2.0**-47 * (1 + rows_g.shape[1] / 16)
    size = np.exp(rows_y) * np.abs(rows_g).sum(axis=1, keepdims=True)
    error = scale * (np.abs(rows_g) + size)
    error[(rows_g == 0) & (size == 0)] = 0.0

    def exact(index: int) -> int:
        row, column = divmod(index, rows_g.shape[1])
        total_exact = sum((Fraction(float(value)) for value in rows_g[row]), Fraction(0))
        own, exponent = Fraction(float(rows_g[row, column])), float(rows_y[row, column])
        # exp(0) is rational: the only cases that can be exact or a tie
        if exponent == 0.0 or total_exact == 0:
            return encode_rational(own - total_exact, fmt) if exponent == 0.0 else encode_rational(own, fmt)
        return nearest_real(lambda bits: _minus_exp(own, exponent, total_exact, bits), fmt)

    codes = certified(rows_g - share, error, fmt, exact, to_numpy(grad.codes).dtype)
    return wrap(np.ascontiguousarray(np.moveaxis(codes.reshape(g.shape), -1, dim)), fmt)


def _minus_exp(own: Fraction, exponent: float, total: Fraction, bits: int) -> Any:
    import mpmath

    working = 2 * bits
    while True:
        with mpmath.workprec(working):
            left = mpmath.mpf(own.numerator) / own.denominator
            right = mpmath.exp(mpmath.mpf(exponent)) * total.numerator / total.denominator
            result = left - right
            if result != 0 and abs(result) > (abs(left) + abs(right)) * mpmath.mpf(2) ** (
                bits - working + 16
            ):
                return result
        working *= 2


@register_rule(aten.nll_loss_forward.default)
def _nll_loss(
    op: Any, x: PositTensor, target: torch.Tensor, weight: Any, reduction: int, ignore_index: int
) -> tuple[PositTensor, PositTensor]:
    """-sum x[i, target_i], divided by the count for the mean: exact, one rounding."""
    _require_plain(op, weight, reduction)
    kept = _targets(op, x, target, ignore_index)
    codes = to_numpy(x.codes)
    picked = -codes[np.flatnonzero(kept), to_numpy(target)[kept]]  # NaR stays NaR
    count = int(kept.sum())
    divisor = count if reduction == _MEAN else 1
    loss = mean_codes(picked[None, :], divisor, x.format).reshape(())
    weight_sum = encode(np.array(float(count)), x.format, codes.dtype)
    return wrap(loss, x.format), wrap(weight_sum, x.format)


@register_rule(aten.nll_loss_backward.default)
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
    """-grad (divided by the count for the mean) at the targets, rounded once; exact 0 elsewhere."""
    _require_plain(op, weight, reduction)
    fmt = same_format(op, grad, x)
    kept = _targets(op, x, target, ignore_index)
    divisor = int(kept.sum()) if reduction == _MEAN else 1
    codes = np.zeros(tuple(x.shape), to_numpy(x.codes).dtype)
    share = mean_codes(-to_numpy(grad.codes).reshape(1, 1), divisor, fmt)[0]
    codes[np.flatnonzero(kept), to_numpy(target)[kept]] = share
    return wrap(codes, fmt)


def _targets(op: Any, x: PositTensor, target: torch.Tensor, ignore_index: int) -> npt.NDArray[np.bool_]:
    classes = to_numpy(target)
    kept = np.asarray(classes != ignore_index)
    if x.ndim != 2 or classes.shape != (x.shape[0],):
        raise ShapeError(
            f"{op} needs (n, classes) and (n,) targets, got {tuple(x.shape)} and {tuple(classes.shape)}"
        )
    outside = kept & ((classes < 0) | (classes >= x.shape[1]))
    if outside.any():
        raise ShapeError(f"{op} got label {int(classes[outside][0])}; labels must be 0 to {x.shape[1] - 1}")
    return kept


def _require_plain(op: Any, weight: Any, reduction: int) -> None:
    if weight is not None or reduction not in (_MEAN, _SUM):
        raise NoRuleError(f"{op} has a rule for reduction 'mean' and 'sum' without class weights only")


@register_rule(aten.mse_loss.default)
def _mse_loss(op: Any, x: PositTensor, y: PositTensor, reduction: int = _MEAN) -> PositTensor:
    """Mean or sum of (x - y)^2, exact, one rounding."""
    fmt = same_format(op, x, y)
    _require_plain(op, None, reduction)
    a, b = _values(x).reshape(-1), _values(y).reshape(-1)
    if a.shape != b.shape:
        raise ShapeError(f"{op} needs equal shapes, got {tuple(x.shape)} and {tuple(y.shape)}")
    divisor = a.size if reduction == _MEAN else 1
    squares = (a - b) ** 2
    approximation = np.array(squares.sum() / max(divisor, 1))

    def exact(index: int) -> int:
        total = sum((Fraction(float(p)) - Fraction(float(q))) ** 2 for p, q in zip(a, b, strict=True))
        return encode_rational(Fraction(total) / divisor, fmt)

    # all terms are positive: every rounding, each within 2**-53, changes the result by its own relative size at most
    error = approximation * (2.0**-53 * (a.size + 8))
    return wrap(certified(approximation, error, fmt, exact, to_numpy(x.codes).dtype), fmt)


@register_rule(aten.mse_loss_backward.default)
def _mse_loss_backward(
    op: Any, grad: PositTensor, x: PositTensor, y: PositTensor, reduction: int
) -> PositTensor:
    """2 grad (x - y), divided by the count for the mean: one rounding."""
    fmt = same_format(op, grad, x, y)
    _require_plain(op, None, reduction)
    g = _values(grad).reshape(())
    a, b = _values(x), _values(y)
    divisor = a.size if reduction == _MEAN else 1
    approximation = 2.0 * g * (a - b) / divisor

    def exact(index: int) -> int:
        difference = Fraction(float(a.flat[index])) - Fraction(float(b.flat[index]))
        return encode_rational(2 * Fraction(float(g)) * difference / divisor, fmt)

    return wrap(
        certified(approximation, np.abs(approximation) * 2.0**-49, fmt, exact, to_numpy(x.codes).dtype), fmt
    )
