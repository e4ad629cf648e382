"""`QuireArray`: exact accumulators for every element of an array."""

from collections.abc import Iterator
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from posit import _quire_accumulate, _quire_files
from posit._array import PositArray
from posit._operands import codes_of
from posit._quire_layout import EXACT, THREE, layout
from posit._quire_storage import Planes, Storage, flat_copy, reshaped, zeros
from posit.errors import FormatError, FormatMismatch, NonFiniteError, QuireError, ShapeError
from posit.formats import Format
from posit.quire import Quire


class QuireArray:
    r"""An array of quires of one format: exact sums that round only when `to_posit` reads them.

    Every element behaves as a `Quire`, with the same bits.  Calls change the array in place and return None; one
    call is one operation on each element, however many products it adds, and after it an element whose sum does not
    fit the quire is NaR and stays so.  Short of that (2**31 products of the largest posits) any order, grouping,
    slicing or number of threads gives the same bits.  A call that raises leaves the array unchanged.

    Storage: digits of 32 bits in int64, ``ceil(fmt.quire_bits / 32)`` planes of the array's shape and one that
    marks NaR, 72 bytes an element for posit16.  One plane per digit, because carries, merges and reading run along
    the elements in vector registers, and neighbours of like magnitude touch the same planes.

    Carries are lazy, with a proven allowance: an addition changes a digit by less than 2**32, a folded digit counts
    as two additions, and before 2**29 additions are passed the carries are propagated (`fold`, by itself where
    needed), so \|digit\| <= 2**61 and the sum of two arrays' digits still fits an int64.  Overflow is looked for only
    when 2**31 products may have come together: fewer cannot leave the 31 carry bits.

    Basic indexing (integers, slices, ``...``) and `reshape` give views that share the storage.  Different threads
    may write to different arrays, not to views of one.

    Args:
        shape: Length of each axis, or one length.
        fmt: The format, or its name.
        variant: ``"exact"``, or ``"three factors"``: registers that hold products of three posits too.

    Raises:
        FormatError: an unknown format, or no such variant.

    Source:
        Posit Standard (2022), sections 3.2 and 5.11; lazy carries: Neal, Fast exact summation using small and large
        superaccumulators, arXiv 1505.05571.

    >>> import posit
    >>> q = QuireArray((2, 2), "posit16")
    >>> a = posit.array([[30000, 1], [2, 3]], "posit16")
    >>> q.matmul_add(a, a)
    >>> q.mul_sub(a[0, 0], a[0, 0])
    >>> q[0, 0].item()
    <Quire posit16 = 2>
    """

    __slots__ = ("_planes", "_storage")
    _planes: Planes  # those of this view, (digits + 1, *shape)
    _storage: Storage

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(self, shape: int | tuple[int, ...], fmt: Format | str, variant: str = EXACT) -> None:
        if variant not in (EXACT, THREE):
            raise FormatError(f"an array of quires is {EXACT!r} or {THREE!r}, got variant {variant!r}")
        axes = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        self._storage = zeros(layout(Format.parse(fmt), variant), axes)
        self._planes = self._storage.view(axes)

    @classmethod
    def _of(cls, planes: Planes, storage: Storage) -> Self:
        made = cls.__new__(cls)
        made._planes, made._storage = planes, storage
        return made

    @classmethod
    def from_posit(cls, p: PositArray) -> Self:
        """Quires that hold one posit each."""
        if not isinstance(p, PositArray):
            raise FormatMismatch(f"from_posit needs a posit array, got {type(p).__name__}")
        made = cls(p.shape, p.format)
        made.add(p)
        return made

    @classmethod
    def memmap(
        cls,
        path: str | PathLike[str],
        shape: int | tuple[int, ...] | None = None,
        fmt: Format | str | None = None,
        mode: str = "r+",
    ) -> Self:
        """Quires in a file, mapped to memory.

        Args:
            path: The file.
            shape: Its shape; may be left out where the file exists.
            fmt: Its format; the same.
            mode: ``"w+"`` makes a file of zeros (replacing another at once), ``"r+"`` reads and writes, ``"r"``
                reads, ``"c"`` writes to memory only.

        Raises:
            QuireError: a damaged file, one of another shape or format, or an unknown mode.

        The file is little-endian.  12 bytes of header: ``PQM1``, version 1, flags 0, nbits, es, max_regime or 0,
        variant 0, bytes of a register as uint16.  4 zeros.  Two int64 counters (see `posit._quire_storage.Storage`).
        Number of axes and their lengths as int64, zeros up to byte 512.  Then the planes as int64: digit 0 of all
        elements, digit 1, …, the marks of NaR; each `posit._quire_storage.plane_length` numbers long.  `flush` writes
        what is pending.
        """
        axes = (shape,) if isinstance(shape, int | np.integer) else shape
        form = None if fmt is None else Format.parse(fmt)
        storage, found = _quire_files.mapped(Path(path), axes if axes is None else tuple(axes), form, mode)
        return cls._of(storage.view(found), storage)

    @property
    def format(self) -> Format:
        """Format of the operands and of the result."""
        return self._storage.layout.format

    @property
    def variant(self) -> str:
        """``"exact"`` or ``"three factors"``."""
        return self._storage.layout.variant

    @property
    def _name(self) -> str:
        return str(self.format) if self.variant == EXACT else f"{self.format} ({self.variant})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._planes.shape[1:]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._planes.ndim - 1

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return self._planes.nbytes

    @property
    def is_nar(self) -> npt.NDArray[np.bool_]:
        """Where the elements are NaR."""
        return np.asarray(self._planes[-1] != 0)

    # Accumulation

    def add(self, p: Any) -> None:
        """``q + p``: posits that broadcast to the shape, or Python numbers, rounded to the format first."""
        self.mul_add(p, 1)

    def sub(self, p: Any) -> None:
        """``q - p``."""
        self.mul_sub(p, 1)

    def mul_add(self, a: Any, b: Any) -> None:
        """``q + a * b`` for every element; NaR where either is.

        Raises:
            FormatMismatch: posits of another format, or no posits.
            ShapeError: shapes that do not broadcast to that of the quires.
        """
        _quire_accumulate.products(self._storage, self._planes, False, *self._codes(a, b))

    def mul_sub(self, a: Any, b: Any) -> None:
        """``q - a * b`` for every element."""
        _quire_accumulate.products(self._storage, self._planes, True, *self._codes(a, b))

    def matmul_add(self, a: PositArray, b: PositArray) -> None:
        """``q + a @ b``, exact: accumulates matrix products over many calls, rounded by `to_posit` only.

        Args:
            a: Shape (..., m, k) or (k,).
            b: Shape (..., k, n) or (k,); leading axes broadcast.

        Raises:
            FormatMismatch: other formats, or no posits.
            ShapeError: the shape of ``a @ b`` is not that of the quires.

        NaR in a row of `a` or a column of `b` makes just the elements it feeds NaR.  `posit._quire_matmul` says how
        it is fast; its blocks bound the workspace.
        """
        _quire_accumulate.matrix_product(self._storage, self._planes, *self._codes(a, b))

    def _codes(self, a: Any, b: Any) -> tuple[Any, Any]:
        self._storage.require_writable()
        return codes_of(a, self.format), codes_of(b, self.format)

    def merge(self, q: "QuireArray") -> None:
        """``self + q``, elementwise: partial sums come together in any order and grouping.

        Raises:
            QuireError: another format, or no array of quires.
            ShapeError: another shape.
        """
        self._combine(q, np.add)

    def sub_quire(self, q: "QuireArray") -> None:
        """``self - q``, elementwise; raises as `merge` does."""
        self._combine(q, np.subtract)

    def _combine(self, q: "QuireArray", ufunc: np.ufunc) -> None:
        if not isinstance(q, QuireArray):
            raise QuireError(f"arrays of quires merge with their like, got {type(q).__name__}")
        if q._storage.layout != self._storage.layout:
            names = [each._name for each in (self, q)]
            raise QuireError(f"quires of different formats do not merge: {' met '.join(names)}")
        if q.shape != self.shape:
            raise ShapeError(
                f"arrays of quires merge when their shapes are equal, got {self.shape} and {q.shape}"
            )
        _quire_accumulate.combine(self._storage, self._planes, q._storage, q._planes, ufunc)

    def negate(self) -> None:
        """``-q``, elementwise."""
        self._storage.require_writable()
        np.negative(self._planes[:-1], out=self._planes[:-1])

    def clear(self) -> None:
        """Start again from 0, NaR included; of a view, only its elements."""
        self._storage.require_writable()
        self._planes[...] = 0

    def fold(self) -> None:
        """Propagate all carries now, of the whole storage; changes no value.  Calls do so where needed."""
        self._storage.require_writable()
        self._storage.fold()

    # Reading

    def to_posit(self) -> PositArray:
        """Every sum rounded once to nearest, ties to the even code; NaR for NaR.  The quires stay."""
        return PositArray(_quire_accumulate.rounded(self._planes, self._storage.layout), self.format)

    def to_fraction(self) -> npt.NDArray[np.object_]:
        """The exact values, an object array of Fractions.

        Raises:
            NonFiniteError: an element is NaR.
        """
        if count := int(np.count_nonzero(self.is_nar)):
            raise NonFiniteError(f"to_fraction() of {count} NaR quires: not real numbers; test is_nar first")
        form = self._storage.layout
        values = np.empty(self.size, object)
        for t, register in enumerate(_quire_files.registers(flat_copy(self._planes, form), form)):
            values[t] = Quire.from_register(register.tobytes(), self.format, self.variant).to_fraction()
        return values.reshape(self.shape)

    def item(self) -> Quire:
        """The one element as a `Quire`, a copy.

        Raises:
            ShapeError: there are more, or none.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs one element, got shape {self.shape}; index the array first")
        form = self._storage.layout
        register = _quire_files.registers(flat_copy(self._planes, form), form)[0]
        return Quire.from_register(register.tobytes(), self.format, self.variant)

    def to_bytes(self) -> bytes:
        """Header, shape and registers.

        12 bytes of header as in `Quire.to_bytes` but ``PQA1``; the number of axes and their lengths as int64; the
        registers in C order, each ``fmt.quire_bits / 8`` bytes of two's complement.  All least significant byte first.
        """
        form = self._storage.layout
        return _quire_files.pack(flat_copy(self._planes, form), self.shape, form)

    @classmethod
    def from_bytes(cls, data: bytes, fmt: Format | str | None = None) -> Self:
        """The array that `to_bytes` wrote.

        Raises:
            QuireError: bytes of another length, kind, version, or (where `fmt` is given) format.
        """
        storage, shape = _quire_files.unpack(data)
        if fmt is not None and Format.parse(fmt) != storage.layout.format:
            raise QuireError(
                f"quires of {Format.parse(fmt)} were wanted, the bytes hold {storage.layout.format}"
            )
        return cls._of(storage.view(shape), storage)

    # Views and Python's protocols

    def __getitem__(self, index: Any) -> Self:
        """A view; shares storage, so that adding to it adds to the whole."""
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if (
                not (part is None or part is ... or isinstance(part, slice | int | np.integer))
                or part is True
            ):
                raise IndexError(
                    f"quires are indexed by integers, slices and ..., which give views; got {part!r}"
                )
        return self._of(self._planes[(slice(None), *parts)], self._storage)

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape, a view.

        Raises:
            ShapeError: the number of elements differs, or there is no such view; take a `copy` first.
        """
        axes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        return self._of(reshaped(self._planes, axes), self._storage)

    def copy(self) -> Self:
        """The same quires in memory of their own."""
        storage = self._storage.copy_of(self._planes)
        return self._of(storage.view(self.shape), storage)

    def flush(self) -> None:
        """Write what is pending to the file of `memmap`; nothing to do for others."""
        self._storage.flush()

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("an array of quires of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        return (self[t] for t in range(len(self)))

    def __eq__(self, other: object) -> Any:
        """Where the elements are equal, as bool array; NaR equals itself.

        Raises:
            FormatMismatch: another format.
            ShapeError: another shape.
        """
        if not isinstance(other, QuireArray):
            return NotImplemented
        if other._storage.layout != self._storage.layout:
            names = [each._name for each in (self, other)]
            raise FormatMismatch(f"{' met '.join(names)}; compare what to_fraction() gives")
        if other.shape != self.shape:
            raise ShapeError(f"arrays of quires of shapes {self.shape} and {other.shape} do not compare")
        mine, theirs = (flat_copy(q._planes, q._storage.layout) for q in (self, other))
        return (mine == theirs).all(axis=0).reshape(self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"<QuireArray {self._name} of shape {self.shape}>"
