"""What is held in which number format while a network trains."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from posit.formats import Format
from postrain.errors import RecipeError

if TYPE_CHECKING:
    from posit.torch.policy import Policy
    from posit.torch.scaling import Grid

FLOAT32 = "float32"
SIMULATED = ("bfloat16", "float16", "float8_e4m3", "mxfp8_e4m3")  #: baselines, see `postrain.simulated`
QUIRE = "quire"

_PARTS = ("weights", "activations", "gradients", "optimizer", "loss", "norm")
_ROUNDINGS = ("nearest", "stochastic", "compensated")
_SCALES = ("none", "tensor", "block32")
_IN_OVERRIDES = ("weights", "activations", "gradients", "loss", "norm", "accumulate")

Overrides = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a training run, each a text that `posit.Format.parse` reads.

    Everything but `weights` defaults to the format of the weights.  ``"float32"`` everywhere is the IEEE baseline;
    so are the simulated ``"bfloat16"``, ``"float8_e4m3"`` and ``"mxfp8_e4m3"``, see `postrain.simulated`.  A recipe is
    either all posits or all IEEE floats.

    Raises:
        RecipeError: a format is wider than 32 bits, posits and floats are mixed, an option has a value outside its
            range, or an override names a field that modules do not have.
        posit.errors.FormatError: the name of a format cannot be read.

    >>> Recipe("posit16").is_posit, Recipe("float32").is_posit
    (True, False)
    >>> Recipe("posit8", optimizer="posit16", overrides={"head": {"weights": "posit16"}})
    Recipe(weights='posit8', optimizer='posit16', overrides={'head': {'weights': 'posit16'}})
    """

    weights: str
    activations: str = ""  #: results of operators in a forward pass
    gradients: str = ""  #: results of operators in a backward pass
    optimizer: str = (
        ""  #: what the optimizer owns: moments and, where it differs from `weights`, a master copy of them
    )
    loss: str = ""
    norm: str = ""  #: parameters and buffers of normalization layers
    accumulate: str = ""  #: ``"quire"``: every sum exact and rounded once; ``"float32"``: a fast simulation
    rounding: str = "nearest"  #: of updates: ``"nearest"``, ``"stochastic"`` or ``"compensated"``
    loss_scale: float = (
        1.0  #: a power of two: losses are multiplied by it, gradients divided in the optimizer
    )
    #: ``"tensor"``, ``"block32"``: weights, activations and gradients are posits times powers of two, one for each
    #: tensor or for each 32 elements, see `posit.torch.scaling`; norms, optimizer and losses are not
    scale: str = "none"
    #: given as {pattern: {field: value}}: a pattern (`fnmatch`) names modules, and what lies in them; later ones win
    overrides: "Overrides | Mapping[str, Mapping[str, str]]" = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _name(self.weights))
        for part in _PARTS[1:]:
            name = _name(getattr(self, part)) if getattr(self, part) else self.weights
            if _is_posit(name) != self.is_posit:
                raise RecipeError(
                    f"{part} in {name} with weights in {self.weights}: a recipe is all posits or all IEEE floats"
                )
            object.__setattr__(self, part, name)
        sums = QUIRE if self.is_posit else FLOAT32
        if self.accumulate not in ("", sums, FLOAT32):
            raise RecipeError(
                f"{self.weights} accumulates by {sums}, got accumulate={self.accumulate!r}; use "
                + ('"quire" or "float32"' if self.is_posit else '"float32", or leave it out')
            )
        object.__setattr__(self, "accumulate", self.accumulate or sums)
        _check_options(self)
        object.__setattr__(self, "overrides", _frozen(self.overrides))
        for pattern, _ in self._pairs:
            self._overridden((pattern,))

    @staticmethod
    def named(name: str) -> "Recipe":
        """A ready-made recipe, or the format of that name for everything.

        * ``posit8``, ``posit12``, ``posit16``, ``posit32``, ``bposit16``: one format throughout.
        * ``posit8_master16``: weights, activations and gradients in posit8; loss, moments and master weights in
          posit16 (after Raposo, Tomás, Roma, PositNN, ICASSP 2021).
        * ``ieee_fp32``; ``ieee_bf16``, ``fp8_e4m3``, ``mxfp8_e4m3``: simulated baselines of 16 and 8 bits, the last
          two with a 16-bit master copy of the weights.

        Raises:
            RecipeError: neither a ready-made recipe nor a format; the message lists the former.

        >>> Recipe.named("posit8_master16").optimizer
        'posit16'
        """
        return Recipe(**Recipe._ready_made(name))

    @staticmethod
    def _ready_made(name: Any) -> Mapping[str, Any]:
        if isinstance(name, str) and name in _NAMED:
            return _NAMED[name]
        try:
            return {"weights": _name(name)}
        except ValueError as error:
            raise RecipeError(
                f"unknown recipe {name!r}: {error}; ready-made recipes are {', '.join(_NAMED)}"
            ) from error

    @property
    def is_posit(self) -> bool:
        """Whether anything is held in posits."""
        return _is_posit(self.weights)

    @property
    def is_simulated(self) -> bool:
        """Whether it is a baseline that `postrain.simulated` rounds to."""
        return not self.is_posit and any(getattr(self, part) != FLOAT32 for part in _PARTS)

    @property
    def format(self) -> Format:
        """The posit format of the weights; only where `is_posit`."""
        return Format.parse(self.weights)

    @property
    def policy(self) -> "Policy":
        """What tensors of posits carry, so that results are held in the formats of the recipe."""
        return _policy(self.activations, self.gradients, self.loss, self.accumulate == FLOAT32, self.scale)

    @property
    def grid(self) -> "Grid | None":
        """What scaled weights are rounded to, or None: they are not scaled."""
        from posit.torch.scaling import Grid

        return None if self.scale == "none" else Grid(self.format, self.scale)

    @property
    def master(self) -> str | None:
        """Format of the master copy of the weights, or None: there is none."""
        return self.optimizer if self.optimizer != self.weights else None

    def for_module(self, name: str) -> "Recipe":
        """The recipe of one module: overrides whose pattern matches its name, or that of a module it lies in.

        >>> Recipe("posit8", overrides={"*.norm*": {"weights": "posit16"}}).for_module("blocks.0.norm1").weights
        'posit16'
        """
        parts = name.split(".")
        names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)] if name else []
        matching = tuple(
            pattern for pattern, _ in self._pairs if any(fnmatchcase(each, pattern) for each in names)
        )
        return self._overridden(matching)

    def _overridden(self, patterns: tuple[str, ...]) -> "Recipe":
        merged: dict[str, Any] = {}
        for pattern, values in self._pairs:
            if pattern in patterns:
                merged.update(values)
        if "weights" in merged and self.norm == self.weights:
            merged.setdefault("norm", merged["weights"])
        return replace(self, **merged, overrides=())

    @property
    def _pairs(self) -> Overrides:
        assert isinstance(self.overrides, tuple)
        return self.overrides

    def as_dict(self) -> dict[str, str]:
        """The recipe as text by purpose; options at their defaults are left out.

        >>> Recipe("posit8").as_dict()["accumulate"]
        'quire'
        """
        found = {name: getattr(self, name) for name in (*_PARTS, "accumulate")}
        if self.rounding != "nearest":
            found["rounding"] = self.rounding
        if self.loss_scale != 1.0:
            found["loss_scale"] = f"{self.loss_scale:g}"
        if self.scale != "none":
            found["scale"] = self.scale
        if self.overrides:
            found["overrides"] = json.dumps(_thawed(self._pairs))
        return found

    def to_json(self) -> str:
        """The recipe as JSON text; `from_json` reads it back.

        >>> Recipe.from_json(Recipe("posit12").to_json()) == Recipe("posit12")
        True
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps({**values, "overrides": _thawed(self._pairs)})

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """A recipe from JSON text.

        Raises:
            RecipeError: the text is no JSON object, has fields that recipes do not have, or lacks `weights`.
            posit.errors.FormatError: the name of a format cannot be read.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"a recipe must be JSON: {error}") from error
        return Recipe.from_dict(values)

    @staticmethod
    def from_dict(values: Any) -> "Recipe":
        """A recipe from a table, as `from_json` and configuration files hold it.

        With ``"name"`` it is the ready-made recipe of that name with the other fields changed.

        >>> Recipe.from_dict({"name": "posit8_master16", "rounding": "stochastic"}).optimizer
        'posit16'
        >>> Recipe.from_dict({"weights": "posit8", "weigths": "posit16"})
        Traceback (most recent call last):
            ...
        postrain.errors.RecipeError: unknown field 'weigths' in a recipe; fields are weights, activations, ...
        """
        if not isinstance(values, Mapping):
            raise RecipeError(f"a recipe must be a table of fields, got {type(values).__name__}")
        if "name" in values:
            values = {**Recipe._ready_made(values["name"]), **values}
            del values["name"]
        known = [each.name for each in fields(Recipe)]
        for name in values:
            if name not in known:
                raise RecipeError(f"unknown field {name!r} in a recipe; fields are {', '.join(known)}")
        if "weights" not in values:
            raise RecipeError('a recipe needs the field "weights"')
        return Recipe(**values)

    def describe(self) -> str:
        """A few lines for people.

        >>> print(Recipe.named("posit8_master16").describe())
        weights, activations, gradients, norm: posit8
        optimizer, loss: posit16
        sums: exact, by quire; updates rounded to nearest
        """
        by_format: dict[str, list[str]] = {}
        for part in _PARTS:
            by_format.setdefault(getattr(self, part), []).append(part)
        lines = [f"{', '.join(parts)}: {name}" for name, parts in by_format.items()]
        sums = "exact, by quire" if self.accumulate == QUIRE else "in float32"
        manner = "to nearest" if self.rounding == "nearest" else self.rounding
        lines.append(f"sums: {sums}; updates rounded {manner}")
        if self.loss_scale != 1.0:
            lines.append(f"losses times {self.loss_scale:g}")
        if self.scale != "none":
            each = "tensor" if self.scale == "tensor" else "32 elements"
            lines.append(f"weights, activations and gradients times a power of two for each {each}")
        lines += [f"in {pattern}: {_listed(values)}" for pattern, values in self._pairs]
        return "\n".join(lines)

    def __repr__(self) -> str:
        shown = [f"weights={self.weights!r}"]
        shown += [
            f"{part}={getattr(self, part)!r}" for part in _PARTS[1:] if getattr(self, part) != self.weights
        ]
        if self.accumulate == FLOAT32 and self.is_posit:
            shown.append(f"accumulate={self.accumulate!r}")
        if self.rounding != "nearest":
            shown.append(f"rounding={self.rounding!r}")
        if self.loss_scale != 1.0:
            shown.append(f"loss_scale={self.loss_scale!r}")
        if self.scale != "none":
            shown.append(f"scale={self.scale!r}")
        if self.overrides:
            shown.append(f"overrides={_thawed(self._pairs)!r}")
        return f"Recipe({', '.join(shown)})"


