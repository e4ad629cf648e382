"""What is held in which number format while a network trains."""

from dataclasses import dataclass, fields

from posit import Format
from postrain.errors import RecipeError

FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a training run, each ``"float32"`` or a text that `posit.Format.parse` reads.

    Everything but `weights` defaults to the format of the weights.  So far one format serves all; mixed recipes are
    refused.

    Raises:
        RecipeError: a format is wider than 32 bits, formats are mixed, or sums are to be accumulated in another way
            than by quire (posits) or by float32 (float32).
        posit.errors.FormatError: the name of a format cannot be read.

    >>> Recipe("posit16").is_posit, Recipe("float32").is_posit
    (True, False)
    >>> Recipe("posit16").optimizer
    'posit16'
    """

    weights: str
    activations: str = ""
    gradients: str = ""
    optimizer: str = ""
    accumulate: str = ""  #: ``"quire"``: every sum exact and rounded once

    def __post_init__(self) -> None:
        name = self.weights if self.weights == FLOAT32 else Format.parse(self.weights).name
        object.__setattr__(self, "weights", name)
        if self.is_posit and self.format.nbits > 32:
            raise RecipeError(
                f"tensors hold posits of at most 32 bits, got {name}; use posit32 or a narrower format"
            )
        for part in ("activations", "gradients", "optimizer"):
            given = getattr(self, part)
            wanted = name if not given else given if given == FLOAT32 else Format.parse(given).name
            if wanted != name:
                raise RecipeError(
                    f"{part} in {wanted} with weights in {name}: mixed recipes are not there yet; use one"
                )
            object.__setattr__(self, part, wanted)
        sums = "quire" if self.is_posit else FLOAT32
        if self.accumulate not in ("", sums):
            raise RecipeError(
                f"{name} accumulates by {sums}, got accumulate={self.accumulate!r}; leave it out"
            )
        object.__setattr__(self, "accumulate", sums)

    @property
    def is_posit(self) -> bool:
        """Whether anything is held in posits."""
        return self.weights != FLOAT32

    @property
    def format(self) -> Format:
        """The posit format; only where `is_posit`."""
        return Format.parse(self.weights)

    def as_dict(self) -> dict[str, str]:
        """The recipe as text by purpose.

        >>> Recipe("posit8").as_dict()["accumulate"]
        'quire'
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}
