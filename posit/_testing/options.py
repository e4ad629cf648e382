"""What is asked of a function under test."""

from dataclasses import dataclass

from posit._testing.answers import Present, presentation
from posit._testing.cases import KINDS, Kind
from posit._testing.numbers import Numbers, numbers_of
from posit.errors import CheckError
from posit.formats import Format


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a function, and how hard."""

    fmt: Format | str  #: format of the operands
    kind: Kind = "sum"  #: fn(x), fn(a, b) of vectors, or fn(A, B) of matrices
    examples: int = 500  #: calls before a function is believed
    seed: int = 0  #: the same seed draws the same examples
    min_size: int = 0  #: fewest terms of a sum
    max_size: int = 40  #: most terms, but for a few long sums
    long_size: int = 1000  #: most terms of those
    special: bool = True  #: NaR, or NaN and infinities, among the operands
    operands: str | Present = "array"  #: "array", "list", "torch", or a function of the array
    result: Format | str | None = None  #: format of the answer, by default that of the operands

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CheckError(f"a function is checked as one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.examples < 1:
            raise CheckError(f"at least one example is needed, got {self.examples}")
        if not 0 <= self.min_size <= self.max_size:
            raise CheckError(f"sizes must be 0 <= min <= max, got {self.min_size} and {self.max_size}")
        _ = self.numbers, self.target, self.present

    @property
    def numbers(self) -> Numbers:
        """The operands' numbers."""
        return numbers_of(self.fmt)

    @property
    def target(self) -> Numbers:
        """The answer's numbers."""
        return numbers_of(self.fmt if self.result is None else self.result)

    @property
    def present(self) -> Present:
        """What makes operands of arrays."""
        return presentation(self.operands)
