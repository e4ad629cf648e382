"""Arithmetic: sums, differences, products, quotients, signs; each element is the exact real result, rounded once.

Rounding points: one for each operator here, in place or not.  Python numbers and integer tensors are exact numbers,
never rounded to posits first.  In-place forms round to the tensor's own format.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from posit import arithmetic
from posit._elementary.ziv import Solution
from posit.errors import ShapeError
from posit.fused import axpy
from posit.torch.ops.curves import Curve, apply, registered
from posit.torch.ops.families import with_number
from posit.torch.ops.pointwise import (
    ADD,
    DIV,
    EXACT,
    MUL,
    SUB,
    Floats,
    broadcast_shape,
    finite,
    flat_codes,
    odd_binary,
    odd_fma,
    rounded_once,
)
from posit.torch.registry import calling_module, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten
_KERNELS = {ADD: arithmetic.add, SUB: arithmetic.sub, MUL: arithmetic.mul, DIV: arithmetic.div}


_TABLE_BITS = 16


def posits_among(operands: Any) -> list[Any]:
    """The operands that decide the format: all but Python numbers and tensors of integers or truth values."""
    return [
        x
        for x in operands
        if isinstance(x, PositTensor) or (isinstance(x, torch.Tensor) and x.dtype.is_floating_point)
    ]


def written(x: PositTensor, op: Any, result: PositTensor) -> PositTensor:
    """`x` with new codes, of an in-place operator.

    Raises:
        ShapeError: the result is larger than x.
    """
    if result.shape != x.shape:
        raise ShapeError(
            f"{op} cannot write a result of shape {tuple(result.shape)} into posits of shape "
            f"{tuple(x.shape)}{calling_module()}; use the operator that is not in-place"
        )
    x.codes.copy_(result.codes)
    return x


def outcome_of(op: Any, *operands: Any) -> Outcome:
    """The result of an operator of posits and numbers: in place, the first operand's own format."""
    result = outcome(op, *posits_among(operands))
    if _in_place(op):
        return Outcome(operands[0].format, operands[0].policy)
    return result


def _in_place(op: Any) -> bool:
    return str(getattr(op, "_opname", "")).endswith("_")


def delivered(op: Any, target: Any, result: PositTensor) -> PositTensor:
    """The result, written into the first operand if the operator is in-place."""
    return written(target, op, result) if _in_place(op) else result


def numbers_checked(op: Any, *operands: Any) -> list[Any]:
    """Operands, Python numbers as finite float64."""
    return [x if isinstance(x, torch.Tensor) else finite(op, x) for x in operands]


def combine(operation: int, op: Any, x: Any, y: Any, result: Outcome) -> PositTensor:
    """The sum, difference, product or quotient of posits, integer tensors and numbers, rounded once."""
    if all(isinstance(each, PositTensor) and each.format == result.format for each in (x, y)):
        broadcast_shape(op, (x, y))
        return result.wrap(_KERNELS[operation](to_numpy(x.codes), to_numpy(y.codes), result.format))
    for number, posits, first in ((x, y, True), (y, x, False)):
        if isinstance(number, float) and _pays(number, posits):
            return apply(with_number(operation, number, number_first=first), posits, result)
    return rounded_once(result, op, (x, y), lambda a, b: odd_binary(operation, a, b), EXACT[operation])


def _pays(number: float, x: Any) -> bool:
    """Whether a table of the results of all codes costs less than the results themselves."""
    if not isinstance(x, PositTensor) or x.format.nbits > _TABLE_BITS:
        return False
    return x.numel() >= 2 << x.format.nbits and _fits(number, x.format)


@register_rule(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar, aten.mul_.Scalar)
def _mul(op: Any, x: Any, y: Any) -> PositTensor:
    """The product; a NaR times a truth value or number is NaR."""
    result = outcome_of(op, x, y)
    x, y = numbers_checked(op, x, y)
    return delivered(op, x, _product(op, x, y, result))


