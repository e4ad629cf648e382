"""Modules of our own: a residual stack that is run back in training, and a network with a loss for each block."""

from postrain.nn.local import LocalNetwork
from postrain.nn.reversible import ReversibleStack
from postrain.nn.stream import FixedPoint

__all__ = ["FixedPoint", "LocalNetwork", "ReversibleStack"]
