"""One pass of a batch through a reversible stack: forward, and back again to the first bit."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from posit.formats import Format
from posit.torch import PositTensor, phase
from posit.torch.accumulation import GradientSum, active, into
from posit.torch.ops.dropout import KeyedCalls
from posit.torch.tensor import Outcome
from postrain.accumulate import widest
from postrain.errors import AccumulationError, InversionError, ModeError, NaRError, StreamOverflow
from postrain.memory.purposes import QUIRES, STREAM, purpose
from postrain.nn.stream import FixedPoint, Kind, Unrepresentable

Parameters = Sequence[nn.Parameter]
Done = Callable[
    [Parameters, Sequence[Tensor | None]], object
]  #: told of a block's gradients as soon as they are there

_number: ContextVar[int] = ContextVar("training_step", default=0)


@contextmanager
def at_step(number: int) -> Iterator[None]:
    """Name a training step, counted from 1, to errors of streams in this context."""
    token = _number.set(number)
    try:
        yield
    finally:
        _number.reset(token)


class Stack(Protocol):
    """What a pass must know of its stack."""

    blocks: Sequence[nn.Module]
    stream: FixedPoint
    dim: int
    micro_batch: int | None
    inverted: int  #: blocks run back, every bit compared


@dataclass
class Passage:
    """The two halves of the stream of one batch, and what is needed to run back.

    Args:
        stack: Its blocks add to the halves in turn, the first to the first half.
        kind: What blocks take and return.
        halves: int32, in C order; changed in place.
        record: Whether to remember what a run back needs: 8 bytes and the state of dropout for each block.
    """

    stack: Stack
    kind: Kind
    halves: tuple[Tensor, Tensor]
    record: bool

    def __post_init__(self) -> None:
        self.digests: list[bytes] = []
        self.dropout: list[KeyedCalls | None] = []
        self.at = 0  #: blocks behind the stream

    @classmethod
    def begin(cls, stack: Stack, kind: Kind, shape: Sequence[int], *, record: bool) -> "Passage":
        """A stream of zeros for inputs of this shape; see `enter`."""
        own = list(shape)
        own[stack.dim] //= 2
        with purpose(STREAM):
            first, second = (stack.stream.zeros(tuple(own)) for _ in range(2))
        return cls(stack, kind, (first, second), record)

    def enter(self, x: Tensor, rows: slice = slice(None)) -> None:
        """Put inputs to rows of the stream, each number rounded once to its grid."""
        for half, part in zip(self.halves, x.detach().chunk(2, self.stack.dim), strict=True):
            self._add("the input of the stack", half[rows], part)

    def leave(self, rows: slice = slice(None)) -> Tensor:
        """Rows of the stream, each number rounded once."""
        parts = [_plain(self.read(half, rows)) for half in self.halves]
        return self.kind.wrap(torch.cat(parts, self.stack.dim))

    def read(self, half: Tensor, rows: slice = slice(None)) -> Tensor:
        """Rows of half of the stream, each number rounded once."""
        return self.stack.stream.read(half[rows], self.kind)

    def forward(self) -> None:
        """Through all blocks, without a graph."""
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[int]:
        """Through all blocks, one after the other: their numbers, each as soon as it was added."""
        for index, block in enumerate(self.stack.blocks):
            with torch.no_grad(), phase(backward=False):
                target, source = self._sides(index)
                calls = KeyedCalls.now()
                if self.record:
                    self.digests.append(_digest(target))
                    self.dropout.append(calls)
                for rows in self.parts():
                    with calls.part(rows) if calls else nullcontext():
                        y = block(self.read(source, rows))
                    self._add(self.name(index), target[rows], self.checked(index, y, target[rows]))
                    del y
            self.at = index + 1
            yield index

    def backward(self, gradients: tuple[Tensor, Tensor], done: Done) -> None:
        """Back through all blocks: the stream becomes what entered, the gradients those with respect to it.

        Args:
            gradients: Of both halves, in memory of their own; changed in place.
            done: Called after each block with its parameters and their gradients, last block first; it may change
                the parameters.

        Raises:
            InversionError: a block did not return what it had returned before.
        """
        if self.at != len(self.stack.blocks) or not self.record:
            raise ModeError(
                "the stream of this pass was run back already, or never recorded; run the forward pass again "
                "(retain_graph has no effect on a ReversibleStack; with store=True it has)"
            )
        for index in reversed(range(len(self.stack.blocks))):
            parameters = [each for each in self.stack.blocks[index].parameters() if each.requires_grad]
            found = self._back(index, parameters, gradients)
            if _digest(self._sides(index)[0]) != self.digests.pop():
                raise InversionError(
                    f"{self.name(index)} did not return the same bits when it was run again; blocks must be "
                    "deterministic: use torch.nn.Dropout within dropout_keys, no randomness or state of their own, "
                    "and posits (float32 sums depend on threads and on the split of a batch)"
                )
            self.at = index
            self.stack.inverted += 1
            done(parameters, found)
            del found

    def parts(self) -> Iterator[slice]:
        """Micro-batches: slices of rows."""
        return parts(self.halves[0].shape[0], self.stack.micro_batch)

    def name(self, index: int) -> str:
        """Of a block, for messages."""
        block = self.stack.blocks[index]
        return f"block {index} ({getattr(block, 'posit_name', '') or type(block).__name__})"

    def checked(self, index: int, y: Any, like: Tensor) -> Tensor:
        """A block's output, if it fits the stream."""
        posits = isinstance(y, PositTensor)
        if not isinstance(y, Tensor) or y.shape != like.shape or posits == (self.kind.format is None):
            got = (
                f"{type(y).__name__} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            )
            wanted = "PositTensor" if self.kind.format is not None else "float32 Tensor"
            raise ModeError(
                f"{self.name(index)} returned {got}; a block of a ReversibleStack takes and returns one half of the "
                f"features, here a {wanted} of shape {tuple(like.shape)}"
            )
        return y

    def add(self, index: int, y: Tensor, *, enters: bool = False) -> None:
        """Add the output of a block to its half (of all rows), or what `enters` the stack there."""
        target = self._sides(index)[0]
        if enters:
            self._add("the input of the stack", target, y)
        else:
            self._add(self.name(index), target, self.checked(index, y, target))

    def _sides(self, index: int) -> tuple[Tensor, Tensor]:
        """What a block adds to, and what it reads."""
        return self.halves[index % 2], self.halves[1 - index % 2]

    def _add(self, where: str, target: Tensor, y: Tensor, sign: int = 1) -> None:
        stream = self.stack.stream
        try:
            stream.add(target, y, sign)
        except Unrepresentable as error:
            if error.value != error.value:
                raise NaRError(f"the output of {where}", _number.get()) from None
            raise StreamOverflow(where, error.value, stream.name, _number.get()) from None

    def _back(
        self, index: int, parameters: Parameters, gradients: tuple[Tensor, Tensor]
    ) -> list[Tensor | None]:
        """Take a block's output from the stream, add its input's gradient; its parameters' gradients."""
        parts = list(self.parts())
        if len(parts) == 1 or active() or self.kind.format is None:
            return self._one_after_the_other(index, parameters, gradients, parts)
        posits = [each for each in parameters if isinstance(each, PositTensor)]
        with purpose(QUIRES):
            fmt = widest(posits)
            sums = [GradientSum(each, fmt or each.format) for each in posits]
        with into(sums):
            rounded = self._one_after_the_other(index, parameters, gradients, parts)
        self._refuse_rounded(index, parameters, rounded)
        by_id = {id(each.parameter): each for each in sums if each.terms}
        return [_taken(by_id, each) for each in parameters]

    def _one_after_the_other(
        self, index: int, parameters: Parameters, gradients: tuple[Tensor, Tensor], parts: list[slice]
    ) -> list[Tensor | None]:
        total: list[Tensor | None] = [None] * len(parameters)
        for rows in parts:
            for place, grad in enumerate(self._part(index, parameters, gradients, rows)):
                before = total[place]
                total[place] = grad if before is None or grad is None else before + grad
                del grad, before
        return total

    def _part(
        self, index: int, parameters: Parameters, gradients: tuple[Tensor, Tensor], rows: slice
    ) -> list[Tensor | None]:
        target, source = self._sides(index)
        to_target, to_source = gradients[index % 2], gradients[1 - index % 2]
        calls = self.dropout[index] if self.dropout else None
        h = self.read(source, rows).requires_grad_()
        with torch.enable_grad(), phase(backward=False), calls.part(rows) if calls else nullcontext():
            y = self.stack.blocks[index](h)
        self._add(self.name(index), target[rows], self.checked(index, y, target[rows]), -1)
        if not y.requires_grad:
            return [None] * len(parameters)
        each: Any = torch.autograd.grad(
            y, [h, *parameters], self._gradient(to_target, rows), allow_unused=True
        )
        del y, h
        to_h = each[0]
        found: list[Tensor | None] = [*each[1:]]
        del each
        if to_h is not None:
            _add_gradient(to_source[rows], to_h, self.kind)
        return found

    def _gradient(self, held: Tensor, rows: slice) -> Tensor:
        form = self.kind.gradients
        return held[rows] if form is None else PositTensor(held[rows], form, policy=self.kind.policy)

    def _refuse_rounded(self, index: int, parameters: Parameters, found: Sequence[Tensor | None]) -> None:
        if not any(each is not None for each in found):
            return
        names = {id(each): name for name, each in self.stack.blocks[index].named_parameters()}
        bad = ", ".join(names[id(p)] for p, grad in zip(parameters, found, strict=True) if grad is not None)
        raise AccumulationError(
            f"the gradient of {bad} in {self.name(index)} was rounded for each micro-batch: an operator that uses it "
            "does not add to exact sums; use it in the layers of torch.nn only, or leave out the micro-batches"
        )


def gradients_of(passage: Passage, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of what leaves a stack as those of its halves, in memory of their own: codes, or float32."""
    first, second = (_held(part, passage.kind) for part in grad.chunk(2, passage.stack.dim))
    return first, second


def joined(passage: Passage, gradients: tuple[Tensor, Tensor]) -> Tensor:
    """The inverse of `gradients_of`."""
    whole = torch.cat(gradients, passage.stack.dim)
    form = passage.kind.gradients
    return whole if form is None else PositTensor(whole, form, policy=passage.kind.policy)


def _held(grad: Tensor, kind: Kind) -> Tensor:
    form: Format | None = kind.gradients
    if form is None or not isinstance(grad, PositTensor):
        return grad.detach().clone(memory_format=torch.contiguous_format)
    return Outcome(form, kind.policy).cast(grad).codes.clone(memory_format=torch.contiguous_format)


def _add_gradient(held: Tensor, grad: Tensor, kind: Kind) -> None:
    """Add to a gradient, one rounding."""
    form = kind.gradients
    if form is None:
        held += grad
        return
    with torch.no_grad(), phase(backward=True):
        total: Any = PositTensor(held, form, policy=kind.policy) + grad
    held.copy_(Outcome(form, kind.policy).cast(total).codes)


def _taken(sums: dict[int, GradientSum], parameter: nn.Parameter) -> Tensor | None:
    """The rounded gradient of a parameter, whose sum is given up."""
    found = sums.pop(id(parameter), None)
    return None if found is None else found.gradient()


def _plain(x: Tensor) -> Tensor:
    return x.codes if isinstance(x, PositTensor) else x


def _digest(half: Tensor) -> bytes:
    if isinstance(half, FakeTensor):
        return b""
    return hashlib.blake2b(half.numpy().data, digest_size=8).digest()


def parts(samples: int, size: int | None) -> Iterator[slice]:
    """Slices of so many rows; one slice where no size is given.

    >>> list(parts(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    size = size or max(samples, 1)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