_NAMED: dict[str, dict[str, Any]] = {
    "posit8": {"weights": "posit8"},
    "posit12": {"weights": "posit12"},
    "posit16": {"weights": "posit16"},
    "posit32": {"weights": "posit32"},
    "bposit16": {"weights": "bposit16"},
    "posit8_master16": {"weights": "posit8", "optimizer": "posit16", "loss": "posit16"},
    "ieee_fp32": {"weights": FLOAT32},
    "ieee_bf16": {"weights": "bfloat16", "loss": FLOAT32},
    "fp8_e4m3": {"weights": "float8_e4m3", "optimizer": "float16", "loss": FLOAT32, "norm": "float16"},
    "mxfp8_e4m3": {"weights": "mxfp8_e4m3", "optimizer": "float16", "loss": FLOAT32, "norm": "float16"},
}


def _is_posit(name: str) -> bool:
    return name != FLOAT32 and name not in SIMULATED


def _name(text: Any) -> str:
    """The name of a format, checked."""
    if isinstance(text, str) and not _is_posit(text):
        return text
    fmt = Format.parse(text)
    if fmt.nbits > 32:
        raise RecipeError(
            f"tensors hold posits of at most 32 bits, got {fmt}; use posit32 or a narrower format"
        )
    return fmt.name


