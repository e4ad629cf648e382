"""Training samples by number: what the loop takes its batches from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from posit.torch import PositTensor
from postrain.errors import DataError


class Feed(Protocol):
    """Samples that can be taken by number."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples, in this order."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets that lie in memory, one sample a row.

    Raises:
        DataError: there are none, or not as many inputs as targets.

    >>> Samples(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])).take(torch.tensor([1]))
    (tensor([[2.]]), tensor([1]))
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or len(self.x) == 0:
            raise DataError(
                f"training data of {len(self.x)} inputs and {len(self.y)} targets; there must be at least one, "
                "and a target for each input"
            )

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of both."""
        return torch.index_select(self.x, 0, indices), torch.index_select(self.y, 0, indices)


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of a text: sample i is `context` symbols from place i on, its targets the symbols one place later.

    Raises:
        DataError: the text is not longer than a stretch.

    >>> Windows(torch.arange(10), context=3).take(torch.tensor([4]))
    (tensor([[4, 5, 6]]), tensor([[5, 6, 7]]))
    """

    symbols: Tensor  #: int64, shape (n,)
    context: int

    def __post_init__(self) -> None:
        if not 0 < self.context < len(self.symbols):
            raise DataError(
                f"a text of {len(self.symbols)} symbols has no stretches of {self.context} and a next symbol; "
                "choose a longer text or a shorter context"
            )

    def __len__(self) -> int:
        return len(self.symbols) - self.context

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """One row of symbols a sample, and the same one place later."""
        places = indices[:, None] + torch.arange(self.context)
        return self.symbols[places], self.symbols[places + 1]

    def in_a_row(self, most: int) -> Iterator[Tensor]:
        """Numbers of stretches that follow one another without overlap, at most `most` of them, one by one."""
        for start in range(0, min(len(self), most * self.context), self.context):
            yield torch.tensor([start])


def digest(*tensors: Tensor) -> str:
    """SHA-256 of the bits of data, posits by their codes.

    >>> digest(torch.arange(3)) == digest(torch.arange(3))
    True
    """
    sha = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.codes if isinstance(tensor, PositTensor) else tensor.detach()
        sha.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        sha.update(plain.contiguous().numpy().tobytes())
    return sha.hexdigest()
