"""Convolutions: each output and each gradient one exact sum of products, rounded once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from posit import _buffers
from posit._matmul_operands import Product
from posit._patches import (
    Axis,
    Exact,
    Windows,
    blocks,
    correlate,
    gather,
    input_gradient,
    lines_of,
    weight_gradient,
)
from posit.codec import Codes, encode, signed_storage
from posit.errors import FormatMismatch, ShapeError
from posit.torch.accumulation import GradientSum, sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.contractions import gemm
from posit.torch.ops.observe import MatrixObservation, current
from posit.torch.ops.reductions import sum_leading
from posit.torch.registry import calling_module, refuse, register_function
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

Two = tuple[int, int]


@register_function(functional.conv2d)
def conv2d(
    input: PositTensor,  # noqa: A002  # torch's name
    weight: PositTensor,
    bias: PositTensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """`torch.nn.functional.conv2d`: one rounding for each result; backward one for each gradient.

    Args:
        input: Shape (n, channels, height, width), or without n.
        weight: Shape (out_channels, channels / groups, rows, columns).
        bias: Shape (out_channels,), inside of the one rounding; of the weight's or of the result's format.
        stride: Distance of neighbouring windows, or one for rows and one for columns.
        padding: Zeros at each side, or for rows and for columns; "valid" or "same".
        dilation: Distance of a window's elements, or for rows and for columns.
        groups: Parts into which channels and output channels are cut; each sees its own.

    Rounding points: each element of the result, of the input's gradient (a sum over output channels and windows), of
    the weight's (over samples and windows) and of the bias's is one exact sum, rounded once.  Inside of
    `gradient_sums` those of weight and bias are not rounded at all.  With a policy that simulates, torch's own float32
    convolution takes the place of all of them but the sums of `gradient_sums`, and its results are rounded.

    Raises:
        ShapeError: shapes that do not fit, windows larger than the padded input, a stride or dilation below 1.
        FormatMismatch: operands of different formats without a policy, or a bias of a third format with one.
    """
    geometry = _geometry(input, weight, bias, (stride, padding, dilation), groups, 2)
    whole = input if input.ndim == 4 else input.unsqueeze(0)
    result: Any = _Convolution.apply(whole, weight, bias, geometry)  # type: ignore[no-untyped-call]
    return result if input.ndim == 4 else result.squeeze(0)


@register_function(functional.conv1d)
def conv1d(
    input: PositTensor,  # noqa: A002  # torch's name
    weight: PositTensor,
    bias: PositTensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """`torch.nn.functional.conv1d`; as `conv2d` with one axis."""
    geometry = _geometry(input, weight, bias, (stride, padding, dilation), groups, 1)
    whole = input if input.ndim == 3 else input.unsqueeze(0)
    result: Any = _Convolution.apply(whole, weight, bias, geometry)  # type: ignore[no-untyped-call]
    return result if input.ndim == 3 else result.squeeze(0)


refuse(
    functional.conv3d,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
    reason="transposed and three-dimensional convolutions have no rule for PositTensor{module}; posits have conv1d and "
    "conv2d (to grow an image, repeat its elements and use conv2d)",
)


@dataclass(frozen=True, slots=True)
class _Geometry:
    axes: tuple[Axis, Axis]
    groups: int
    dimensions: int

    @property
    def windows(self) -> Windows:
        return Windows.of(*self.axes)

    def parts(self, channels: int, outputs: int) -> list[tuple[slice, slice]]:
        """Channels and output channels of each group."""
        one, other = channels // self.groups, outputs // self.groups
        return [
            (slice(g * one, g * one + one), slice(g * other, g * other + other)) for g in range(self.groups)
        ]


def _geometry(
    x: PositTensor, weight: PositTensor, bias: PositTensor | None, given: Any, groups: int, dimensions: int
) -> _Geometry:
    if x.ndim not in (dimensions + 1, dimensions + 2) or weight.ndim != dimensions + 2:
        raise ShapeError(
            f"{_where(dimensions)} needs an input of {dimensions + 2} dimensions, or {dimensions + 1} for one sample, "
            f"and a weight of {dimensions + 2}; got shapes {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    channels, outputs = x.shape[-dimensions - 1], weight.shape[0]
    if groups < 1 or outputs % groups or channels != weight.shape[1] * groups:
        raise ShapeError(
            f"{_where(dimensions)} got {channels} channels, and a weight of shape {tuple(weight.shape)} for {groups} "
            "groups: it needs groups * weight.shape[1] channels, and outputs divisible by groups"
        )
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise ShapeError(f"{_where(dimensions)} needs a bias of shape ({outputs},), got {tuple(bias.shape)}")
    axes = _axes(x.shape[-dimensions:], weight.shape[2:], given)
    if dimensions == 1:
        axes = [Axis(1, 1, 1, 1, 0, 0), *axes]
    return _Geometry((axes[0], axes[1]), groups, dimensions)


def _where(dimensions: int) -> str:
    """For messages only: asking for the calling module makes every frame on the way keep a copy of its locals."""
    return f"conv{dimensions}d{calling_module()}"


def _axes(sizes: Any, taps: Any, given: Any) -> list[Axis]:
    stride, padding, dilation = given
    count = len(sizes)
    strides, gaps = (
        _numbers("stride", stride, count, 1),
        _numbers("dilation", dilation, count, 1),
    )
    if isinstance(padding, str):
        margins = _named_padding(padding, strides, gaps, taps)
    else:
        margins = [(p, p) for p in _numbers("padding", padding, count, 0)]
    axes = [
        Axis(size, tap, step, gap, *margin)
        for size, tap, step, gap, margin in zip(sizes, taps, strides, gaps, margins, strict=True)
    ]
    if any(axis.taps < 1 or axis.outputs < 1 for axis in axes):
        raise ShapeError(
            f"{_where(count)}: windows {tuple(taps)} with dilation {tuple(gaps)} do not fit the input {tuple(sizes)} "
            f"padded by {padding}"
        )
    return axes


def _named_padding(padding: str, strides: list[int], gaps: list[int], taps: Any) -> list[Two]:
    if padding == "valid":
        return [(0, 0)] * len(strides)
    if padding != "same":
        raise ShapeError(
            f"{_where(len(strides))} has padding 'same' and 'valid', or numbers; got {padding!r}"
        )
    if any(step != 1 for step in strides):
        raise ShapeError(f"{_where(len(strides))}: padding 'same' needs a stride of 1, got {tuple(strides)}")
    totals = [gap * (tap - 1) for gap, tap in zip(gaps, taps, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _numbers(name: str, value: Any, count: int, least: int) -> list[int]:
    numbers = [value] if isinstance(value, int) else list(value)
    numbers = numbers * count if len(numbers) == 1 else numbers
    if len(numbers) != count or not all(isinstance(number, int) and number >= least for number in numbers):
        raise ShapeError(
            f"{_where(count)}: {name} must be {count} integers of at least {least}, got {value!r}"
        )
    return numbers


class _Convolution(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, geometry: _Geometry) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        ctx.sums = sums_for(weight), None if bias is None else sums_for(bias)
        result = outcome("convolution", *(each for each in (x, weight, bias) if each is not None))
        if result.policy is not None and result.policy.simulate:
            return _simulated_forward(result, x, weight, bias, geometry)
        codes = _planes(x)
        kernel, added = _kernel(weight, bias, result)
        windows = geometry.windows
        out = _buffers.empty(
            (len(codes), len(weight), windows.rows, windows.columns), signed_storage(result.format)
        )
        exact = _exact(result, weight, x, out)
        for channels, outputs in geometry.parts(codes.shape[1], len(weight)):
            part = None if added is None else added[outputs]
            correlate(codes, kernel[outputs], part, windows, channels, exact, out[:, outputs])
        return result.wrap(out if geometry.dimensions == 2 else out[:, :, 0])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved_tensors
        geometry, (weight_sum, bias_sum) = ctx.geometry, ctx.sums
        to_x = to_weight = to_bias = None
        result = outcome("convolution", grad, x, weight)
        simulate = result.policy is not None and result.policy.simulate
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and weight_sum is None
        if simulate and any(wanted):
            to_x, to_weight = _simulated_backward(result, grad, x, weight, geometry, wanted)
        if wanted[0] and not simulate:
            to_x = _input_gradient(grad, x, weight, geometry)
        if wanted[1] and not simulate:
            to_weight = _weight_gradient(grad, x, weight, geometry)
        if ctx.needs_input_grad[1] and weight_sum is not None:
            _add_weight_gradient(weight_sum, grad, x, geometry)
        if ctx.needs_input_grad[2]:
            rows = grad.like(torch.from_numpy(lines_of(_planes(grad)).T))
            if bias_sum is None:
                to_bias = sum_leading("convolution", rows)
            else:
                bias_sum.add(rows)
        return to_x, to_weight, to_bias, None


def _exact(result: Outcome, left: PositTensor, right: PositTensor, out: Codes) -> Exact:
    """The products that make `out`; where all formats are one, an observer is told of each."""
    observer = current()
    told = None
    if observer is not None and left.format == right.format == result.format:

        def told(a: Codes, b: Codes, addend: Codes | None, made: Product) -> None:
            assert made.open is not None
            assert observer is not None
            given = tuple(torch.from_numpy(each) for each in (a, b, addend) if each is not None)
            names = "convolution", result.format, given, made.codes, made.tiers, made.open
            observer(MatrixObservation(*names, gathered_from=(left.codes, right.codes), within=out))

    return Exact(left.format, right.format, result.format, gemm, told)


def _kernel(weight: PositTensor, bias: PositTensor | None, result: Outcome) -> tuple[Codes, Codes | None]:
    """The weight as a matrix, and the bias as an addend or, where its format is not the result's, in the matrix."""
    matrix = to_numpy(weight.codes).reshape(len(weight), -1)
    if bias is None:
        return matrix, None
    if bias.format == result.format:
        return matrix, to_numpy(bias.codes)
    if bias.format != weight.format:
        raise FormatMismatch(
            f"a convolution got a bias in {bias.format} and a weight in {weight.format}{calling_module()}; give both "
            "one format"
        )
    return np.concatenate([matrix, to_numpy(bias.codes)[:, None]], 1), None


