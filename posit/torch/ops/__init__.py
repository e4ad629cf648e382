"""The meaning of each aten operator on posits, one file per family; importing this package registers them all."""

from posit.torch.ops import casts, contractions, elementwise, losses, reductions, views
from posit.torch.ops.observe import Observation, observe

__all__ = ["Observation", "casts", "contractions", "elementwise", "losses", "observe", "reductions", "views"]
