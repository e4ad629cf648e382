"""What is answered on PositTensors: rules of operators, of whole functions, and what is refused."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from posit.errors import NoRuleError
from posit.torch.policy import in_backward

Rule = Callable[..., Any]
_RULES: dict[Any, Rule] = {}
_FUNCTIONS: dict[Any, Rule] = {}
_REFUSED: set[Any] = set()


def register_rule(*ops: Any) -> Callable[[Rule], Rule]:
    """Decorator: answer these operators (``torch.ops.….default``) on PositTensors by ``rule(op, *args, **kwargs)``."""

    def keep(rule: Rule) -> Rule:
        for op in ops:
            _RULES[op] = rule
        return rule

    return keep


def register_function(*functions: Any) -> Callable[[Rule], Rule]:
    """Decorator: answer these functions of torch (``F.linear``) on PositTensors by ``rule(*args, **kwargs)``.

    The rule runs above autograd, so it brings its own derivative, usually a `torch.autograd.Function`.
    """

    def keep(rule: Rule) -> Rule:
        for function in functions:
            _FUNCTIONS[function] = rule
        return rule

    return keep


def refuse(*functions: Any, reason: str) -> None:
    """Raise `NoRuleError` where these functions or operators of torch meet PositTensors.

    A function that is not answered falls apart into operators, and those may have rules that make something else of it.

    Args:
        functions: As `register_function` and `register_rule` take them.
        reason: What is refused and what to use instead; ``{module}`` in it becomes the module that called.
    """

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise NoRuleError(reason.format(module=calling_module()))

    for function in functions:
        (_RULES if isinstance(function, torch._ops.OpOverload) else _FUNCTIONS)[function] = refused
        _REFUSED.add(function)


def has_rule(op: Any) -> bool:
    """Whether an operator or a function of torch is answered on PositTensors; one that is refused is not."""
    return (op in _RULES or op in _FUNCTIONS) and op not in _REFUSED


def fused_rule(function: Any) -> Rule | None:
    """The rule that answers a function of torch whole, if there is one."""
    return _FUNCTIONS.get(function)


def is_refused(op: Any) -> bool:
    """Whether an operator or a function of torch was given to `refuse`."""
    return op in _REFUSED


def calling_module() -> str:
    """Where a call came from, for messages: `` (in Linear "2.fc")``, or that it is the backward pass."""
    if in_backward():
        return " in the backward pass"
    # not inspect.currentframe(): a frame that names itself lives on, and with it the tensors of all its callers
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_locals.get("self")
        if isinstance(module, torch.nn.Module):
            name = getattr(module, "posit_name", "")
            return f' (in {type(module).__name__} "{name}")' if name else f" (in {type(module).__name__})"
        frame = frame.f_back
    return ""


def rule_of(op: Any) -> Rule | None:
    """The rule of an operator, if there is one."""
    return _RULES.get(op)
