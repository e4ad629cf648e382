"""How exact results were settled: counts by tier, of one call or of everything inside a ``with`` block."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class Explanation:
    """How many elements of exact products and sums were settled how; the result is the same bits either way.

    >>> print(Explanation(by_range=3, quire=1))
    4 elements: 3 exact by range (75 %), 1 quire (25 %)
    """

    by_range: int = 0  #: float64 made no rounding
    certified: int = 0  #: both ends of a proven error interval round to the same posit
    zeros: int = 0  #: structural zeros: the operands' nonzeros never meet
    compensated: int = 0  #: certified after a second, more accurate float64 sum
    quire: int = 0  #: summed in integers

    @property
    def total(self) -> int:
        """Number of elements."""
        return sum(astuple(self))

    def __add__(self, other: "Explanation") -> "Explanation":
        return Explanation(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        counts = [(_WORDS[field.name], getattr(self, field.name)) for field in fields(self)]
        parts = [f"{count} {word} ({_percent(count, self.total)} %)" for word, count in counts if count]
        plural = "" if self.total == 1 else "s"
        return f"{self.total} element{plural}" + (": " + ", ".join(parts) if parts else "")


_WORDS = {
    "by_range": "exact by range",
    "certified": "certified",
    "zeros": "structural zero",
    "compensated": "compensated",
    "quire": "quire",
}


def _percent(count: int, total: int) -> str:
    """Never a 100 that was rounded: the rare ones are what one looks for."""
    return "100" if count == total else f"{min(100 * count / total, 99.99):.4g}"


class Explainer:
    """What `explain` yields: the counts so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Explanation()

    @property
    def counts(self) -> Explanation:
        """Counts by tier of all exact products and sums up to now."""
        return self._counts

    def add(self, counts: Explanation) -> None:
        """Count more elements; safe from several threads."""
        with self._lock:
            self._counts = self._counts + counts

    def __str__(self) -> str:
        return str(self._counts)


_active: ContextVar[tuple[Explainer, ...]] = ContextVar("posit_explainers", default=())


@contextmanager
def explain() -> Iterator[Explainer]:
    """Count how the exact products and sums inside the block are settled.

    Blocks nest, and each sees what is inside it.  They belong to the context (`contextvars`): threads that were
    running before, or that start without a copy of the context, are not counted.

    >>> import posit
    >>> x = posit.array([[1, 2], [3, 4]], "posit16")
    >>> with posit.explain() as found:
    ...     y = x @ x @ x
    >>> print(found)
    8 elements: 8 exact by range (100 %)
    """
    explainer = Explainer()
    token = _active.set((*_active.get(), explainer))
    try:
        yield explainer
    finally:
        _active.reset(token)


def listening() -> bool:
    """Whether there is a block around the caller that `record` would tell."""
    return bool(_active.get())


def record(counts: Explanation) -> None:
    """Tell every `explain` block around the caller how elements were settled."""
    for explainer in _active.get():
        explainer.add(counts)
