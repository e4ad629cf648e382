"""A geometric-algebra network on pairs of vectors, whose output no rotation or reflection changes."""

import torch
from torch import Tensor, nn

from ga import Algebra, Layout, Multivector
from ga.nn import FullyConnectedGeometricProduct, GradeLinear, NormGate


class VectorPairs(nn.Module):
    """Two vectors of Cl(n,0,0) to a number: linear maps, a gate, the scalars of all products, a perceptron.

    Args:
        dimensions: Of the vectors.
        hidden: Multivectors of the hidden layers.
        seed: Of the initial weights of the geometric layers.

    Source:
        After the network of Ruhe, Brandstetter, Forré, arXiv 2305.11141, section 5.2, for the O(5) regression of Finzi,
        Welling, Wilson, arXiv 2104.09459 (`ga.tasks.regression`).

    >>> model = VectorPairs(dimensions=3, hidden=4)
    >>> x = torch.linspace(-1, 1, 12).reshape(2, 2, 3)
    >>> model(x).shape, torch.allclose(model(x), model(-x))
    (torch.Size([2]), True)
    """

    def __init__(self, dimensions: int, hidden: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.vector = Layout.of_grades(Algebra(dimensions), 1)
        self.embed = GradeLinear(self.vector, 2, hidden, generator=generator)
        self.gate = NormGate(self.vector, hidden)
        self.product = FullyConnectedGeometricProduct(
            self.vector, hidden, hidden, out_grades=0, generator=generator
        )
        self.head = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors, shape (n, 2, dimensions), to numbers, shape (n,)."""
        vectors = self.gate(self.embed(Multivector(x.movedim(-1, 0), self.vector)))
        found: Tensor = self.head(self.product(vectors).planes[0]).squeeze(-1)
        return found
