"""`PositArray`: codes and a format, with NumPy's manners."""

import operator
from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from posit import _rational
from posit.codec import Codes
from posit.errors import CodeError, NonFiniteError, NoRuleError, ShapeError
from posit.formats import Format

_numpy: Any = np  # its stubs know nothing of arrays that join by protocol


class PositArray(NDArrayOperatorsMixin):
    """An n-dimensional array of posits of one format.

    Arithmetic rounds each result once, to nearest, ties to the even code.  A Python number that meets an
    array is first rounded to its format; arrays of other formats, NumPy floats and functions without a posit
    meaning raise.  Comparisons
    follow the standard: NaR equals itself and is less than every real number.

    Make one with `posit.array` (rounds numbers) or `posit.from_codes`; the constructor takes codes as they
    are stored.

    Args:
        codes: Right-aligned, zero-extended codes; dtype ``fmt.storage``.  Not copied.
        fmt: Their format, or its name.

    Raises:
        CodeError: the dtype is not ``fmt.storage``.

    >>> import posit
    >>> x = posit.array([1, 2.5, -0.1], posit.posit16)
    >>> x * x + 1
    posit.array([2.0, 7.25, 1.01], 'posit16')
    >>> x[1], float(x[2])
    (posit.array(2.5, 'posit16'), -0.100006103515625)
    """

    __slots__ = ("codes", "format")
    codes: Codes  #: unsigned, right-aligned, zero-extended
    format: Format  #: the format of every element

    def __init__(self, codes: Codes, fmt: Format | str) -> None:
        form = Format.parse(fmt)
        stored = np.asarray(codes)
        if stored.dtype != form.storage:
            raise CodeError(
                f"codes of {form} are stored as {form.storage}, got {stored.dtype}; "
                "posit.from_codes checks and converts integers, posit.array rounds numbers"
            )
        self.codes = stored
        self.format = form

    # Shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.codes.size

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.nbytes

    @property
    def T(self) -> Self:  # noqa: N802 - NumPy's name
        """The array with its axes reversed, a view."""
        return self._like(self.codes.T)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a scalar posit has no length")
        return len(self.codes)

    def __iter__(self) -> Iterator[Self]:
        if not self.ndim:
            raise TypeError("a scalar posit cannot be iterated over")
        return (self._like(row) for row in self.codes)

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape, a view where possible."""
        return self._like(self.codes.reshape(*shape))

    def transpose(self, *axes: Any) -> Self:
        """The array with its axes permuted, a view."""
        return self._like(self.codes.transpose(*axes))

    def ravel(self) -> Self:
        """One axis, a view where possible."""
        return self._like(self.codes.ravel())

    def flatten(self) -> Self:
        """One axis, a copy."""
        return self._like(self.codes.flatten())

    def squeeze(self, axis: Any = None) -> Self:
        """Without axes of length 1, a view."""
        return self._like(self.codes.squeeze(axis))

    def copy(self) -> Self:
        """The same values in new memory."""
        return self._like(self.codes.copy())

    def _like(self, codes: Any) -> Self:
        return type(self)(np.asarray(codes), self.format)

    # Elements

    def __getitem__(self, index: Any) -> Self:
        return self._like(self.codes[_plain(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        from posit._operands import codes_of

        self.codes[_plain(index)] = codes_of(value, self.format)

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def fill(self, value: Any) -> None:
        """Set every element to a posit of the same format or a Python number."""
        self[...] = value

    def item(self) -> float | Fraction:
        """The value of the one element: a float where that is exact, else a Fraction; NaR is nan."""
        return _python_number(self._one("item()"), self.format)

    def tolist(self) -> Any:
        """Values as nested lists of what `item` gives."""
        if not self.ndim:
            return self.item()
        return [part.tolist() for part in self]

    def _one(self, what: str) -> int:
        if self.size != 1:
            raise ShapeError(f"{what} needs one element, got shape {self.shape}; index the array first")
        return int(self.codes.reshape(-1)[0])

    # Scalars

    def _rational(self, what: str) -> Fraction:
        value = _rational.to_rational(self._one(what), self.format)
        if value is None:
            raise NonFiniteError(f"{what} of NaR: it is not a real number; test with np.isnan first")
        return value

    def __float__(self) -> float:
        from posit.conversion import to_floats

        self._one("float()")
        return float(to_floats(self.codes.reshape(-1), self.format, np.float64)[0])

    def __int__(self) -> int:
        """Truncated towards zero, as Python does; `astype` to integers rounds, as the standard does."""
        return int(self._rational("int()"))

    def __trunc__(self) -> int:
        return int(self)

    def __round__(self, ndigits: int | None = None) -> int:
        if ndigits is not None:
            raise NoRuleError("round(x, digits) has no posit meaning; use posit.nearest_int(x) or round(x)")
        return round(self._rational("round()"))

    def __bool__(self) -> bool:
        return self._one("the truth value") != 0

    def __hash__(self) -> int:
        if self.ndim:
            raise TypeError(
                f"an array of shape {self.shape} is mutable and unhashable; a scalar posit is hashable"
            )
        return hash((self.format, int(self.codes)))

    def as_fraction(self) -> Fraction:
        """The exact value of the one element.

        Raises:
            NonFiniteError: it is NaR.
        """
        return self._rational("as_fraction()")

    # Text

    def __str__(self) -> str:
        from posit.text import shortest

        if not self.ndim:
            return shortest(int(self.codes), self.format)
        return self._text("")

    def __repr__(self) -> str:
        if not self.ndim:
            return f"posit.array({self}, {str(self.format)!r})"
        head = "posit.array("
        return f"{head}{self._text(head)}, {str(self.format)!r})"

    def _text(self, prefix: str) -> str:
        from posit.text import shortest

        return np.array2string(
            self.codes,
            prefix=prefix,
            separator=", " if prefix else " ",
            formatter={"int": lambda code: shortest(int(code), self.format)},
        )

    def __format__(self, spec: str) -> str:
        if not spec or self.ndim:
            return format(str(self), spec)
        value = _rational.to_rational(int(self.codes), self.format)
        if value is None:
            return format("NaR", "".join(c for c in spec if c in "<>^"))
        with localcontext() as context:
            context.prec = 1200  # every value of a format is a dyadic number of fewer digits than this
            return format(Decimal(value.numerator) / Decimal(value.denominator), spec)

    # Conversion

    def astype(self, target: Any) -> Any:
        """Convert every element, rounding once.

        Args:
            target: A `Format` or its name; or a NumPy dtype: float64, float32, float16, ml_dtypes' bfloat16
                (nearest, ties to even; NaR gives NaN), or an integer (nearest, ties to even; NaR and values
                out of range give the integer whose first bit is set and no other, as the standard says).

        >>> import posit
        >>> x = posit.array([2.5, 1e6], "posit32")
        >>> x.astype("posit8"), x.astype(np.int16), x.astype(np.float16)
        (posit.array([2.5, 1000000.0], 'posit8'), array([     2, -32768], dtype=int16),
         array([2.5, inf], dtype=float16))
        """
        from posit.conversion import recode, to_floats, to_integers

        form = _as_format(target)
        if form is not None:
            return type(self)(recode(self.codes, self.format, form), form)
        dtype = np.dtype(target)
        if dtype.kind in "iu":
            return to_integers(self.codes, self.format, dtype)
        if dtype in (np.float64, np.float32, np.float16) or dtype.name == "bfloat16":
            return to_floats(self.codes, self.format, dtype)
        raise NoRuleError(
            f"posits do not convert to {dtype}; "
            "choose a Format, an integer dtype, float16, bfloat16, float32 or float64"
        )

    def to_float(self, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Values as a NumPy float array: ``astype`` for floats, under the name that PositTensor has."""
        from posit.conversion import to_floats

        return to_floats(self.codes, self.format, dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise NoRuleError(
            f"a {self.format} array does not become a NumPy array silently; "
            "use .astype(np.float64) for its values or .codes for its codes"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.codes, self.format)

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from posit._ufuncs import apply

        return apply(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from posit._array_functions import dispatch

        return dispatch(func, types, args, kwargs)

    def __matmul__(self, other: Any) -> Any:
        return np.matmul(self, other)

    # Reductions and order: the methods are NumPy's functions

    def sum(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Exact sum, rounded once, over some axes or all."""
        return _numpy.sum(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Exact mean, rounded once, over some axes or all."""
        return _numpy.mean(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def prod(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Product from first to last, rounded after each factor."""
        return _numpy.prod(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def max(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Largest element; NaR is below every real number."""
        return _numpy.max(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def min(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Smallest element; NaR is below every real number."""
        return _numpy.min(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def argmax(self, axis: Any = None) -> Any:
        """Index of the first largest element."""
        return _numpy.argmax(self, axis=axis)

    def argmin(self, axis: Any = None) -> Any:
        """Index of the first smallest element."""
        return _numpy.argmin(self, axis=axis)

    def sort(self, axis: int = -1) -> None:
        """Sort in place, NaR first."""
        self.codes[...] = _numpy.sort(self, axis=axis).codes

    def argsort(self, axis: int = -1) -> Any:
        """Indices that would sort, NaR first."""
        return _numpy.argsort(self, axis=axis)

    def dot(self, other: Any) -> Self:
        """Exact dot or matrix product, each element rounded once."""
        return _numpy.dot(self, other)  # type: ignore[no-any-return]


def _plain(index: Any) -> Any:
    if isinstance(index, PositArray) or (
        isinstance(index, tuple) and any(isinstance(i, PositArray) for i in index)
    ):
        raise IndexError("posits are not indices; convert with .astype(np.int64)")
    return index


def _as_format(target: Any) -> Format | None:
    if isinstance(target, Format):
        return target
    if isinstance(target, str) and "posit" in target:
        return Format.parse(target)
    return None


def _python_number(code: int, fmt: Format) -> float | Fraction:
    value = _rational.to_rational(code, fmt)
    if value is None:
        return float("nan")
    try:
        nearest = float(value)
    except OverflowError:
        return value
    return nearest if operator.eq(Fraction(nearest), value) else value
