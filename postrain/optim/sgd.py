"""Stochastic gradient descent with momentum on posits."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from posit.fused import axpy, combination, momentum_step
from posit.torch import PositTensor
from posit.torch.tensor import to_numpy
from postrain.optim._base import PositOptimizer, Slot, require, term, write, zeros


class SGD(PositOptimizer):
    """SGD with momentum: m <- mu m + g, then w <- w - lr m, each formed exactly and rounded once.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        lr: Learning rate, an exact float64.
        momentum: mu, an exact float64; with 0 no state is kept.
        nesterov: Step along g + mu m instead of m.
        weight_decay: Added to the gradient times the weight: g + weight_decay w.
        options: Formats of the state and ways of rounding: see `postrain.optim.PositOptimizer`.

    The momentum is held in `state_format`, by default the parameter's: 2 bytes each in posit16.  The formula is that of
    torch.optim.SGD (Sutskever et al., ICML 2013, as PyTorch states it) without dampening.

    Rounding points: the momentum once, over all terms; the weight once, over all terms.

    Raises:
        RecipeError: a parameter that is not a PositTensor, or a learning rate or momentum out of range.
        NaRError: a gradient or a weight holds NaR; no parameter is changed then.

    >>> import posit, torch
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.tensor([1.0]), posit.posit16))
    >>> optimizer = SGD([("w", w)], lr=0.5, momentum=0.9)
    >>> (w + w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, defaults, **options)

    def _check(self, group: dict[str, Any]) -> None:
        in_range = 0 <= group["lr"] < 2.0**100 and 0 <= group["momentum"] < 1
        require(in_range, "SGD", "lr >= 0 and 0 <= momentum < 1", group, "lr", "momentum")
        require(group["weight_decay"] >= 0, "SGD", "weight_decay >= 0", group, "weight_decay")
        steps_on = group["momentum"] > 0 or not group["nesterov"]
        require(steps_on, "SGD", "momentum > 0 for nesterov", group, "momentum")

    def _update(self, slot: Slot) -> None:
        group = slot.group
        lr, momentum, decay = (float(group[key]) for key in ("lr", "momentum", "weight_decay"))
        if (
            momentum and "momentum" not in slot.state
        ):  # the first momentum is the gradient, as in torch.optim.SGD
            slot.state["momentum"] = zeros(
                tuple(slot.parameter.shape), self.state_format or slot.parameter.format
            )
        plain = not decay and not group["nesterov"] and slot.target.codes.is_contiguous()
        if self.rounding == "nearest" and plain:
            self._fused(slot, lr, momentum)
            return
        target, gradient, share = slot.target, [term(self._unscale, slot.grad)], Fraction(1)
        if momentum:
            held = slot.state["momentum"]
            pull = [term(decay, target)] if decay else []
            write(held, combination([term(momentum, held), *gradient, *pull], held.format))
            gradient = [*gradient, term(momentum, held)] if group["nesterov"] else [term(1.0, held)]
        if decay and (group["nesterov"] or not momentum):
            share -= Fraction(lr) * Fraction(decay)
        step = [replace(each, coefficient=-Fraction(lr) * Fraction(each.coefficient)) for each in gradient]
        self._add(slot, [term(share, target), *step])

    def _fused(self, slot: Slot, lr: float, momentum: float) -> None:
        """The plain update, in one pass."""
        target, grad_format, scale = slot.target, slot.grad.format, 1.0 / self.loss_scale
        weights = to_numpy(target.codes)
        if momentum:
            held: PositTensor = slot.state["momentum"]
            formats = {"grad_format": grad_format, "held_format": held.format}
            codes = to_numpy(held.codes)
            momentum_step(momentum, lr, slot.gradient, codes, weights, target.format, **formats, scale=scale)
        else:
            axpy(-lr * scale, slot.gradient, weights, target.format, out=weights, x_format=grad_format)
