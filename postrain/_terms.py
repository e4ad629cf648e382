"""How many terms the longest sum of an operator has, from the shapes of its operands alone."""

import math
from collections.abc import Callable
from typing import Any

import torch

Shapes = list[tuple[int, ...]]

#: operators that move, select or change single elements: they sum nothing
_NO_SUMS = frozenset(
    """
    view _unsafe_view reshape t transpose permute detach alias clone copy_ expand slice select unsqueeze
    squeeze unbind split split_with_sizes chunk cat stack narrow as_strided unfold flip roll relu relu_
    threshold_backward max min amax amin argmax sort topk index gather index_select masked_fill
    masked_fill_ where zeros_like ones_like full_like empty_like new_zeros new_empty new_empty_strided
    new_ones new_full zero_ fill_ neg abs sign mul mul_ div div_ sub sub_ add add_ exp log sqrt rsqrt
    reciprocal pow tanh tanh_backward sigmoid sigmoid_backward gelu gelu_backward silu silu_backward
    softplus hardtanh leaky_relu leaky_relu_backward elu elu_backward max_pool2d_with_indices max_pool2d
    max_pool1d clamp lt gt le ge eq ne isnan _to_copy slice_backward select_backward bernoulli_
    native_dropout native_dropout_backward
    """.split()  # noqa: SIM905 (a list of words reads better)
)
_TWO = frozenset({"add", "add_", "sub", "sub_"})  #: of these the sum has two terms


def longest_sum(op: Any, operands: list[torch.Tensor], *, backward: bool) -> tuple[int, bool]:
    """The number of products in the longest sum that one call forms, and whether it is exact or an upper bound.

    Where no formula is known, the bound is the number of elements of the largest operand and one: an element of a
    result adds each element of that operand at most once, whatever it is multiplied with.

    >>> from torch.nn import functional
    >>> longest_sum(functional.linear, [torch.empty(8, 3), torch.empty(5, 3), torch.empty(5)], backward=False)
    (4, True)
    >>> longest_sum(functional.linear, [torch.empty(8, 3), torch.empty(5, 3)], backward=True)
    (8, True)
    """
    name = name_of(op).removeprefix("aten.").split(".")[0]
    shapes = [tuple(x.shape) for x in operands]
    if name in _NO_SUMS:
        return (2, True) if name in _TWO else (1, True)
    formula = _BACKWARD.get(name, _FORWARD.get(name)) if backward else _FORWARD.get(name)
    if formula is None:
        return 1 + max((math.prod(shape) for shape in shapes), default=0), False
    return formula(shapes), True


def name_of(op: Any) -> str:
    """A name for an operator or function: ``aten.mm.default``, ``linear``.

    >>> name_of(torch.ops.aten.mm.default), name_of(torch.nn.functional.linear)
    ('aten.mm.default', 'linear')
    """
    return str(op) if isinstance(op, torch._ops.OpOverload) else getattr(op, "__name__", str(op))


def _product(shapes: Shapes) -> int:
    return shapes[0][-1] if shapes[0] else 1


def _added_product(shapes: Shapes) -> int:
    return shapes[1][-1] + 1


def _linear(shapes: Shapes) -> int:
    return shapes[0][-1] + (len(shapes) > 2)


def _linear_backward(shapes: Shapes) -> int:
    """Over the rows for the weight, over the outputs for the input."""
    return max(math.prod(shapes[0][:-1]), shapes[1][0])


def _convolution(shapes: Shapes) -> int:
    return math.prod(shapes[1][1:]) + (len(shapes) > 2)


def _convolution_backward(shapes: Shapes) -> int:
    """For the weight at most over all places of the input (of each sample), for the input over outputs and window.

    Padding adds places at which the input is zero, and adds no terms.
    """
    x, weight = shapes[0], shapes[1]
    places = math.prod(x) // x[1] if len(x) == len(weight) else math.prod(x[1:])
    return max(places, weight[0] * math.prod(weight[2:]))


def _attention(shapes: Shapes) -> int:
    return max(shapes[0][-1], shapes[1][-2])


def _attention_backward(shapes: Shapes) -> int:
    return max(shapes[0][-1], shapes[0][-2], shapes[1][-2])


_FORWARD: dict[str, Callable[[Shapes], int]] = {
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "dot": _product,
    "addmm": _added_product,
    "baddbmm": _added_product,
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "scaled_dot_product_attention": _attention,
    "embedding": lambda shapes: 1,
}
_BACKWARD: dict[str, Callable[[Shapes], int]] = {
    "linear": _linear_backward,
    "conv1d": _convolution_backward,
    "conv2d": _convolution_backward,
    "scaled_dot_product_attention": _attention_backward,
    "embedding": lambda shapes: max(math.prod(shapes[0]), 1),
}
