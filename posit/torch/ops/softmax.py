"""Softmax and log-softmax with their derivatives: each element the exact real result, rounded once.

Each is evaluated in float64 with a proven bound, and where that does not decide the rounding, with mpmath or rational
numbers; so no result depends on the C library, the vector width or the number of threads.
"""

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from posit import _buffers
from posit._kernels import convert, softmax
from posit._threads import get_num_threads, split
from posit.codec import Codes, encode_rational, signed_storage
from posit.errors import NoRuleError
from posit.formats import Format
from posit.torch.ops.softmax_exact import difference_code, exact_dot, log_softmax_code, softmax_code
from posit.torch.registry import register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten
Floats = npt.NDArray[np.float64]
_BLOCK = 1 << 15  #: elements decoded at a time: half a megabyte of float64 for two operands
_COST = 20  #: nanoseconds an element takes, about
_REACH = 320  #: formats within 2**±320 have products of three values inside float64's normal range


class Mask(NamedTuple):
    """Which elements of rows count: element j of row r where ``kept[places[r], j]`` is not 0."""

    kept: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]


_NO_MASK = Mask(np.zeros((0, 0), np.uint8), np.zeros(0, np.int64))


@register_rule(aten._softmax.default)
def _softmax(op: Any, x: PositTensor, dim: int, half_to_float: bool) -> PositTensor:
    """exp(x_j) / sum_i exp(x_i) along `dim`, one rounding; a NaR makes its whole row NaR."""
    _require_float32(op, half_to_float)
    result = outcome(op, x)
    rows = _rows(x, dim)
    return _placed(result, softmax_rows(rows, x.format, result.format), x, dim)


@register_rule(aten._log_softmax.default)
def _log_softmax(op: Any, x: PositTensor, dim: int, half_to_float: bool) -> PositTensor:
    """x_j - log(sum_i exp(x_i)) along `dim` in the format of losses, one rounding; a NaR makes its row NaR."""
    _require_float32(op, half_to_float)
    result = outcome(op, x, loss=True)
    rows = _rows(x, dim)
    fmt = result.format
    kernel = softmax.log_softmax(*fmt.parameters, signed_storage(fmt))

    def run(values: list[Floats], start: int, codes: Codes, unsure: npt.NDArray[np.uint8]) -> None:
        kernel(values[0], _buffers.empty(rows.shape[1]), codes, unsure)

    def exact(row: int, column: int) -> int:
        return log_softmax_code(_line(rows, row, x.format), column, fmt)

    return _placed(result, _by_rows([(rows, x.format)], fmt, run, exact), x, dim)


@register_rule(aten._softmax_backward_data.default)
def _softmax_backward(
    op: Any, grad: PositTensor, output: PositTensor, dim: int, input_dtype: torch.dtype
) -> PositTensor:
    """y_j (g_j - sum_i g_i y_i) along `dim` over the stored output y, one rounding.

    Where y is 0, at masked elements, g is not read and the result is 0.
    """
    result = outcome(op, grad, output)
    codes = softmax_backward_rows(
        _rows(grad, dim), grad.format, _rows(output, dim), output.format, result.format
    )
    return _placed(result, codes, grad, dim)


@register_rule(aten._log_softmax_backward_data.default)
def _log_softmax_backward(
    op: Any, grad: PositTensor, output: PositTensor, dim: int, input_dtype: torch.dtype
) -> PositTensor:
    """g_j - exp(y_j) sum_i g_i along `dim` over the stored output y, one rounding."""
    result = outcome(op, grad, output)
    g, y, fmt = _rows(grad, dim), _rows(output, dim), result.format
    kernel = softmax.log_softmax_backward(*fmt.parameters, signed_storage(fmt))

    def run(values: list[Floats], start: int, codes: Codes, unsure: npt.NDArray[np.uint8]) -> None:
        kernel(values[0], values[1], *_buffers.empty((2, g.shape[1])), codes, unsure)

    def exact(row: int, column: int) -> int:
        own, exponent = _line(g, row, grad.format), _line(y, row, output.format)
        if np.isnan(own).any() or np.isnan(exponent[column]):
            return fmt.nar
        total = sum(map(Fraction, own.tolist()), Fraction(0))
        return difference_code(Fraction(float(own[column])), total, float(exponent[column]), fmt)

    pairs = [(g, grad.format), (y, output.format)]
    codes = _by_rows(pairs, fmt, run, exact, certifies=_in_reach(grad.format, output.format))
    return _placed(result, codes, grad, dim)


def softmax_rows(rows: Codes, fmt: Format, to: Format, mask: Mask | None = None) -> Codes:
    """Signed codes in `to` of the softmax of each row of signed codes, each element rounded once.

    Args:
        rows: Shape (m, k), C order.
        fmt: Their format.
        to: Format of the result.
        mask: What counts; the rest is left out of maximum and sum and gives exact 0, and so does a row of which
            nothing counts.
    """
    kernel = softmax.softmax(*to.parameters, signed_storage(to), mask is not None)
    kept, places = mask or _NO_MASK

    def run(values: list[Floats], start: int, codes: Codes, unsure: npt.NDArray[np.uint8]) -> None:
        kernel(values[0], kept, places[start : start + len(codes)], codes, unsure)

    def exact(row: int, column: int) -> int:
        values = _line(rows, row, fmt)
        if mask is None:
            return softmax_code(values, column, to)
        counts = kept[places[row]] != 0
        return softmax_code(values[counts], int(counts[:column].sum()), to)

    return _by_rows([(rows, fmt)], to, run, exact)


