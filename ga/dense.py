"""Full tensors of 2**n coefficients, as other libraries hold them, to typed multivectors and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ga._planes import holds, pick
from ga.algebra import Algebra
from ga.errors import GradeCheckError
from ga.layout import Layout
from ga.multivector import Multivector


def from_dense(
    algebra: Algebra, coefficients: Any, grades: int | Iterable[int], project: bool = False
) -> Multivector:
    """Multivector of some grades from all 2**n coefficients, which must be zero elsewhere.

    Args:
        algebra: The algebra.
        coefficients: Tensor, array or list, shape ``(*batch, 2**n)``, in the order of ``algebra.blades``; see
            :meth:`ga.Algebra.order` for those of other libraries.
        grades: The grades to keep.
        project: Drop what is on other grades; without, anything there but 0 is refused.

    Raises:
        GradeCheckError: another grade has a coefficient, and ``project`` is not set.
        LayoutError: a grade is out of range, or the last dimension has the wrong length.

    >>> from ga import VGA2
    >>> from_dense(VGA2, [0.0, 1.0, 2.0, 0.0], grades=1)
    Multivector(1.0 e1 + 2.0 e2, Cl(2,0,0)[1])
    """
    full = Multivector.from_coefficients(coefficients, Layout.full(algebra))
    wanted = Layout.of_grades(algebra, grades)
    if not project:
        outside = [k for k, blade in enumerate(algebra.blades) if blade not in wanted.blades]
        if outside and not holds(lambda: full.planes[outside] == 0):
            found = [algebra.names[k] for k in outside if bool((full.planes[k] != 0).any())]
            raise GradeCheckError(
                f"{wanted} has no room for {', '.join(found)}, which are not 0 in the given coefficients; "
                "name their grades, or drop them with project=True"
            )
    return Multivector(pick(full.planes, full.layout, wanted), wanted)


def to_dense(mv: Multivector) -> Tensor:
    """All 2**n coefficients, shape ``(*batch, 2**n)``, zero where the layout has no blade.

    >>> from ga import VGA2
    >>> to_dense(VGA2.e2)
    tensor([0., 0., 1., 0.])
    """
    return pick(mv.planes, mv.layout, Layout.full(mv.algebra)).movedim(0, -1)
