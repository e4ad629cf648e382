"""The networks of `postrain memory`: residual stacks of any depth, as a reversible stack and as plain modules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from postrain.memory.networks import Workload
from postrain.models import reversible_cnn, reversible_mlp, reversible_transformer
from postrain.nn import LocalNetwork

FAMILIES = ("mlp", "cnn", "transformer")
_CLASSES, _SYMBOLS, _CONTEXT = 10, 65, 64
_IMAGE = (1, 8, 8)


class Couple(nn.Module):
    """A residual step on two halves: (a, b) to (b, a + F(b)).

    >>> a, b = Couple(nn.Identity())((torch.ones(1), torch.full((1,), 2.0)))
    >>> a.item(), b.item()
    (2.0, 3.0)
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, halves: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The halves, changed places."""
        first, second = halves
        return second, first + self.block(second)


class Split(nn.Module):
    """Two halves of the features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of a tensor."""
        first, second = x.chunk(2, self.dim)
        return first, second


class Join(Split):
    """The inverse of `Split`."""

    def forward(self, halves: Any) -> Any:
        """One tensor of two halves."""
        return torch.cat(halves, self.dim)


def stack(family: str, depth: int, width: int, batch: int, seed: int, form: str = "reversible") -> Workload:
    """A network of a family, and a batch of inputs for it.

    Args:
        family: One of `FAMILIES`.
        depth: Blocks; of the transformer, layers of two blocks each.
        width: Features or channels of the residual stream.
        batch: Samples.
        seed: Of weights and inputs.
        form: ``"reversible"``: with a `postrain.nn.ReversibleStack`; ``"plain"``: the same network of ordinary modules
            and sums; ``"bfloat16"``: plain, under torch's autocast; ``"chain"``: a perceptron of linear layers and
            ReLU without norms or sums; ``"local"``: the same with a loss for each block.

    >>> stack("mlp", depth=2, width=8, batch=3, seed=0).inputs.shape
    torch.Size([3, 1, 8, 8])
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, *_IMAGE, generator=generator)
    labels = torch.randint(0, _CLASSES, (batch,), generator=generator)
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    if form in ("chain", "local"):
        return Workload(_chain(depth, width, apart=form == "local"), loss, images, labels)
    if family == "transformer":
        model = reversible_transformer(_SYMBOLS, _CONTEXT, width, heads=4, depth=depth)
        images, labels = (
            torch.randint(0, _SYMBOLS, (batch, _CONTEXT), generator=generator) for _ in range(2)
        )
        loss = _each_symbol
    elif family == "cnn":
        model = reversible_cnn(_IMAGE, _CLASSES, width, depth)
    else:
        model = reversible_mlp(_IMAGE, _CLASSES, width, depth)
    if form != "reversible":
        model = _plain(model)
    return Workload(_Autocast(model) if form == "bfloat16" else model, loss, images, labels)


def _each_symbol(scores: Tensor, targets: Tensor, **options: Any) -> Tensor:
    return functional.cross_entropy(scores.reshape(-1, _SYMBOLS), targets.reshape(-1), **options)


def _plain(model: nn.Sequential) -> nn.Sequential:
    """The same network without a stream."""
    whole: Any = model
    dim = whole.stack.dim
    couples = [Couple(block) for block in whole.stack.blocks]
    swap = [] if len(couples) % 2 == 0 else [_Swap()]
    return nn.Sequential(*whole.stem, Split(dim), *couples, *swap, Join(dim), *whole.head)


class _Swap(nn.Module):
    def forward(self, halves: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return halves[1], halves[0]


class _Autocast(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores: Tensor = self.model(x)
        return scores.float()


def _chain(depth: int, width: int, *, apart: bool) -> nn.Module:
    features = torch.Size(_IMAGE).numel()
    blocks = [
        nn.Sequential(nn.Linear(width if place else features, width), nn.ReLU()) for place in range(depth)
    ]
    if not apart:
        layers = [layer for block in blocks for layer in block]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, _CLASSES))
    return LocalNetwork(blocks, [nn.Sequential(nn.Linear(width, _CLASSES)) for _ in blocks])
