"""Elementwise formulas over posits, decoded block by block, computed in float64 and rounded once.

A formula gives either numbers rounded to odd, of which the encoding is the only rounding, or approximations with
proven bounds: what a bound does not decide is settled with rationals or in higher precision.  Formats whose products
leave float64's range are settled element by element: slowly, to the same rule.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posit import _buffers, codec
from posit._elementary.rounding import value
from posit._elementary.ziv import Solution, settle
from posit._kernels import elementary
from posit._kernels import pointwise as kernels
from posit._threads import split
from posit.codec import Codes
from posit.errors import NonFiniteError, ShapeError
from posit.formats import Format
from posit.torch.registry import calling_module
from posit.torch.tensor import Outcome, PositTensor, to_numpy

Floats = npt.NDArray[np.float64]
Bounded = tuple[Floats, Floats | float]  #: approximations and bounds of their relative errors
Operand = Any  # a PositTensor, a tensor of integers or truth values, or a Python number
Compute = Callable[..., Floats | Bounded]
Solve = Callable[..., Solution]

ADD, SUB, MUL, DIV = range(4)  # as in posit._kernels.arithmetic


def _quotient(a: Fraction, b: Fraction) -> Solution:
    return a / b if b else None


EXACT: dict[int, Solve] = {
    ADD: lambda a, b: a + b,
    SUB: lambda a, b: a - b,
    MUL: lambda a, b: a * b,
    DIV: _quotient,
}
_BLOCK = 1 << 14
_NANOSECONDS = 8
_LARGEST = 2.0**400  # of a Python number, so that its products stay in float64's range


def rounded_once(
    result: Outcome, op: Any, operands: Sequence[Operand], compute: Compute, solve: Solve
) -> PositTensor:
    """A formula of posits and numbers, which broadcast; each element is rounded once.

    Args:
        result: Format of the result.
        op: Named in errors.
        operands: Posits in any formats, integer tensors, Python numbers.
        compute: Of float64 arrays, NaN for NaR: the formula rounded to odd; or approximations and bounds of their
            relative errors.  Numbers come as arrays too.
        solve: Of rationals: the formula exactly, None for NaR, or a number to evaluate (see `posit._elementary.ziv`).
    """
    shape = broadcast_shape(op, operands)
    flat = [_flat(operand, shape) for operand in operands]
    formats = [operand.format if isinstance(operand, PositTensor) else None for operand in operands]
    codes = rounded_codes(result.format, flat, formats, compute, solve)
    return result.wrap(codes.reshape(shape))


def rounded_codes(
    to: Format, operands: Sequence[Any], formats: Sequence[Format | None], compute: Compute, solve: Solve
) -> Codes:
    """The same for flat arrays of one size: codes of a format, or where that is None numbers (an array or one)."""
    size = next(operand.size for operand in operands if isinstance(operand, np.ndarray))
    out: Codes = _buffers.empty(size, codec.signed_storage(to))
    unsure = _buffers.zeros(size, np.uint8)
    if _fit(to, operands, formats):
        split(size, size * _NANOSECONDS, _runner(to, operands, formats, compute, out, unsure))
    else:
        unsure.fill(1)

    def exactly(index: int) -> int:
        values = [_rational(operand, fmt, index) for operand, fmt in zip(operands, formats, strict=True)]
        return to.nar if None in values else settle(solve(*values), to)

    settle_open(out, unsure, exactly, to)
    return out


def settle_open(
    out: Codes, unsure: npt.NDArray[np.uint8], exactly: Callable[[int], int], fmt: Format
) -> None:
    """Overwrite the elements marked unsure by the code (unsigned) that `exactly` finds for their index."""
    indices = np.flatnonzero(unsure)
    if indices.size:
        settled = np.array([exactly(int(index)) for index in indices], np.uint64).astype(fmt.storage)
        out[indices] = codec.to_signed(settled, fmt)


def _runner(
    to: Format,
    operands: Sequence[Any],
    formats: Sequence[Format | None],
    compute: Compute,
    out: Codes,
    unsure: Any,
) -> Callable[[int, int], None]:
    certify = elementary.certifier(*to.parameters, out.dtype)

    def load(operand: Any, fmt: Format | None, part: slice) -> Floats:
        if fmt is not None:
            return np.asarray(codec.decode(operand[part], fmt))
        if isinstance(operand, np.ndarray):
            return operand[part].astype(np.float64)
        return np.full(part.stop - part.start, operand)

    def run(start: int, stop: int) -> None:
        with np.errstate(all="ignore"):
            for low in range(start, stop, _BLOCK):
                part = slice(low, min(low + _BLOCK, stop))
                found = compute(
                    *(load(operand, fmt, part) for operand, fmt in zip(operands, formats, strict=True))
                )
                if isinstance(found, tuple):
                    bounds = np.broadcast_to(np.asarray(found[1], np.float64), found[0].shape)
                    certify(found[0], np.ascontiguousarray(bounds), out[part], unsure[part])
                else:
                    codec.encode(found, to, out.dtype, out=out[part])

    return run


def _fit(to: Format, operands: Sequence[Any], formats: Sequence[Format | None]) -> bool:
    numbers = [operand for operand in operands if not isinstance(operand, np.ndarray)]
    return all(fmt.fits_float64 for fmt in (to, *formats) if fmt is not None) and all(
        number == 0 or 1 / _LARGEST <= abs(number) <= _LARGEST for number in numbers
    )


def _rational(operand: Any, fmt: Format | None, index: int) -> Fraction | None:
    if fmt is not None:
        return value(int(operand[index]), fmt)
    return Fraction(operand[index].item() if isinstance(operand, np.ndarray) else operand)


def _flat(operand: Operand, shape: tuple[int, ...]) -> Any:
    if not isinstance(operand, torch.Tensor):
        return operand
    array = to_numpy(operand.codes if isinstance(operand, PositTensor) else operand)
    return flat_codes(array if array.shape == shape else np.broadcast_to(array, shape))


def flat_codes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In C order, one dimension."""
    return _buffers.contiguous(array).reshape(-1)


def broadcast_shape(op: Any, operands: Sequence[Operand]) -> tuple[int, ...]:
    """The shape of the result.

    Raises:
        ShapeError: the shapes do not broadcast together.
    """
    shapes = [tuple(operand.shape) for operand in operands if isinstance(operand, torch.Tensor)]
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        given = ", ".join(str(shape) for shape in shapes)
        raise ShapeError(
            f"{op} got shapes {given}{calling_module()}, which do not broadcast together; "
            "align them from the last dimension, each 1 or equal"
        ) from None


def finite(op: Any, number: float) -> float:
    """A Python number as float64.

    Raises:
        NonFiniteError: an infinity or NaN, which posits do not have.
    """
    x = float(number)
    if not np.isfinite(x):
        raise NonFiniteError(
            f"{op} got the number {x}{calling_module()}: posits have no infinities; give a finite number"
        )
    return x


def odd_binary(operation: int, a: Floats, b: Floats) -> Floats:
    """The sum, difference, product or quotient of float64 arrays, rounded to odd."""
    out = np.empty(a.shape)
    kernels.binary(operation)(a, b, out)
    return out


def odd_fma(a: Floats, b: Floats, c: Floats) -> Floats:
    """The sum a * b + c rounded to odd."""
    out = np.empty(a.shape)
    kernels.fma(a, b, c, out)
    return out


def inexact(x: Floats) -> npt.NDArray[np.bool_]:
    """Where numbers rounded to odd may be inexact: where their last bit is 1."""
    out = np.empty(x.shape, np.bool_)
    kernels.is_odd(x, out)
    return out
