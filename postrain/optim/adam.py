"""Adam and AdamW on posits: moments exact and rounded once, the step one correct rounding of the real formula."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, ClassVar

from posit.fused import combination
from posit.torch import PositTensor
from postrain.errors import RecipeError
from postrain.optim._base import PositOptimizer, Slot, complement, require, residual_unit, term, write
from postrain.optim._ratio import Rate, Second, step_weights


class AdamW(PositOptimizer):
    """AdamW: m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g**2, w <- (1 - lr decay) w - lr m' / (sqrt(v') + eps).

    m' = m / (1 - b1**t) and v' = v / (1 - b2**t), with t the steps of this parameter.  lr, betas, eps and weight decay
    are exact float64 numbers; 1 - b and the powers are those of the reals.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        lr, betas, eps, weight_decay: As torch.optim.AdamW's.
        amsgrad: Refused.
        options: Formats of the state and ways of rounding: see `postrain.optim.PositOptimizer`.

    Rounding points: m once, v once, w once (from the stored m and v, by float64 with a proven bound, and where that
    does not decide, in higher precision).

    Raises:
        RecipeError: a parameter that is not a PositTensor, a hyperparameter out of range, or amsgrad.
        NaRError: a gradient or a weight holds NaR; no parameter is changed then.

    Source:
        Kingma and Ba, Adam, ICLR 2015; Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.

    >>> import torch
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.tensor([1.0]), "posit16"))
    >>> optimizer = AdamW([("w", w)], lr=0.5, weight_decay=0.0)
    >>> (w + w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5]
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        if amsgrad:
            raise RecipeError(f"{type(self).__name__} on posits has no amsgrad; leave it out")
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **options
        )

    def _check(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        require(0 <= group["lr"] < 2.0**100, name, "lr >= 0", group, "lr")
        require(
            all(0 <= beta < 1 for beta in group["betas"]), name, "betas from 0 to below 1", group, "betas"
        )
        require(group["eps"] > 0, name, "eps > 0", group, "eps")
        require(group["weight_decay"] >= 0, name, "weight_decay >= 0", group, "weight_decay")

    def _update(self, slot: Slot) -> None:
        group, state, target = slot.group, slot.state, slot.target
        state["step"] = int(state.get("step", 0)) + 1
        lr, eps, decay = (Fraction(float(group[key])) for key in ("lr", "eps", "weight_decay"))
        beta1, beta2 = (float(beta) for beta in group["betas"])
        m, v = state["exp_avg"], state["exp_avg_sq"]
        grad = slot.grad
        pull = Fraction(0) if self._decoupled else decay
        _first_moment(m, beta1, self._unscale, grad, pull, target)
        _second_moment(v, beta2, self._unscale, grad, pull, target)
        keep = 1 - lr * decay if self._decoupled else Fraction(1)
        rate = Rate(keep, lr, eps, Fraction(beta1), Fraction(beta2), state["step"])
        seed = self._stream(slot) if self.rounding == "stochastic" else None
        residual: PositTensor | None = state.get("residual")
        unit = residual_unit(target.format)
        step_weights(rate, target, m, Second.of(v), seed=seed, residual=residual, unit=unit)


class Adam(AdamW):
    """Adam: as `AdamW`, with weight decay added to the gradient: g + decay w, not rounded in between.

    Rounding points: m once, v once (of the square of the exact sum), w once.

    Source:
        Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.

    >>> import torch
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.tensor([1.0, -1.0]), "posit16"))
    >>> optimizer = Adam([("w", w)], lr=0.25)
    >>> w.grad = posit_tensor(torch.tensor([3.0, 0.0]), "posit16")
    >>> optimizer.step()
    >>> w.tolist()
    [0.75, -1.0]
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)


def _first_moment(
    m: PositTensor, beta: float, scale: Fraction, grad: PositTensor, pull: Fraction, target: PositTensor
) -> None:
    """First moment: m <- beta m + (1 - beta) (scale g + pull w), one rounding."""
    share = complement(beta)
    terms = [term(beta, m), term(share * scale, grad)]
    if pull:
        terms.append(term(share * pull, target))
    write(m, combination(terms, m.format))


def _second_moment(
    v: PositTensor, beta: float, scale: Fraction, grad: PositTensor, pull: Fraction, target: PositTensor
) -> None:
    """Second moment: v <- beta v + (1 - beta) (scale g + pull w)**2, one rounding."""
    share = complement(beta)
    terms = [term(beta, v), term(share * scale**2, grad, times=grad)]
    if pull:
        terms.append(term(2 * share * scale * pull, grad, times=target))
        terms.append(term(share * pull**2, target, times=target))
    write(v, combination(terms, v.format))
