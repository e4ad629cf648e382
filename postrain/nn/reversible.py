"""A stack of residual blocks that stores no activation: its stream is held in fixed point and run back in training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from posit.torch import PositTensor
from posit.torch.ops.dropout import keyed
from postrain.errors import ModeError, OptionsError, RecipeError
from postrain.nn.passage import Passage, gradients_of, joined
from postrain.nn.stream import FixedPoint, Kind

_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


class ReversibleStack(nn.Module):
    r"""Residual blocks on two halves of the features, inverted in the backward pass instead of being stored.

    The input is split into halves a, b.  Block 0 adds to the first, ``a <- a + block0(b)``, block 1 to the second,
    ``b <- b + block1(a)``, and so on in turn.  The halves are integers times :math:`2^{-n}`, so a block's output can
    be taken away again to the bit; in training no activation outlives its block.  Each block is run twice.

    Rounding points: the input, once, to the stream's grid; what a block reads, once, to the format of activations;
    what it returns, once, to the grid; the output, once, to activations.  Gradients with respect to the stream are
    posits in the recipe's format of gradients; each block adds to one of the halves, one rounding.  The roundings
    between stream and posits pass gradients on as they are.

    The gradients are to the bit those of reverse mode that stores every activation (`store`), for any `micro_batch`;
    where a parameter is used at several places of one block, its gradient has one rounding with micro-batches, and one
    for each place without.

    Args:
        blocks: Any modules that take half of the features and return a tensor of the same shape.
        fraction_bits: n of the stream's format Qm.n, m = 31 - n; `calibrate` chooses it from data.
        dim: The dimension of the features; dimension 0 are the samples.
        micro_batch: Samples that go through a block together; all, if left out.
        store: Keep every activation for autograd, as ordinary modules do; for comparison.

    Blocks must be deterministic.  Dropout outside of `posit.torch.dropout_keys` and layers that normalize by statistics
    of the batch are refused in training, and every bit that comes back is compared by a digest.

    Raises:
        ModeError: there are no blocks, or the features cannot be halved, or a block returns another shape; or a
            backward pass meets a stream that was run back already.
        StreamOverflow: the stream left its range; the message names block and step.
        InversionError: a block run again did not return the same bits.
        NaRError: a block returned NaR.
        RecipeError: dropout without keys, a layer of batch statistics, or a recipe that scales.

    Source:
        Gomez, Ren, Urtasun, Grosse, The reversible residual network, arXiv 1707.04585; bit-exact reversal: MacKay,
        Vicol, Ba, Grosse, Reversible recurrent neural networks, arXiv 1810.10999.

    >>> from postrain import convert
    >>> stack = convert(ReversibleStack([nn.Linear(2, 2), nn.Linear(2, 2)]), "posit16")
    >>> stack(torch.ones(3, 4)).sum().backward()
    >>> stack.blocks[0].weight.grad.shape, stack.inverted
    (torch.Size([2, 2]), 2)
    """

    fraction_bits: Tensor

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        *,
        fraction_bits: int = 20,
        dim: int = -1,
        micro_batch: int | None = None,
        store: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if not len(self.blocks):
            raise ModeError("a ReversibleStack needs at least one block")
        if dim == 0:
            raise ModeError("dimension 0 holds the samples; features are another one, by default the last")
        if micro_batch is not None and micro_batch < 1:
            raise OptionsError(f"micro_batch must be at least 1, got {micro_batch}")
        self._stream = FixedPoint(fraction_bits)
        self.register_buffer("fraction_bits", torch.tensor(fraction_bits))
        self.dim, self.micro_batch, self.store = dim, micro_batch, store
        self.inverted = 0  #: blocks run back since it was made, all of their bits compared

    def forward(self, x: Tensor) -> Tensor:
        """Through all blocks.

        Args:
            x: Shape (samples, ...), an even number of features in dimension `dim`.
        """
        if torch.is_grad_enabled() and self.training:
            self.require_deterministic()
        parameters = [each for each in self.parameters() if each.requires_grad]
        if not torch.is_grad_enabled() or not (parameters or x.requires_grad):
            passage = self.begin(x, record=False)
            passage.enter(x)
            passage.forward()
            return passage.leave()
        if self.store:
            return self._stored(x)
        result: Tensor = _Reversible.apply(x, self, *parameters)  # type: ignore[no-untyped-call]
        return result

    def begin(self, x: Tensor, *, record: bool, samples: int | None = None) -> Passage:
        """A stream for inputs like `x` (of another number of samples, where one is given)."""
        if x.ndim < 2 or x.shape[self.dim] % 2:
            raise ModeError(
                f"a ReversibleStack halves dimension {self.dim}, got shape {tuple(x.shape)}; give it samples and an "
                "even number of features"
            )
        shape = (samples if samples is not None else x.shape[0], *x.shape[1:])
        return Passage.begin(self, self._kind(x), shape, record=record)  # type: ignore[arg-type]  # a list of modules

    def calibrate(self, x: Tensor, headroom: int = 3) -> FixedPoint:
        """Choose the stream's format: the finest that leaves `headroom` bits above the largest number met.

        Args:
            x: Typical inputs.
            headroom: Bits by which the stream may grow in training; its overflow is noticed.

        Returns:
            The format, which the stack has from now on.

        >>> ReversibleStack([nn.Identity()]).calibrate(torch.full((1, 2), 5.0)).name
        'Q7.24'
        """
        self.stream, largest = FixedPoint(16), 0.0
        with torch.no_grad():
            passage = self.begin(x, record=False)
            passage.enter(x)
            for _ in passage.steps():
                largest = max(largest, *(float(half.abs().max()) for half in passage.halves if half.numel()))
        self.stream = FixedPoint.for_range(largest / 2**16, headroom)
        return self.stream

    def require_deterministic(self) -> None:
        """Refuse layers that would not return the same bits again.

        Raises:
            RecipeError: naming the layer.
        """
        for name, module in self.blocks.named_modules():
            if not module.training:
                continue
            random = isinstance(module, _DROPOUTS) and getattr(module, "p", 1.0) > 0
            if random and not (isinstance(module, nn.Dropout) and keyed()):
                raise RecipeError(
                    f'{type(module).__name__} "blocks.{name}" draws other numbers when its block is run back; use '
                    "nn.Dropout of posits inside of posit.torch.dropout_keys (postrain's loop does), or leave it out"
                )
            if isinstance(module, nn.modules.batchnorm._NormBase) and (
                isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
            ):
                raise RecipeError(
                    f'{type(module).__name__} "blocks.{name}" uses statistics of the batch and changes them in each '
                    "run; put it into eval(), or use LayerNorm or GroupNorm"
                )

    @property
    def stream(self) -> FixedPoint:
        """The format of the stream; its fraction bits are a buffer, so that checkpoints keep them."""
        held = self.fraction_bits
        return self._stream if isinstance(held, FakeTensor) else FixedPoint(int(held))

    @stream.setter
    def stream(self, form: FixedPoint) -> None:
        self._stream = form
        self.fraction_bits.fill_(form.fraction_bits)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return (
            f"stream={self.stream.name}, dim={self.dim}, micro_batch={self.micro_batch}, store={self.store}"
        )

    def _kind(self, x: Tensor) -> Kind:
        own = (each.policy for each in self.parameters() if isinstance(each, PositTensor))
        policy = getattr(x, "policy", None) or next(own, None)
        if policy is not None and policy.scaling is not None:
            raise RecipeError(
                "a ReversibleStack holds its stream in fixed point, and its blocks read posits as they are; use a "
                'recipe with scale="none"'
            )
        if not isinstance(x, PositTensor):
            return Kind(None, None)
        return Kind(x.format if policy is None else policy.activations, policy)

    def _stored(self, x: Tensor) -> Tensor:
        """With a graph through everything: the halves as their readings, the integers beside them."""
        passage = self.begin(x, record=False)
        tokens = [_Couple.apply(None, part, passage, t) for t, part in enumerate(x.chunk(2, self.dim))]  # type: ignore[no-untyped-call]
        for index, block in enumerate(self.blocks):
            y = passage.checked(index, block(tokens[1 - index % 2]), passage.halves[index % 2])
            tokens[index % 2] = _Couple.apply(tokens[index % 2], y, passage, index)  # type: ignore[no-untyped-call]
        return torch.cat(tokens, self.dim)


class _Reversible(torch.autograd.Function):
    """The whole stack as one function; its backward pass runs the stream back."""

    @staticmethod
    def forward(ctx: Any, x: Any, stack: ReversibleStack, *parameters: Any) -> Any:
        passage = stack.begin(x, record=True)
        passage.enter(x)
        passage.forward()
        ctx.passage, ctx.places = passage, {id(each): place for place, each in enumerate(parameters)}
        return passage.leave()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if torch.is_grad_enabled():
            raise ModeError(
                "a ReversibleStack has no second derivative (create_graph=True); take first derivatives only"
            )
        found: list[Any] = [None] * len(ctx.places)

        def keep(parameters: Any, gradients: Any) -> None:
            for parameter, each in zip(parameters, gradients, strict=True):
                place = ctx.places[id(parameter)]
                before = found[place]
                found[place] = each if before is None or each is None else before + each

        halves = gradients_of(ctx.passage, grad)
        ctx.passage.backward(halves, keep)
        return joined(ctx.passage, halves) if ctx.needs_input_grad[0] else None, None, *found


class _Couple(torch.autograd.Function):
    """Add a block's output to half of the stream; the result is the reading of that half."""

    @staticmethod
    def forward(ctx: Any, token: Any, y: Any, passage: Passage, index: int) -> Any:
        ctx.begins = token is None
        passage.add(index, y, enters=ctx.begins)
        return passage.read(passage.halves[index % 2])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None if ctx.begins else grad, grad, None, None


@contextmanager
def in_micro_batches(stack: ReversibleStack, size: int | None) -> Iterator[None]:
    """Let samples go through the blocks in parts of this size, in this context."""
    before, stack.micro_batch = stack.micro_batch, size
    try:
        yield
    finally:
        stack.micro_batch = before
