"""Runs a plan over planes in plain torch: the one place that a generated kernel will replace.

Everything here works on ordinary tensors below autograd; the operators of :mod:`ga.product` have checked the
arguments.  A plane is ``t[k]``: one blade's coefficients for the whole batch, contiguous when the storage is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from ga._shapes import broadcast
from ga.plan import Plan, Term


def product(x: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """``out[k] = Σ sign · x[i] · y[j]``, accumulated plane by plane.

    Args:
        x: Planes of the first operand, shape ``(first, *S)``.
        y: Planes of the second operand, shape ``(second, *S)``, broadcastable against ``x`` after the blades.
        plan: The plan.

    Returns:
        Planes of the result, shape ``(out, *S)``; a plane without terms is zero.
    """
    batch = broadcast(x.shape[1:], y.shape[1:])
    out = x.new_empty((len(plan.out), *batch), dtype=torch.result_type(x, y))
    xs, ys = x.unbind(0), y.unbind(0)
    for plane, terms in zip(out.unbind(0), plan.by_output, strict=True):
        _accumulate(plane, xs, ys, terms)
    return out


def weighted_product(x: Tensor, y: Tensor, w: Tensor, plan: Plan) -> Tensor:
    """``out[k] = Σ w[path] · sign · x[i] · y[j]``; each path's terms are summed before the weight is applied.

    Args:
        x: Planes, shape ``(first, *S)``.
        y: Planes, shape ``(second, *S)``.
        w: Weights, shape ``(paths, *C)`` where C are trailing dimensions of S.
        plan: The plan.

    Returns:
        Planes, shape ``(out, *S)``.
    """
    terms_shape = broadcast(x.shape[1:], y.shape[1:])
    batch = broadcast(terms_shape, w.shape[1:])
    dtype = torch.promote_types(torch.result_type(x, y), w.dtype)
    out = x.new_empty((len(plan.out), *batch), dtype=dtype)
    partial = x.new_empty(terms_shape, dtype=dtype)
    xs, ys, ws = x.unbind(0), y.unbind(0), w.unbind(0)
    for plane, terms in zip(out.unbind(0), plan.by_output, strict=True):
        started = False
        for path, group in groupby(terms, key=lambda term: term.path):
            _accumulate(partial, xs, ys, tuple(group))
            if started:
                plane.addcmul_(partial, ws[path])
            else:
                torch.mul(partial, ws[path], out=plane)
            started = True
        if not started:
            plane.zero_()
    return out


def weighted_product_grad_weight(
    grad: Tensor, x: Tensor, y: Tensor, plan: Plan, shape: Sequence[int]
) -> Tensor:
    """``out[path] = Σ sign · grad[k] · x[i] · y[j]``, also summed over the batch that is not in ``shape``.

    Args:
        grad: Planes of the gradient of the result, shape ``(out, *S)``.
        x: Planes, shape ``(first, *S)``.
        y: Planes, shape ``(second, *S)``.
        plan: The plan of the weighted product.
        shape: Shape of the weight, ``(paths, *C)``.

    Returns:
        Gradient of the weight, of the given shape.
    """
    terms_shape = broadcast(x.shape[1:], y.shape[1:])
    batch = broadcast(terms_shape, grad.shape[1:])
    dtype = torch.promote_types(torch.result_type(x, y), grad.dtype)
    out = x.new_empty(tuple(shape), dtype=dtype)
    partial, total = x.new_empty(terms_shape, dtype=dtype), x.new_empty(batch, dtype=dtype)
    xs, ys, grads = x.unbind(0), y.unbind(0), grad.unbind(0)
    for plane, terms in zip(out.unbind(0), plan.by_path, strict=True):
        total.zero_()
        for k, group in groupby(terms, key=lambda term: term.k):
            _accumulate(partial, xs, ys, tuple(group))
            total.addcmul_(grads[k], partial)
        plane.copy_(total.sum_to_size(plane.shape))
    return out


def _accumulate(plane: Tensor, xs: Sequence[Tensor], ys: Sequence[Tensor], terms: Sequence[Term]) -> None:
    """Overwrite ``plane`` with the sum of the terms; zero if there are none."""
    if not terms:
        plane.zero_()
        return
    first = terms[0]
    torch.mul(xs[first.i], ys[first.j], out=plane)
    if first.sign < 0:
        plane.neg_()
    for i, j, _, sign, _ in terms[1:]:
        plane.addcmul_(xs[i], ys[j], value=sign)
