"""Backward passes: they may run a forward pass again (checkpointing), in which fused functions must stay whole.

PyTorch asks a tensor subclass once, at the start of a backward pass, and calls with its interception off run all of
the pass without it.  So a pass is started from edges of the graph, which are no tensors: nobody is asked.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from posit.torch.registry import register_function


@register_function(torch.Tensor.backward)
def _tensor_backward(
    x: torch.Tensor,
    gradient: torch.Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    _backward(x, gradient, retain_graph, create_graph, inputs=inputs)


@register_function(torch.autograd.backward)
def _backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    *,
    inputs: Any = None,
) -> None:
    starts, grads = _started(tensors, grad_tensors)
    if inputs is not None:
        inputs = [_edge(each) for each in _several(inputs)]
    torch.autograd.backward(starts, grads, retain_graph, create_graph, inputs=inputs)


@register_function(torch.autograd.grad)
def _grad(outputs: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> Any:
    starts, grads = _started(outputs, grad_outputs)
    return torch.autograd.grad(starts, [_edge(each) for each in _several(inputs)], grads, **options)


def _started(tensors: Any, grads: Any) -> tuple[list[GradientEdge], list[Any]]:
    """Edges of the graph at which a pass starts, and their gradients: 1 for a scalar where none is given."""
    each = _several(tensors)
    given = _several(grads) if grads is not None else [None] * len(each)
    filled = []
    for tensor, grad in zip(each, given, strict=True):
        if grad is None and isinstance(tensor, torch.Tensor):
            if tensor.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            grad = torch.ones_like(tensor)
        filled.append(grad)
    return [_edge(tensor) for tensor in each], filled


def _several(tensors: Any) -> Sequence[Any]:
    return [tensors] if isinstance(tensors, torch.Tensor | GradientEdge) else list(tensors)


def _edge(tensor: Any) -> GradientEdge:
    return tensor if isinstance(tensor, GradientEdge) else get_gradient_edge(tensor)
