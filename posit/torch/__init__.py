"""Posits in PyTorch: `PositTensor`, its operators and autograd."""

from posit.torch.accumulation import GradientSum, gradient_sums
from posit.torch.ops import observe
from posit.torch.ops.casts import cast
from posit.torch.ops.dropout import dropout_keys
from posit.torch.ops.segments import segment_sum
from posit.torch.policy import Policy, in_backward, phase
from posit.torch.registry import has_rule, is_refused, refuse, register_function, register_rule
from posit.torch.scaling import Grid, Scaling
from posit.torch.tensor import PositTensor, posit_tensor

__all__ = [
    "GradientSum",
    "Grid",
    "Policy",
    "PositTensor",
    "Scaling",
    "cast",
    "dropout_keys",
    "gradient_sums",
    "has_rule",
    "in_backward",
    "is_refused",
    "observe",
    "phase",
    "posit_tensor",
    "refuse",
    "register_function",
    "register_rule",
    "segment_sum",
]
