"""Making posit arrays: from numbers, from codes, from a saved array, filled."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from posit._array import PositArray
from posit._rational import from_number
from posit.errors import CodeError, FormatMismatch
from posit.formats import Format

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def array(values: Any, fmt: Format | str) -> PositArray:
    """Round numbers to posits, each once: nearest, ties to the even code, never to 0 or NaR.

    Args:
        values: Python numbers (int of any size, float, Fraction, Decimal), nested lists of the first three,
            NumPy arrays of integers, bool, float16, bfloat16 (ml_dtypes), float32 or float64, a posit array
            (converted), or a structured array written by ``np.save`` (its format must be `fmt`).  NaN and
            infinities become NaR, and so does the most negative int64, the integers' NaR.
        fmt: The format, or its name.

    Returns:
        A new array of the same shape; scalars have shape ().

    Raises:
        FormatMismatch: values that are not numbers of these kinds: objects, text, complex, longdouble.

    >>> array([[1, 2], [3, 1e9]], "posit8")
    posit.array([[1.0, 2.0],
                 [3.0, 20000000.0]], 'posit8')
    """
    form = Format.parse(fmt)
    if isinstance(values, PositArray):
        return values.astype(form)  # type: ignore[no-any-return]
    if isinstance(values, int | float | Fraction | Decimal) and not isinstance(values, np.generic):
        exact = Fraction(values) if isinstance(values, Decimal) and values.is_finite() else values
        number = (
            float("nan") if isinstance(exact, Decimal) else int(exact) if isinstance(exact, bool) else exact
        )
        return PositArray(np.array(from_number(number, form), form.storage), form)
    if isinstance(values, list | tuple) and any(isinstance(value, PositArray) for value in values):
        parts = [array(value, form).codes for value in values]
        return PositArray(np.stack(parts), form)
    given = np.asarray(values)
    if isinstance(values, list | tuple) and given.dtype in (np.float64, np.object_):
        exact_numbers = _too_long_for_float64(values, form)
        if exact_numbers is not None:
            return PositArray(exact_numbers, form)
    return PositArray(_round(given, form), form)


def _too_long_for_float64(values: Any, fmt: Format) -> "np.ndarray[Any, Any] | None":
    """Codes of nested lists that NumPy would round on the way: long integers beside floats, fractions."""
    items: Any = np.array(values, dtype=np.object_)
    kinds = {type(item) for item in items.flat}
    long = any(type(item) is int and abs(item) >= 1 << 53 for item in items.flat)
    if not kinds <= {int, float, Fraction} or not (long or Fraction in kinds):
        return None
    return np.array([from_number(item, fmt) for item in items.flat], fmt.storage).reshape(items.shape)


def _round(given: "np.ndarray[Any, Any]", fmt: Format) -> "np.ndarray[Any, Any]":
    from posit.conversion import from_floats, from_integers

    if given.dtype.kind == "b":
        given = given.astype(np.uint8)
    if given.dtype.kind in "iu":
        return from_integers(given, fmt)
    if given.dtype.name in _FLOATS:
        return from_floats(given, fmt)
    if given.dtype.names is not None:
        saved = from_structured(given)
        if saved.format == fmt:
            return saved.codes.copy()
        raise FormatMismatch(
            f"{fmt} was wanted, the array holds {saved.format}; convert with .astype({str(fmt)!r})"
        )
    raise FormatMismatch(
        f"dtype {given.dtype} does not become {fmt}; give integers, float16, bfloat16, float32 or float64 "
        "(text: posit.parse; integers beyond 64 bits: one at a time)"
    )


def from_codes(codes: Any, fmt: Format | str) -> PositArray:
    """Posits from their codes, unchanged.

    Args:
        codes: Integers of any dtype or nested lists of them: unsigned, right-aligned, from 0 to 2**nbits - 1;
            or of the signed dtype of the format's width, sign-extended, as torch stores them.
        fmt: The format, or its name.

    Returns:
        A new array.

    Raises:
        CodeError: codes that are no integers, or out of range.

    >>> from_codes([0x4C91, 0x8000], "posit16")
    posit.array([3.142, NaR], 'posit16')
    """
    from posit.codec import signed_storage, to_unsigned

    form = Format.parse(fmt)
    given = np.asarray(codes)
    if (
        isinstance(codes, list | tuple) and given.dtype.kind in "fO"
    ):  # NumPy makes floats of none and of very long ones
        items: Any = np.array(codes, dtype=np.object_)
        if all(type(item) is int and 0 <= item < 1 << 64 for item in items.flat):
            given = items.astype(np.uint64)
    if given.dtype.kind not in "iu":
        raise CodeError(
            f"codes of {form} must be integers, got dtype {given.dtype}; "
            f"to round real numbers use posit.array(x, {str(form)!r})"
        )
    low = (
        -form.nar if given.dtype == signed_storage(form) and not isinstance(codes, list | tuple | int) else 0
    )
    high = form.maxpos if low else form.code_mask
    if given.size and (int(given.min()) < low or int(given.max()) > high):
        raise CodeError(
            f"codes of {form} lie in {low} .. {high:#x}, got {int(given.min())} .. {int(given.max()):#x}; "
            f"to round numbers use posit.array(x, {str(form)!r})"
        )
    if low:
        return PositArray(np.array(to_unsigned(given, form)), form)
    return PositArray(given.astype(form.storage), form)


def from_structured(saved: "np.ndarray[Any, Any]") -> PositArray:
    """The array in the container that ``np.save(file, x)`` writes.

    It is a structured array of one field, named by the format, that holds the codes.  The container needs no
    pickle, can be memory-mapped, and is a view: nothing is copied.

    Raises:
        CodeError: not such a container.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, array([1.5, 2], "posit<12,1>"))
    >>> from_structured(np.load(io.BytesIO(file.getvalue())))
    posit.array([1.5, 2.0], 'posit<12,1>')
    """
    names = saved.dtype.names
    if names is None or len(names) != 1 or "posit" not in names[0]:
        raise CodeError(
            f"a saved posit array has one field, named by its format, got dtype {saved.dtype}; "
            "for bare codes use posit.from_codes(codes, fmt)"
        )
    return PositArray(saved[names[0]], names[0])


def to_structured(x: PositArray) -> "np.ndarray[Any, Any]":
    """The container of `from_structured`, a view where the array is contiguous.

    >>> to_structured(array([1.0], "posit16")).dtype
    dtype([('posit16', '<u2')])
    """
    return np.asarray(x.codes, order="C").view([(x.format.name, x.codes.dtype)])


def zeros(shape: int | tuple[int, ...], fmt: Format | str) -> PositArray:
    """An array of zeros."""
    form = Format.parse(fmt)
    return PositArray(np.zeros(shape, form.storage), form)


def ones(shape: int | tuple[int, ...], fmt: Format | str) -> PositArray:
    """An array of ones."""
    return full(shape, 1, fmt)


def full(shape: int | tuple[int, ...], value: Any, fmt: Format | str) -> PositArray:
    """An array filled with a Python number, rounded once, or a posit of the same format."""
    from posit._operands import codes_of

    form = Format.parse(fmt)
    return PositArray(np.full(shape, codes_of(value, form), form.storage), form)
