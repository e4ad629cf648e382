"""Lion on posits: steps by the sign of an exact sum."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from posit.codec import Codes, signed_storage
from posit.fused import Term, combination
from postrain.optim._base import PositOptimizer, Slot, complement, require, term, write


class Lion(PositOptimizer):
    """Lion: c = b1 m + (1 - b1) g, w <- (1 - lr decay) w - lr sign(c), m <- b2 m + (1 - b2) g.

    With ``betas=(0, 0)`` it is signSGD.  The sign is that of the exact sum: a posit never rounds to 0.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        lr, betas, weight_decay: Exact float64 numbers.
        options: Formats of the state and ways of rounding: see `postrain.optim.PositOptimizer`.

    Rounding points: w once, m once.

    Raises:
        RecipeError: a parameter that is not a PositTensor, or a hyperparameter out of range.
        NaRError: a gradient or a weight holds NaR; no parameter is changed then.

    Source:
        Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023.

    >>> import torch
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.tensor([1.0, 2.0]), "posit16"))
    >>> w.grad = posit_tensor(torch.tensor([1e-9, 0.0]), "posit16")
    >>> Lion([w], lr=0.25).step()
    >>> w.tolist()
    [0.75, 2.0]
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **options)

    def _check(self, group: dict[str, Any]) -> None:
        require(0 <= group["lr"] < 2.0**100, "Lion", "lr >= 0", group, "lr")
        require(
            all(0 <= beta < 1 for beta in group["betas"]), "Lion", "betas from 0 to below 1", group, "betas"
        )
        require(group["weight_decay"] >= 0, "Lion", "weight_decay >= 0", group, "weight_decay")

    def _update(self, slot: Slot) -> None:
        group, m, target = slot.group, slot.state["exp_avg"], slot.target
        first, second = (float(beta) for beta in group["betas"])
        lr, decay = Fraction(float(group["lr"])), Fraction(float(group["weight_decay"]))
        share = complement(first) * self._unscale
        signs = self._signs(combination([term(first, m), term(share, slot.grad)], m.format), slot)
        self._add(slot, [term(1 - lr * decay, target), Term(-lr, signs, target.format)])
        share = complement(second) * self._unscale
        write(m, combination([term(second, m), term(share, slot.grad)], m.format))

    @staticmethod
    def _signs(codes: Codes, slot: Slot) -> Codes:
        """-1, 0 or 1 in codes of the target's format."""
        fmt = slot.target.format
        one: Codes = np.sign(codes).astype(signed_storage(fmt)) * signed_storage(fmt).type(
            1 << (fmt.nbits - 2)
        )
        return one
