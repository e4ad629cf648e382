"""Which operators a model needs, forward and backward, and whether posits have a rule for each: `coverage`."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._C._autograd import _get_sequence_nr

from posit.torch import PositTensor, has_rule, in_backward
from postrain._shadow import Shadow, recording
from postrain._terms import longest_sum, name_of
from postrain.convert import to_float
from postrain.errors import OptionsError

QUIRE_TERMS = 2**31 - 1  #: products of any size that every quire holds (Posit Standard 2022, section 3.2)
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True, slots=True)
class Row:
    """One operator as it is called in one module."""

    module: str  #: its name in the model, empty for the model itself or where it is not known
    kind: str  #: the module's class
    phase: str
    operator: str
    fused: bool  #: a function answered whole, above autograd
    answered: bool  #: there is a rule
    mixed: bool  #: a plain float tensor meets posits, which operators refuse
    calls: int
    terms: int  #: products in its longest sum,
    exact: bool  #: that many, or at most

    @property
    def ok(self) -> bool:
        """Whether posits can do it."""
        return self.answered and not self.mixed


@dataclass(frozen=True)
class Coverage:
    """What `coverage` found; printed, it is a table."""

    rows: tuple[Row, ...]
    modules: dict[str, str]  #: class of every module by name
    gradient_terms: (
        int  #: products in the longest gradient of a parameter, over all its uses and backward passes
    )

    @property
    def missing(self) -> tuple[str, ...]:
        """Operators without a rule, and where they are called."""
        return tuple(dict.fromkeys(_complaint(row) for row in self.rows if not row.ok))

    @property
    def largest(self) -> int:
        """Products in the longest sum of all."""
        return max([self.gradient_terms, *(row.terms for row in self.rows)])

    @property
    def fits(self) -> bool:
        """Whether no sum can have more terms than a quire holds without overflow."""
        return self.largest <= QUIRE_TERMS

    @property
    def ok(self) -> bool:
        """Whether every operator has a rule and every sum fits."""
        return not self.missing and self.fits

    @property
    def without_operators(self) -> tuple[str, ...]:
        """Modules without modules inside in which no operator met a posit."""
        used = {row.module for row in self.rows}
        inner = {name.rpartition(".")[0] for name in self.modules}
        return tuple(name for name in self.modules if name not in used | inner)

    def __str__(self) -> str:
        head = ("module", "", "phase", "operator", "calls", "longest sum", "rule")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]
        return "\n".join(line.rstrip() for line in [*table, self.summary])

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.missing:
            return f"missing: {'; '.join(self.missing)}"
        verdict = "which every quire holds" if self.fits else "MORE than a quire holds for certain"
        return (
            f"every operator has a rule; the longest sum has at most {self.largest:,} terms "
            f"of {QUIRE_TERMS:,}, {verdict}"
        )


def coverage(
    model: nn.Module,
    example: Any,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    passes: int = 1,
) -> Coverage:
    """List every operator that a model needs, forward and backward, without posit arithmetic.

    A copy of the model runs once in float32 behind stand-ins that take the way of posits through PyTorch, so the
    operators are those that would meet posits.  That a rule exists is checked, not whether it takes the options given.

    Args:
        model: Float32 or converted, in training or eval mode as it stands; left as it is.
        example: An input, or a tuple of inputs; only shapes, integers and the way that data choose matter.
        loss: Outputs to a scalar; without it, backward begins at the outputs.
        passes: Backward passes whose gradients are summed exactly before they are rounded (micro-batches).

    Raises:
        OptionsError: a module on the meta device.

    >>> report = coverage(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(4, 3))
    >>> report.ok, report.largest
    (True, 4)
    """
    twin = _twin(model)
    inputs = example if isinstance(example, tuple) else (example,)
    gathered = _Gathered(twin)
    with recording(gathered), gathered.modules(), torch.enable_grad():
        outputs = twin(*(_shadow(x) for x in inputs))
        starts = [loss(outputs)] if loss is not None else list(_float_tensors(outputs))
        starts = [start for start in starts if start.requires_grad]
        if starts:
            torch.autograd.backward(starts, [Shadow(torch.ones(start.shape)) for start in starts])
    kinds = {name: type(module).__name__ for name, module in model.named_modules() if name}
    return Coverage(tuple(gathered.rows()), kinds, max(gathered.sums.values(), default=0) * passes)


@dataclass
class _Gathered:
    """The record of a run: operators by module, phase and name."""

    model: nn.Module
    found: dict[tuple[str, str, Any, bool], list[Any]] = field(default_factory=dict)
    stack: list[str] = field(default_factory=lambda: [""])
    nodes: list[tuple[int, str]] = field(default_factory=list)  #: first nodes of the graph made in modules
    sums: dict[int, int] = field(
        default_factory=dict
    )  #: terms of each parameter's gradient, over all its uses

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Know in which module one is."""
        handles: list[Any] = []
        for name, module in self.model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(lambda *_, name=name: self._move(name)))
                handles.append(module.register_forward_hook(lambda *_: self._move(None), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _move(self, name: str | None) -> None:
        if name is None:
            self.stack.pop()
        else:
            self.stack.append(name)
        self.nodes.append((_get_sequence_nr(), self.stack[-1]))

    def seen(self, op: Any, given: list[torch.Tensor], *, fused: bool, mixed: bool) -> None:
        """Count a call; see `postrain._shadow.Record`."""
        backward = in_backward()
        place = (self._place(backward), BACKWARD if backward else FORWARD, op, fused)
        terms, exact = longest_sum(op, given, backward=backward)
        if backward and fused:
            for each in given:
                if isinstance(each, nn.Parameter):
                    self.sums[id(each)] = self.sums.get(id(each), 0) + terms
        calls, most, mixture = self.found.get(place, [0, (0, True), False])
        self.found[place] = [calls + 1, max(most, (terms, exact)), mixture or mixed]

    def _place(self, backward: bool) -> str:
        """The module; in a backward pass, that in which the node of the graph was made."""
        if not backward:
            return self.stack[-1]
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        place = ""
        for first, name in self.nodes:
            if first > number:
                break
            place = name
        return place if 0 <= number < 2**62 else ""

    def rows(self) -> Iterator[Row]:
        """What was gathered, in the order in which it was first met."""
        kinds = {name: type(module).__name__ for name, module in self.model.named_modules()}
        for (module, phase, op, fused), (calls, (terms, exact), mixed) in self.found.items():
            kind = kinds[module] if module else ""
            yield Row(module, kind, phase, name_of(op), fused, has_rule(op), mixed, calls, terms, exact)


def _complaint(row: Row) -> str:
    where = f" ({row.kind} {row.module!r}, {row.phase})" if row.module else f" ({row.phase})"
    return row.operator + where + (": a plain float tensor among posits" if row.answered else "")


def _cells(row: Row) -> tuple[str, ...]:
    terms = f"{'' if row.exact else '≤ '}{row.terms:,}" if row.terms > 1 else ""
    rule = "fused" if row.fused else "yes"
    if not row.ok:
        rule = "float operand" if row.answered else "MISSING"
    return (row.module, row.kind, row.phase, row.operator, str(row.calls), terms, rule)


def _twin(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters and buffers are stand-ins; what was shared stays shared."""
    if any(isinstance(parameter, PositTensor) for parameter in model.parameters()):
        model = to_float(copy.deepcopy(model))
    made: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise OptionsError(
                f"{name} lies on the meta device, without values; give the model real weights first"
            )
        if tensor.is_floating_point():
            stand_in = Shadow(tensor.detach().float().clone())
            parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(stand_in, tensor.requires_grad) if parameter else stand_in
    return copy.deepcopy(model, made)


def _shadow(x: Any) -> Any:
    if isinstance(x, PositTensor):
        return Shadow(x.to_float())
    return Shadow(x.detach().float()) if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def _float_tensors(outputs: Any) -> Iterator[torch.Tensor]:
    for each in torch.utils._pytree.tree_leaves(outputs):
        if isinstance(each, torch.Tensor) and each.is_floating_point():
            yield each