def _check_options(recipe: Recipe) -> None:
    if recipe.rounding not in _ROUNDINGS or (recipe.rounding != "nearest" and not recipe.is_posit):
        raise RecipeError(
            f"rounding must be one of {', '.join(_ROUNDINGS)} (of floats: nearest), got {recipe.rounding!r}"
        )
    scale = recipe.loss_scale
    if not isinstance(scale, (int, float)) or scale not in _powers_of_two():
        raise RecipeError(f"loss_scale must be a power of two from 2**-100 to 2**100, got {scale!r}")
    object.__setattr__(recipe, "loss_scale", float(scale))
    _check_scale(recipe)


def _check_scale(recipe: Recipe) -> None:
    object.__setattr__(recipe, "scale", recipe.scale or "none")
    if recipe.scale not in _SCALES:
        raise RecipeError(f"scale must be one of {', '.join(_SCALES)}, got {recipe.scale!r}")
    if recipe.scale == "none":
        return
    if not recipe.is_posit:
        raise RecipeError(
            f"scale={recipe.scale!r} is for posits, got weights in {recipe.weights}; float8_e4m3 and mxfp8_e4m3 have "
            "scales of their own"
        )
    for part in ("weights", "activations", "gradients"):
        if Format.parse(getattr(recipe, part)).nbits > 16:
            raise RecipeError(
                f"scale={recipe.scale!r} is for posits of at most 16 bits, got {part} in {getattr(recipe, part)}; "
                "wider ones need no scaling: leave scale out"
            )
    if recipe.rounding != "nearest":
        raise RecipeError(
            f"scale={recipe.scale!r} rounds updates to nearest, got rounding={recipe.rounding!r}; leave one of "
            "them out, or keep small updates in a wider optimizer format"
        )


