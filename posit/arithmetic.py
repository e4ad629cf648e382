"""Arithmetic on arrays of codes: every result correctly rounded, once, for every format.

The functions take codes in any integer dtype of the format's width (unsigned, or signed as torch stores
them), of any strides, and broadcast them; the result has the dtype of the first operand, in C order.  What
they compute on is integers or float64 (`posit._kernels.arithmetic`), chosen by the format; the bits do not
depend on the choice.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from posit._kernels import arithmetic as kernels
from posit._threads import split
from posit.codec import Codes, destination, signed_storage, to_signed, to_unsigned
from posit.errors import CodeError, ShapeError
from posit.formats import Format

Truths = npt.NDArray[np.bool_]
Kernel = Callable[..., Any]


def add(a: Codes, b: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """The sum a + b, rounded once; NaR where either is.  Posit Standard (2022), section 5.4.

    Args:
        a: Codes of `fmt`.
        b: Codes of `fmt`, of a shape that broadcasts with that of a.
        fmt: Format of operands and result.
        out: Where to write: contiguous, of the result's shape and the dtype of a; may be an operand.

    Raises:
        CodeError: codes of another width.
        ShapeError: shapes that do not broadcast, or an `out` that does not fit.

    >>> [hex(c) for c in add(np.array([0x4000, 0x5A00], np.uint16), np.uint16([0x4000]), Format(16))]
    ['0x4800', '0x5b00']
    """
    return _apply(kernels.binary(kernels.ADD, *fmt.parameters), (a, b), fmt, 4, out)


def sub(a: Codes, b: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """The difference a - b, rounded once; NaR where either is.  Arguments and errors as for `add`."""
    return _apply(kernels.binary(kernels.SUB, *fmt.parameters), (a, b), fmt, 4, out)


def mul(a: Codes, b: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """The product a * b, rounded once; NaR where either is.  Arguments and errors as for `add`.

    The product that rounding to float64 first gets wrong:

    >>> hex(mul(np.array([0x40E4E1E1], np.uint32), np.array([0x471D6663], np.uint32), Format(32))[0])
    '0x4866eb87'
    """
    return _apply(kernels.binary(kernels.MUL, *fmt.parameters), (a, b), fmt, 4, out)


def div(a: Codes, b: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """The quotient a / b, rounded once; NaR where either is or b is 0.  Arguments and errors as for `add`."""
    return _apply(kernels.binary(kernels.DIV, *fmt.parameters), (a, b), fmt, 6, out)


def fma(a: Codes, b: Codes, c: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """Fused multiply-add a * b + c with one rounding; NaR where any is.

    Not in the standard.  Arguments and errors as for `add`.
    """
    return _apply(kernels.fma(*fmt.parameters), (a, b, c), fmt, 8, out)


def sqrt(a: Codes, fmt: Format, out: Codes | None = None) -> Codes:
    """The square root, rounded once; NaR for NaR and negative numbers.  Errors as for `add`."""
    return _apply(kernels.unary(kernels.SQRT, *fmt.parameters), (a,), fmt, 5, out)


def nearest_int(a: Codes, fmt: Format) -> Codes:
    """The nearest integer, ties to even, as a posit; NaR stays.  Errors as for `add`."""
    return _apply(kernels.unary(kernels.NEAREST_INT, *fmt.parameters), (a,), fmt, 3)


def ceil(a: Codes, fmt: Format) -> Codes:
    """The smallest integer not below, as a posit; NaR stays.  Errors as for `add`."""
    return _apply(kernels.unary(kernels.CEIL, *fmt.parameters), (a,), fmt, 3)


def floor(a: Codes, fmt: Format) -> Codes:
    """The largest integer not above, as a posit; NaR stays.  Errors as for `add`."""
    return _apply(kernels.unary(kernels.FLOOR, *fmt.parameters), (a,), fmt, 3)


def negate(a: Codes, fmt: Format) -> Codes:
    """-a, exact: the two's complement of the code; 0 and NaR are their own.  Errors as for `add`.

    >>> negate(np.array([0x4000, 0x8000], np.uint16), Format(16))
    array([49152, 32768], dtype=uint16)
    """
    return _restored(np.negative(_signed(a, fmt)), a, fmt)


def absolute(a: Codes, fmt: Format) -> Codes:
    """abs(a), exact; NaR stays.  Errors as for `add`."""
    return _restored(np.abs(_signed(a, fmt)), a, fmt)


def sign(a: Codes, fmt: Format) -> Codes:
    """1, 0 or -1 as a posit; NaR stays.  Errors as for `add`."""
    codes = _signed(a, fmt)
    one = signed_storage(fmt).type(1 << (fmt.nbits - 2))
    nar = signed_storage(fmt).type(-(1 << (fmt.nbits - 1)))
    return _restored(np.where(codes == nar, nar, np.sign(codes) * one), a, fmt)


def next_code(a: Codes, fmt: Format) -> Codes:
    """The posit after a in the order of codes, around the end: maxpos, NaR, -maxpos."""
    return _restored(np.add(_signed(a, fmt), signed_storage(fmt).type(1)), a, fmt)


def prior_code(a: Codes, fmt: Format) -> Codes:
    """The posit before a in the order of codes, around the end: -maxpos, NaR, maxpos."""
    return _restored(np.subtract(_signed(a, fmt), signed_storage(fmt).type(1)), a, fmt)


def compare(relation: Callable[[Any, Any], Any], a: Codes, b: Codes, fmt: Format) -> Truths:
    """A comparison by the standard's order, that of signed codes: NaR equals itself and is below every real.

    Args:
        relation: ``np.equal``, ``np.less`` and the like.
        fmt: Format of both.
        a: Codes of `fmt`.
        b: Codes of `fmt`, of a shape that broadcasts with that of a.

    >>> compare(np.less, np.array([0x8000], np.uint16), np.array([0x8001], np.uint16), Format(16))
    array([ True])
    """
    _broadcast_shape((a, b))
    return np.asarray(relation(_signed(a, fmt), _signed(b, fmt)), dtype=np.bool_)


def _signed(codes: Codes, fmt: Format) -> Codes:
    codes = np.asarray(codes)
    if codes.dtype not in (fmt.storage, signed_storage(fmt)):
        raise CodeError(
            f"codes of {fmt} must have dtype {fmt.storage} or {signed_storage(fmt)}, got {codes.dtype}; "
            f"posit.from_codes checks and converts integers"
        )
    return to_signed(codes, fmt)


def _restored(signed: Codes, like: Codes, fmt: Format) -> Codes:
    """Codes sign-extended again after integer arithmetic, in the dtype of `like`."""
    return np.asarray(to_signed(signed, fmt) if like.dtype.kind == "i" else to_unsigned(signed, fmt))


def _broadcast_shape(operands: tuple[Codes, ...]) -> tuple[int, ...]:
    shapes = [operand.shape for operand in operands]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        given = ", ".join(str(shape) for shape in shapes)
        raise ShapeError(
            f"shapes {given} do not broadcast together; align them from the last axis, each 1 or equal"
        ) from None


def _apply(
    kernel: Kernel, operands: tuple[Codes, ...], fmt: Format, cost: int, out: Codes | None = None
) -> Codes:
    """Run a kernel over broadcast operands; `cost` is about the nanoseconds of one element."""
    shape = _broadcast_shape(operands)
    stored = signed_storage(fmt)
    flat = []
    for operand in operands:
        if operand.dtype not in (fmt.storage, stored):
            _signed(operand, fmt)  # raises
        full = operand if operand.shape == shape else np.broadcast_to(operand, shape)
        flat.append(np.ascontiguousarray(full).reshape(-1).view(stored))
    result = destination(out, shape, operands[0].dtype)
    codes = result.reshape(-1).view(stored)
    split(codes.size, cost * codes.size, lambda i, j: kernel(*(part[i:j] for part in flat), codes[i:j]))
    if result.dtype != stored and fmt.nbits < 8 * stored.itemsize:
        np.bitwise_and(result, fmt.storage.type(fmt.code_mask), out=result)
    return result
