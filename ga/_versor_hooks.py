"""What makes torch's optimizers and modules treat a :class:`ga.VersorParameter` as a versor.

Three hooks of torch, registered once when ``ga`` is imported:

* before a step of any optimizer, weight decay on a versor is refused;
* after a step, every versor parameter of the optimizer takes its increment in (R ← R exp(B), B ← 0);
* when a versor parameter is put into a module, the module's ``state_dict`` and ``load_state_dict`` get R.

A hook after the step was chosen over intercepting in-place operations because a step is not one operation:
optimizers scale before they add, some update lists of tensors in one call, and LBFGS moves the parameters to
and fro while it searches along a line, for which the increment has to stay a plain coordinate until the step
ends.  Every optimizer derived from torch's, by whom ever, runs these hooks.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ga.constraint import is_rotor
from ga.errors import ConstraintError, GAError
from ga.multivector import Multivector
from ga.versor import as_rotor, as_versor
from ga.versor_parameter import VersorParameter, renormalized


def refuse_weight_decay(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Raise :class:`ConstraintError` if a group with a versor parameter has a weight decay."""
    for t, group in enumerate(optimizer.param_groups):
        if group.get("weight_decay", 0) and any(isinstance(p, VersorParameter) for p in group["params"]):
            raise ConstraintError(
                f"group {t} of {type(optimizer).__name__} has weight_decay={group['weight_decay']} and a "
                "VersorParameter, which has no coefficients to shrink; put it into a group of its own, "
                '{"params": versors, "weight_decay": 0.0}'
            )


def retract_versors(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Take in the increments of all versor parameters of the optimizer."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if isinstance(p, VersorParameter):
                p.retract_()


def watch_module(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Make a module save and load versors, when its first versor parameter is registered."""
    if isinstance(parameter, VersorParameter) and save_versors not in module._state_dict_hooks.values():
        module.register_state_dict_post_hook(save_versors)
        module.register_load_state_dict_pre_hook(load_versors)


def save_versors(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Replace increments in a state by the planes of the versors."""
    for name, p in module._parameters.items():
        if isinstance(p, VersorParameter) and prefix + name in state:
            state[prefix + name] = p.multivector.detach().planes


def load_versors(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Give the module's versors the values of a state, and leave increments of zero in the state."""
    for name, p in module._parameters.items():
        key = prefix + name
        if isinstance(p, VersorParameter) and key in state:
            try:
                p.assign_(_as_saved(state[key], p))
            except GAError as error:
                errors.append(f"versor parameter {key!r}: {error}")
            state[key] = deepcopy(p)


def _as_saved(planes: Tensor, p: VersorParameter) -> Multivector:
    """Saved planes as a versor of the parameter's type, checked in the precision in which they were saved."""
    saved = Multivector(planes.detach(), p.base.layout)
    checked = as_rotor(saved) if is_rotor(p.base.constraint) else as_versor(saved)
    return renormalized(checked.to(device=p.device, dtype=p.dtype))


_hooks = (
    register_optimizer_step_pre_hook(refuse_weight_decay),
    register_optimizer_step_post_hook(retract_versors),
    register_module_parameter_registration_hook(watch_module),
)
