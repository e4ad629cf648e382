"""What the exact matrix product needs to know of its formats and factors."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._explain import Explanation
from posit._kernels import product
from posit.errors import ShapeError
from posit.formats import Format

Codes = npt.NDArray[np.integer]


class Key(NamedTuple):
    """A format as kernels are made for it."""

    nbits: int
    es: int
    max_regime: int  #: 0: none
    itemsize: int  #: bytes of a stored code


class Product(NamedTuple):
    """Codes of an exact product and how they were found."""

    codes: Codes  #: C order
    counts: npt.NDArray[np.int64]  #: of elements by tier
    open: npt.NDArray[np.int64] | None  #: flat indices of what float64 left open, in order, if asked for

    @property
    def tiers(self) -> Explanation:
        """How the elements were settled."""
        return Explanation(*self.counts.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Formats:
    """The formats of two factors and their product as kernels want them."""

    left: Key
    right: Key
    result: Key
    mask: int  #: of a code before it is stored
    base: int  #: weight, as a power of two, of limb 0 of an exact accumulator
    length: int  #: its limbs of 32 bits
    alike: bool  #: whether they are one, in which a single kernel makes small products
    in_carrier: bool  #: whether float64 holds every product exactly enough for the proofs
    dtype: np.dtype[Any]  #: of the result's codes
    small: dict[str, Any]  #: kernels of small products that were asked for


@lru_cache(maxsize=256)
def formats(left: Format, right: Format, result: Format, signed: bool) -> Formats:
    """The formats of a product; results are stored `signed` (sign-extended) or zero-extended."""
    keys = [Key(*f.parameters, f.storage.itemsize) for f in (left, right, result)]
    base, length = limb_layout(left, right, result)
    in_carrier = result.nbits <= 32 and carries_products(left, right)
    return Formats(
        left=keys[0],
        right=keys[1],
        result=keys[2],
        mask=-1 if signed or result.nbits == 64 else result.code_mask,
        base=base,
        length=length,
        alike=left == right == result and in_carrier,
        in_carrier=in_carrier,
        dtype=_SIGNED[keys[2].itemsize] if signed else result.storage,
        small={},
    )


@lru_cache(maxsize=256)
def carries_products(left: Format, right: Format) -> bool:
    """Whether sums of products of two formats, and their rounding errors, stay in float64's normal range.

    With room for 2**31 terms and for what lies below a product's last bit.
    """
    reach = max(left.max_scale, -left.lsb_scale) + max(right.max_scale, -right.lsb_scale)
    return max(left.nbits, right.nbits) <= 32 and reach + 64 <= 1020


def batch_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The leading axes of a product of stacks of matrices of these shapes.

    Raises:
        ShapeError: they do not broadcast together.
    """
    if a[:-2] == b[:-2]:
        return a[:-2]
    try:
        return np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ShapeError(f"batches {a[:-2]} and {b[:-2]} do not broadcast together") from None


def limb_layout(left: Format, right: Format, result: Format) -> tuple[int, int]:
    """Weight (as a power of two) of limb 0 and number of 32-bit limbs of an exact accumulator of products.

    A product is written as one or two 64-bit integers whose lowest bit lies at most 126 places below its scale; 126
    + 2 bits of room are kept below, 31 + 1 above for carries and sign, and three limbs for a word that straddles.
    """
    base = min(left.min_scale + right.min_scale, result.min_scale) - 128
    top = max(left.max_scale + right.max_scale, result.max_scale) + 2 + 32
    return base, (top - base) // 32 + 4


class Factor(NamedTuple):
    """A stack of matrices of codes in memory: element (p, i, j) is codes[places[p] + i * row + j * step]."""

    codes: npt.NDArray[np.signedinteger[Any]]  #: one-dimensional, signed
    places: npt.NDArray[np.int64]
    row: int
    step: int  #: this or `row` is 1


class Task(NamedTuple):
    """Products of a batch of matrices, (m, k) by (k, n): what goes in, where results go, how they are proved."""

    left: Factor
    right: Factor
    addend: Codes | None  #: of the shape of the result
    out_format: Format
    items: int
    m: int
    k: int
    n: int
    formats: Formats
    codes: Codes  #: of the results, C order
    opened: list[npt.NDArray[np.int64]] | None  #: gets flat indices of what float64 left open
    slack: float  #: scales the proven error bounds: 1, but for tests that want to see wrong results

    @property
    def flat(self) -> npt.NDArray[np.signedinteger[Any]]:
        """The results as flat signed integers."""
        return self.codes.reshape(-1).view(_SIGNED[self.codes.itemsize])

    def error_bound(self, operations: int) -> float:
        """Of sums whose terms pass through so many operations each, relative to the sum of their magnitudes."""
        return self.slack * error_bound(operations)


@lru_cache(maxsize=256)
def error_bound(operations: int) -> float:
    """Of sums whose terms pass through so many operations each, relative to the sum of their magnitudes."""
    operations += 4  # of the bound itself
    inflate: float = product.INFLATE
    return operations * _UNIT / (1 - operations * _UNIT) * inflate


_UNIT = 2.0**-53
_SIGNED = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}
_FIRST = np.zeros(1, np.int64)


def factor(codes: Codes) -> Factor:
    """A factor in place where its rows or its columns are contiguous in memory, otherwise copied.

    Args:
        codes: Shape (..., rows, columns).
    """
    rows, columns = codes.shape[-2:]
    if codes.ndim == 2 and codes.flags.c_contiguous:
        return Factor(codes.reshape(-1).view(_SIGNED[codes.itemsize]), _FIRST, columns, 1)
    flat, row, step = _unit_stride(codes, rows, columns)
    if codes.ndim == 2:
        return Factor(flat, _FIRST, row, step)
    count = flat.size // max(rows * columns, 1)
    return Factor(flat, np.arange(count, dtype=np.int64) * (rows * columns), row, step)


def _unit_stride(codes: Codes, rows: int, columns: int) -> tuple[Any, int, int]:
    if codes.flags.c_contiguous:
        return codes.reshape(-1).view(_SIGNED[codes.itemsize]), columns, 1
    turned = codes.swapaxes(-1, -2)
    if turned.flags.c_contiguous:
        return turned.reshape(-1).view(_SIGNED[codes.itemsize]), 1, rows
    if codes.ndim == 2 and codes.size:
        strides = [stride // codes.itemsize for stride in codes.strides]
        if 1 in strides and min(strides) >= 0:
            span = (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1
            flat = np.lib.stride_tricks.as_strided(codes, (span,), (codes.itemsize,), writeable=False)
            return flat.view(_SIGNED[codes.itemsize]), strides[0], strides[1]
    return _buffers.contiguous(codes).reshape(-1).view(_SIGNED[codes.itemsize]), columns, 1