@cache
def _powers_of_two() -> frozenset[float]:
    return frozenset(2.0**power for power in range(-100, 101))


@cache
def _policy(activations: str, gradients: str, loss: str, simulate: bool, scale: str) -> "Policy":
    from posit.torch.policy import Policy
    from posit.torch.scaling import Grid, Scaling

    formats = Format.parse(activations), Format.parse(gradients)
    if scale == "none":
        return Policy(*formats, Format.parse(loss), simulate)
    forward, backward = (Grid(fmt, scale) for fmt in formats)
    return Policy(forward.held, backward.held, Format.parse(loss), simulate, Scaling(forward, backward))


def _frozen(overrides: "Overrides | Mapping[str, Mapping[str, str]]") -> Overrides:
    """Overrides as nested tuples, which can be hashed."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else overrides
    found = []
    for pattern, values in pairs:
        table = dict(values)
        for name in table:
            if name not in _IN_OVERRIDES:
                raise RecipeError(
                    f"unknown field {name!r} in the override of {pattern!r}; fields are {', '.join(_IN_OVERRIDES)}"
                )
        found.append((pattern, tuple(table.items())))
    return tuple(found)


def _thawed(overrides: Overrides) -> dict[str, dict[str, str]]:
    return {pattern: dict(values) for pattern, values in overrides}


def _listed(values: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values)