def _planes(x: PositTensor) -> Codes:
    """Codes as (samples, channels, height, width) in C order."""
    codes = to_numpy(x.codes.contiguous())
    return codes if codes.ndim == 4 else codes[:, :, None]


def _input_gradient(
    grad: PositTensor, x: PositTensor, weight: PositTensor, geometry: _Geometry
) -> PositTensor:
    result = outcome("convolution", grad, weight)
    codes, kernel = _planes(grad), _planes(weight)
    out = _buffers.zeros(
        (len(x), x.shape[1], *(axis.size for axis in geometry.axes)), signed_storage(result.format)
    )
    exact = _exact(result, weight, grad, out)
    for channels, outputs in geometry.parts(x.shape[1], len(weight)):
        part = np.ascontiguousarray(codes[:, outputs])
        input_gradient(part, kernel[outputs], geometry.axes, exact, out[:, channels])
    return result.wrap(out.reshape(x.shape))


def _weight_gradient(
    grad: PositTensor, x: PositTensor, weight: PositTensor, geometry: _Geometry
) -> PositTensor:
    result = outcome("convolution", grad, x)
    codes, inputs = _planes(grad), _planes(x)
    out = _buffers.empty(tuple(_planes(weight).shape), signed_storage(result.format))
    exact = _exact(result, grad, x, out)
    for channels, outputs in geometry.parts(x.shape[1], len(weight)):
        weight_gradient(codes[:, outputs], inputs, channels, geometry.windows, exact, out[outputs])
    return result.wrap(out.reshape(weight.shape))


