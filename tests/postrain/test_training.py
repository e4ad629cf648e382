"""Recipes, conversion, the optimizer, the loop and the proof of exactness."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posit import posit16
from posit.errors import NonFiniteError
from posit.reference import exact
from posit.torch import PositTensor, posit_tensor
from posit.torch.ops.observe import MatrixObservation
from postrain import _train
from postrain._train import Trained, digest, first_nar, threads, train
from postrain.convert import convert
from postrain.data import load
from postrain.errors import NaRError, RecipeError
from postrain.exactness import Watcher
from postrain.files import load_weights
from postrain.optim import SGD
from postrain.recipe import Recipe
from postrain.report.schema import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT
from postrain.tasks import Task, classification, mlp, volumes

POSIT16, FLOAT32 = Recipe("posit16"), Recipe("float32")


@pytest.fixture(scope="module")
def digits() -> Task:
    """The digits task, cut to 256 training samples and one epoch."""
    task = classification(load("digits"), epochs=1)
    return replace(task, x_train=task.x_train[:256], y_train=task.y_train[:256])


@pytest.fixture(scope="module")
def volume() -> Task:
    return volumes(seed=0, epochs=1, samples=192, hidden=4)


@pytest.fixture(scope="module")
def tasks(digits: Task, volume: Task) -> dict[str, Task]:
    return {"mlp": digits, "ga": volume}


def test_conversion_stores_two_bytes_and_keeps_tied_weights_tied() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert convert(model, "posit16") is model
    assert model[0].weight is model[1].weight
    weight = model[0].weight
    assert isinstance(weight, PositTensor)
    assert isinstance(weight, nn.Parameter)
    assert weight.codes.untyped_storage().nbytes() == 2 * 9
    convert(model, "posit16")
    assert model[0].weight is weight


def test_conversion_refuses_what_it_cannot_round() -> None:
    with pytest.raises(RecipeError, match=r"cannot convert weight \(torch.float64 on cpu\) to posit16"):
        convert(nn.Linear(2, 2).double(), "posit16")
    with pytest.raises(RecipeError, match="on meta"):
        convert(nn.Linear(2, 2, device="meta"), "posit16")
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, float("nan"))
    with pytest.raises(NonFiniteError, match="4 of 4 input values are NaN"):
        convert(layer, "posit16")


def test_sgd_forms_each_update_exactly_and_rounds_once() -> None:
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(posit_tensor(torch.randn(50, generator=generator), posit16))
    optimizer = SGD([("w", w)], lr=0.1, momentum=0.9)
    weights, held = [Fraction(x) for x in w.tolist()], [Fraction(0)] * 50
    for _ in range(3):
        grad = posit_tensor(torch.randn(50, generator=generator), posit16)
        w.grad = grad
        optimizer.step()
        for i, g in enumerate(grad.tolist()):
            held[i] = _rounded(Fraction(0.9) * held[i] + Fraction(g))
            weights[i] = _rounded(weights[i] - Fraction(0.1) * held[i])
    assert w.tolist() == [float(x) for x in weights]
    assert optimizer.state[w]["momentum"].tolist() == [float(x) for x in held]
    assert optimizer.state[w]["momentum"].codes.untyped_storage().nbytes() == 100


def _rounded(x: Fraction) -> Fraction:
    value = exact.value(exact.nearest(x, posit16), posit16)
    assert value is not None
    return value


def test_sgd_stops_at_nar_before_it_changes_a_weight() -> None:
    first, second = (nn.Parameter(posit_tensor(torch.ones(2), posit16)) for _ in range(2))
    optimizer = SGD([("first", first), ("second", second)], lr=0.5)
    first.grad = posit_tensor(torch.ones(2), posit16)
    second.grad = PositTensor(torch.tensor([0, -(1 << 15)], dtype=torch.int16), posit16)
    with pytest.raises(NaRError, match="NaR in the gradient of second at step 1"):
        optimizer.step()
    assert first.tolist() == second.tolist() == [1.0, 1.0]


def test_sgd_refuses_float_parameters_and_silly_rates() -> None:
    with pytest.raises(RecipeError, match=r"use torch.optim.SGD for float32 parameters"):
        SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(RecipeError, match="got lr=-1"):
        SGD([nn.Parameter(posit_tensor(torch.ones(1), posit16))], lr=-1)


def test_nar_in_training_names_weight_and_step(digits: Task) -> None:
    def poisoned(seed: int) -> nn.Module:
        model = convert(digits.build(seed), "posit16")
        weight = model.get_parameter("2.weight")
        assert isinstance(weight, PositTensor)
        weight.codes[0, 0] = -(1 << 15)
        return model

    with pytest.raises(
        NaRError, match=r"NaR in the loss \(and in the weight 2.weight\) at step 1, so training stopped"
    ):
        train(replace(digits, build=poisoned), POSIT16, seed=0)
    assert first_nar(poisoned(0)).endswith("2.weight)")


@pytest.mark.parametrize("name", ["mlp", "ga"])
def test_permuted_batches_and_one_thread_give_the_same_bits(name: str, tasks: dict[str, Task]) -> None:
    task = tasks[name]
    first = train(task, POSIT16, seed=3)
    assert train(task, POSIT16, seed=3, permute=True).sha256 == first.sha256
    with threads(1):
        assert train(task, POSIT16, seed=3).sha256 == first.sha256
    with threads(2):
        assert train(task, POSIT16, seed=3).sha256 == first.sha256
    assert train(task, POSIT16, seed=4).sha256 != first.sha256


def test_permutation_really_changes_the_order_and_float32(digits: Task) -> None:
    plain = next(_train.batches(256, 64, 0, 0, permute=False))
    permuted = next(_train.batches(256, 64, 0, 0, permute=True))
    assert sorted(plain.tolist()) == sorted(permuted.tolist())
    assert plain.tolist() != permuted.tolist()
    assert train(digits, FLOAT32, 3, permute=True).sha256 != train(digits, FLOAT32, 3).sha256


def test_both_arithmetics_learn_the_same(digits: Task, volume: Task) -> None:
    def run(task: Task, recipe: Recipe) -> Trained:
        return train(task, recipe, seed=0)

    for task in (_longer(digits), _longer(volume)):
        float32, posit = run(task, FLOAT32), run(task, POSIT16)
        assert posit.epochs[-1].test_loss < 0.7 * posit.step_losses[0]
        assert posit.epochs[-1].test_loss == pytest.approx(float32.epochs[-1].test_loss, rel=0.1, abs=1e-3)


def _longer(task: Task) -> Task:
    return replace(task, hyperparameters=replace(task.hyperparameters, epochs=15))


def test_checkpoints_hold_the_codes_and_the_format(digits: Task, tmp_path: Path) -> None:
    trained = train(digits, POSIT16, seed=0, checkpoint=tmp_path / "w.safetensors")
    tensors, metadata = load_weights(tmp_path / "w.safetensors")
    assert metadata == {"format": "posit16", "codes": "sign-extended", "epoch": "1", "seed": "0"}
    assert all(tensor.dtype == torch.int16 for tensor in tensors.values())
    sha = hashlib.sha256()
    for name, _ in trained.model.named_parameters():
        sha.update(name.encode())
        sha.update(tensors[name].numpy().tobytes())
    assert sha.hexdigest() == trained.sha256 == digest(trained.model)


def test_the_watcher_sees_every_layer_and_finds_all_sums_exact(digits: Task, volume: Task) -> None:
    for task, layers in (
        (digits, ["0", "2", "4"]),
        (volume, ["embed.weights.1", "area", "volume", "readout.weights.3"]),
    ):
        watcher = Watcher(task.model, frozenset({1, 2}), seed=0, sample=20)
        train(task, POSIT16, seed=0, watch=watcher)
        rows = {(row.layer, row.kind): row for row in watcher.rows()}
        for layer in layers:
            assert (layer, FORWARD) in rows
            assert (layer, WEIGHT_GRADIENT) in rows
            assert (layer, INPUT_GRADIENT) in rows or layer in (
                "0",
                "embed.weights.1",
            )  # nothing lies before these
        assert {kind for _, kind in rows} == {FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT}
        assert all(
            row.equal == row.checked > 0 and row.fallback_equal == row.fallback_checked
            for row in rows.values()
        )
        assert sum(row.float32_checked - row.float32_equal for row in rows.values()) > 0


def _observation(codes: Callable[[MatrixObservation], None]) -> MatrixObservation:
    x = posit_tensor(torch.randn(30, 40, generator=torch.Generator().manual_seed(0)), posit16)
    seen: list[MatrixObservation] = []
    from posit.torch import observe

    with observe(seen.append):  # type: ignore[arg-type]  # a matrix product makes nothing else
        x @ x.t()
    codes(seen[0])
    return seen[0]


def test_the_watcher_notices_a_wrong_sum() -> None:
    def spoil(observation: MatrixObservation) -> None:
        observation.result[3, 4] += 1

    watcher = Watcher("mlp", frozenset(), seed=0, sample=10_000)
    watcher._check(_observation(spoil), ("layer", FORWARD))
    (row,) = watcher.rows()
    assert (row.checked, row.equal) == (900, 899)


def test_initial_weights_are_the_same_everywhere() -> None:
    """Golden bits: NumPy's Philox and one rounding to float32."""
    weight = mlp((3, 2), seed=0).get_parameter("0.weight")
    assert weight.shape == (2, 3)
    assert hashlib.sha256(weight.detach().numpy().tobytes()).hexdigest()[:16] == "3d88fc8f2b4fdda3"
    assert np.abs(weight.detach().numpy()).max() <= 3**-0.5
