"""Stochastic gradient descent with momentum on posits."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from posit.fused import axpy, momentum_step
from posit.torch import PositTensor
from postrain.errors import NaRError, RecipeError


class SGD(torch.optim.Optimizer):
    """SGD with momentum: m <- mu m + g, then w <- w - lr m, each formed exactly and rounded once.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        lr: Learning rate, an exact float64.
        momentum: mu, an exact float64; with 0 no state is kept.

    The momentum is held in the parameter's format, 2 bytes each in posit16.  The formula is that of torch.optim.SGD
    (Sutskever et al., ICML 2013, as PyTorch states it) without dampening.

    Raises:
        RecipeError: a parameter that is not a PositTensor, or a learning rate or momentum out of range.
        NaRError: a gradient or an updated weight holds NaR; no parameter is changed then.

    >>> import posit
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.tensor([1.0]), posit.posit16))
    >>> optimizer = SGD([("w", w)], lr=0.5, momentum=0.9)
    >>> (w + w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0]
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.0) -> None:
        if not 0 < lr < 2.0**100 or not 0 <= momentum < 1:
            raise RecipeError(f"SGD needs lr > 0 and 0 <= momentum < 1, got lr={lr} and momentum={momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.steps = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if not isinstance(parameter, PositTensor):
                    raise RecipeError(
                        "this SGD updates PositTensors; use torch.optim.SGD for float32 parameters"
                    )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Returns:
            What `closure` returns, if one is given; it is called first, with gradients enabled.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps += 1
        work = [
            (group, name, parameter, parameter.grad)
            for group in self.param_groups
            for name, parameter in zip(_names(group), group["params"], strict=True)
            if parameter.grad is not None
        ]
        for _, name, _, grad in work:
            if grad.has_nar():
                raise NaRError(f"the gradient of {name}", self.steps)
        for group, _, parameter, grad in work:
            self._update(group, parameter, grad)
        return loss

    def _update(self, group: dict[str, Any], parameter: PositTensor, grad: PositTensor) -> None:
        fmt, lr, momentum = parameter.format, float(group["lr"]), float(group["momentum"])
        step, weights = grad.codes.contiguous().numpy(), parameter.codes.detach().numpy()
        if not momentum:
            axpy(-lr, step, weights, fmt, out=weights)
            return
        state = self.state[parameter]
        if "momentum" not in state:  # the first momentum is the gradient, as in torch.optim.SGD
            state["momentum"] = PositTensor(torch.zeros_like(parameter.codes), fmt)
        momentum_step(momentum, lr, step, state["momentum"].codes.numpy(), weights, fmt)


def _names(group: dict[str, Any]) -> list[str]:
    return group.get("param_names") or [f"parameter {index}" for index in range(len(group["params"]))]
