"""Configurations: what is read, and that every mistake is one sentence that names it."""

from pathlib import Path

import numpy as np
import pytest

from postrain.cli import main
from postrain.config import parse
from postrain.errors import OptionsError, RecipeError
from postrain.schedules import Length, constant, linear

MINIMAL = """
[data]
name = "digits"
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 1
"""
CONFIGS = Path(__file__).parents[2] / "examples" / "configs"


def test_defaults() -> None:
    config = parse(MINIMAL)
    assert config.recipe.weights == "posit16"
    assert config.optimizer_options == {"lr": 0.05}
    assert (config.plan.seed, config.plan.batch, config.schedule) == (0, 64, "constant")
    assert config.model_options == {"hidden": [8]}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_can_be_read(path: Path) -> None:
    parse(path.read_text())


def test_there_are_examples() -> None:
    assert len(list(CONFIGS.glob("*.toml"))) >= 4


MISTAKES = {
    "section": ("[modle]", "unknown section 'modle'; there are data, model, recipe"),
    "field": ('[train]\nepocs = 3', "unknown field of [train] 'epocs'; there are seed, epochs"),
    "data": ('[data]\nname = "letters"', "unknown data.name 'letters'; choose one of digits"),
    "data field": ('[data]\nname = "digits"\nfolder = "x"', "unknown field of [data] 'folder'; there are name, dir"),
    "no name": ("[data]\ncontext = 3", 'the section [data] needs a name, e.g. name = "digits"'),
    "model": ('[model]\nname = "resnet"', "unknown model.name 'resnet'; there are mlp, lenet5"),
    "model field": ('[model]\nname = "mlp"\nlayers = 3', "unknown field of [model] for mlp 'layers'; there are name, hidden"),
    "text model": ('[model]\nname = "lstm"', "the model lstm learns from tinyshakespeare, text, not from digits"),
    "vector model": ('[model]\nname = "vector-pairs"', "the model vector-pairs learns from o5-regression, not from digits"),
    "recipe": ('[recipe]\nweigths = "posit8"', "unknown field 'weigths' in a recipe"),
    "recipe name": ('[recipe]\nname = "posit17x"', "unknown recipe 'posit17x'"),
    "recipe field": ('[recipe]\nname = "posit8"\nlos = "posit16"', "unknown field 'los' in a recipe"),
    "optimizer": ('[optimizer]\nname = "adamx"', "unknown optimizer.name 'adamx'; there are sgd, adam"),
    "optimizer field": ("[optimizer]\nbeta = 3", "unknown field of [optimizer] for sgd 'beta'; there are name, lr, momentum"),
    "schedule": ('[schedule]\nname = "cosine"\nlowest = 3', "unknown field of [schedule] for cosine 'lowest'"),
    "both lengths": ("[train]\nepochs = 1\niterations = 1", "either epochs or iterations"),
    "no length": ("[train]\nseed = 1", "either epochs or iterations"),
    "batch": ("[train]\nepochs = 1\nbatch = 0", "batch must be at least 1, got 0"),
    "micro": ("[train]\nepochs = 1\nmicro_batch = 65", "micro_batch 65 is larger than batch 64"),
    "type": ('[train]\nepochs = "many"', "train.epochs must be a whole number, got 'many'"),
    "bool": ("[train]\nepochs = true", "train.epochs must be a whole number, got True"),
    "limit": ('[data]\nname = "digits"\ntrain_limit = 0', "data.train_limit must be at least 1, got 0"),
    "normalise": ('[data]\nname = "digits"\nnormalise = [0.5, 0.0]', "a mean and a positive standard deviation"),
    "no section": ("model = 3", "model must be a section"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(text: str, said: str) -> None:
    there = {line[1 : line.index("]")] for line in text.splitlines() if line.startswith("[")}
    there |= {text.split(" ")[0]}  # "model = 3"
    rest = {"data": 'name = "digits"', "model": 'name = "mlp"', "train": "epochs = 1"}
    others = [f"[{name}]\n{body}" for name, body in rest.items() if name not in there]
    with pytest.raises((OptionsError, RecipeError)) as caught:
        parse("\n".join([text, *others]))
    assert said in str(caught.value)


def test_schedules_end_where_they_should() -> None:
    assert constant(Length(10, 2))(9) == 1.0
    factor = linear(Length(10, 2), warmup=2, least=0.1)
    assert [factor(0), factor(2), factor(10)] == [0.5, 1.0, 0.1]


def run(tmp_path: Path, text: str, *more: str) -> int:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return main(["train", str(path), "--out", str(tmp_path / "out"), *more])


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    return error


def test_bad_input_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.zeros((4, 2, 2), np.float32), np.arange(4)
    good = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    cases = {
        "labels -3 to 0": good | {"y_train": -y},
        "0 images and 0 labels": good | {"x_train": x[:0], "y_train": y[:0]},
        "lacks x_test": {key: value for key, value in good.items() if key != "x_test"},
        "NaN or infinite": good | {"x_train": x + np.nan},
    }
    text = MINIMAL.replace('"digits"', '"npz"\npath = "data.npz"')
    for said, arrays in cases.items():
        np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]  # arrays by name
        assert run(tmp_path, text) == 2
        assert said in one_sentence(capsys)
    assert run(tmp_path, MINIMAL.replace('"digits"', '"npz"\npath = "nowhere.npz"')) == 2
    assert "nowhere.npz: there is no such file; check data.path" in one_sentence(capsys)
    assert run(tmp_path, MINIMAL.replace('"digits"', '"mnist"'), "--data-dir", str(tmp_path / "no")) == 2
    assert "does not exist" in one_sentence(capsys)
    assert run(tmp_path, MINIMAL, "--resume") == 2
    assert "there is no checkpoint in" in one_sentence(capsys)
    assert run(tmp_path, MINIMAL.replace("mlp", "lenet5").replace("hidden = [8]", "")) == 2
    assert "lenet5 takes images of 28×28, digits has (8, 8)" in one_sentence(capsys)
    assert run(tmp_path, "[data") == 2
    assert "is no TOML" in one_sentence(capsys)
    assert main(["train", str(tmp_path / "nowhere.toml")]) == 2
    assert "cannot read the configuration" in one_sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_settings_change_fields_of_the_file() -> None:
    text = '[data]\nname = "digits"\n[model]\nname = "mlp"\n[recipe]\nname = "posit8_master16"\n[train]\nepochs = 3'
    settings = ["train.seed=7", "recipe.rounding = stochastic", "optimizer.lr=0.5", "model.hidden=[8, 4]"]
    config = parse(text, settings=settings)
    assert (config.plan.seed, config.plan.epochs, config.optimizer_options["lr"]) == (7, 3, 0.5)
    assert (config.recipe.rounding, config.recipe.optimizer) == ("stochastic", "posit16")
    assert config.model_options["hidden"] == [8, 4]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=3", "a setting is written section.field=value, got 'seed=3'"),
        ("train.seed", "a setting is written section.field=value, got 'train.seed'"),
        ("trian.seed=3", "unknown section 'trian'; there are data, model"),
        ("train.sede=3", "unknown field of [train] 'sede'"),
        ("train.seed=three", "train.seed must be a whole number, got 'three'"),
    ],
)
def test_settings_are_checked(setting: str, said: str) -> None:
    text = '[data]\nname = "digits"\n[model]\nname = "mlp"\n[train]\nepochs = 3'
    with pytest.raises(OptionsError) as caught:
        parse(text, settings=[setting])
    assert said in str(caught.value)
