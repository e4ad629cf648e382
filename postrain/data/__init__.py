"""Data sets by name, as plain NumPy arrays: `load` and the `Dataset` it returns."""

from postrain.data._dataset import Dataset
from postrain.data._load import NAMES, load

__all__ = ["NAMES", "Dataset", "load"]
