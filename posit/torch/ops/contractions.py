"""Matrix products: exact sums of products, one rounding each."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from posit._matmul import matmul_codes
from posit.codec import decode, encode, signed_storage
from posit.errors import FormatMismatch, NoRuleError
from posit.formats import Format
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.observe import MatrixObservation, current
from posit.torch.ops.reductions import sum_leading
from posit.torch.registry import calling_module, register_function, register_rule
from posit.torch.tensor import Outcome, PositTensor, outcome, to_numpy

aten = torch.ops.aten


@register_rule(aten.mm.default, aten.bmm.default)
def _mm(op: Any, a: PositTensor, b: PositTensor) -> PositTensor:
    return product(op, a, b)


@register_rule(aten.mv.default)
def _mv(op: Any, a: PositTensor, b: PositTensor) -> PositTensor:
    column = product(op, a, b.like(b.codes.unsqueeze(-1)))
    return column.like(column.codes.squeeze(-1))


@register_rule(aten.dot.default, aten.vdot.default)
def _dot(op: Any, a: PositTensor, b: PositTensor) -> PositTensor:
    one = product(op, a.like(a.codes.unsqueeze(0)), b.like(b.codes.unsqueeze(-1)))
    return one.like(one.codes.reshape(()))


@register_rule(aten.addmm.default, aten.baddbmm.default)
def _addmm(
    op: Any, addend: PositTensor, a: PositTensor, b: PositTensor, *, beta: float = 1, alpha: float = 1
) -> PositTensor:
    if alpha != 1 or beta != 1:
        raise NoRuleError(f"{op} is exact for alpha = beta = 1 only, got alpha={alpha} and beta={beta}")
    return product(op, a, b, addend)


@register_function(functional.linear)
def linear(x: PositTensor, weight: PositTensor, bias: PositTensor | None = None) -> Any:
    """``x @ weight.T + bias``: one rounding per result; backward one per gradient, the bias's over the whole batch.

    Args:
        x: Shape (..., in_features).
        weight: Shape (out_features, in_features).
        bias: Shape (out_features,).
    """
    return _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]


class _Linear(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.sums = sums_for(weight), None if bias is None else sums_for(bias)
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        return product("linear", rows, weight.t(), bias).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved_tensors
        rows = grad if grad.ndim == 2 else grad.reshape(-1, grad.shape[-1])
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = product("linear", rows, weight).view(x.shape)
        if ctx.needs_input_grad[1]:
            inputs = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
            if ctx.sums[0] is None:
                to_weight = product("linear", rows.t(), inputs)
            else:
                ctx.sums[0].add_product(rows.t(), inputs)
        if ctx.needs_input_grad[2]:
            if ctx.sums[1] is None:
                to_bias = sum_leading("linear", rows)
            else:
                ctx.sums[1].add(rows)
        return to_x, to_weight, to_bias


def product(op: Any, a: PositTensor, b: PositTensor, addend: PositTensor | None = None) -> PositTensor:
    """``a @ b + addend`` for matrices (..., m, k) and (..., k, n), each element formed exactly and rounded once.

    With a policy that simulates, products are accumulated in float32 instead and rounded to posits afterwards.
    """
    result = outcome(op, a, b) if addend is None else outcome(op, a, b, addend)
    if addend is not None and addend.format != result.format:
        a, b = _with_addend(op, a, b, addend)
        addend = None
    if result.policy is not None and result.policy.simulate:
        return _simulated(result, a, b, addend)
    observer = current()
    found = matmul_codes(
        to_numpy(a.codes),
        to_numpy(b.codes),
        a.format,
        right_format=b.format,
        out_format=result.format,
        addend=None if addend is None else to_numpy(addend.codes),
        gemm=gemm,
        find_open=observer is not None,
    )
    if (
        observer is not None
        and found.open is not None
        and a.ndim == 2
        and a.format == b.format == result.format
    ):
        codes = [factor.codes for factor in (a, b, addend) if factor is not None]
        observer(
            MatrixObservation(str(op), result.format, tuple(codes), found.codes, found.tiers, found.open)
        )
    return result.wrap(found.codes)


def _with_addend(
    op: Any, a: PositTensor, b: PositTensor, addend: PositTensor
) -> tuple[PositTensor, PositTensor]:
    """Factors one longer, whose product has a bias of the right factor's format in it: 1 times the bias, exact."""
    if addend.format != b.format or addend.ndim != 1 or b.ndim != 2:
        raise FormatMismatch(
            f"{op} adds {addend.format} of shape {tuple(addend.shape)} to a product with a factor in {b.format}"
            f"{calling_module()}; give both one format, or cast the addend to that of the result"
        )
    ones = a.codes.new_full((*a.shape[:-1], 1), 1 << (a.format.nbits - 2))
    row = addend.codes.unsqueeze(1)
    turned = torch.cat([b.codes.t(), row], 1).t()
    return a.like(torch.cat([a.codes, ones], -1)), b.like(turned)


def _simulated(result: Outcome, a: PositTensor, b: PositTensor, addend: PositTensor | None) -> PositTensor:
    """In float32, rounded to posits afterwards."""
    x, y = (_float32(factor.codes, factor.format) for factor in (a, b))
    total = torch.matmul(x, y)
    if addend is not None:
        total += _float32(addend.codes, addend.format)
    return result.wrap(encode(total.numpy(), result.format, signed_storage(result.format)))


def _float32(codes: torch.Tensor, fmt: Format) -> torch.Tensor:
    array = to_numpy(codes)
    if array.ndim == 2 and array.T.flags.c_contiguous and not array.flags.c_contiguous:
        return torch.from_numpy(decode(array.T, fmt, np.float32)).t()
    return torch.from_numpy(decode(array, fmt, np.float32))


def gemm(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], out: npt.NDArray[np.float64]) -> object:
    """Torch's float64 product of two matrices, written to `out`."""
    return torch.mm(torch.from_numpy(x), torch.from_numpy(y), out=torch.from_numpy(out))
