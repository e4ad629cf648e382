"""Products of posit arrays: `matmul`, `dot`, `tensordot`; each element an exact sum rounded once."""

from typing import Any, Literal, overload

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from posit import _explain, _streams
from posit._array import PositArray
from posit._explain import Explanation
from posit._matmul import matmul_codes
from posit._matmul_operands import batch_shape, carries_products
from posit._operands import codes_of
from posit.codec import Codes
from posit.errors import FormatMismatch, ShapeError
from posit.formats import Format

Shape = tuple[int, ...]

LONG = 1 << 13  #: length from which vectors are summed by the kernels of `posit._streams`


@overload
def matmul(
    a: PositArray,
    b: PositArray,
    *,
    out_format: Format | str | None = None,
    addend: Any = None,
    out: PositArray | None = None,
    explain: Literal[False] = False,
) -> PositArray: ...


@overload
def matmul(
    a: PositArray,
    b: PositArray,
    *,
    out_format: Format | str | None = None,
    addend: Any = None,
    out: PositArray | None = None,
    explain: Literal[True],
) -> tuple[PositArray, Explanation]: ...


def matmul(
    a: PositArray,
    b: PositArray,
    *,
    out_format: Format | str | None = None,
    addend: Any = None,
    out: PositArray | None = None,
    explain: bool = False,
) -> PositArray | tuple[PositArray, Explanation]:
    r"""The matrix product :math:`AB` or :math:`AB + C`, each element formed exactly and rounded once.

    Args:
        a: Shape (..., m, k) or (k,), of any strides.
        b: Shape (..., k, n) or (k,); leading axes broadcast.
        out_format: Format of the result; by default that of the operands.  It must be named where they differ.
        addend: C: posits of the result's format, or a Python number (rounded to it first), of a shape that
            broadcasts to the result's.
        out: Where to write: of the result's shape and format.  It may overlap the operands.
        explain: Return how the elements were settled as well.

    Returns:
        The product, shape (..., m, n), without the axes that one-dimensional operands lack: `out` if given.  NaR
        where a row of `a`, a column of `b` or the element of `addend` that feeds it has one; `addend` or 0 where k
        is 0.  With `explain`, that and an `Explanation`.

    Raises:
        FormatMismatch: the operands' formats differ and `out_format` is not named; or `addend` or `out` is not of
            the result's format.
        ShapeError: shapes that do not fit, a scalar operand, or an `out` that cannot be written.  Whatever the
            error, `out` is unchanged.

    >>> import posit
    >>> x = posit.array([[1e9, 1, -1e9]], "posit32")
    >>> matmul(x, posit.ones((3, 1), "posit32"), addend=0.5)
    posit.array([[1.5]], 'posit32')
    >>> y = posit.array([[3, 1, -2]], "posit16")
    >>> print(matmul(y.T, y, explain=True)[1])
    9 elements: 9 exact by range (100 %)
    """
    if explain:
        with _explain.explain() as found:
            product = matmul(a, b, out_format=out_format, addend=addend, out=out)
        return product, found.counts
    fmt = result_format("matmul", a, b, out_format)
    left, right = a.codes, b.codes
    if out is None and addend is None and left.ndim == right.ndim == 2 and left.shape[1] == right.shape[0]:
        return _posits(exact_product(left, right, a.format, b.format, fmt), fmt)
    shape = _matmul_shape(a.shape, b.shape)
    _check_out(out, shape, fmt)
    extra = None if addend is None else _addend(addend, shape, a.ndim == 1, b.ndim == 1, fmt)
    left = left[None, :] if a.ndim == 1 else left
    right = right[:, None] if b.ndim == 1 else right
    codes = exact_product(left, right, a.format, b.format, fmt, extra).reshape(shape)
    if out is None:
        return _posits(codes, fmt)
    out.codes[...] = codes
    return out


def _posits(codes: Codes, fmt: Format) -> PositArray:
    """An array of codes that need no check: a call of small matrices is as fast as what it leaves out."""
    made = PositArray.__new__(PositArray)
    made.codes, made.format = codes, fmt
    return made


def exact_product(
    left: Codes,
    right: Codes,
    left_format: Format,
    right_format: Format,
    fmt: Format,
    addend: Codes | None = None,
) -> Codes:
    """Codes of (..., m, k) times (..., k, n) plus an addend; whoever asked for it is told how they were settled."""
    product = matmul_codes(left, right, left_format, right_format=right_format, out_format=fmt, addend=addend)
    if _explain.listening():
        _explain.record(product.tiers)
    return product.codes


def result_format(name: str, a: Any, b: Any, out_format: Format | str | None) -> Format:
    """Format of the product of two posit arrays.

    Raises:
        FormatMismatch: an operand is not a posit array, or the formats differ and `out_format` is None.
    """
    if out_format is None and type(a) is type(b) is PositArray and a.format is b.format:
        return a.format
    for x in (a, b):
        if not isinstance(x, PositArray):
            raise FormatMismatch(
                f"{name} takes posit arrays, got {type(x).__name__}; round it first with posit.array(x, format)"
            )
    if out_format is not None:
        return Format.parse(out_format)
    if a.format != b.format:
        raise FormatMismatch(
            f"{name} of {a.format} and {b.format} has no format of its own; name it, as in "
            f"out_format={str(a.format)!r} (rounds once), or convert with x.astype(format)"
        )
    return a.format  # type: ignore[no-any-return]


