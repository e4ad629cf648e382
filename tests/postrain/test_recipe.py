"""Recipes: defaults, mixtures, overrides, names and JSON."""

import subprocess
import sys

import pytest

from posit import posit8, posit16
from posit.errors import FormatError
from posit.torch import Policy
from postrain.errors import RecipeError
from postrain.recipe import Recipe


def test_everything_defaults_to_the_format_of_the_weights() -> None:
    recipe = Recipe("posit<16,2>")
    assert set(recipe.as_dict().values()) == {"posit16", "quire"}
    assert recipe.policy == Policy(posit16, posit16, posit16)
    assert recipe.master is None
    assert {Recipe("posit16"): 1}[Recipe("posit16", gradients="posit16")] == 1


def test_mixtures() -> None:
    recipe = Recipe("posit8", gradients="posit16", loss="posit16", accumulate="float32", optimizer="posit16")
    assert recipe.policy == Policy(posit8, posit16, posit16, simulate=True)
    assert recipe.master == "posit16"
    assert Recipe.named("posit8_master16") == Recipe("posit8", optimizer="posit16", loss="posit16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "posit16", "optimizer": "float32"}, "optimizer in float32 with weights in posit16"),
        ({"weights": "posit16", "accumulate": "float64"}, "accumulates by quire, got accumulate='float64'"),
        ({"weights": "float32", "accumulate": "quire"}, "float32 accumulates by float32"),
        ({"weights": "posit64"}, "at most 32 bits, got posit64"),
        ({"weights": "posit8", "rounding": "up"}, "rounding must be one of nearest"),
        ({"weights": "posit8", "loss_scale": 3}, "loss_scale must be a power of two"),
        (
            {"weights": "posit8", "overrides": {"head": {"weight": "posit16"}}},
            "unknown field 'weight' in the override",
        ),
        (
            {"weights": "posit8", "overrides": {"head": {"weights": "float32"}}},
            "all posits or all IEEE floats",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(**arguments)  # type: ignore[arg-type]  # wrong values on purpose


def test_unknown_formats_and_names() -> None:
    with pytest.raises(FormatError, match="unknown format 'posit-16'"):
        Recipe("posit-16")
    with pytest.raises(
        RecipeError, match=r"unknown recipe 'posit-16'.*ready-made recipes are posit8, posit12"
    ):
        Recipe.named("posit-16")


def test_overrides_apply_to_what_lies_in_a_module_and_later_ones_win() -> None:
    recipe = Recipe(
        "posit8",
        overrides={
            "*.norm*": {"weights": "posit16"},
            "head": {"activations": "posit16"},
            "head.norm1": {"weights": "posit12"},
        },
    )
    assert recipe.for_module("") == Recipe("posit8")
    assert recipe.for_module("blocks.3.norm2").weights == "posit16"
    assert recipe.for_module("blocks.3.norm2").norm == "posit16"
    assert recipe.for_module("head").activations == recipe.for_module("head.0.fc").activations == "posit16"
    assert recipe.for_module("header").activations == "posit8"
    assert recipe.for_module("head.norm1").weights == "posit12"
    assert hash(recipe) == hash(Recipe.from_json(recipe.to_json()))


@pytest.mark.parametrize(
    "name",
    [
        "posit8",
        "posit12",
        "posit16",
        "posit32",
        "bposit16",
        "posit8_master16",
        "ieee_fp32",
        "ieee_bf16",
        "fp8_e4m3",
        "mxfp8_e4m3",
    ],
)
def test_json_round_trip_and_repr(name: str) -> None:
    recipe = Recipe.named(name)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert eval(repr(recipe)) == recipe  # noqa: S307  # of our own repr
    assert recipe.weights in recipe.describe()
    assert recipe.is_posit == ("posit" in name)


def test_json_with_unknown_fields_or_none() -> None:
    with pytest.raises(
        RecipeError, match="unknown field 'wieghts' in a recipe; fields are weights, activations"
    ):
        Recipe.from_json('{"wieghts": "posit16"}')
    with pytest.raises(RecipeError, match='needs the field "weights"'):
        Recipe.from_json("{}")
    with pytest.raises(RecipeError, match="must be JSON"):
        Recipe.from_json("{")
    with pytest.raises(RecipeError, match="must be a table of fields, got list"):
        Recipe.from_json("[]")


def test_names_are_public_and_the_import_is_light() -> None:
    code = (
        "import sys, postrain; postrain.Recipe('posit16'); assert 'torch' not in sys.modules; "
        "import postrain.convert, postrain.accumulate; "
        "assert callable(postrain.convert) and callable(postrain.accumulate) and callable(postrain.to_float); "
        "assert postrain.optim.SGD"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
