"""Convolutions of codes as matrix products: where windows lie, their patch matrix, and exact products with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from posit import _buffers
from posit._kernels import patches as kernels
from posit._matmul import Gemm, matmul_codes
from posit._matmul_operands import Product
from posit._threads import split
from posit.codec import Codes
from posit.formats import Format

BLOCK = 1 << 21  #: most codes of a patch matrix held at a time, unless one row of outputs needs more
TOGETHER = 1 << 19  #: multiply-adds of one sample up to which samples are matrices of one stack
NARROW = 8  #: columns below which they are not


@dataclass(frozen=True, slots=True)
class Phase:
    """Inputs first, first + step, … (`count` of them), which lie alike under the windows: the same taps meet them."""

    first: int
    step: int
    count: int
    taps: list[int]
    offsets: list[int]  #: tap t joins input number j of the phase to output j + offsets[t]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis: output o and tap r meet input o * stride + r * dilation - before."""

    size: int
    taps: int
    stride: int
    dilation: int
    before: int  #: zeros in front
    after: int  #: zeros behind

    @property
    def extent(self) -> int:
        """Inputs from the first to the last tap."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def outputs(self) -> int:
        """Number of windows; not positive where none fits."""
        return (self.size + self.before + self.after - self.extent) // self.stride + 1

    @property
    def offsets(self) -> list[int]:
        """Of each tap, the input that it meets in window 0."""
        return [tap * self.dilation - self.before for tap in range(self.taps)]

    @property
    def apart(self) -> bool:
        """Whether no input lies under two windows."""
        return self.outputs <= 1 or self.stride >= self.extent

    def phases(self) -> list[Phase]:
        """All inputs that a window meets."""
        found = []
        for phase in sorted({tap * self.dilation % self.stride for tap in range(self.taps)}):
            first = (phase - self.before) % self.stride
            taps = [tap for tap in range(self.taps) if tap * self.dilation % self.stride == phase]
            offsets = [(first + self.before - tap * self.dilation) // self.stride for tap in taps]
            count = len(range(first, self.size, self.stride))
            found.append(Phase(first, self.stride, count, taps, offsets))
        return [phase for phase in found if phase.count]


@dataclass(frozen=True, slots=True)
class Windows:
    """Window (i, j) meets row i * steps[0] + at_rows[r] and column j * steps[1] + at_columns[s] of every channel."""

    at_rows: list[int]
    at_columns: list[int]
    steps: tuple[int, int]
    rows: int  #: windows
    columns: int

    @classmethod
    def of(cls, down: Axis, along: Axis) -> "Windows":
        """All windows along two axes."""
        return cls(down.offsets, along.offsets, (down.stride, along.stride), down.outputs, along.outputs)

    @property
    def taps(self) -> int:
        """Elements of one channel in a window."""
        return len(self.at_rows) * len(self.at_columns)


def gather(
    codes: Codes, channels: slice, windows: Windows, rows: slice, *, stacked: bool, last: int | None = None
) -> Codes:
    """Patch matrix of some channels and some rows of windows; 0 where a window leaves the array.

    Args:
        codes: Shape (samples, channels, height, width), C order.
        stacked: One matrix for each sample, shape (samples, k, windows); otherwise one, (k, samples * windows).
        last: A code that fills one more line of k.

    k counts channels, and rows and columns of a window, in this order.
    """
    samples = len(codes)
    count = (rows.stop - rows.start) * windows.columns
    k = (channels.stop - channels.start) * windows.taps + (last is not None)
    out = _buffers.empty((samples, k, count) if stacked else (k, samples * count), codes.dtype)
    sample, line = (k * count, count) if stacked else (count, samples * count)
    flat = out.reshape(-1).view(f"i{codes.itemsize}")
    source = codes.view(f"i{codes.itemsize}")
    kernel = kernels.gather(codes.itemsize)
    numbers = ([channels.start, channels.stop], windows.steps, windows.at_rows, windows.at_columns)
    limits, steps, at_rows, at_columns = (np.array(each, np.int64) for each in numbers)

    def run(start: int, stop: int) -> None:
        kernel(
            source[start:stop], limits, rows.start, rows.stop - rows.start, windows.columns, steps, at_rows,
            at_columns, flat[start * sample :], sample, line,
        )  # fmt: skip

    if out.size:
        split(samples, out.size, run)
    if last is not None:
        out[..., -1, :] = last
    return out


@dataclass(frozen=True, slots=True)
class Exact:
    """Formats of two factors and their product, the float64 product to use, and who is told of each product."""

    left: Format
    right: Format
    result: Format
    gemm: Gemm | None = None
    told: Callable[[Codes, Codes, Codes | None, Product], None] | None = None

    @property
    def one(self) -> int:
        """Code of 1 in the right factor's format."""
        return 1 << (self.right.nbits - 2)

    def product(self, a: Codes, b: Codes, addend: Codes | None = None) -> Codes:
        """``a @ b + addend``, rounded once."""
        made = matmul_codes(
            a,
            b,
            self.left,
            right_format=self.right,
            out_format=self.result,
            addend=addend,
            gemm=self.gemm,
            find_open=self.told is not None,
        )
        if self.told is not None:
            self.told(a, b, addend, made)
        return made.codes


