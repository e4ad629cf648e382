"""Runs a plan on the CPU with a generated kernel, where there is one for the operands."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ga import _evaluate
from ga._shapes import broadcast
from ga._threads import split
from ga.plan import Plan

if TYPE_CHECKING:
    from ga._kernels.compiled import Kernel

_SCALARS = {torch.float32: "float", torch.float64: "double"}
_MOST_TERMS = 4096  #: the full product of 6 generators; more would take seconds to compile
_CACHED = 1 << 20  #: bytes: planes of more than this, together, are fetched ahead
_SMALL = 256  #: elements that are never split among threads


def product(x: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """``out[k] = Σ sign · x[i] · y[j]``: by a kernel, or in plain torch where there is none.

    A kernel takes float32 or float64, both operands the same.  Operands that broadcast are written out first,
    unless one of them is a single multivector: that one is held in registers.  Every element goes through the
    same instructions, so its bits do not depend on the batch around it or on the number of threads.

    Args:
        x: Planes of the first operand, shape ``(first, *S)``.
        y: Planes of the second operand, shape ``(second, *S)``, broadcastable against ``x`` after the blades.
        plan: The plan.

    Returns:
        Planes of the result, shape ``(out, *S)``; a plane without terms is zero.
    """
    out = _by_kernel((plan,), x, y)
    return _evaluate.product(x, y, plan) if out is None else out


def sandwich(x: Tensor, y: Tensor, inner: Plan, outer: Plan) -> Tensor | None:
    """The sandwich x y ~x by one kernel, which keeps x y in registers; None where there is none.

    The bits are those of the two products.  It has no derivative and no operator: it is for planes on which
    nothing but values is asked, see :func:`ga.product.sandwich`.

    Args:
        x: Planes, shape ``(len(inner.first), *S)``.
        y: Planes, shape ``(len(inner.second), *S)``.
        inner: The plan of x y.
        outer: The plan of (x y) x, its first operand the result of ``inner``.

    Returns:
        Planes, shape ``(len(outer.out), *S)``.
    """
    return _by_kernel((inner, outer), x, y)


def _by_kernel(plans: tuple[Plan, ...], x: Tensor, y: Tensor) -> Tensor | None:
    """The result of a kernel; None for operands that no kernel takes."""
    if x.dtype is not y.dtype or x.dtype not in _SCALARS:
        return None
    terms = sum(len(plan.terms) for plan in plans)
    if terms > _MOST_TERMS or not all(plan.terms for plan in plans):
        return None
    batch = x.shape[1:] if x.shape[1:] == y.shape[1:] else broadcast(x.shape[1:], y.shape[1:])
    length = batch.numel()
    x, y = _planes(x, batch, length), _planes(y, batch, length)
    x_size, y_size = x.numel() // x.shape[0], y.numel() // y.shape[0]
    kernel = _kernel(plans, x.dtype, x_size < length, y_size < length)
    if kernel is None:
        return None
    out = x.new_empty((len(plans[-1].out), *batch))
    addresses = x.data_ptr(), y.data_ptr(), out.data_ptr()
    planes = x.shape[0] + y.shape[0] + out.shape[0]
    far = planes * length * x.element_size() > _CACHED

    def run(start: int, stop: int) -> None:
        kernel(*addresses, x_size, y_size, length, start, stop, far)

    if length <= _SMALL:
        run(0, length)
    else:
        split(length, length * (0.2 * planes + 0.04 * terms), run)
    return out


def _planes(t: Tensor, batch: torch.Size, length: int) -> Tensor:
    """An operand as a kernel reads it: one multivector, or contiguous planes of the whole batch."""
    if t.shape[1:] != batch and t.shape[1:].numel() != 1 < length:
        t = t[(slice(None), *(None,) * (len(batch) + 1 - t.dim()))].expand(t.shape[0], *batch)
    return t.contiguous()


@cache
def _kernel(plans: tuple[Plan, ...], dtype: torch.dtype, x_whole: bool, y_whole: bool) -> Kernel | None:
    """The kernel of a product or a sandwich; None where kernels do not work."""
    if unavailable():
        return None
    from ga._kernels import compiled

    return compiled.compiled(plans, _SCALARS[dtype], (x_whole, y_whole))


@cache
def unavailable() -> str:
    """Why kernels do not work here, so that products run in plain torch; empty if they do.

    With ``NUMBA_DISABLE_JIT=1`` nothing is compiled, here as in Numba.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    try:
        from ga._kernels import compiled

        compiled.check()
    except (ImportError, RuntimeError, OSError) as error:
        return f"LLVM cannot be used: {error}"
    return ""


def engine() -> str:
    """What evaluates products on the CPU.

    >>> engine().partition(" ")[0] in ("LLVM", "torch")
    True
    """
    reason = unavailable()
    if reason:
        return f"torch ({reason})"
    from ga._kernels import compiled

    return compiled.description()