def _matmul_shape(a: Shape, b: Shape) -> Shape:
    if not a or not b:
        raise ShapeError(f"matmul needs at least one axis, got shapes {a} and {b}; scale with a * b")
    if a[-1] != b[-2 if len(b) > 1 else -1]:
        raise ShapeError(f"matmul needs (..., m, k) and (..., k, n), got {a} and {b}")
    return (*batch_shape(a, b), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def _check_out(out: Any, shape: Shape, fmt: Format) -> None:
    if out is None:
        return
    if not isinstance(out, PositArray) or out.format != fmt:
        given = out.format if isinstance(out, PositArray) else type(out).__name__
        raise FormatMismatch(f"the result is {fmt}, out is {given}; give out the result's format")
    if out.shape != shape or not out.codes.flags.writeable:
        raise ShapeError(
            f"out must be writeable and of shape {shape}; got shape {out.shape}, "
            f"writeable: {out.codes.flags.writeable}"
        )


def _addend(addend: Any, shape: Shape, no_rows: bool, no_columns: bool, fmt: Format) -> Codes:
    """Codes that broadcast to (..., m, n), m or n being 1 where the operand has no such axis."""
    codes = codes_of(addend, fmt)
    try:
        full = np.broadcast_to(codes, shape)
    except ValueError:
        raise ShapeError(
            f"the addend of shape {codes.shape} does not broadcast to the result's {shape}"
        ) from None
    if no_columns:
        full = full[..., None]
    return full[..., None, :] if no_rows else full


@overload
def dot(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[False] = False
) -> PositArray: ...


@overload
def dot(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[True]
) -> tuple[PositArray, Explanation]: ...


def dot(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: bool = False
) -> PositArray | tuple[PositArray, Explanation]:
    r"""NumPy's `dot`: :math:`\sum_t a_{..t} b_{..t.}`, each element formed exactly and rounded once.

    Args:
        a: Any shape; the sum runs over its last axis.  A scalar scales `b`.
        b: Any shape; the sum runs over its last axis but one, or its only one.  A scalar scales `a`.
        out_format: Format of the result; by default that of the operands.  It must be named where they differ.
        explain: Return how the elements were settled as well.

    Returns:
        Posits of shape ``a.shape[:-1] + b.shape`` without b's summed axis; NaR where a term is.  With `explain`,
        that and an `Explanation`.

    Raises:
        FormatMismatch: the operands' formats differ and `out_format` is not named.
        ShapeError: the lengths differ.

    Source:
        Posit Standard (2022), section 5.11 (fused dot products by way of the quire).

    >>> import posit
    >>> x = posit.array([3e7, 1, -3e7], "posit32")
    >>> dot(x, posit.ones(3, "posit32")), dot(x, x, out_format="posit8")  # saturates
    (posit.array(1.0, 'posit32'), posit.array(20000000.0, 'posit8'))
    """
    if explain:
        with _explain.explain() as found:
            product = dot(a, b, out_format=out_format)
        return product, found.counts
    fmt = result_format("dot", a, b, out_format)
    if a.ndim == 0 or b.ndim == 0:
        codes = exact_product(a.codes.reshape(-1, 1), b.codes.reshape(1, -1), a.format, b.format, fmt)
        return PositArray(codes.reshape(a.shape + b.shape), fmt)
    if a.ndim == b.ndim == 1 and a.shape == b.shape and _is_stream(a, b, fmt):
        _explain.record(Explanation(quire=1))
        return PositArray(np.array(_streams.dot_codes(a.codes, b.codes, fmt), fmt.storage), fmt)
    if a.ndim <= 2 and b.ndim <= 2:
        return matmul(a, b, out_format=fmt)
    return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)), out_format=fmt)


def _is_stream(a: PositArray, b: PositArray, fmt: Format) -> bool:
    """Whether two vectors are long enough for the kernel that passes over them once, and it serves their format."""
    return a.size >= LONG and a.format == b.format == fmt and carries_products(fmt, fmt)


def tensordot(
    a: PositArray, b: PositArray, axes: Any = 2, *, out_format: Format | str | None = None
) -> PositArray:
    """NumPy's `tensordot`, each element an exact sum rounded once.

    Args:
        a: Posits of any shape.
        b: The same.
        axes: How many last axes of `a` and first of `b` are summed over; or the axes of each.
        out_format: Format of the result; by default that of the operands.  It must be named where they differ.

    Raises:
        FormatMismatch: the operands' formats differ and `out_format` is not named.
        ShapeError: the lengths of the axes differ, or there are not so many.

    >>> import posit
    >>> x = posit.array([[1, 2], [3, 4]], "posit16")
    >>> tensordot(x, x)
    posit.array(30.0, 'posit16')
    """
    fmt = result_format("tensordot", a, b, out_format)
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot over {axes} axes of shapes {a.shape} and {b.shape}")
        over_a, over_b = tuple(range(a.ndim - int(axes), a.ndim)), tuple(range(int(axes)))
    else:
        over_a, over_b = normalize_axis_tuple(axes[0], a.ndim), normalize_axis_tuple(axes[1], b.ndim)
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ShapeError(
            f"tensordot over axes {over_a} of {a.shape} and {over_b} of {b.shape}: lengths differ"
        )
    rest_a = [i for i in range(a.ndim) if i not in over_a]
    rest_b = [i for i in range(b.ndim) if i not in over_b]
    k, m, n = (
        int(np.prod([x.shape[i] for i in group], dtype=np.int64))
        for x, group in ((a, over_a), (a, rest_a), (b, rest_b))
    )
    left = a.codes.transpose(*rest_a, *over_a).reshape(m, k)
    right = b.codes.transpose(*over_b, *rest_b).reshape(k, n)
    shape = [a.shape[i] for i in rest_a] + [b.shape[i] for i in rest_b]
    return PositArray(exact_product(left, right, a.format, b.format, fmt).reshape(shape), fmt)
