"""The memory accountant: bytes by purpose at the peak of inference and of training, predicted and measured.

This package itself imports neither torch nor numba: `account` measures in a process of its own.
"""

from postrain.memory.account import Case, Footprint, account

__all__ = ["Case", "Footprint", "account"]