def _add_weight_gradient(total: GradientSum, grad: PositTensor, x: PositTensor, geometry: _Geometry) -> None:
    """Add the weight's gradient exactly, some samples at a time."""
    codes, inputs, windows = _planes(grad), _planes(x), geometry.windows
    for channels, outputs in geometry.parts(x.shape[1], grad.shape[1]):
        k = (channels.stop - channels.start) * windows.taps
        for samples, rows in blocks(len(codes), windows, k):
            patches = gather(inputs[samples], channels, windows, rows, stacked=False)
            lines = lines_of(codes[samples, outputs, rows])
            total.add_product(
                grad.like(torch.from_numpy(lines)), x.like(torch.from_numpy(patches.T)), rows=outputs
            )
            del patches, lines  # before the next are made


def _float32(x: PositTensor) -> torch.Tensor:
    floats = x.to_float()
    return floats if floats.ndim == 4 else floats.unsqueeze(2)


def _padded(x: PositTensor, axes: tuple[Axis, Axis]) -> torch.Tensor:
    down, along = axes
    return functional.pad(_float32(x), (along.before, along.after, down.before, down.after))


def _simulated_forward(
    result: Outcome, x: PositTensor, weight: PositTensor, bias: PositTensor | None, geometry: _Geometry
) -> PositTensor:
    """Torch's float32 convolution, rounded to posits afterwards."""
    down, along = geometry.axes
    y = functional.conv2d(
        _padded(x, geometry.axes),
        _float32(weight),
        None if bias is None else bias.to_float(),
        (down.stride, along.stride),
        0,
        (down.dilation, along.dilation),
        geometry.groups,
    )
    codes = encode(y.numpy(), result.format, signed_storage(result.format))
    return result.wrap(codes if geometry.dimensions == 2 else codes[:, :, 0])


def _simulated_backward(
    result: Outcome, grad: PositTensor, x: PositTensor, weight: PositTensor, geometry: _Geometry, wanted: Any
) -> tuple[PositTensor | None, PositTensor | None]:
    down, along = geometry.axes
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        _float32(grad),
        _padded(x, geometry.axes),
        _float32(weight),
        None,
        (down.stride, along.stride),
        (0, 0),
        (down.dilation, along.dilation),
        False,
        (0, 0),
        geometry.groups,
        (*wanted, False),
    )
    if to_x is not None:
        to_x = to_x[:, :, down.before : down.before + down.size, along.before : along.before + along.size]
    return tuple(
        None
        if found is None
        else result.wrap(
            encode(found.contiguous().numpy(), result.format, signed_storage(result.format)).reshape(
                like.shape
            )
        )
        for found, like in ((to_x, x), (to_weight, weight))
    )  # type: ignore[return-value]
