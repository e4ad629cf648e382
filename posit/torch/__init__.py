"""Posits in PyTorch: `PositTensor`, its operators and autograd."""

from posit.torch.ops import observe
from posit.torch.tensor import PositTensor, posit_tensor, register_rule

__all__ = ["PositTensor", "observe", "posit_tensor", "register_rule"]