def _product(op: Any, x: Any, y: Any, result: Outcome) -> PositTensor:
    factor, posits = (x, y) if isinstance(x, float) else (y, x)
    fmt = result.format
    if (
        not isinstance(factor, float)
        or posits.format != fmt
        or not _fits(factor, fmt)
        or _pays(factor, posits)
    ):
        return combine(MUL, op, x, y, result)
    codes = flat_codes(to_numpy(posits.codes))
    return result.wrap(axpy(factor, codes, np.zeros_like(codes), fmt).reshape(tuple(posits.shape)))


def _fits(factor: float, fmt: Any) -> bool:
    return bool(fmt.fits_float64 and (factor == 0 or 2.0**-400 <= abs(factor) <= 2.0**400))


@register_rule(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar, aten.div_.Scalar)
def _div(op: Any, x: Any, y: Any) -> PositTensor:
    """The quotient; NaR where the divisor is 0."""
    result = outcome_of(op, x, y)
    x, y = numbers_checked(op, x, y)
    if isinstance(y, float) and np.frexp(y)[0] in (0.5, -0.5) and abs(np.frexp(y)[1]) < 400:
        return delivered(op, x, _product(op, x, 1.0 / y, result))
    return delivered(op, x, combine(DIV, op, x, y, result))


@register_rule(aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar, aten.add_.Scalar)
def _add(op: Any, x: Any, y: Any, alpha: float = 1) -> PositTensor:
    """The sum x + alpha y."""
    return _plus(op, x, y, finite(op, alpha))


@register_rule(aten.sub.Tensor, aten.sub_.Tensor, aten.sub.Scalar, aten.sub_.Scalar)
def _sub(op: Any, x: Any, y: Any, alpha: float = 1) -> PositTensor:
    """The difference x - alpha y."""
    return _plus(op, x, y, -finite(op, alpha))


