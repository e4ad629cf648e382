"""Two-dimensional convolution of posit arrays: each output element one exact sum, rounded once."""

from typing import Any

import numpy as np

from posit._array import PositArray
from posit._operands import codes_of
from posit._products import exact_product, result_format
from posit.codec import Codes
from posit.errors import ShapeError
from posit.formats import Format

Pair = tuple[int, int]

BLOCK = 1 << 20  #: most elements of the patch matrix held at a time, unless a single output row needs more


def conv2d(
    x: PositArray,
    weight: PositArray,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    out_format: Format | str | None = None,
) -> PositArray:
    r"""Cross-correlation as in `torch.nn.functional.conv2d`, each element formed exactly and rounded once.

    .. math:: y_{n o i j} = b_o + \sum_{c r s} w_{o c r s} x_{n, c, i s_h + r d_h - p_h, j s_w + s d_w - p_w}

    where x is 0 outside of its bounds, and c runs over the channels of o's group.

    Args:
        x: Shape (n, channels, height, width), or without n.
        weight: Shape (out_channels, channels / groups, rows, columns).
        bias: Posits of the result's format or Python numbers, shape (out_channels,); inside the one rounding.
        stride: Distance of neighbouring windows, or one for rows and one for columns.
        padding: Zeros added at each side, or for rows and for columns.
        dilation: Distance of a window's elements, or for rows and for columns.
        groups: Parts into which channels and output channels are cut; each sees its own.
        out_format: Format of the result; by default that of the operands.  It must be named where they differ.

    Returns:
        Posits of shape (n, out_channels, out_height, out_width), or without n.  NaR in an element of `x` or `weight`
        or `bias` makes just the results it feeds NaR.

        Memory beyond the result: a padded copy of one sample, and a patch matrix of at most 2**20 codes (or one
        output row of it, where that is more) with the workspace of its product.

    Raises:
        FormatMismatch: the operands' formats differ and `out_format` is not named, or `bias` is of another.
        ShapeError: shapes that do not fit, windows larger than the padded input, or a stride, dilation or number of
            groups below 1, or a padding below 0.

    >>> import posit
    >>> x = posit.array([[[[1e9, 1, -1e9, 2, 1e9]]]], "posit32")
    >>> conv2d(x, posit.ones((1, 1, 1, 3), "posit32"), bias=[0.5], stride=2)
    posit.array([[[[1.5, 2.5]]]], 'posit32')
    """
    fmt = result_format("conv2d", x, weight, out_format)
    steps = _pair("stride", stride, 1), _pair("padding", padding, 0), _pair("dilation", dilation, 1)
    samples = x.codes if x.ndim == 4 else x.codes[None]
    height, width = _check(samples, weight, steps, groups, x.shape)
    added = None if bias is None else codes_of(bias, fmt)
    if added is not None and added.shape != weight.shape[:1]:
        raise ShapeError(f"the bias needs shape {weight.shape[:1]}, got {added.shape}")
    result = np.empty((len(samples), len(weight), height, width), fmt.storage)
    for sample, y in zip(samples, result, strict=True):
        padded = np.pad(sample, ((0, 0), *((p, p) for p in steps[1])))
        for group in range(groups):
            channels, outputs = (
                slice(n * group // groups, n * (group + 1) // groups) for n in (len(padded), len(y))
            )
            _one_group(
                padded[channels],
                weight.codes[outputs],
                None if added is None else added[outputs],
                (x.format, weight.format, fmt),
                steps,
                y[outputs],
            )
    return PositArray(result if x.ndim == 4 else result[0], fmt)


def _pair(name: str, value: Any, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in pair):
        raise ShapeError(f"{name} must be an integer of at least {least}, or two of them, got {value!r}")
    return int(pair[0]), int(pair[1])


def _check(
    samples: Codes, weight: PositArray, steps: tuple[Pair, Pair, Pair], groups: int, shape: tuple[int, ...]
) -> Pair:
    """Height and width of the result."""
    if samples.ndim != 4 or weight.ndim != 4:
        raise ShapeError(f"conv2d needs (n, c, h, w) and (o, c, r, s), got shapes {shape} and {weight.shape}")
    channels, wanted = samples.shape[1], weight.shape[1]
    if groups < 1 or len(weight) % groups or channels != wanted * groups:
        raise ShapeError(
            f"{groups} groups of {wanted} channels and {len(weight)} outputs do not fit {channels} channels: "
            "channels = groups * weight.shape[1] is needed, and outputs divisible by groups"
        )
    (stride, padding, dilation), sizes = steps, samples.shape[2:]
    room = [
        size + 2 * p - d * (k - 1) - 1
        for size, p, d, k in zip(sizes, padding, dilation, weight.shape[2:], strict=True)
    ]
    if min(room) < 0 or 0 in weight.shape[2:]:
        raise ShapeError(
            f"windows {weight.shape[2:]} with dilation {dilation} do not fit the input {sizes} padded by {padding}"
        )
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def _one_group(
    x: Codes,
    weight: Codes,
    bias: Codes | None,
    formats: tuple[Format, Format, Format],
    steps: tuple[Pair, Pair, Pair],
    y: Codes,
) -> None:
    """Fill y (outputs, height, width) from padded x (channels, ...), some output rows at a time."""
    (down, right), _, (gap_down, gap_right) = steps
    outputs, height, width = y.shape
    rows, columns = weight.shape[2:]
    extent = gap_down * (rows - 1) + 1, gap_right * (columns - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    windows = windows[:, ::down, ::right, ::gap_down, ::gap_right].transpose(0, 3, 4, 1, 2)
    k = weight[0].size
    kernel, added = weight.reshape(outputs, k), None if bias is None else bias[:, None]
    step = max(1, BLOCK // max(1, width * k))
    for start in range(0, height, step):
        patches = windows[:, :, :, start : start + step].reshape(k, -1)
        codes = exact_product(kernel, patches, formats[1], formats[0], formats[2], added)
        y[:, start : start + step] = codes.reshape(outputs, -1, width)
