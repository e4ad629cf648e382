"""Posits times a power of two: one power for a whole tensor, or one for each block of 32 elements.

A posit is most accurate in the ``2 * 2**es`` binades around 1.  A scaled tensor holds narrow posits of its values times
a power of two chosen so that its largest magnitude lies in the uppermost of these binades: all that is up to
``2**(2**(es + 1))`` smaller then has every digit that the format can give.

Where tensors are computed with, they are held in a wider posit format in which narrow posits times such powers are
exact, so that operators need not know of powers; `packed` and `unpacked` go between that and the narrow codes with
their powers, and neither rounds what is on the grid already.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from posit.codec import Codes, decode, encode, signed_storage
from posit.errors import FormatError
from posit.formats import Format

TENSOR, BLOCK32 = "tensor", "block32"
SCALES = (TENSOR, BLOCK32)
_BLOCK = 32

Powers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a scaled tensor can hold: posits of `format` times powers of two, by `scale`.

    >>> from posit import posit8
    >>> Grid(posit8, "tensor").held.name
    'posit16'
    """

    format: Format
    scale: str

    @property
    def held(self) -> Format:
        """The format in which its numbers are exact."""
        return held_format(self.format)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Grids of the results of operators, forward and backward; losses have none."""

    activations: Grid
    gradients: Grid


@cache
def held_format(fmt: Format) -> Format:
    """The format of one family in which posits of `fmt` times powers of two are held: 16 bits for up to 8, else 32.

    Raises:
        FormatError: `fmt` has more than 16 bits.

    >>> held_format(Format(12, 1)).name
    'posit<32,1>'
    """
    if fmt.nbits > 16:
        raise FormatError(
            f"scaled tensors have posits of at most 16 bits, got {fmt}; posit32 needs no scaling"
        )
    return Format(16 if fmt.nbits <= 8 else 32, fmt.es, fmt.max_regime)


@cache
def largest_power(fmt: Format) -> int:
    """The largest p so that every posit of `fmt` times 2**p and 2**-p is a number of `held_format`.

    >>> largest_power(Format(8)), largest_power(Format(16))
    (24, 56)
    """
    held = held_format(fmt)
    values = decode(np.arange(1, fmt.maxpos + 1), fmt)

    def exact(power: int) -> bool:
        moved = [np.ldexp(values, p) for p in (power, -power)]
        return all(bool((decode(encode(x, held), held) == x).all()) for x in moved)

    power = 0
    while exact(power + 1):
        power += 1
    return power


def packed(values: npt.NDArray[np.float64], grid: Grid) -> tuple[Codes, Powers]:
    """Narrow codes of real numbers times powers of two, and the powers.

    Args:
        values: Exact float64 numbers, any shape; NaN becomes NaR and takes no part in the choice of a power.
        grid: With ``"tensor"`` there is one power.  With ``"block32"`` rows, which are what lies behind the first axis
            (a vector is one row), are cut into blocks of 32 elements with a power each; the last may be shorter.

    Returns:
        Signed codes of ``values * 2**power``, each rounded once, of the shape of `values`; and powers of shape () or
        (rows, blocks).  Of an empty or zero block the power is 0, and none exceeds `largest_power` in magnitude.

    >>> from posit import posit8
    >>> codes, power = packed(np.array([2.0**-10, 3 * 2.0**-12]), Grid(posit8, "tensor"))
    >>> int(power), decode(codes, posit8).tolist()
    (13, [8.0, 6.0])
    """
    blocks = _blocks(values, grid)
    fmt, top = grid.format, (1 << grid.format.es) - 1
    limit = largest_power(fmt)
    magnitudes = np.where(np.isfinite(blocks), np.abs(blocks), 0.0)
    largest = magnitudes.max(axis=-1, initial=0.0)
    powers = np.where(largest > 0, top + 1 - np.frexp(largest)[1].astype(np.int64), 0).clip(-limit, limit)
    moved = np.ldexp(blocks, powers[..., None])
    codes = encode(moved, fmt, signed_storage(fmt))
    above = decode(encode(np.ldexp(largest, powers), fmt), fmt) >= 2.0 ** (top + 1)
    above &= (powers > -limit) & (largest > 0)
    if above.any():  # the largest magnitude was rounded up, out of the binade
        powers = powers - above
        codes[above] = encode(np.ldexp(blocks[above], powers[above][..., None]), fmt, signed_storage(fmt))
    if grid.scale == TENSOR:
        return codes.reshape(values.shape), powers.reshape(())
    rows, length = _rows(values.shape)
    return codes.reshape(rows, -1)[:, :length].reshape(values.shape), powers


def unpacked(codes: Codes, powers: Powers, grid: Grid) -> npt.NDArray[np.float64]:
    """The exact values of narrow codes with their powers, as float64.

    >>> from posit import posit8
    >>> grid = Grid(posit8, "block32")
    >>> unpacked(*packed(np.array([[0.001, 0.0], [700.0, -800.0]]), grid), grid).tolist()
    [[0.0009765625, 0.0], [704.0, -768.0]]
    """
    values = decode(codes, grid.format)
    if grid.scale == TENSOR:
        return np.asarray(np.ldexp(values, -powers))
    rows, length = _rows(codes.shape)
    spread = np.repeat(powers, _BLOCK, axis=-1)[:, :length]
    return np.ldexp(values.reshape(rows, length), -spread).reshape(codes.shape)


def on_grid(codes: Codes, fmt: Format, grid: Grid) -> Codes:
    """Signed codes in `fmt`, which is the grid's `held`, of the nearest numbers on a grid."""
    values = np.asarray(decode(codes, fmt), np.float64)
    return encode(unpacked(*packed(values, grid), grid), fmt, signed_storage(fmt))


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """Number and length of the rows that blocks are cut from."""
    size = int(np.prod(shape, dtype=np.int64))
    if len(shape) < 2:
        return 1, size
    return shape[0], size // shape[0] if shape[0] else 0


def _blocks(values: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.float64]:
    """Shape (..., elements of a block); short blocks are filled up with zeros."""
    if grid.scale == TENSOR:
        return values.reshape(-1)
    rows, length = _rows(values.shape)
    filled = np.zeros((rows, -(-length // _BLOCK) * _BLOCK))
    filled[:, :length] = values.reshape(rows, length)
    return filled.reshape(rows, -1, _BLOCK)
