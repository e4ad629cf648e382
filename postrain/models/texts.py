"""Networks that predict the next character, of plain torch modules."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Causal self-attention: a symbol sees itself and those before it.

    Args:
        width: Features.
        heads: Among which they are divided.
        dropout: Of probabilities, and of what is returned.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.inward = nn.Linear(width, 3 * width, bias=False)
        self.outward = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape (batch, length, width)."""
        batch, length, width = x.shape
        parts = self.inward(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        y = functional.scaled_dot_product_attention(
            parts[0], parts[1], parts[2], dropout_p=rate, is_causal=True
        )
        mixed: Tensor = self.dropout(self.outward(y.transpose(1, 2).reshape(batch, length, width)))
        return mixed


class _Block(nn.Module):
    """Attention, then a perceptron, each behind a norm and added to the stream."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        stream: Tensor = x + self.mlp(self.norm2(x))
        return stream


class CharTransformer(nn.Module):
    """A GPT over characters: nanoGPT's CPU recipe by default (4 layers, 4 heads, width 128, context 64, no biases).

    The weights of the output layer are those of the character embedding, tied.

    Source:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019; A. Karpathy, nanoGPT.

    >>> model = CharTransformer(65)
    >>> sum(parameter.numel() for parameter in model.parameters())
    804096
    >>> model(torch.zeros(2, 64, dtype=torch.int64)).shape
    torch.Size([2, 64, 65])
    """

    def __init__(
        self,
        symbols: int,
        layers: int = 4,
        heads: int = 4,
        width: int = 128,
        context: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.place = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, symbols, bias=False)
        self.head.weight = self.symbol.weight

    def forward(self, x: Tensor) -> Tensor:
        """Scores of every next symbol, shape (batch, length, symbols), for symbols of shape (batch, length)."""
        # a row of places a sample: their gradients then meet in the embedding's exact sum, not in a rounded broadcast
        places = torch.arange(x.shape[1]).expand(x.shape)
        stream = self.dropout(self.symbol(x) + self.place(places))
        scores: Tensor = self.head(self.norm(self.blocks(stream)))
        return scores

    def scale_residuals(self) -> None:
        """Divide what each block adds to the stream by sqrt(2 layers), GPT-2's initial scale."""
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, _Block)
                for layer in (block.attention.outward, block.mlp[2]):
                    assert isinstance(layer, nn.Linear)
                    layer.weight.div_(math.sqrt(2 * len(self.blocks)))


class CharLSTM(nn.Module):
    """An embedding, an LSTM and a linear layer.

    Source:
        Hochreiter and Schmidhuber, Long Short-Term Memory, 1997.

    >>> CharLSTM(65, width=8)(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 65])
    """

    def __init__(self, symbols: int, width: int = 128, layers: int = 1) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of every next symbol, shape (batch, length, symbols)."""
        hidden, _ = self.lstm(self.symbol(x))
        scores: Tensor = self.head(hidden)
        return scores
