"""Posits in PyTorch: `PositTensor`, its operators and autograd."""

from posit.torch.accumulation import GradientSum, gradient_sums
from posit.torch.ops import observe
from posit.torch.ops.casts import cast
from posit.torch.ops.dropout import dropout_keys
from posit.torch.ops.segments import segment_sum
from posit.torch.policy import Policy, in_backward, phase
from posit.torch.tensor import PositTensor, has_rule, posit_tensor, register_function, register_rule

__all__ = [
    "GradientSum",
    "Policy",
    "PositTensor",
    "cast",
    "dropout_keys",
    "gradient_sums",
    "has_rule",
    "in_backward",
    "observe",
    "phase",
    "posit_tensor",
    "register_function",
    "register_rule",
    "segment_sum",
]
