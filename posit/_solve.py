"""Linear systems and least squares, every element of the solution correctly rounded."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from posit._array import PositArray
from posit._operands import common_format
from posit._rational import from_rational, to_rational
from posit._refine import WIDE, Refined, System, refine
from posit.codec import Codes
from posit.errors import FormatMismatch, LinAlgError, ShapeError
from posit.formats import Format

Integers = npt.NDArray[np.object_]
Scaled = tuple[Integers, int]  #: integers and the power of two that scales them

PARTS = 4  #: most posits of WIDE whose sum an exact number may be, for refinement


@dataclass(frozen=True)
class Solution:
    """How a system was solved; the result is the same bits either way.

    >>> print(Solution(steps=2, contraction=1e-9, proven=11, rational=1))
    12 elements: 11 proven by 2 refinement steps (contraction 1e-09), 1 by rational elimination
    """

    steps: int  #: refinement steps
    contraction: float  #: proven bound of the norm of I - R A; at 1 and above refinement need not converge
    proven: int  #: elements proven by refinement
    rational: int  #: elements from exact elimination in integers

    def __str__(self) -> str:
        total = self.proven + self.rational
        parts = [
            f"{self.proven} proven by {self.steps} refinement steps (contraction {self.contraction:.2g})"
        ]
        return f"{total} elements: " + ", ".join(
            (parts if self.proven else [])
            + ([f"{self.rational} by rational elimination"] if self.rational else [])
        )


@overload
def solve(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[False] = False
) -> PositArray: ...


@overload
def solve(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[True]
) -> tuple[PositArray, Solution]: ...


def solve(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: bool = False
) -> PositArray | tuple[PositArray, Solution]:
    r"""The solution of :math:`Ax = b`, every element the correctly rounded one, however ill-conditioned A is.

    Iterative refinement from a float64 inverse, with residuals :math:`b - Ax` formed exactly, finds x as an unevaluated
    sum of posits and proves its rounding (see `posit._refine`).  What it does not prove, because A is too close to a
    singular matrix for float64 or an element of x is 0 or a tie, comes from elimination in integers.  So x is exact up
    to its one rounding; how well A and b themselves describe a problem is another matter.

    Args:
        a: Square, shape (n, n).
        b: Posits of the same format, shape (n,) or (n, p).
        out_format: Format of the result; by default that of the operands.
        explain: Return how the elements were found as well.

    Returns:
        Posits of the shape of `b`.  With `explain`, that and a `Solution`.  Meant for small systems: refinement takes
        2 n**3 exact multiply-adds, elimination n**3 / 3 of integers with about n times the bits of an element.

    Raises:
        LinAlgError: A is singular (decided exactly), or an operand has NaR.
        ShapeError: A is not square, or b does not fit.
        FormatMismatch: the formats differ.

    >>> import posit
    >>> a = posit.array([[1, 1], [1, 1.00048828125]], "posit16")
    >>> solve(a, posit.array([2, 2], "posit16"))
    posit.array([2.0, 0.0], 'posit16')
    """
    source = _format("solve", a, b)
    fmt = source if out_format is None else Format.parse(out_format)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ShapeError(f"solve needs a square matrix, got shape {a.shape}; for least squares use lstsq")
    _check_operands("solve", a, b)
    matrix, right = _integers(a.codes, source), _integers(_columns(b), source)
    parts = _parts(right)
    refined = refine(System([a.codes], source, parts), fmt) if parts and right[0].size else None
    x, found = _settled(refined, matrix, right, fmt)
    result = PositArray(x.reshape(b.shape), fmt)
    return (result, found) if explain else result


@overload
def lstsq(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[False] = False
) -> PositArray: ...


@overload
def lstsq(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: Literal[True]
) -> tuple[PositArray, Solution]: ...


def lstsq(
    a: PositArray, b: PositArray, *, out_format: Format | str | None = None, explain: bool = False
) -> PositArray | tuple[PositArray, Solution]:
    r"""The x that minimises :math:`\|Ax - b\|_2`, every element correctly rounded.

    The normal equations :math:`A^TAx = A^Tb` are formed exactly, so that squaring the condition number loses nothing,
    and solved as in `solve`.

    Args:
        a: Shape (m, n) with m >= n and independent columns.
        b: Posits of the same format, shape (m,) or (m, p).
        out_format: Format of the result; by default that of the operands.
        explain: Return how the elements were found as well.

    Returns:
        Posits of shape (n,) or (n, p).  With `explain`, that and a `Solution`.

    Raises:
        LinAlgError: the columns of A are dependent (decided exactly), or an operand has NaR.
        ShapeError: more columns than rows, or b does not fit.
        FormatMismatch: the formats differ.

    >>> import posit
    >>> a = posit.array([[1, 0], [1, 1], [1, 2]], "posit16")
    >>> lstsq(a, posit.array([1, 3, 6], "posit16"))  # 5/6 + 5/2 t
    posit.array([0.8333, 2.5], 'posit16')
    """
    source = _format("lstsq", a, b)
    fmt = source if out_format is None else Format.parse(out_format)
    if a.ndim != 2 or a.shape[0] < a.shape[1]:
        raise ShapeError(f"lstsq needs a matrix with at least as many rows as columns, got shape {a.shape}")
    _check_operands("lstsq", a, b)
    (rows, scale), (right, right_scale) = _integers(a.codes, source), _integers(_columns(b), source)
    matrix = rows.T @ rows, 2 * scale
    wanted = rows.T @ right, scale + right_scale
    parts, right_parts = _parts(matrix), _parts(wanted)
    refined = None
    if parts and right_parts and wanted[0].size:
        refined = refine(System(parts, WIDE, right_parts), fmt)
    x, found = _settled(refined, matrix, wanted, fmt)
    result = PositArray(x.reshape(a.shape[1:] + b.shape[1:]), fmt)
    return (result, found) if explain else result


def _format(name: str, a: PositArray, b: PositArray) -> Format:
    for x in (a, b):
        if not isinstance(x, PositArray):
            raise FormatMismatch(
                f"{name} takes posit arrays, got {type(x).__name__}; round it first with posit.array(x, format)"
            )
    return common_format((a, b))


def _columns(b: PositArray) -> Codes:
    return b.codes if b.ndim == 2 else b.codes[:, None]


def _check_operands(name: str, a: PositArray, b: PositArray) -> None:
    if b.ndim not in (1, 2) or len(b) != len(a):
        raise ShapeError(
            f"{name} with a matrix {a.shape} needs b of shape ({len(a)},) or ({len(a)}, p), got {b.shape}"
        )
    for letter, x in (("A", a), ("b", b)):
        if (x.codes == x.format.nar).any():
            raise LinAlgError(
                f"{name}: {letter} has NaR, so the system has no solution; find it with np.isnan(x)"
            )


def _integers(codes: Codes, fmt: Format) -> Scaled:
    """Real codes as integers and one power of two: value = integer * 2**exponent."""
    values = [to_rational(int(code), fmt) or Fraction(0) for code in codes.flat]
    places = max((value.denominator.bit_length() - 1 for value in values), default=0)
    integers = np.empty(len(values), np.object_)
    integers[:] = [int(value * (1 << places)) for value in values]
    return integers.reshape(codes.shape), -places


def _parts(numbers: Scaled) -> list[Codes]:
    """Matrices of codes of WIDE whose exact sum the numbers are; none where that takes more than `PARTS`."""
    integers, exponent = numbers
    rest = [int(integer) * Fraction(2) ** exponent for integer in integers.ravel().tolist()]
    parts: list[Codes] = []
    while not parts or any(rest):
        if len(parts) == PARTS:
            return []
        codes = [from_rational(x, WIDE) for x in rest]
        parts.append(np.array(codes, WIDE.storage).reshape(integers.shape))
        rest = [x - (to_rational(code, WIDE) or 0) for x, code in zip(rest, codes, strict=True)]
    return parts


def _settled(refined: Refined | None, matrix: Scaled, right: Scaled, fmt: Format) -> tuple[Codes, Solution]:
    """The refined solution, with what is not proven from elimination."""
    shape = right[0].shape
    if refined is None:
        refined = Refined(np.zeros(shape, fmt.storage), np.zeros(shape, np.bool_), 0, float("inf"))
    proven = int(refined.proven.sum())
    found = Solution(refined.steps, refined.contraction, proven, refined.proven.size - proven)
    if found.rational or not refined.proven.size:
        numerators, denominator = _eliminate(matrix[0], right[0])
        unit = Fraction(2) ** (right[1] - matrix[1]) / denominator
        for index in np.argwhere(~refined.proven):
            at = tuple(index)
            refined.codes[at] = from_rational(numerators[at] * unit, fmt)
    return refined.codes, found


def _eliminate(matrix: Integers, right: Integers) -> tuple[Integers, int]:
    """Y and d with matrix @ Y == d * right, all integers.

    Elimination without fractions: after step k every entry is a minor of order k + 1, so each division is exact
    (Bareiss, Mathematics of Computation 22, 1968).
    """
    n = len(matrix)
    work = np.concatenate([matrix, right], axis=1)
    last = 1
    for k in range(n):
        pivots = [i for i in range(k, n) if work[i, k]]
        if not pivots:
            raise LinAlgError(
                f"the matrix is singular: its rank is below {n}, and no solution is the only one"
            )
        best = min(pivots, key=lambda i: abs(work[i, k]).bit_length())
        work[[k, best]] = work[[best, k]]
        pivot = work[k, k]
        below = work[k + 1 :, k + 1 :] * pivot - np.outer(work[k + 1 :, k], work[k, k + 1 :])
        work[k + 1 :, k + 1 :] = below // last
        last = pivot
    solution = work[:, n:]
    for i in range(n - 1, -1, -1):
        solution[i] = (solution[i] * last - work[i, i + 1 : n] @ solution[i + 1 :]) // work[i, i]
    return solution, last
