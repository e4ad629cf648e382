"""Matrix products: exact sums of products, one rounding each."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posit._matmul import matmul_codes
from posit.errors import NoRuleError
from posit.torch.ops.observe import MatrixObservation, current
from posit.torch.tensor import PositTensor, register_rule, same_format, to_numpy, wrap

aten = torch.ops.aten


@register_rule(aten.mm.default)
def _mm(op: Any, a: PositTensor, b: PositTensor) -> PositTensor:
    return _product(op, a, b, None)


@register_rule(aten.addmm.default)
def _addmm(
    op: Any, addend: PositTensor, a: PositTensor, b: PositTensor, *, beta: float = 1, alpha: float = 1
) -> PositTensor:
    if alpha != 1 or beta != 1 or addend.ndim != 1:
        raise NoRuleError(f"{op} is exact for a one-dimensional addend with alpha = beta = 1 only")
    return _product(op, a, b, addend)


def _product(op: Any, a: PositTensor, b: PositTensor, addend: PositTensor | None) -> PositTensor:
    fmt = same_format(op, a, b) if addend is None else same_format(op, a, b, addend)
    operands = [a.codes, b.codes] if addend is None else [a.codes, b.codes, addend.codes.expand(b.shape[1])]
    arrays = [to_numpy(codes) for codes in operands]
    observer = current()
    product = matmul_codes(
        arrays[0],
        arrays[1],
        fmt,
        addend=arrays[2] if addend is not None else None,
        gemm=_gemm,
        find_open=observer is not None,
    )
    if observer is not None and product.open is not None:
        observer(MatrixObservation(str(op), fmt, tuple(operands), product.codes, product.tiers, product.open))
    return wrap(product.codes, fmt)


def _gemm(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], out: npt.NDArray[np.float64]) -> object:
    return torch.mm(torch.from_numpy(x), torch.from_numpy(y), out=torch.from_numpy(out))
