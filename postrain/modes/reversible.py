"""Mode `reversible`: a stack is run back block by block, each updated and its gradients freed before the next."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posit.torch import PositTensor, phase
from posit.torch.accumulation import GradientSum, into
from posit.torch.ops.dropout import KeyedCalls, dropout_keys
from postrain.accumulate import widest
from postrain.errors import AccumulationError, ModeError
from postrain.memory.purposes import QUIRES, purpose
from postrain.modes._base import OwnUpdate, entered
from postrain.nn import ReversibleStack
from postrain.nn.passage import Passage, gradients_of, joined, parts
from postrain.nn.reversible import in_micro_batches
from postrain.optim._parts import step_part


@dataclass(frozen=True)
class Parts:
    """An nn.Sequential around one stack."""

    stem: nn.Sequential  #: before it
    stack: ReversibleStack
    head: nn.Sequential  #: behind it

    @classmethod
    def of(cls, model: nn.Module) -> "Parts":
        """Take a model apart.

        Raises:
            ModeError: it is no nn.Sequential with one ReversibleStack.
        """
        places = [i for i, each in enumerate(model.children()) if isinstance(each, ReversibleStack)]
        if not isinstance(model, nn.Sequential) or len(places) != 1:
            raise ModeError(
                "mode 'reversible' needs an nn.Sequential in which one module is a postrain.nn.ReversibleStack, got "
                f"{type(model).__name__} with {len(places)} of them; write the model as (stem, stack, head)"
            )
        modules = list(model)
        stack = modules[places[0]]
        assert isinstance(stack, ReversibleStack)
        return cls(nn.Sequential(*modules[: places[0]]), stack, nn.Sequential(*modules[places[0] + 1 :]))


class Reversible(OwnUpdate):
    """Training that stores no activation of the stack, and of its gradients those of one block.

    Micro-batches go through stem, every block and head in turn, while the stream holds the whole batch.  With them the
    loss must be a sum; a gradient is the exact sum over the batch, divided by the number of targets and rounded once,
    as in `postrain.accumulate`, so that the size of micro-batches changes no bit.

    Raises:
        ModeError: the model is no nn.Sequential with one ReversibleStack, or a parameter of a block is used elsewhere
            too; and see `OwnUpdate`.
    """

    name = "reversible"

    def check(self) -> None:
        """Take the model apart."""
        self.parts = Parts.of(self.model)
        seen: dict[int, str] = {}
        for where, module in (("stem", self.parts.stem), ("head", self.parts.head)):
            seen |= {id(each): f"the {where}" for each in module.parameters()}
        for index, block in enumerate(self.parts.stack.blocks):
            for name, each in block.named_parameters():
                if seen.setdefault(id(each), f"block {index}") != f"block {index}":
                    raise ModeError(
                        f"{name} of block {index} is also used in {seen[id(each)]}: it would be changed before the "
                        "latter is run back; give each block parameters of its own, or use mode 'reverse'"
                    )
        if self.parts.stack.store:
            raise ModeError("this stack stores its activations; make it with store=False")

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Stem and stack without a graph; head; stack back; stem."""
        stem, stack, head = self.parts.stem, self.parts.stack, self.parts.head
        x = entered(self.model, x)
        with (
            dropout_keys(self.settings.seed, number, samples.tolist()),
            in_micro_batches(stack, self.settings.micro_batch),
        ):
            stack.require_deterministic()
            outer = Outer(self, y.numel() if self.settings.micro_batch is not None else 1)
            calls = KeyedCalls.now()
            passage = through_stem(stem, stack, x, self.settings.micro_batch, record=True)
            passage.divisor = outer.divisor if passage.kind.format is not None else 1
            passage.forward()
            loss, gradients = self._head(outer, passage, y, number, x)
            outer.update([each for each in head.parameters() if id(each) not in outer.in_stem])
            passage.backward(gradients, self._update)
            self._stem(outer, passage, x, gradients, calls)
            outer.update([*stem.parameters(), *head.parameters()])
        return loss

    def _update(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        for parameter, grad in zip(parameters, gradients, strict=True):
            parameter.grad = grad
        step_part(self.optimizer, parameters)

    def _head(
        self, outer: "Outer", passage: Passage, y: Tensor, number: int, x: Tensor
    ) -> tuple[float, tuple[Tensor, Tensor]]:
        """The loss per target, and the gradient of what leaves the stack."""
        total, halves = 0.0, None
        outer.open(self.parts.head)
        for rows in parts(len(y), self.settings.micro_batch):
            with torch.enable_grad(), outer.adding():
                h = passage.leave(rows).requires_grad_()
                loss = self.loss(self.parts.head(h), y[rows])
                self.require_number(loss, number, lambda: self.model(x))
            (to_h,) = outer.gradients(self.parts.head, loss, [h], self.settings.loss_scale / outer.share)
            total += float(loss.item())
            del loss, h
            found = gradients_of(passage, to_h)
            if halves is None:
                halves = _buffers(found, passage)
            for whole, part in zip(halves, found, strict=True):
                whole[rows] = part
            del to_h, found
        assert halves is not None
        return total / outer.divisor, halves

    def _stem(
        self,
        outer: "Outer",
        passage: Passage,
        x: Tensor,
        gradients: tuple[Tensor, Tensor],
        calls: KeyedCalls | None,
    ) -> None:
        if not any(each.requires_grad for each in self.parts.stem.parameters()):
            return
        outer.open(self.parts.stem)
        for rows in parts(len(x), self.settings.micro_batch):
            with torch.enable_grad(), outer.adding(), calls.part(rows) if calls else nullcontext():
                h = self.parts.stem(x[rows])
            first, second = (half[rows] for half in gradients)
            outer.gradients(self.parts.stem, h, [], 1.0, joined(passage, (first, second)))
            del h


class Outer:
    """Gradients of stem and head, exact over micro-batches."""

    def __init__(self, mode: Reversible, divisor: int) -> None:
        self.mode, self.divisor = mode, divisor
        own = [*mode.parts.stem.parameters(), *mode.parts.head.parameters()]
        self.in_stem = {id(each) for each in mode.parts.stem.parameters()}
        self.sums: dict[int, GradientSum] = {}
        posits = [each for each in own if isinstance(each, PositTensor) and each.requires_grad]
        self.format = widest(posits) if posits else None
        self.share = divisor if not posits else 1  # of float32 losses, which are divided at once

    def open(self, part: nn.Module) -> None:
        """Make sums for the parameters of stem or head, if there are micro-batches."""
        if self.format is None or self.mode.settings.micro_batch is None:
            return
        with purpose(QUIRES):
            for each in part.parameters():
                if each.requires_grad and isinstance(each, PositTensor) and id(each) not in self.sums:
                    self.sums[id(each)] = GradientSum(each, self.format)

    def adding(self) -> AbstractContextManager[None]:
        """Let operators add to the sums; with none of them nothing changes."""
        return into(self.sums.values()) if self.sums else nullcontext()

    def gradients(
        self, part: nn.Module, result: Tensor, inputs: list[Tensor], factor: float, grad: Tensor | None = None
    ) -> list[Any]:
        """Those of `inputs` are returned, those of the part's parameters added up."""
        parameters = [each for each in part.parameters() if each.requires_grad]
        scaled = result if factor == 1.0 else result * factor
        found = torch.autograd.grad(scaled, [*inputs, *parameters], grad, allow_unused=True)
        for parameter, each in zip(parameters, found[len(inputs) :], strict=True):
            if each is not None:
                self._keep(part, parameter, each)
        return list(found[: len(inputs)])

    def _keep(self, part: nn.Module, parameter: nn.Parameter, grad: Tensor) -> None:
        if id(parameter) in self.sums:
            names = {id(each): name for name, each in part.named_parameters()}
            raise AccumulationError(
                f"the gradient of {names[id(parameter)]} outside of the stack was rounded for each micro-batch: an "
                "operator that uses it does not add to exact sums; use it in the layers of torch.nn only, or leave "
                "out micro_batch"
            )
        with torch.no_grad(), phase(backward=True):
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad

    def update(self, parameters: Sequence[nn.Parameter]) -> None:
        """Step these parameters, one after the other, and give up their sums."""
        for each in dict.fromkeys(parameters):
            found = self.sums.pop(id(each), None)
            if found is not None and found.terms:
                each.grad = found.gradient(self.divisor)
            del found
            if each.grad is not None:
                step_part(self.mode.optimizer, [each])


def through_stem(
    stem: nn.Sequential, stack: ReversibleStack, x: Tensor, micro_batch: int | None, *, record: bool
) -> Passage:
    """A stream for the whole batch, filled in parts."""
    passage, calls = None, KeyedCalls.now()
    for rows in parts(len(x), micro_batch):
        with torch.no_grad(), calls.part(rows) if calls else nullcontext():
            h = stem(x[rows])
        if passage is None:
            passage = stack.begin(h, record=record, samples=len(x))
        passage.enter(h, rows)
    if passage is None:
        raise ModeError("a batch needs at least one sample")
    return passage


def forward_in_parts(model: nn.Module, x: Tensor, micro_batch: int) -> Tensor:
    """Inference as the mode's forward pass has it: the stream of the whole batch, everything else in micro-batches.

    >>> model = nn.Sequential(ReversibleStack([nn.Linear(2, 2)]), nn.Linear(4, 3))
    >>> forward_in_parts(model, torch.ones(5, 4), 2).shape
    torch.Size([5, 3])
    """
    own = Parts.of(model)
    with torch.no_grad(), in_micro_batches(own.stack, micro_batch):
        passage = through_stem(own.stem, own.stack, entered(model, x), micro_batch, record=False)
        passage.forward()
        return torch.cat([own.head(passage.leave(rows)) for rows in parts(len(x), micro_batch)])


def _buffers(first: tuple[Tensor, Tensor], passage: Passage) -> tuple[Tensor, Tensor]:
    """Memory for the gradients of both halves; those of the first part where that is all."""
    whole = tuple(half.shape for half in passage.halves)
    if first[0].shape == whole[0]:
        return first
    one, other = (part.new_zeros(shape) for part, shape in zip(first, whole, strict=True))
    return one, other
