"""Sums of products of two or three posits added to arrays of quires, exactly."""

from collections.abc import Sequence

import numpy as np

from posit import _quire_wire
from posit._planes import Factor, Terms, add_sums
from posit._quire_array import QuireArray
from posit._quire_layout import THREE
from posit._quire_wire import extent, window


def widened(quires: QuireArray) -> QuireArray:
    """The same numbers in quires that hold products of three posits; those themselves where they do already.

    >>> import posit
    >>> quires = QuireArray.from_posit(posit.array([0.75, -2.0], "posit16"))
    >>> (widened(quires).to_fraction() == quires.to_fraction()).all(), widened(quires).variant
    (np.True_, 'three factors')
    """
    if quires.variant == THREE:
        return quires
    wide, narrow = QuireArray(quires.shape, quires.format, THREE), quires
    if quires._storage.planes.shape[1] != wide._storage.planes.shape[1]:
        narrow = quires.copy()  # of a view
    found = extent(narrow)
    at = window(found.high, found.minus_low, 1)
    limbs = np.empty((at.count, quires.size), np.int64)
    _quire_wire.pack(narrow, 0, quires.size, at, limbs)
    _quire_wire.unpack(wide, 0, quires.size, at, limbs)
    wide._planes[-1] = narrow._planes[-1]
    _quire_wire.settle(wide)
    return wide


def add_form(
    quires: QuireArray, factors: Sequence[Factor], terms: Terms, shape: tuple[int, int, int]
) -> QuireArray:
    """Add to every quire the exact sum of its terms, as `posit._planes.sum_products` forms it; nothing is rounded.

    Args:
        quires: As many as `terms` times outer times lanes, in that order; the format holds every factor.
        factors: Two or three, in the order of the terms' planes.
        terms: Which planes are multiplied.
        shape: (outer, summed, lanes): what the factors' axes broadcast to.

    Returns:
        The quires, or with three factors `widened` ones that take their place.

    Raises:
        FormatError: products may leave float64's range.

    >>> from posit import posit16
    >>> small = Factor(np.full((1, 1, 1, 1), 1, np.int16), posit16)  # 2**-56
    >>> made = add_form(QuireArray(1, "posit16"), [small] * 3, Terms([[(1, (0, 0, 0))]]), (1, 1, 1))
    >>> made.item().to_fraction() == 2**-168
    True
    """
    held = widened(quires) if len(factors) == 3 else quires
    add_sums(held, factors, terms, shape)
    return held
