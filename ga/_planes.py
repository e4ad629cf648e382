"""Operations on planes that several files share: signs, permutations, single planes; whether values may be read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ga._derived import sources
from ga.layout import Layout


def signed(planes: Tensor, runs: tuple[tuple[bool, int], ...]) -> Tensor:
    """Change the sign of some runs of planes; planes without any are returned as they are.

    >>> signed(torch.tensor([1.0, 2.0, 3.0]), ((False, 1), (True, 2)))
    tensor([ 1., -2., -3.])
    """
    if len(runs) <= 1:
        return -planes if runs and runs[0][0] else planes
    parts = torch.split(planes, [count for _, count in runs])
    return torch.cat([-part if flip else part for (flip, _), part in zip(runs, parts, strict=True)])


def pick(planes: Tensor, have: Layout, want: Layout) -> Tensor:
    """The planes of ``want`` out of those of ``have``; a blade that is not stored is zero."""
    places = sources(have, want)
    if places == tuple(range(len(planes))):
        return planes
    if not places:
        return planes[:0]
    if None not in places:
        first = places[0]
        assert first is not None
        if places == tuple(range(first, first + len(places))):
            return planes[first : first + len(places)]
        return planes[list(places)]
    zero = planes.new_zeros((1, *planes.shape[1:]))
    return torch.cat([zero if s is None else planes[s : s + 1] for s in places])


def holds(condition: Callable[[], Tensor]) -> bool:
    """Is a condition on values true everywhere?  Where values cannot be read, it is taken to hold.

    They cannot while torch.compile traces, and under torch.func.vmap: there checks are skipped and a bad
    value gives nan or inf.
    """
    if torch.compiler.is_compiling():
        return True
    try:
        return bool(condition().all())
    except RuntimeError:  # vmap: data-dependent control flow
        return True


def epsilon(dtype: torch.dtype) -> float:
    """Spacing of the numbers of a type at 1."""
    return torch.finfo(dtype).eps
