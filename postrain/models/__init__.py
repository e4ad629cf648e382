"""Ready-made networks of plain torch modules, their first weights the same bits on every machine."""

from postrain.models.images import LeNet5, cnn, mlp
from postrain.models.initial import initialise
from postrain.models.texts import CharLSTM, CharTransformer

__all__ = ["CharLSTM", "CharTransformer", "LeNet5", "cnn", "initialise", "mlp"]
