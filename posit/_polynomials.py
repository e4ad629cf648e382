"""Sums of products of few posits, rounded once: the gates of recurrent layers and their derivatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import polynomials
from posit.codec import Codes, decode, encode, encode_rational, signed_storage
from posit.errors import ShapeError
from posit.formats import Format

Floats = npt.NDArray[np.float64]
_REACH = 960  #: |log2| of all products: float64 and the errors of its products stay normal


@dataclass(frozen=True, slots=True)
class Leaf:
    """The exact values of posits as a factor ``offset + sign * values``."""

    values: Floats
    format: Format
    offset: int = 0
    sign: int = 1

    @property
    def complement(self) -> "Leaf":
        """1 - x."""
        return Leaf(self.values, self.format, 1, -1)

    @property
    def successor(self) -> "Leaf":
        """1 + x."""
        return Leaf(self.values, self.format, 1, 1)

    @property
    def negative(self) -> "Leaf":
        """-x."""
        return Leaf(self.values, self.format, 0, -1)

    def float64(self) -> Floats:
        """The factor with a relative error of 2**-53 at most."""
        if self.offset:
            return self.values + 1.0 if self.sign > 0 else 1.0 - self.values
        return self.values if self.sign > 0 else -self.values

    def exact(self, index: int) -> Fraction:
        """The factor of one element."""
        return self.offset + self.sign * Fraction(float(self.values.flat[index]))


def leaf(codes: Codes, fmt: Format) -> Leaf:
    """Codes as a factor."""
    return Leaf(np.asarray(decode(codes, fmt), np.float64), fmt)


def sum_of_products(fmt: Format, *terms: Sequence[Leaf]) -> Codes:
    """Signed codes of the elementwise sum of products, each element exact and rounded once; NaR where a leaf is.

    Args:
        fmt: Format of the result.
        terms: Up to 4 products of up to 6 leaves, all of one shape.

    float64 decides where the result is not close to a rounding boundary: a product of k factors, each with a relative
    error of u = 2**-53, has one below 2 k u / (1 - 2 k u), and the additions add less than 4 u of the sum of absolute
    values.  The rest goes through `posit._kernels.polynomials`, and at last through rationals.

    >>> from posit.formats import posit16
    >>> half = Leaf(np.array([0.5]), posit16)
    >>> [hex(code) for code in sum_of_products(posit16, [half, half], [half.complement])]  # 1/4 + 1/2
    ['0x3c00']
    """
    total: Floats | None = None
    size: Floats | None = None
    for factors in terms:
        product = factors[0].float64()
        for factor in factors[1:]:
            product = product * factor.float64()
        total = product if total is None else total + product
        size = np.abs(product) if size is None else size + np.abs(product)
    if total is None or size is None:
        raise ShapeError("a sum of products needs at least one term, got none")
    if not _in_reach(terms):
        everywhere = np.arange(total.size)
        codes = _buffers.empty(total.shape, signed_storage(fmt))
        codes.reshape(-1)[...] = [_settle(fmt, terms, int(index)) for index in everywhere]
        return codes
    size *= 2.0**-48
    low = encode(total - size, fmt, signed_storage(fmt))
    high = encode(np.add(total, size, out=size), fmt, signed_storage(fmt))
    undecided = np.flatnonzero(low != high)
    if undecided.size:
        low.reshape(-1)[undecided] = _in_pairs(fmt, terms, undecided)
    return low


def _in_reach(terms: Sequence[Sequence[Leaf]]) -> bool:
    reach = max(max(-part.format.lsb_scale, part.format.max_scale + 1) for term in terms for part in term)
    return reach * max(map(len, terms)) <= _REACH


def _in_pairs(fmt: Format, terms: Sequence[Sequence[Leaf]], places: npt.NDArray[np.intp]) -> Codes:
    leaves: dict[int, int] = {}
    picked: list[Floats] = []
    table = np.full((len(terms), max(map(len, terms)), 3), -1, np.int64)
    for row, factors in zip(table, terms, strict=True):
        for entry, factor in zip(row, factors, strict=False):
            if id(factor.values) not in leaves:
                leaves[id(factor.values)] = len(picked)
                picked.append(factor.values.reshape(-1)[places])
            entry[:] = leaves[id(factor.values)], factor.offset, factor.sign
    out, marks = np.empty(len(places), np.int64), np.zeros(len(places), np.uint8)
    polynomials.sums_of_products(np.array(picked), table, *fmt.parameters, out, marks)
    for position in np.flatnonzero(marks):
        out[position] = _settle(fmt, terms, int(places[position]))
    return out


def _settle(fmt: Format, terms: Sequence[Sequence[Leaf]], index: int) -> int:
    """The signed code of one element, by rationals."""
    if any(np.isnan(factor.values.flat[index]) for term in terms for factor in term):
        return -fmt.nar
    products = (prod((factor.exact(index) for factor in term), start=Fraction(1)) for term in terms)
    code = encode_rational(sum(products, Fraction(0)), fmt)
    return code - (1 << fmt.nbits) if code >= fmt.nar else code
