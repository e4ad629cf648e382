"""Adafactor-style descent on posits: of a matrix's second moment only row and column means are kept."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from posit.codec import Codes, decode, encode_rational, signed_storage
from posit.formats import Format
from posit.fused import combination
from posit.rounding import certified
from posit.torch import PositTensor
from posit.torch.tensor import to_numpy
from postrain.optim._base import PositOptimizer, Slot, complement, require, residual_unit, term, write, zeros
from postrain.optim._ratio import Rate, Second, step_weights

Floats = npt.NDArray[np.float64]
_UNIT = 2.0**-53


class Adafactor(PositOptimizer):
    """Factored second moments: R and C are moving means of g**2 over columns and rows, V = R C / mean(R).

    w <- (1 - lr decay) w - lr / max(1, rms(u) / clip) * u, with u = g / (sqrt(V / (1 - b2**t)) + eps), over the last
    two dimensions of a tensor; vectors keep V itself.  No momentum, no relative step size.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        lr, beta2, eps, weight_decay: Exact float64 numbers.
        clip: Largest root mean square of u; infinity for none.
        options: Formats of the state and ways of rounding: see `postrain.optim.PositOptimizer`.

    Rounding points: each element of R, C and V once (an exact mean of squares in it), w once, from the stored R and C.
    The factor of `clip` is a float64, formed in an order that is the same on every machine.

    Raises:
        RecipeError: a parameter that is not a PositTensor, or a hyperparameter out of range.
        NaRError: a gradient or a weight holds NaR; no parameter is changed then.

    Source:
        Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, ICML 2018; bias is corrected
        as in Adam, so that beta2 is constant.

    >>> import torch
    >>> from posit.torch import posit_tensor
    >>> w = torch.nn.Parameter(posit_tensor(torch.zeros(2, 2), "posit16"))
    >>> w.grad = posit_tensor(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), "posit16")
    >>> optimizer = Adafactor([w], lr=0.5)
    >>> optimizer.step()
    >>> w.tolist(), sorted(optimizer.state[w])
    ([[-0.500244140625, -0.5], [-0.5, -0.499755859375]], ['column', 'row', 'step'])
    """

    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        beta2: float = 0.999,
        eps: float = 1e-30,
        clip: float = 1.0,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "beta2": beta2, "eps": eps, "clip": clip, "weight_decay": weight_decay}
        super().__init__(params, defaults, **options)

    def _check(self, group: dict[str, Any]) -> None:
        require(0 <= group["lr"] < 2.0**100, "Adafactor", "lr >= 0", group, "lr")
        require(0 <= group["beta2"] < 1, "Adafactor", "beta2 from 0 to below 1", group, "beta2")
        require(group["eps"] > 0, "Adafactor", "eps > 0", group, "eps")
        require(group["clip"] > 0, "Adafactor", "clip > 0", group, "clip")
        require(group["weight_decay"] >= 0, "Adafactor", "weight_decay >= 0", group, "weight_decay")

    def _update(self, slot: Slot) -> None:
        group, state, target = slot.group, slot.state, slot.target
        state["step"] = int(state.get("step", 0)) + 1
        lr, eps, decay, beta = (Fraction(float(group[key])) for key in ("lr", "eps", "weight_decay", "beta2"))
        second = self._factored(slot, float(beta)) if target.ndim >= 2 else self._whole(slot, float(beta))
        rate = Rate(1 - lr * decay, lr * self._unscale, eps, Fraction(0), beta, state["step"])
        rate = Rate(rate.keep, rate.lr / self._clip(slot, rate, second), eps, rate.first, beta, rate.step)
        seed = self._stream(slot) if self.rounding == "stochastic" else None
        unit = residual_unit(target.format)
        step_weights(rate, target, slot.grad, second, seed=seed, residual=state.get("residual"), unit=unit)

    def _whole(self, slot: Slot, beta: float) -> Second:
        v = self._held(slot, "exp_avg_sq", tuple(slot.parameter.shape))
        share = complement(beta) * self._unscale**2
        write(v, combination([term(beta, v), term(share, slot.grad, times=slot.grad)], v.format))
        return Second.of(v)

    def _factored(self, slot: Slot, beta: float) -> Second:
        shape = tuple(slot.parameter.shape)
        row = self._held(slot, "row", shape[:-1])
        column = self._held(slot, "column", (*shape[:-2], shape[-1]))
        g = slot.grad.values() * float(self._unscale)
        for held, values in ((row, g), (column, g.swapaxes(-1, -2))):
            write(held, _mean_square(held, values, beta))
        return _product(to_numpy(row.codes), to_numpy(column.codes), row.format)

    def _held(self, slot: Slot, name: str, shape: tuple[int, ...]) -> PositTensor:
        if name not in slot.state:
            slot.state[name] = zeros(shape, self.state_format or slot.parameter.format)
        held: PositTensor = slot.state[name]
        return held

    def _clip(self, slot: Slot, rate: Rate, second: Second) -> Fraction:
        """max(1, rms(u) / clip), from float64 operations of IEEE 754 and one exact sum."""
        limit = float(slot.group["clip"])
        if math.isinf(limit) or not slot.grad.numel():
            return Fraction(1)
        _, _, scale, eps = rate.floats()
        g = slot.grad.values().reshape(-1) * float(self._unscale)
        u = g / (np.sqrt(second.values(slice(0, g.size)) * scale) + eps)
        u[g == 0] = 0.0
        rms = math.sqrt(math.fsum((u * u).tolist()) / g.size)
        return Fraction(max(1.0, rms / limit))


def _mean_square(held: PositTensor, g: Floats, beta: float) -> Codes:
    """Codes of beta held + (1 - beta) mean(g**2) over the last axis, each rounded once."""
    count = g.shape[-1]
    share, old = complement(beta), held.values()
    squares = np.asarray(np.square(g).sum(axis=-1))
    new = old * beta + squares * (float(share) / count)
    rows, flat = np.ascontiguousarray(g).reshape(-1, count), old.reshape(-1)

    def exact(index: int) -> int:
        total = sum((Fraction(x) ** 2 for x in rows[index].tolist()), Fraction(0))
        value = Fraction(beta) * Fraction(float(flat[index])) + share * total / count
        return encode_rational(value, held.format)

    # all terms are positive: of each rounding a unit of the whole at most
    error = new * ((count + 16) * _UNIT)
    return certified(new, error, held.format, exact, signed_storage(held.format))


def _product(row: Codes, column: Codes, fmt: Format) -> Second:
    """R C / mean(R) over the last two dimensions."""
    r, c = decode(row, fmt), decode(column, fmt)
    means = np.empty(r.shape[:-1])
    for index in np.ndindex(means.shape):
        means[index] = math.fsum(r[index].tolist()) / r.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = r[..., :, None] / means[..., None, None] * c[..., None, :]
    values = np.nan_to_num(whole, nan=0.0).reshape(-1)
    shape = (*r.shape, c.shape[-1])

    def exact(index: int) -> Fraction:
        *batch, i, j = np.unravel_index(index, shape)
        own = [Fraction(x) for x in r[tuple(batch)].tolist()]
        total = sum(own, Fraction(0))
        return own[i] * Fraction(float(c[(*batch, j)])) * len(own) / total if total else Fraction(0)

    return Second(lambda part: values[part], exact)
