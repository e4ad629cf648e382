"""A network whose blocks each have a loss of their own."""

from collections.abc import Iterable

from torch import Tensor, nn

from postrain.errors import ModeError


class LocalNetwork(nn.Module):
    """Blocks in a row, each with a head that makes an output of it; the last head's is the network's.

    Args:
        blocks: Each an nn.Sequential that begins with a linear or convolution layer.
        heads: As many, each from a block's output to the network's output.

    Mode `local` of `postrain.modes` trains every block towards the loss of its own head; nothing flows back between
    blocks.

    Raises:
        ModeError: there are no blocks, or not as many heads.

    >>> blocks = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)]
    >>> network = LocalNetwork(blocks, [nn.Sequential(nn.Linear(4, 3)) for _ in range(2)])
    >>> import torch
    >>> network(torch.ones(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, blocks: Iterable[nn.Sequential], heads: Iterable[nn.Sequential]) -> None:
        super().__init__()
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)
        if not len(self.blocks) or len(self.blocks) != len(self.heads):
            raise ModeError(
                f"a LocalNetwork needs a head for each block, got {len(self.blocks)} blocks and {len(self.heads)} heads"
            )

    def flattened(self, x: Tensor) -> Tensor:
        """Inputs as the first block takes them: one row a sample, where it begins with nn.Linear."""
        first = self.blocks[0]
        linear = isinstance(first, nn.Sequential) and isinstance(first[0], nn.Linear)
        return x.flatten(1) if linear and x.ndim > 2 else x

    def forward(self, x: Tensor) -> Tensor:
        """Through all blocks and the last head."""
        x = self.flattened(x)
        for block in self.blocks:
            x = block(x)
        outputs: Tensor = self.heads[-1](x)
        return outputs
