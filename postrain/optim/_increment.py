"""Parameters that are increments of something else, which an update has to take in."""

from abc import abstractmethod
from typing import Any, Self

from posit.formats import Format
from posit.torch import Policy, PositTensor


class Increment(PositTensor):
    """A parameter whose tensor is an increment that reads as zero; an optimizer's update ends with `retract_`."""

    @property
    @abstractmethod
    def held(self) -> PositTensor:
        """What increments change."""

    @abstractmethod
    def planes_in(self, fmt: Format) -> PositTensor:
        """A copy of `held` in another format, each element rounded once."""

    @abstractmethod
    def retract_(self, increment: PositTensor | None = None, master: PositTensor | None = None) -> Self:
        """Move an increment, by default its own, into `held`, or first into the copy of it that `master` is."""

    @abstractmethod
    def reformat_(self, fmt: Format, policy: Policy | None) -> Self:
        """Hold it in another format, each element rounded once more, with another policy."""

    @abstractmethod
    def to_parameter(self) -> Any:
        """The parameter in float32 that it was made of, with what is held now."""

    @abstractmethod
    def watch(self, module: Any) -> None:
        """Make a module save and load what is held."""