def softmax_backward_rows(g: Codes, g_format: Format, y: Codes, y_format: Format, to: Format) -> Codes:
    """Signed codes in `to` of y_j (g_j - sum_i g_i y_i) for rows of signed codes, each element rounded once."""
    kernel = softmax.softmax_backward(*to.parameters, signed_storage(to))

    def run(values: list[Floats], start: int, codes: Codes, unsure: npt.NDArray[np.uint8]) -> None:
        kernel(values[0], values[1], codes, unsure)

    def exact(row: int, column: int) -> int:
        grad, probability = _line(g, row, g_format), _line(y, row, y_format)
        counts = probability != 0
        if not counts[column]:
            return 0
        if np.isnan(grad[counts]).any() or np.isnan(probability).any():
            return to.nar
        dot = exact_dot(grad[counts], probability[counts])
        return encode_rational(
            Fraction(float(probability[column])) * (Fraction(float(grad[column])) - dot), to
        )

    pairs = [(g, g_format), (y, y_format)]
    return _by_rows(pairs, to, run, exact, certifies=_in_reach(g_format, y_format))


_Run = Callable[[list[Floats], int, Codes, npt.NDArray[np.uint8]], None]


def _by_rows(
    operands: list[tuple[Codes, Format]],
    to: Format,
    run: _Run,
    exact: Callable[[int, int], int],
    *,
    certifies: bool = True,
) -> Codes:
    """Decode blocks of rows of equal shape, run a kernel on each, settle what it leaves unsure; over threads.

    Args:
        operands: Codes of shape (m, k) and their format.
        to: Format of the result.
        run: ``run(values, start, codes, unsure)`` gets the decoded blocks (its to overwrite) that begin at row start.
        exact: ``exact(row, column)`` gives an unsigned code.
        certifies: Whether the kernel's proof holds in these formats; else each element that is no NaR is settled.
    """
    count, width = operands[0][0].shape
    out = _buffers.empty((count, width), signed_storage(to))
    if not out.size:
        return out
    step = _step(width)

    def work(start: int, stop: int) -> None:
        buffers = [_buffers.empty((min(step, stop - start), width)) for _ in operands]
        unsure = _buffers.empty((min(step, stop - start), width), np.uint8)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            values = [buffer[: last - first] for buffer in buffers]
            for (codes, fmt), decoded in zip(operands, values, strict=True):
                kernel = convert.decoder(*fmt.parameters, codes.dtype, decoded.dtype)
                kernel(codes[first:last].reshape(-1), decoded.reshape(-1))
            marks = unsure[: last - first]
            run(values, first, out[first:last], marks)
            if not certifies:
                marks[...] = 1
            for index in np.flatnonzero(marks.view(np.bool_)).tolist():
                row, column = first + index // width, index % width
                code = exact(row, column)
                out[row, column] = code - (1 << to.nbits) if code >= to.nar else code

    split(count, _COST * out.size, work)
    return out


def rows_workspace(count: int, width: int, operands: int) -> int:
    """Bytes that softmax and its like hold beside their result, for `count` rows of one operand or two.

    >>> rows_workspace(10**6, 64, 1) < 2**20 * get_num_threads()
    True
    """
    if count * width == 0:
        return 0
    threads = min(get_num_threads(), count, 1 + _COST * count * width // 100_000)
    rows = min(_step(width), -(-count // threads))
    return threads * (rows * width * (8 * operands + 1) + 8 * operands * width + 4096)


def _step(width: int) -> int:
    """Rows decoded at a time."""
    return max(1, _BLOCK // width)


def _in_reach(*formats: Format) -> bool:
    return all(max(fmt.max_scale, -fmt.lsb_scale) <= _REACH for fmt in formats)


def _line(rows: Codes, row: int, fmt: Format) -> Floats:
    line = np.ascontiguousarray(rows[row])
    values = np.empty(line.shape)
    convert.decoder(*fmt.parameters, line.dtype, values.dtype)(line, values)
    return values


def _rows(x: PositTensor, dim: int) -> Codes:
    """Codes as (m, k), C order, k along `dim`; a copy only where `dim` is not the last or x is strided."""
    codes = np.moveaxis(to_numpy(x.codes), dim, -1) if x.ndim else to_numpy(x.codes).reshape(1)
    width = codes.shape[-1]
    return _buffers.contiguous(codes).reshape(prod(codes.shape[:-1]), width)


def _placed(result: Outcome, rows: Codes, x: PositTensor, dim: int) -> PositTensor:
    """Rows back in the shape of x."""
    if not x.ndim:
        return result.wrap(rows.reshape(()))
    shape = list(x.shape)
    width = shape.pop(dim)
    return result.wrap(_buffers.contiguous(np.moveaxis(rows.reshape(*shape, width), -1, dim)))


def _require_float32(op: Any, half_to_float: bool) -> None:
    if half_to_float:
        raise NoRuleError(f"{op} keeps the posit format; it cannot convert on the way")