@register_rule(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(op: Any, x: Any, y: Any, alpha: float = 1) -> PositTensor:
    """The difference y - alpha x."""
    return _plus(op, y, x, -finite(op, alpha))


def _plus(op: Any, x: Any, y: Any, alpha: float) -> PositTensor:
    result = outcome_of(op, x, y)
    x, y = numbers_checked(op, x, y)
    if alpha in (1.0, -1.0):
        return delivered(op, x, combine(ADD if alpha == 1.0 else SUB, op, x, y, result))
    if all(isinstance(each, PositTensor) and each.format == result.format for each in (x, y)) and _fits(
        alpha, result.format
    ):
        shape = broadcast_shape(op, (x, y))
        b, a = (flat_codes(np.broadcast_to(to_numpy(each.codes), shape)) for each in (y, x))
        return delivered(op, x, result.wrap(axpy(alpha, b, a, result.format).reshape(shape)))
    return delivered(op, x, rounded_once(result, op, (alpha, y, x), odd_fma, lambda a, b, c: a * b + c))


@register_rule(aten.neg.default, aten.neg_.default)
def _neg(op: Any, x: PositTensor) -> PositTensor:
    """-x, exact but for another format; NaR stays NaR (its code is its own complement)."""
    y = outcome_of(op, x).cast(x)
    return delivered(op, x, y.like(_extended(-y.codes, y)))


@register_rule(aten.abs.default, aten.abs_.default)
def _abs(op: Any, x: PositTensor) -> PositTensor:
    """|x|, exact but for another format; NaR stays NaR."""
    y = outcome_of(op, x).cast(x)
    return delivered(op, x, y.like(_extended(y.codes.abs(), y)))


def _extended(codes: torch.Tensor, x: PositTensor) -> torch.Tensor:
    """Codes sign-extended again: of -NaR, where the storage is wider than the format."""
    spare = 8 * codes.element_size() - x.format.nbits
    return codes if spare == 0 else codes << spare >> spare


@register_rule(aten.sign.default, aten.sgn.default, aten.sign_.default, aten.sgn_.default)
def _sign(op: Any, x: PositTensor) -> PositTensor:
    """1, 0 or -1; NaR stays NaR."""
    y = outcome_of(op, x).cast(x)
    return delivered(op, x, y.like(torch.from_numpy(arithmetic.sign(to_numpy(y.codes), y.format))))


@register_rule(aten.floor.default, aten.ceil.default, aten.round.default)
def _integer(op: Any, x: PositTensor) -> PositTensor:
    """The integer below, above or nearest (ties to even), rounded to the format."""
    functions = {aten.floor.default: arithmetic.floor, aten.ceil.default: arithmetic.ceil}
    whole = functions.get(op, arithmetic.nearest_int)(to_numpy(x.codes), x.format)
    return outcome(op, x).cast(x.like(torch.from_numpy(whole)))


@register_rule(aten.addcmul.default, aten.addcmul_.default)
def _addcmul(op: Any, x: PositTensor, a: Any, b: Any, *, value: float = 1) -> PositTensor:
    """The sum x + value a b."""
    result = outcome_of(op, x, a, b)
    factor = finite(op, value)
    if abs(np.frexp(factor)[0]) == 0.5 and 2.0**-100 <= abs(factor) <= 2.0**100:
        sum_ = rounded_once(
            result,
            op,
            (a, b, x),
            lambda a, b, c: odd_fma(factor * a, b, c),
            lambda a, b, c: Fraction(factor) * a * b + c,
        )
        return delivered(op, x, sum_)

    def approximate(s: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        return _cancelling(s, factor * a * b)

    sum_ = rounded_once(result, op, (x, a, b), approximate, lambda s, a, b: s + Fraction(factor) * a * b)
    return delivered(op, x, sum_)


@register_rule(aten.addcdiv.default, aten.addcdiv_.default)
def _addcdiv(op: Any, x: PositTensor, a: Any, b: Any, *, value: float = 1) -> PositTensor:
    """The sum x + value a / b; NaR where b is 0."""
    factor = finite(op, value)

    def approximate(s: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        return _cancelling(s, np.where(b == 0.0, np.nan, factor * a / b))

    def exactly(s: Fraction, a: Fraction, b: Fraction) -> Solution:
        return s + Fraction(factor) * a / b if b else None

    return delivered(op, x, rounded_once(outcome_of(op, x, a, b), op, (x, a, b), approximate, exactly))


@register_rule(aten.lerp.Scalar, aten.lerp_.Scalar, aten.lerp.Tensor, aten.lerp_.Tensor)
def _lerp(op: Any, start: PositTensor, end: PositTensor, weight: Any) -> PositTensor:
    """The sum start + weight (end - start)."""
    (weight,) = numbers_checked(op, weight)

    def approximate(a: Floats, b: Floats, w: Floats) -> tuple[Floats, Floats]:
        total, bound = _cancelling(a, w * (b - a))
        return total, np.where(
            total == 0.0, bound, bound + 2.0**-50 * np.abs(w) * (np.abs(a) + np.abs(b)) / abs(total)
        )

    result = outcome_of(op, start, end, weight)
    sum_ = rounded_once(result, op, (start, end, weight), approximate, lambda a, b, w: a + w * (b - a))
    return delivered(op, start, sum_)


def _cancelling(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """A sum of which b has a relative error below 2**-51, and its bound: 1 where nothing is known."""
    total = a + b
    size = np.abs(a) + np.abs(b)
    bound = np.where(np.abs(total) > 2.0**-1000, 2.0**-50 * size / np.abs(total), 1.0)
    vanished = (size == 0.0) | np.isnan(total)
    return total, np.where(vanished, 0.0, bound)


_UNARY = {
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "exp_minus_1",
    "log": "log",
    "log2": "log2",
    "log10": "log10",
    "log1p": "log_plus_1",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "arc_sin",
    "acos": "arc_cos",
    "atan": "arc_tan",
    "sinh": "sinh",
    "cosh": "cosh",
    "asinh": "arc_sinh",
    "acosh": "arc_cosh",
    "atanh": "arc_tanh",
    "erf": "erf",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
#: Functions of one argument by their names in aten.
CURVES: dict[str, Curve] = {name: registered(ours) for name, ours in _UNARY.items()}
CURVES["reciprocal"] = with_number(DIV, 1.0, number_first=True)


@register_rule(
    *(getattr(aten, name).default for name in CURVES), *(getattr(aten, f"{name}_").default for name in CURVES)
)
def _function(op: Any, x: PositTensor) -> PositTensor:
    """A function of one argument, correctly rounded; NaR outside its domain."""
    return delivered(op, x, apply(CURVES[op._opname.rstrip("_")], x, outcome_of(op, x)))
