"""Mode `reversible`: a stack is run back block by block, each updated and its gradients freed before the next."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from posit.torch import phase
from posit.torch.ops.dropout import KeyedCalls, dropout_keys
from postrain.errors import ModeError
from postrain.modes._base import OwnUpdate, entered
from postrain.modes._layered import Layered, in_posits, layers_of
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

    Micro-batches go through stem, every block and head in turn, while the stream holds the whole batch.  With them, and
    on several workers, the loss must be a sum; a gradient is the exact sum over the batch, divided by the number of
    targets and rounded once, as in `postrain.accumulate`, so that the size of micro-batches and the number of workers
    change no bit.  Workers bring a block's gradients together before they run back the one before it.

    Raises:
        ModeError: the model is no nn.Sequential with one ReversibleStack, or a parameter of a block is used elsewhere
            too; and see `OwnUpdate`.
    """

    name = "reversible"
    on_workers = True

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
        divided = self.settings.micro_batch is not None or self.workers is not None
        if not (divided and in_posits(self.model)):
            outer = Rounded(self, y.numel() if divided else 1)
            return sum(self._through(outer, number, samples, x, y)) / outer.divisor
        with self.layered(number, y.numel(), self._stages()) as sums:
            if len(samples):
                for loss in self._through(_Exact(sums), number, samples, x, y):
                    sums.add_loss(loss)
        return sums.loss

    def _stages(self) -> list[list[nn.Parameter]]:
        """Parameters in the order in which their gradients are complete: head, blocks from the last on, stem."""
        stem, head = (layers_of(each) for each in (self.parts.stem, self.parts.head))
        shared = {id(each) for layer in stem for each in layer}
        own = [[each for each in layer if id(each) not in shared] for layer in head]
        blocks = [
            [each for each in block.parameters() if each.requires_grad]
            for block in reversed(self.parts.stack.blocks)
        ]
        return [each for each in (*own, *blocks, *stem) if each]

    def _through(self, outer: "_Outer", number: int, samples: Tensor, x: Tensor, y: Tensor) -> list[float]:
        """There and back; the losses of all passes."""
        stem, stack, head = self.parts.stem, self.parts.stack, self.parts.head
        x = entered(self.model, x)
        with (
            dropout_keys(self.settings.seed, number, samples.tolist()),
            in_micro_batches(stack, self.settings.micro_batch),
        ):
            stack.require_deterministic()
            calls = KeyedCalls.now()
            passage = through_stem(stem, stack, x, self.settings.micro_batch, record=True)
            passage.forward()
            losses, gradients = self._head(outer, passage, y, number, x)
            in_stem = {id(each) for each in stem.parameters()}
            outer.update([each for each in head.parameters() if id(each) not in in_stem])
            with outer.adding():
                passage.backward(gradients, outer.block)
            self._stem(outer, passage, x, gradients, calls)
            outer.update([*stem.parameters(), *head.parameters()])
        return losses

    def _head(
        self, outer: "_Outer", passage: Passage, y: Tensor, number: int, x: Tensor
    ) -> tuple[list[float], tuple[Tensor, Tensor]]:
        """The loss of each pass, and the gradient of what leaves the stack."""
        losses, halves = list[float](), None
        for rows in parts(len(y), self.settings.micro_batch):
            with torch.enable_grad(), outer.adding():
                h = passage.leave(rows).requires_grad_()
                loss = self.loss(self.parts.head(h), y[rows])
                self.require_number(loss, number, lambda: self.model(x))
            (to_h,) = outer.gradients(self.parts.head, loss, [h], self.settings.loss_scale / outer.divisor)
            losses.append(float(loss.item()))
            del loss, h
            found = gradients_of(passage, to_h)
            if halves is None:
                halves = _buffers(found, passage)
            for whole, part in zip(halves, found, strict=True):
                whole[rows] = part
            del to_h, found
        assert halves is not None
        return losses, halves

    def _stem(
        self,
        outer: "_Outer",
        passage: Passage,
        x: Tensor,
        gradients: tuple[Tensor, Tensor],
        calls: KeyedCalls | None,
    ) -> None:
        if not any(each.requires_grad for each in self.parts.stem.parameters()):
            return
        for rows in parts(len(x), self.settings.micro_batch):
            with torch.enable_grad(), outer.adding(), calls.part(rows) if calls else nullcontext():
                h = self.parts.stem(x[rows])
            first, second = (half[rows] for half in gradients)
            outer.gradients(self.parts.stem, h, [], 1.0, joined(passage, (first, second)))
            del h


