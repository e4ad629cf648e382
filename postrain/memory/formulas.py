"""What an operator on posits holds besides its result when it holds most: bytes from shapes, by operator.

Counted from the code of `posit._matmul.matmul_codes`, `posit.rounding.certified`, `posit.torch.ops.losses` and
`postrain.geometric`; tests compare them with measurements.  Views, copies and fused updates hold nothing
worth counting.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from ga.plan import plan_from_key
from posit import Format
from posit._matmul import matmul_workspace
from posit._streams import sums_workspace
from posit.torch.ops.softmax import rows_workspace
from postrain.memory.layer_formulas import LAYERS

aten, ga = torch.ops.aten, torch.ops.ga

_DOUBLE = 8


def posit_workspace(op: Any, args: tuple[Any, ...], result: Any, fmt: Format) -> int:
    """Bytes that `op` holds at its own peak, its result not counted; 0 for an operator without a formula.

    >>> x = torch.empty(4, 8, device="meta")
    >>> posit_workspace(aten.mm.default, (x, x.T), None, Format(16)) - 1024  # 80 doubles, statistics of lines …
    1676
    """
    formula = _FORMULAS.get(op)
    return 0 if formula is None else formula(args, fmt)


def product_workspace(m: int, k: int, n: int) -> int:
    """Of an exact product (m, k) by (k, n): decoded tiles, the float64 product, and statistics of rows and columns.

    A product that one kernel makes holds what `posit._matmul.small_workspace` says.  Not counted is the list of
    sums that float64 left open.
    """
    return matmul_workspace(m, k, n)


def _mm(args: tuple[Any, ...], fmt: Format) -> int:
    (m, k), n = args[0].shape, args[1].shape[1]
    return product_workspace(m, k, n)


def _addmm(args: tuple[Any, ...], fmt: Format) -> int:
    (m, k), n = args[1].shape, args[2].shape[1]
    addends: int = _DOUBLE * n
    return product_workspace(m, k, n) + addends


def _sum(args: tuple[Any, ...], fmt: Format) -> int:
    """Columns side by side where leading dimensions are summed over, else one row after the other."""
    x = args[0]
    dims = [dim % x.ndim for dim in args[1]] if len(args) > 1 and args[1] else list(range(x.ndim))
    kept: int = x.numel() // max(math.prod(x.shape[dim] for dim in dims), 1)
    leading = sorted(dims) == list(range(len(dims))) and len(dims) < x.ndim
    return sums_workspace(kept, kept if leading else 1, fmt)


def _threshold_backward(args: tuple[Any, ...], fmt: Format) -> int:
    """Three masks while they are joined, before the result exists; one beside the result."""
    elements: int = args[0].numel()
    return elements * max(3 - fmt.storage.itemsize, 1)


def certified_workspace(elements: int) -> int:
    """Of `posit.rounding.certified`: which elements are undecided."""
    return elements


def _rows(operands: int) -> Callable[[tuple[Any, ...], Format], int]:
    """A formula of an operator over the rows along a dimension, which is the argument after the operands."""

    def formula(args: tuple[Any, ...], fmt: Format) -> int:
        width = int(args[0].shape[args[operands]]) if args[0].ndim else 1
        return rows_workspace(int(args[0].numel()) // max(width, 1), width, operands)

    return formula


def _mse_loss(args: tuple[Any, ...], fmt: Format) -> int:
    """Two operands, their difference and its square."""
    return 4 * _DOUBLE * int(args[0].numel())


def _mse_loss_backward(args: tuple[Any, ...], fmt: Format) -> int:
    """Two operands, value, error, and `certified`."""
    elements = int(args[1].numel())
    return 4 * _DOUBLE * elements + certified_workspace(elements)


def _elementwise(doubles: int) -> Callable[[tuple[Any, ...], Format], int]:
    """A formula over so many float64 arrays of the first argument's size, then `certified`."""

    def formula(args: tuple[Any, ...], fmt: Format) -> int:
        elements = args[0].numel()
        return int(doubles * _DOUBLE * elements + certified_workspace(elements))

    return formula


def _geometric(args: tuple[Any, ...], operands: int, planes: int, reduced_to: Any, fmt: Format) -> int:
    """What `postrain.geometric` says."""
    from postrain.geometric import planes_workspace

    shapes = [tuple(each.shape) for each in args[:operands]]
    return planes_workspace(shapes, planes, reduced_to, fmt.storage.itemsize)


def _product(args: tuple[Any, ...], fmt: Format) -> int:
    return _geometric(args, 2, len(plan_from_key(args[2]).out), None, fmt)


def _weighted_product(args: tuple[Any, ...], fmt: Format) -> int:
    return _geometric(args, 3, len(plan_from_key(args[3]).out), None, fmt)


def _grad_weight(args: tuple[Any, ...], fmt: Format) -> int:
    return _geometric(args, 3, args[4][0], tuple(args[4][1:]), fmt)


def _marks(args: tuple[Any, ...], fmt: Format) -> int:
    return certified_workspace(args[0].numel())


def _embedding_backward(args: tuple[Any, ...], fmt: Format) -> int:
    """Decoded rows, their order, float64 sums with marks."""
    grad, indices, count = args[:3]
    table: int = count * grad.shape[-1]
    return int(_DOUBLE * (grad.numel() + indices.numel() + count) + (_DOUBLE + 1) * table)


_FORMULAS: dict[Any, Callable[[tuple[Any, ...], Format], int]] = {
    **LAYERS,
    aten.gelu_backward.default: _marks,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.threshold_backward.default: _threshold_backward,
    aten._log_softmax.default: _rows(1),
    aten._log_softmax_backward_data.default: _rows(2),
    aten.nll_loss_forward.default: _elementwise(1),
    aten.mse_loss.default: _mse_loss,
    aten.mse_loss_backward.default: _mse_loss_backward,
    ga.product.default: _product,
    ga.weighted_product.default: _weighted_product,
    ga.weighted_product_grad_weight.default: _grad_weight,
}
