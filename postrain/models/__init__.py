"""Ready-made networks of plain torch modules, their first weights the same bits on every machine."""

from postrain.models.geometric import VectorPairs
from postrain.models.images import LeNet5, cnn, local_mlp, mlp
from postrain.models.initial import initialise
from postrain.models.reversible import (
    reversible_cnn,
    reversible_geometric,
    reversible_mlp,
    reversible_transformer,
)
from postrain.models.texts import CharLSTM, CharTransformer

__all__ = [
    "CharLSTM",
    "CharTransformer",
    "LeNet5",
    "VectorPairs",
    "cnn",
    "initialise",
    "local_mlp",
    "mlp",
    "reversible_cnn",
    "reversible_geometric",
    "reversible_mlp",
    "reversible_transformer",
]
