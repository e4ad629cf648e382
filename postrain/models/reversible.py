"""Ready-made reversible networks: a stem, a `ReversibleStack`, a head, each an nn.Sequential of three."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from postrain.models.texts import Attention
from postrain.nn import ReversibleStack


def reversible_mlp(
    shape: Sequence[int],
    classes: int,
    width: int = 128,
    depth: int = 8,
    expansion: int = 1,
    fraction_bits: int = 20,
) -> nn.Sequential:
    """Perceptron blocks (norm, linear, ReLU, linear), for inputs of any shape.

    Args:
        shape: Of one input.
        classes: How many.
        width: Features of the stream, both halves together.
        depth: Blocks.
        expansion: Width of a block's hidden layer, over that of half of the stream.
        fraction_bits: Of the stream.

    >>> model = reversible_mlp((8, 8), 10, width=16, depth=4)
    >>> model(torch.zeros(3, 8, 8)).shape, len(model.stack.blocks)
    (torch.Size([3, 10]), 4)
    """
    features = torch.Size(shape).numel()
    half = width // 2

    def block() -> nn.Module:
        hidden = expansion * half
        return nn.Sequential(nn.LayerNorm(half), nn.Linear(half, hidden), nn.ReLU(), nn.Linear(hidden, half))

    stem = nn.Sequential(nn.Flatten(), nn.Linear(features, width))
    head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))
    return _around(stem, (block() for _ in range(depth)), head, fraction_bits=fraction_bits)


def reversible_cnn(
    shape: Sequence[int],
    classes: int,
    channels: int = 32,
    depth: int = 8,
    fraction_bits: int = 20,
) -> nn.Sequential:
    """Convolutional blocks (norm, 3×3 convolution, ReLU, 3×3 convolution) on images halved once in size.

    Args:
        shape: Of one input: channels, height, width.
        classes: How many.
        channels: Of the stream, both halves together.
        depth: Blocks.
        fraction_bits: Of the stream.

    >>> model = reversible_cnn((1, 8, 8), 10, channels=8, depth=2)
    >>> model(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """
    half = channels // 2

    def block() -> nn.Module:
        return nn.Sequential(
            nn.GroupNorm(1, half),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
        )

    stem = nn.Sequential(nn.Conv2d(shape[0], channels, 3, stride=2, padding=1))
    head = nn.Sequential(
        nn.GroupNorm(1, channels), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes)
    )
    return _around(stem, (block() for _ in range(depth)), head, dim=1, fraction_bits=fraction_bits)


class Places(nn.Module):
    """Embeddings of symbols and of their places, added.

    >>> Places(5, 4, 6)(torch.zeros(2, 3, dtype=torch.int64)).shape
    torch.Size([2, 3, 6])
    """

    def __init__(self, symbols: int, context: int, width: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.place = nn.Embedding(context, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (samples, length, width) for symbols of shape (samples, length)."""
        places: Tensor = self.symbol(x) + self.place(torch.arange(x.shape[1]))
        return places


def reversible_transformer(
    symbols: int,
    context: int = 64,
    width: int = 128,
    heads: int = 4,
    depth: int = 4,
    dropout: float = 0.0,
    fraction_bits: int = 20,
) -> nn.Sequential:
    """A GPT over characters whose attention and perceptron blocks add to one half of the stream each.

    Args:
        symbols: How many.
        context: Largest length.
        width: Features of the stream, both halves together.
        heads: Of attention, which works on half of the features.
        depth: Layers, of two blocks each.
        dropout: Probability, behind attention and perceptron.
        fraction_bits: Of the stream.

    Source:
        Kitaev, Kaiser, Levskaya, Reformer, arXiv 2001.04451 (reversible transformer).

    >>> model = reversible_transformer(5, context=4, width=16, heads=2, depth=1)
    >>> model(torch.zeros(2, 4, dtype=torch.int64)).shape, len(model.stack.blocks)
    (torch.Size([2, 4, 5]), 2)
    """
    half = width // 2

    def blocks() -> Iterable[nn.Module]:
        for _ in range(depth):
            yield nn.Sequential(nn.LayerNorm(half, bias=False), Attention(half, heads, dropout))
            yield nn.Sequential(
                nn.LayerNorm(half, bias=False),
                nn.Linear(half, 4 * half, bias=False),
                nn.GELU(),
                nn.Linear(4 * half, half, bias=False),
                nn.Dropout(dropout),
            )

    stem = nn.Sequential(Places(symbols, context, width))
    head = nn.Sequential(nn.LayerNorm(width, bias=False), nn.Linear(width, symbols, bias=False))
    return _around(stem, blocks(), head, fraction_bits=fraction_bits)


class GeometricBlock(nn.Module):
    """A geometric product with learned weights per grade path, then a linear map per grade, on plain tensors.

    Args:
        channels: Of input and output.
        generator: Source of the initial weights.

    >>> GeometricBlock(2, generator=torch.Generator().manual_seed(0))(torch.ones(3, 2, 8)).shape
    torch.Size([3, 2, 8])
    """

    def __init__(self, channels: int, *, generator: torch.Generator) -> None:
        from ga import VGA3
        from ga.layout import Layout
        from ga.nn import GeometricProductLayer, GradeLinear
        from postrain import geometric  # noqa: F401  (rules for posits)

        super().__init__()
        self.layout = Layout.of_grades(VGA3, (0, 1, 2, 3))
        self.product = GeometricProductLayer(
            self.layout, channels, out_grades=(0, 1, 2, 3), generator=generator
        )
        self.mix = GradeLinear(self.layout, channels, channels, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of Cl(3,0,0), blades last: shape (samples, channels, 8) to the same."""
        from ga.multivector import Multivector

        mixed = self.mix(self.product(Multivector(x.movedim(-1, 0), self.layout)))
        result: Tensor = mixed.planes.movedim(0, -1)
        return result


class _Vectors(nn.Module):
    """Points in space as the vectors of multivectors of more channels."""

    def __init__(self, points: int, channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(points, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        vectors = self.embed(x.transpose(1, 2)).transpose(1, 2)  # (samples, channels, 3)
        return nn.functional.pad(vectors, (1, 4))


class _Pseudoscalar(nn.Module):
    """One number a sample: the pseudoscalars of all channels, weighed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.readout = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        numbers: Tensor = self.readout(x[..., 7]).squeeze(-1)
        return numbers


def reversible_geometric(
    points: int = 3, channels: int = 16, depth: int = 4, fraction_bits: int = 20, seed: int = 0
) -> nn.Sequential:
    """Blocks of geometric products in Cl(3,0,0), from points to one pseudoscalar: `ga.tasks.signed_volume`'s task.

    Every block is equivariant under rotations and reflections, the stem takes points to vectors, and the head reads
    the pseudoscalar, so the output changes its sign under reflections.

    Args:
        points: Of one input, shape (points, 3).
        channels: Multivectors of the stream, both halves together.
        depth: Blocks.
        fraction_bits: Of the stream.
        seed: Of the initial weights of the blocks.

    >>> reversible_geometric(channels=4, depth=2)(torch.zeros(5, 3, 3)).shape
    torch.Size([5])
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = [GeometricBlock(channels // 2, generator=generator) for _ in range(depth)]
    with torch.no_grad():
        for block in blocks:  # a small step of the stream
            for weight in block.mix.weights.values():
                weight.mul_(0.25)
    return _around(
        _Vectors(points, channels), blocks, _Pseudoscalar(channels), dim=1, fraction_bits=fraction_bits
    )


def _around(stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module, **options: Any) -> nn.Sequential:
    parts = OrderedDict(stem=stem, stack=ReversibleStack(blocks, **options), head=head)
    return nn.Sequential(parts)
