"""Optimizers whose update is formed exactly and rounded once, with torch.optim's interface."""

from postrain.optim.sgd import SGD

__all__ = ["SGD"]
