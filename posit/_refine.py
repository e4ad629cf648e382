"""Iterative refinement of linear systems with exact residuals, and a proof for every element it returns.

Besides the system's own format there is `WIDE`: 64 bits, 5 of them for the exponent.  Within 2**-300 .. 2**300 it
rounds with a relative error of at most 2**-48, near 1 of 2**-57, and it never rounds a nonzero number to 0.

Let R be an approximate inverse (from float64; nothing is assumed of it), E = I - R A, and alpha E's norm weighted
by w > 0: max_i sum_j |E_ij| w_j / w_i.  If alpha < 1, then neither A nor R is singular, and for any y, with the
residual r = b - A y,

    x - y = A^-1 r = (I - E)^-1 R r,   hence   |x - y - R r| <= alpha / (1 - alpha) |R r|_w w

element by element, where |z|_w = max |z_i| / w_i.  E and r are exact sums, rounded once per element, however much they
cancel: that is what the quire is for.  So each step adds a term R r to the unevaluated sum y, and knows how far the sum
is from x.  Where all numbers within that distance round to the same posit, it is the correctly rounded element of x.

Source: Rump, Verification methods, Acta Numerica 19 (2010), section 10; Wilkinson, Rounding errors in algebraic
processes (1963), for refinement with residuals of higher precision.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from posit._products import exact_product
from posit._rational import from_rational, to_rational
from posit.codec import Codes
from posit.conversion import from_floats, to_floats
from posit.formats import Format

Floats = npt.NDArray[np.float64]

WIDE = Format(64, 5)
STEPS = 8  #: most refinement steps: each adds a term to the sum
CONTRACTION = 1 / 8  #: largest alpha with which refinement is tried
_LARGEST = 2.0**300
_ROUNDING = 2.0**-47  #: twice WIDE's relative error
_SLACK = 1 + 2.0**-20  #: covers the rounding of bounds, of E, and of float64 sums of up to 2**30 terms


@dataclass(frozen=True)
class System:
    """A x = b, where A and b are unevaluated sums of matrices of codes."""

    matrix: list[Codes]  #: parts of A, each (n, n)
    format: Format  #: of the parts of A
    right: list[Codes]  #: parts of b in WIDE, each (n, p)


@dataclass(frozen=True)
class Refined:
    """What refinement found: codes, which of them are proven, and how."""

    codes: Codes  #: (n, p), of the result's format
    proven: npt.NDArray[np.bool_]  #: (n, p)
    steps: int
    contraction: float  #: alpha, rounded up; refinement was tried only below `CONTRACTION`


def refine(system: System, fmt: Format) -> Refined:
    """Solve by refinement, as far as that can be proven; x is rounded to `fmt`."""
    shape = system.right[0].shape
    codes, proven = np.zeros(shape, fmt.storage), np.zeros(shape, np.bool_)
    inverse = _inverse(system)
    contraction = float("inf") if inverse is None else _contraction(system, *inverse)
    if inverse is None or not contraction < CONTRACTION:
        return Refined(codes, proven, 0, contraction)
    terms: list[Codes] = []
    while len(terms) < STEPS and not proven.all():
        residual = _residual(system, terms)
        term = exact_product(inverse[0], residual, WIDE, WIDE, WIDE)
        terms.append(term)
        bound = _distance(inverse, residual, term, contraction)
        if bound is None:
            break
        _prove(terms, bound, fmt, codes, proven)
    return Refined(codes, proven, len(terms), contraction)


def _inverse(system: System) -> tuple[Codes, Floats] | None:
    """R in WIDE and the weights w, from float64's inverse of the matrix scaled by powers of two."""
    with np.errstate(all="ignore"):
        matrix = np.sum([to_floats(part, system.format, np.float64) for part in system.matrix], axis=0)
        rows = _powers_of_two(np.abs(matrix).max(axis=1))
        columns = _powers_of_two(np.abs(matrix * rows[:, None]).max(axis=0))
        try:
            scaled = np.linalg.inv(matrix * rows[:, None] * columns)
        except np.linalg.LinAlgError:
            return None
        inverse = columns[:, None] * scaled * rows
    return (from_floats(inverse, WIDE), columns) if _in_range(inverse) and _in_range(columns) else None


def _powers_of_two(largest: Floats) -> Floats:
    """Powers of two that bring each number into [1/2, 1)."""
    return np.asarray(np.ldexp(1.0, -np.frexp(largest)[1]), np.float64)


def _in_range(x: Floats) -> bool:
    """Whether every element is 0 or where WIDE's relative error is known."""
    sizes = np.abs(x)
    return bool(((sizes == 0) | ((sizes < _LARGEST) & (sizes > 1 / _LARGEST))).all())


def _contraction(system: System, inverse: Codes, weights: Floats) -> float:
    """An upper bound of alpha; infinity where none is known."""
    identity = _identity(len(inverse), WIDE)
    minus = np.concatenate([_negated(inverse)] * len(system.matrix), axis=1)
    error = exact_product(minus, np.concatenate(system.matrix), WIDE, system.format, WIDE, identity)
    sizes = np.abs(to_floats(error, WIDE, np.float64))
    if not _in_range(sizes):
        return float("inf")
    return float(((sizes @ weights) / weights).max() * _SLACK)


def _residual(system: System, terms: list[Codes]) -> Codes:
    """The residual b - A (sum of terms), exact, rounded once to WIDE."""
    n = len(system.right[0])
    one = _identity(n, system.format)
    left = [part for _ in terms for part in system.matrix] + [one for _ in system.right[1:]]
    right = [_negated(term) for term in terms for _ in system.matrix] + system.right[1:]
    if not left:
        return system.right[0]
    return exact_product(
        np.concatenate(left, axis=1), np.concatenate(right), system.format, WIDE, WIDE, system.right[0]
    )


def _distance(
    inverse: tuple[Codes, Floats], residual: Codes, term: Codes, contraction: float
) -> Floats | None:
    """An upper bound of |x - sum of terms|, (n, p), after `term` = R `residual` was added; None where none is known."""
    size, rest, factor = (
        np.abs(to_floats(codes, WIDE, np.float64)) for codes in (term, residual, inverse[0])
    )
    if not (_in_range(size) and _in_range(rest)):
        return None
    weights = inverse[1][:, None]
    rounding = _ROUNDING * (size + factor @ rest)  # of the term, and of the residual in it
    norm = ((size + rounding) / weights).max(axis=0)
    return np.asarray((rounding + contraction / (1 - contraction) * norm * weights) * _SLACK, np.float64)


def _prove(
    terms: list[Codes], bound: Floats, fmt: Format, codes: Codes, proven: npt.NDArray[np.bool_]
) -> None:
    """Settle the elements whose whole interval rounds to one posit."""
    for index in np.argwhere(~proven):
        at = tuple(index)
        parts = [to_rational(int(term[at]), WIDE) for term in terms]
        middle = sum((part for part in parts if part is not None), Fraction(0))
        radius = Fraction(float(bound[at]))
        low, high = from_rational(middle - radius, fmt), from_rational(middle + radius, fmt)
        if low == high:
            codes[at], proven[at] = low, True


def _identity(n: int, fmt: Format) -> Codes:
    return np.eye(n, dtype=fmt.storage) << (fmt.nbits - 2)


def _negated(codes: Codes) -> Codes:
    """-x in WIDE, whose codes fill their 64 bits."""
    return np.negative(codes)