def correlate(
    x: Codes, weight: Codes, bias: Codes | None, windows: Windows, channels: slice, exact: Exact, out: Codes
) -> None:
    """Fill `out`, shape (samples, outputs, rows, columns), with exact sums over windows, each rounded once.

    Args:
        x: Shape (samples, channels, height, width), C order.
        weight: Shape (outputs, k), k as in `gather`; or k + 1, and what is last is added.
        bias: Shape (outputs,), of the result's format.
        channels: Which channels of x.
        exact: Formats of weight, x and out.
    """
    outputs, k = weight.shape
    one = exact.one if k > (channels.stop - channels.start) * windows.taps else None
    added = None if bias is None else bias[:, None]
    for samples, rows in blocks(len(x), windows, k):
        count = (rows.stop - rows.start) * windows.columns
        stacked = outputs * k * count <= TOGETHER and count >= NARROW
        patches = gather(x[samples], channels, windows, rows, stacked=stacked, last=one)
        sums = exact.product(weight, patches, added)
        if not stacked:
            sums = sums.reshape(outputs, -1, count).swapaxes(0, 1)
        out[samples, :, rows] = sums.reshape(-1, outputs, rows.stop - rows.start, windows.columns)
        del patches, sums  # before the next are made


def blocks(samples: int, windows: Windows, k: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows of windows such that a patch matrix with k lines stays within BLOCK, if it can."""
    row = max(1, k * windows.columns)
    rows = min(windows.rows, max(1, BLOCK // row))
    count = max(1, BLOCK // (row * rows)) if rows == windows.rows else 1
    for first in range(0, samples, count):
        for top in range(0, windows.rows, rows):
            yield slice(first, min(first + count, samples)), slice(top, min(top + rows, windows.rows))


def input_gradient(grad: Codes, weight: Codes, axes: tuple[Axis, Axis], exact: Exact, out: Codes) -> None:
    """Fill `out` (samples, channels, height, width), zeros, with the exact sums of grad times weight.

    Args:
        grad: Shape (samples, outputs, rows, columns), C order.
        weight: Shape (outputs, channels, r, s).
        exact: Formats of weight, grad and out.

    Inputs of one phase are a correlation of the gradient with the taps that meet them, one sum and one rounding each.
    Where windows do not overlap, each sum has one tap, and one matrix product makes all.
    """
    down, along = axes
    if down.apart and along.apart:
        _place_apart(grad, weight, axes, exact, out)
        return
    every = slice(0, grad.shape[1])
    for lines in down.phases():
        for columns in along.phases():
            part = weight[:, :, lines.taps][:, :, :, columns.taps].swapaxes(0, 1)
            kernel = np.ascontiguousarray(part).reshape(weight.shape[1], -1)
            windows = Windows(lines.offsets, columns.offsets, (1, 1), lines.count, columns.count)
            target = out[:, :, lines.first :: lines.step, columns.first :: columns.step]
            correlate(grad, kernel, None, windows, every, exact, target)


def _place_apart(grad: Codes, weight: Codes, axes: tuple[Axis, Axis], exact: Exact, out: Codes) -> None:
    down, along = axes
    outputs, channels, height, width = weight.shape
    rows, columns = grad.shape[2:]
    lines = np.ascontiguousarray(weight.reshape(outputs, -1).T)
    step = max(1, BLOCK // max(1, lines.shape[0] * rows * columns))
    for first in range(0, len(grad), step):
        part = grad[first : first + step]
        flat = np.ascontiguousarray(part.swapaxes(0, 1)).reshape(outputs, -1)
        terms = exact.product(lines, flat).reshape(channels, height, width, len(part), rows, columns)
        target = out[first : first + step]
        for r, s in np.ndindex(height, width):
            windows_r, inputs_r = _inside(down, r)
            windows_s, inputs_s = _inside(along, s)
            target[:, :, inputs_r, inputs_s] = terms[:, r, s, :, windows_r, windows_s].swapaxes(0, 1)


def _inside(axis: Axis, tap: int) -> tuple[slice, slice]:
    """Windows whose tap lies inside the input, and the inputs it meets there."""
    shift = tap * axis.dilation - axis.before
    first = max(0, -(shift // axis.stride))
    stop = max(first, min(axis.outputs, (axis.size - 1 - shift) // axis.stride + 1))
    start = first * axis.stride + shift
    end = start + (stop - first - 1) * axis.stride + 1 if stop > first else start
    return slice(first, stop), slice(max(start, 0), max(end, 0), axis.stride)


def weight_gradient(
    grad: Codes, x: Codes, channels: slice, windows: Windows, exact: Exact, out: Codes
) -> None:
    """Fill `out` (outputs, channels, r, s) with exact sums of grad times input over samples and windows.

    Args:
        grad: Shape (samples, outputs, rows, columns).
        x: Shape (samples, all channels, height, width), C order.
        exact: Formats of grad, x and out.
    """
    lines = lines_of(grad)
    whole = slice(0, windows.rows)
    most = max(1, BLOCK // max(1, lines.shape[1]))
    for first, stop, taps in _pieces(channels, windows, most):
        part = Windows(
            [windows.at_rows[r] for r in taps],
            windows.at_columns,
            windows.steps,
            windows.rows,
            windows.columns,
        )
        patches = gather(x, slice(first, stop), part, whole, stacked=False)
        sums = exact.product(lines, patches.T)
        here = slice(first - channels.start, stop - channels.start)
        out[:, here, taps.start : taps.stop] = sums.reshape(
            len(lines), stop - first, len(taps), len(windows.at_columns)
        )
        del patches, sums


def lines_of(grad: Codes) -> Codes:
    """(samples, outputs, rows, columns) as (outputs, samples * rows * columns)."""
    return _buffers.contiguous(grad.swapaxes(0, 1)).reshape(grad.shape[1], -1)


def _pieces(channels: slice, windows: Windows, most: int) -> Iterator[tuple[int, int, range]]:
    """Channels and rows of taps with at most so many taps together, if it can be."""
    rows = len(windows.at_rows)
    count = max(1, most // windows.taps)
    height = rows if count > 1 or windows.taps <= most else max(1, most // len(windows.at_columns))
    for first in range(channels.start, channels.stop, count):
        for top in range(0, rows, height):
            yield first, min(first + count, channels.stop), range(top, min(top + height, rows))