class _Outer(Protocol):
    """What becomes of gradients."""

    divisor: int  #: of losses, before their gradients are taken

    def adding(self) -> AbstractContextManager[None]:
        """Of forward passes whose gradients go to exact sums."""

    def gradients(
        self, part: nn.Module, result: Tensor, inputs: list[Tensor], factor: float, grad: Tensor | None = None
    ) -> list[Any]:
        """Those of `inputs` are returned, those of the part's parameters kept."""

    def block(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of a block, and update it."""

    def update(self, parameters: Sequence[nn.Parameter]) -> None:
        """Update parameters of stem or head, whose gradients are complete."""


class Rounded:
    """Gradients of a whole batch, or float32 ones of its parts, which are divided before they are added."""

    def __init__(self, mode: Reversible, divisor: int) -> None:
        self.mode, self.divisor = mode, divisor

    def adding(self) -> AbstractContextManager[None]:
        """Nothing is added to sums."""
        return nullcontext()

    def gradients(
        self, part: nn.Module, result: Tensor, inputs: list[Tensor], factor: float, grad: Tensor | None = None
    ) -> list[Any]:
        """Those of the part's parameters are added to what they have."""
        parameters = [each for each in part.parameters() if each.requires_grad]
        found = _derivatives(result, inputs, parameters, factor, grad)
        for parameter, each in zip(parameters, found[len(inputs) :], strict=True):
            if each is not None:
                with torch.no_grad(), phase(backward=True):
                    parameter.grad = each if parameter.grad is None else parameter.grad + each
        return found[: len(inputs)]

    def block(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        """Update a block."""
        for parameter, grad in zip(parameters, gradients, strict=True):
            parameter.grad = grad
        step_part(self.mode.optimizer, parameters)

    def update(self, parameters: Sequence[nn.Parameter]) -> None:
        """Update what has a gradient."""
        for each in dict.fromkeys(parameters):
            if each.grad is not None:
                step_part(self.mode.optimizer, [each])


class _Exact:
    """Gradients that are exact sums over micro-batches and workers."""

    divisor = 1

    def __init__(self, sums: Layered) -> None:
        self.sums = sums

    def adding(self) -> AbstractContextManager[None]:
        return self.sums.adding()

    def gradients(
        self, part: nn.Module, result: Tensor, inputs: list[Tensor], factor: float, grad: Tensor | None = None
    ) -> list[Any]:
        parameters = [each for each in part.parameters() if each.requires_grad]
        found = _derivatives(result, inputs, parameters, factor, grad)
        self._refuse(parameters, found[len(inputs) :])
        return found[: len(inputs)]

    def block(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        self._refuse(parameters, gradients)
        self.sums.ready(parameters)

    def update(self, parameters: Sequence[nn.Parameter]) -> None:
        self.sums.ready(parameters)

    def _refuse(self, parameters: Sequence[nn.Parameter], found: Sequence[Tensor | None]) -> None:
        for parameter, grad in zip(parameters, found, strict=True):
            self.sums.refuse_rounded(parameter, grad)


def _derivatives(
    result: Tensor,
    inputs: list[Tensor],
    parameters: list[nn.Parameter],
    factor: float,
    grad: Tensor | None,
) -> list[Any]:
    """Of a result times a factor, with respect to inputs and parameters; None where there is none."""
    scaled = result if factor == 1.0 else result * factor
    return list(torch.autograd.grad(scaled, [*inputs, *parameters], grad, allow_unused=True))


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
