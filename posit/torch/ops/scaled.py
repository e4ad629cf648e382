"""Products of matrices with a real factor and addend: ``scale * a @ b + added``, exact, one rounding."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from posit import _buffers
from posit._kernels import attention
from posit._threads import split
from posit.codec import decode, encode, encode_rational, signed_storage
from posit.torch.ops.contractions import product
from posit.torch.ops.softmax_exact import exact_dot
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

Floats = npt.NDArray[np.float64]
_REACH = 320  #: formats within 2**±320 have products of two values and a scale inside float64's normal range
TILE = 1 << 17  #: float64 numbers decoded and multiplied at a time, where one sample has no more
_SCALES = 2.0**-200, 2.0**200  #: and these scales


def scaled_sparing(
    op: Any, a: PositTensor, b: PositTensor, support: PositTensor, scale: float
) -> PositTensor:
    """``scale * a @ b`` where a term counts only if the support, of the shape of `a`, is not 0 there.

    The values of `a` are 0 wherever the support is, so this matters only for NaR in `b`.
    """
    if not b.has_nar():
        return scaled_product(op, a, b, scale)
    nar = -(1 << (b.format.nbits - 1))
    missing = b.codes == nar
    result = scaled_product(op, a, b.like(b.codes.masked_fill(missing, 0)), scale)
    fed = torch.matmul((support.codes != 0).to(torch.float64), missing.to(torch.float64)) > 0
    return result.like(result.codes.masked_fill(fed, -(1 << (result.format.nbits - 1))))


def scaled_product(
    op: Any, a: PositTensor, b: PositTensor, scale: float, added: Floats | None = None
) -> PositTensor:
    """``scale * a @ b + added``, each element the exact real value rounded once.

    Args:
        op: What to call it in messages.
        a: Shape (..., m, k).
        b: Shape (..., k, n), the same leading dimensions.
        scale: An exact float64.
        added: Finite numbers that broadcast to (..., m, n).
    """
    if scale == 1.0 and added is None:
        return product(op, a, b)
    result = outcome(op, a, b)
    rows = _together(a, b)
    if rows < a.shape[0]:
        return _in_parts(result, op, a, b, scale, added, rows)
    x, y = _cube(a), _cube(b)
    dots = _buffers.empty((x.shape[0], x.shape[1], y.shape[2]))
    torch.bmm(torch.from_numpy(x), torch.from_numpy(y), out=torch.from_numpy(dots))
    shape = (*a.shape[:-1], b.shape[-1])
    if result.policy is not None and result.policy.simulate:
        return _simulated(result, dots.reshape(shape), scale, added)
    in_reach = all(max(f.max_scale, -f.lsb_scale) <= _REACH for f in (a.format, b.format))
    codes = _certified(result, x, y, dots, scale, _addend(added, shape), in_reach)
    return result.wrap(codes.reshape(shape))


def _together(a: PositTensor, b: PositTensor) -> int:
    """How many places of the first of the leading dimensions are worked on together."""
    if a.ndim < 3 or not a.shape[0]:
        return max(a.shape[0], 1)
    (m, k), n = a.shape[-2:], b.shape[-1]
    return max(1, TILE // max(1, math.prod(a.shape[1:-2]) * (m * k + k * n + m * n)))


def _in_parts(
    result: Outcome, op: Any, a: PositTensor, b: PositTensor, scale: float, added: Floats | None, rows: int
) -> PositTensor:
    shape = (*a.shape[:-1], b.shape[-1])
    codes = _buffers.empty(shape, signed_storage(result.format))
    apart = added is not None and added.ndim == len(shape) and added.shape[0] == shape[0]
    for start in range(0, shape[0], rows):
        part = slice(start, start + rows)
        own = added[part] if added is not None and apart else added
        made = scaled_product(op, a.like(a.codes[part]), b.like(b.codes[part]), scale, own)
        codes[part] = to_numpy(made.codes)
    return result.wrap(codes)


def _simulated(result: Outcome, dots: Floats, scale: float, added: Floats | None) -> PositTensor:
    """In float32, rounded to posits afterwards."""
    scores = dots.astype(np.float32) * np.float32(scale)
    if added is not None:
        scores = scores + added.astype(np.float32)
    return result.wrap(encode(scores, result.format, signed_storage(result.format)))


class _Addend(NamedTuple):
    """Row i of product p has ``rows[places[p, i]]`` added."""

    rows: Floats
    places: npt.NDArray[np.int64]


def _addend(added: Floats | None, shape: tuple[int, ...]) -> _Addend | None:
    if added is None:
        return None
    rows, places = spread_rows(added, shape)
    return _Addend(rows, places.reshape(math.prod(shape[:-2]), shape[-2]))


def _certified(
    result: Outcome,
    x: Floats,
    y: Floats,
    dots: Floats,
    scale: float,
    addend: _Addend | None,
    in_reach: bool,
) -> npt.NDArray[np.signedinteger[Any]]:
    """Codes of ``scale * x @ y + addend``, given the float64 products; what these leave open is settled exactly."""
    fmt = result.format
    kernel = attention.certify(*fmt.parameters, signed_storage(fmt), addend is not None)
    columns = y.swapaxes(1, 2)
    left, right = (_buffers.empty((2, *lines.shape[:2])) for lines in (x, columns))
    codes, unsure = _buffers.empty(dots.shape, signed_storage(fmt)), _buffers.empty(dots.shape, np.uint8)
    rows, places = addend or _Addend(np.zeros((0, 0)), np.zeros((len(x), 0), np.int64))

    def run(start: int, stop: int) -> None:
        part = slice(start, stop)
        attention.sizes(x[part], left[0, part], left[1, part])
        attention.sizes(columns[part], right[0, part], right[1, part])
        kernel(
            dots[part], scale, x.shape[2], left[0, part], left[1, part], right[0, part], right[1, part], rows,
            places[part], codes[part], unsure[part],
        )  # fmt: skip

    split(len(x), 4 * dots.size, run)
    if not (in_reach and _SCALES[0] <= abs(scale) <= _SCALES[1]):
        unsure[...] = 1
    for index in np.flatnonzero(unsure.view(np.bool_)):
        p, i, j = np.unravel_index(index, unsure.shape)
        line, column = x[p, i], columns[p, j]
        if np.isnan(line).any() or np.isnan(column).any():
            codes[p, i, j] = -fmt.nar
            continue
        total = exact_dot(line, column) * Fraction(scale)
        code = encode_rational(
            total if addend is None else total + Fraction(float(rows[places[p, i], j])), fmt
        )
        codes[p, i, j] = code - (1 << fmt.nbits) if code >= fmt.nar else code
    return codes


def _cube(x: PositTensor) -> Floats:
    """Values as (batch, m, k); a transposed factor stays one, so that memory is read in order."""
    codes = to_numpy(x.codes)
    turned = x.ndim >= 2 and codes.strides[-1] > codes.strides[-2]
    values = np.asarray(decode(codes.swapaxes(-1, -2) if turned else codes, x.format), np.float64)
    cube = values.reshape(math.prod(values.shape[:-2]), *values.shape[-2:])
    return cube.swapaxes(1, 2) if turned else cube


def spread_rows(
    table: npt.NDArray[Any], shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The distinct rows of what broadcasts to a shape, and for each row of that shape, in order, which one it is."""
    table = table.reshape((1,) * (max(2 - table.ndim, 0)) + table.shape)
    rows = np.ascontiguousarray(np.broadcast_to(table, (*table.shape[:-1], shape[-1])))
    numbers = np.arange(math.prod(table.shape[:-1]), dtype=np.int64).reshape(table.shape[:-1])
    places = np.broadcast_to(numbers, shape[:-1]).reshape(-1)
    return rows.reshape(-1, shape[-1]), np.ascontiguousarray(places)
