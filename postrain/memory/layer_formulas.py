"""What convolutions, norms and embeddings of posits hold besides their results when they hold most: bytes from shapes.

Counted from the code of `posit._patches`, `posit._norms`, `posit.torch.ops.norms` and `posit.torch.ops.segments`;
tests compare them with measurements.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from posit import Format
from posit._bands import workspace
from posit._matmul import matmul_workspace
from posit._norms import CHUNK
from posit._patches import BLOCK, NARROW, TOGETHER, Axis, Windows, blocks
from posit._streams import sums_workspace

aten = torch.ops.aten
_DOUBLE = 8
_STATISTICS = 6 * _DOUBLE  #: of a row


def norm_workspace(rows: int, columns: int, parameters: int) -> int:
    """Of a norm's forward pass: statistics of all rows, and some rows decoded, with marks of what is unsure.

    >>> norm_workspace(4, 8, 8)
    800
    """
    some = min(rows, max(1, CHUNK // max(columns, 1)))
    return _STATISTICS * (rows + some) + some * columns * (_DOUBLE + 1) + 2 * _DOUBLE * parameters


def norm_backward_workspace(rows: int, columns: int, parameters: int, samples: int, width: int) -> int:
    """Of its backward pass: factors of gamma's gradient for some samples while the next are normalized."""
    if not rows:
        return 0
    each = rows // max(samples, 1) * columns
    part = min(samples, max(1, CHUNK // max(each, 1))) * each
    some = min(rows, max(1, CHUNK // columns))
    decoded = some * columns * (2 * _DOUBLE + 1) + _STATISTICS * some
    products = part * (2 * _DOUBLE + 2 * width)
    again = norm_workspace(part // columns, columns, parameters) + 2 * width * part
    if part < rows * columns:  # the next are normalized while the last are held
        again += products
    return max(decoded, products, again) + _DOUBLE * parameters


def _layer_norm(args: tuple[Any, ...], fmt: Format) -> int:
    columns = math.prod(args[1])
    return norm_workspace(int(args[0].numel()) // max(columns, 1), columns, columns)


def _layer_norm_backward(args: tuple[Any, ...], fmt: Format) -> int:
    columns = math.prod(args[2])
    rows = args[0].numel() // max(columns, 1)
    return norm_backward_workspace(rows, columns, columns, rows, fmt.storage.itemsize)


def _group_norm(args: tuple[Any, ...], fmt: Format) -> int:
    samples, channels, area, groups = args[3:7]
    return norm_workspace(samples * groups, channels // groups * area, channels)


def _group_norm_backward(args: tuple[Any, ...], fmt: Format) -> int:
    samples, channels, area, groups = args[5:9]
    width = fmt.storage.itemsize
    held = norm_backward_workspace(samples * groups, channels // groups * area, channels, samples, width)
    copied: int = width * samples * channels * area
    return max(held, copied + sums_workspace(channels, channels, fmt))


def _batch_norm(args: tuple[Any, ...], fmt: Format) -> int:
    """Channels are rows: a copy turns them."""
    x = args[0]
    channels, size = int(x.shape[1]), int(x.numel())
    return fmt.storage.itemsize * size + norm_workspace(channels, size // channels, channels)


def _batch_norm_backward(args: tuple[Any, ...], fmt: Format) -> int:
    x, width = args[0], fmt.storage.itemsize
    channels, size = int(x.shape[1]), int(x.numel())
    return 2 * width * size + norm_backward_workspace(channels, size // channels, channels, 1, width)


def _axes(
    x: Any, weight: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[Axis]:
    sizes, taps = list(x.shape[2:]), list(weight.shape[2:])
    given = [[*each] * (len(sizes) if len(each) == 1 else 1) for each in (stride, dilation, padding)]
    axes = [
        Axis(size, tap, step, gap, edge, edge)
        for size, tap, step, gap, edge in zip(sizes, taps, *given, strict=True)
    ]
    return axes if len(axes) == 2 else [Axis(1, 1, 1, 1, 0, 0), *axes]


def _correlation(samples: int, outputs: int, channels: int, windows: Windows, width: int) -> int:
    """A patch matrix, its product with the weights, and what that holds."""
    k = channels * windows.taps
    part, rows = next(blocks(samples, windows, k), (slice(0, 0), slice(0, 0)))
    some = part.stop - part.start
    count = (rows.stop - rows.start) * windows.columns
    stacked = outputs * k * count <= TOGETHER and count >= NARROW
    product = matmul_workspace(outputs, k, count if stacked else some * count)
    return width * some * count * (k + outputs) + product


def _convolution(args: tuple[Any, ...], fmt: Format) -> int:
    x, weight, _, stride, padding, dilation = args[:6]
    windows = Windows.of(*_axes(x, weight, stride, padding, dilation))
    groups = int(args[8])
    return _correlation(x.shape[0], weight.shape[0] // groups, weight.shape[1], windows, fmt.storage.itemsize)


def _convolution_backward(args: tuple[Any, ...], fmt: Format) -> int:
    """The largest of: the input's gradient, the weight's, the bias's."""
    grad, x, weight, biases, stride, padding, dilation = args[:7]
    groups, mask = int(args[9]), args[10]
    down, along = _axes(x, weight, stride, padding, dilation)
    width, windows = fmt.storage.itemsize, Windows.of(down, along)
    samples, outputs = grad.shape[0], weight.shape[0] // groups
    lines = width * grad.numel() // groups
    held = [lines + sums_workspace(outputs, outputs, fmt) if biases else 0]
    if mask[0]:
        copied = lines if groups > 1 else 0
        phases = [(r, c) for r in down.phases() for c in along.phases()]
        held.append(
            copied
            + max(
                _correlation(
                    samples,
                    weight.shape[1],
                    outputs,
                    Windows(r.offsets, c.offsets, (1, 1), r.count, c.count),
                    width,
                )
                for r, c in phases
            )
        )
    if mask[1]:
        k, count = weight.shape[1] * windows.taps, samples * windows.rows * windows.columns
        some = min(k, max(1, BLOCK // max(1, count)))
        held.append(lines + width * some * count + matmul_workspace(outputs, count, some))
    return max(held)


def convolution_sums_workspace(args: tuple[Any, ...], fmt: Format) -> int:
    """Of the weight's gradient that is added to exact sums, some samples at a time."""
    _, x, weight, _, stride, padding, dilation = args[:7]
    windows = Windows.of(*_axes(x, weight, stride, padding, dilation))
    outputs, k = weight.shape[0] // int(args[9]), weight.shape[1] * windows.taps
    part, rows = next(blocks(x.shape[0], windows, k), (slice(0, 0), slice(0, 0)))
    count = (part.stop - part.start) * (rows.stop - rows.start) * windows.columns
    codes: int = fmt.storage.itemsize * count * (k + outputs)
    return codes + workspace(outputs, count, k)


LAYERS: dict[Any, Callable[[tuple[Any, ...], Format], int]] = {
    aten.native_layer_norm.default: _layer_norm,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.native_group_norm.default: _group_norm,
    aten.native_group_norm_backward.default: _group_norm_backward,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
}

#: results that torch's own operators keep for their backward pass, and posits' do not: places among the results
NOT_KEPT: dict[Any, tuple[int, ...]] = {
    aten.native_layer_norm.default: (1, 2),
    aten.native_group_norm.default: (1, 2),
    aten.native_batch_norm.default: (1, 2),
}
