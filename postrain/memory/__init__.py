"""The memory accountant: bytes by purpose at the peak of inference and of training, predicted and measured.

This package itself imports neither torch nor numba; `footprint` measures in a process of its own.
"""

from typing import TYPE_CHECKING

from postrain.memory._account import Account, Case, Footprint, account, footprint

if TYPE_CHECKING:
    from postrain.memory._ledger import Ledger

__all__ = ["Account", "Case", "Footprint", "account", "footprint", "ledger"]


def ledger() -> "Ledger":
    """Watch the buffers of your own code: ``with postrain.memory.ledger() as led: …``, then ``led.peak()``.

    >>> import torch
    >>> with ledger() as led:
    ...     x = torch.zeros(100)
    >>> led.peak().total
    400
    """
    from postrain.memory._ledger import Ledger

    return Ledger()
