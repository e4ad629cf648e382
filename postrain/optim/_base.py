"""What every optimizer on posits shares: checks, state formats, master weights, ways of rounding, counts."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import torch

from posit.codec import Codes, signed_storage
from posit.formats import Format
from posit.fused import Term, combination, combination_stochastic
from posit.torch import PositTensor
from posit.torch._settle import on_its_grid
from posit.torch.tensor import convert_codes, to_numpy
from postrain.errors import NaRError, RecipeError
from postrain.optim._increment import Increment

ROUNDINGS = ("nearest", "stochastic", "compensated")


@dataclass(frozen=True, slots=True)
class StepCounts:
    """What became of the weights in one step."""

    updated: int  #: weights that had a gradient
    lost: int  #: weights that stay as they were although their gradient is not 0
    saturated: int  #: weights at the largest magnitude of their format


@dataclass
class Slot:
    """One parameter in one step."""

    group: dict[str, Any]
    name: str
    index: int  #: of the parameter among all
    parameter: PositTensor
    grad: PositTensor
    state: dict[str, Any]

    @property
    def target(self) -> PositTensor:
        """What is updated: the master copy, or the parameter itself."""
        held: PositTensor = self.state.get("master", self.parameter)
        return held

    @property
    def gradient(self) -> Codes:
        """Codes of the gradient, contiguous."""
        return to_numpy(self.grad.codes.contiguous())

    def codes(self, name: str) -> Codes:
        """Codes of a tensor of the state."""
        return to_numpy(self.state[name].codes)


@dataclass
class _Part:
    """A step that has begun."""

    number: int
    done: set[int] = field(default_factory=set)
    counts: list[tuple[int, int, int]] = field(default_factory=list)


class PositOptimizer(torch.optim.Optimizer):
    """Base of the optimizers: subclasses form the update of one parameter in `_update`.

    Args:
        params: As `torch.optim.Optimizer` takes them; with ``model.named_parameters()`` errors name the parameter.
        defaults: Hyperparameters of parameter groups.
        state_format: Format of moments; by default each parameter's own.
        master_format: Format of a master copy of each parameter in another format: the update is made there, and the
            parameter is the master copy rounded once.
        rounding: How an updated weight is rounded: ``"nearest"``; ``"stochastic"``, from a counter, so the same in
            every run from `seed`, step, parameter and element; ``"compensated"``, to nearest, while what was cut off is
            kept in `residual_format`, scaled by a power of two, and added to the next update.
        residual_format: See `rounding`.
        seed: See `rounding`.
        loss_scale: A power of two by which losses have been multiplied; gradients are divided by it, exactly.
        count: Count lost updates and saturations in `last_step_counts`; costs a copy of each parameter.
    """

    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        *,
        state_format: Format | str | None = None,
        master_format: Format | str | None = None,
        rounding: str = "nearest",
        residual_format: Format | str = "posit8",
        seed: int = 0,
        loss_scale: float = 1.0,
        count: bool = False,
    ) -> None:
        if rounding not in ROUNDINGS:
            raise RecipeError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {rounding!r}")
        if not 2.0**-100 <= loss_scale <= 2.0**100 or np.frexp(loss_scale)[0] != 0.5:
            raise RecipeError(f"loss_scale must be a power of two from 2**-100 to 2**100, got {loss_scale!r}")
        self.state_format = None if state_format is None else Format.parse(state_format)
        self.master_format = None if master_format is None else Format.parse(master_format)
        self.residual_format = Format.parse(residual_format)
        self.rounding, self.seed, self.loss_scale, self.count = rounding, seed, float(loss_scale), count
        self.last_step_counts: StepCounts | None = None
        self._part: _Part | None = None
        super().__init__(params, {**defaults, "step": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch.optim.Optimizer's; refuses parameters that are no PositTensors.

        Raises:
            RecipeError: a parameter that is not a PositTensor, or a hyperparameter out of range.
        """
        super().add_param_group(param_group)
        name = type(self).__name__
        for parameter in self.param_groups[-1]["params"]:
            if not isinstance(parameter, PositTensor):
                raise RecipeError(
                    f"this {name} updates PositTensors; use torch.optim.{name} for float32 parameters"
                )
        self._check(self.param_groups[-1])

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return max((int(group["step"]) for group in self.param_groups), default=0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; after calls of `part`, the rest of them, as one step.

        Returns:
            What `closure` returns, if one is given; it is called first, with gradients enabled.

        Raises:
            NaRError: a gradient or a weight holds NaR; no parameter is changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.part(None)
        part, self._part = self._part, None
        if self.count and part is not None:
            self.last_step_counts = StepCounts(
                *(sum(column) for column in zip((0, 0, 0), *part.counts, strict=True))
            )
        return loss

    def part(self, parameters: Iterable[torch.Tensor] | None) -> None:
        """Begin the next step, or go on with it, by updating some parameters only; `step` ends it.

        A parameter's update depends on nothing of the others, so all parts together give the bits of one whole step.

        Args:
            parameters: Those of them that have a gradient are updated; None is all that have one.

        Raises:
            NaRError: a gradient or a weight among them holds NaR; none of them is changed then.
            RecipeError: a parameter was updated in this step already.

        >>> from posit.torch import posit_tensor
        >>> from postrain.optim import SGD
        >>> a, b = (torch.nn.Parameter(posit_tensor(torch.ones(1), "posit16")) for _ in range(2))
        >>> optimizer = SGD([a, b], lr=0.5)
        >>> (a + b).sum().backward()
        >>> optimizer.part([b])
        >>> b.grad = None
        >>> optimizer.step()
        >>> a.tolist(), b.tolist(), optimizer.steps
        ([0.5], [0.5], 1)
        """
        part = self._part or _Part(self.steps + 1)
        slots = self._slots(None if parameters is None else {id(each) for each in parameters})
        for slot in slots:
            for what, tensor in (("the gradient of ", slot.grad), ("", slot.parameter)):
                if tensor.has_nar():
                    raise NaRError(f"{what}{slot.name}", part.number)
            if slot.index in part.done:
                raise RecipeError(f"{slot.name} was updated in this step already; call step() to end it")
        self._part = part
        for group in self.param_groups:
            group["step"] = part.number
        part.done |= {slot.index for slot in slots}
        part.counts += [self._counted(slot) for slot in slots]

    def _slots(self, only: set[int] | None) -> list[Slot]:
        """What has a gradient, among these identities."""
        slots, index = [], 0
        for group in self.param_groups:
            for name, parameter in zip(_names(group), group["params"], strict=True):
                if (only is None or id(parameter) in only) and parameter.grad is not None:
                    if not isinstance(parameter.grad, PositTensor):
                        raise RecipeError(f"the gradient of {name} is no PositTensor")
                    if isinstance(parameter, Increment):
                        self._check_increment(name, group)
                    slots.append(Slot(group, name, index, parameter, parameter.grad, self.state[parameter]))
                index += 1
        return slots

    def _check_increment(self, name: str, group: dict[str, Any]) -> None:
        """Refuse what has no meaning for a parameter that is an increment of a versor."""
        kind = type(self).__name__
        if group.get("weight_decay", 0):
            raise RecipeError(
                f"{name} is a versor, which has no coefficients to shrink, and {kind} has weight_decay="
                f'{group["weight_decay"]}; put versors into a group of their own, {{"params": versors, '
                '"weight_decay": 0.0}'
            )
        if self.rounding != "nearest":
            raise RecipeError(
                f"{name} is a versor, which is rounded to nearest, and {kind} has rounding={self.rounding!r}; "
                "give versors an optimizer of their own, with master_format where small steps are lost"
            )

    def _counted(self, slot: Slot) -> tuple[int, int, int]:
        self._prepare(slot)
        if not self.count:
            self._update(slot)
            self._publish(slot)
            return 0, 0, 0
        parameter = slot.parameter
        codes = parameter.held.codes if isinstance(parameter, Increment) else parameter.codes
        before = codes.detach().clone()
        self._update(slot)
        self._publish(slot)
        same = codes == before
        if isinstance(parameter, Increment):  # a coordinate is lost where nothing of its versor changed
            same = same.all(0)
        lost = int((same & (slot.grad.codes != 0)).sum())
        saturated = int((codes.abs() == slot.parameter.format.maxpos).sum())
        return parameter.codes.numel(), lost, saturated

    def _prepare(self, slot: Slot) -> None:
        """Make the state of a parameter before its first step."""
        state, parameter = slot.state, slot.parameter
        fmt = self.state_format or parameter.format
        for name in self.moments:
            if name not in state:
                state[name] = zeros(tuple(parameter.shape), fmt)
        wanted = self.master_format
        differs = wanted != parameter.format or parameter.grid is not None
        if wanted is not None and differs and "master" not in state:
            codes = convert_codes(to_numpy(parameter.codes), parameter.format, wanted)
            state["master"] = PositTensor(torch.from_numpy(codes.copy()), wanted)
            if isinstance(parameter, Increment):
                state["master_versor"] = parameter.planes_in(wanted)
        if self.rounding == "compensated" and "residual" not in state:
            state["residual"] = zeros(tuple(parameter.shape), self.residual_format)

    def _publish(self, slot: Slot) -> None:
        """The parameter, where a master copy was updated: that rounded once; and where it is scaled, to its grid."""
        if isinstance(slot.parameter, Increment):
            slot.parameter.retract_(slot.target, slot.state.get("master_versor"))
            return
        if "master" in slot.state:
            master = slot.state["master"]
            codes = convert_codes(to_numpy(master.codes), master.format, slot.parameter.format)
            slot.parameter.codes.copy_(torch.from_numpy(codes))
        if slot.parameter.grid is not None:
            on_its_grid(slot.parameter, slot.parameter.grid)

    @abstractmethod
    def _update(self, slot: Slot) -> None:
        """Update the target of one parameter and its moments."""

    def _check(self, group: dict[str, Any]) -> None:
        """Refuse hyperparameters out of range."""

    # What updates are made of

    @property
    def _unscale(self) -> Fraction:
        """The factor of every gradient."""
        return 1 / Fraction(self.loss_scale)

    def _add(self, slot: Slot, terms: Sequence[Term]) -> None:
        """Set the target to a sum, formed exactly and rounded once as `rounding` says."""
        target = slot.target
        fmt = target.format
        if self.rounding == "nearest":
            write(target, combination(terms, fmt))
        elif self.rounding == "stochastic":
            write(target, combination_stochastic(terms, fmt, self._stream(slot)))
        else:
            residual: PositTensor = slot.state["residual"]
            unit = residual_unit(fmt)
            whole = [*terms, Term(1 / unit, to_numpy(residual.codes), residual.format)]
            codes = combination(whole, fmt)
            rest = [replace(each, coefficient=Fraction(each.coefficient) * Fraction(unit)) for each in whole]
            rest.append(Term(-unit, codes, fmt))
            write(residual, combination(rest, residual.format))
            write(target, codes)

    def _stream(self, slot: Slot) -> int:
        """Seed of the random numbers of one parameter in one step."""
        text = f"{self.seed} {slot.group['step']} {slot.index}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def residual_unit(fmt: Format) -> float:
    """The power of two by which residuals of a format are scaled, so that they lie near 1, where posits are dense.

    >>> residual_unit(Format(16))
    65536.0
    """
    return 2.0 ** (fmt.fraction_bits + 5)


def zeros(shape: tuple[int, ...], fmt: Format) -> PositTensor:
    """Posits that are 0."""
    return PositTensor(torch.from_numpy(np.zeros(shape, signed_storage(fmt))), fmt)


def write(tensor: PositTensor, codes: Codes) -> None:
    """Replace the codes of a tensor."""
    tensor.codes.detach().copy_(torch.from_numpy(codes))


def term(coefficient: float | Fraction, tensor: PositTensor, *, times: PositTensor | None = None) -> Term:
    """A coefficient times the posits of a tensor, or times products with another."""
    other = None if times is None else (to_numpy(times.codes.contiguous()), times.format)
    return Term(coefficient, to_numpy(tensor.codes.contiguous()), tensor.format, other)


def complement(beta: float) -> Fraction:
    """1 - beta, exact."""
    return Fraction(1) - Fraction(beta)


def _names(group: dict[str, Any]) -> list[str]:
    return group.get("param_names") or [f"parameter {index}" for index in range(len(group["params"]))]


def require(condition: bool, name: str, wanted: str, group: dict[str, Any], *keys: str) -> None:
    """Raise RecipeError where hyperparameters are out of range."""
    if not condition:
        got = ", ".join(f"{key}={group[key]}" for key in keys)
        raise RecipeError(f"{name} needs {wanted}, got {got}")
