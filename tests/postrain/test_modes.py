"""Modes of training: the same bits however activations and gradients are kept, estimates that estimate, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import postrain
from ga.nn.grade_check import check_grades
from ga.tasks.signed_volume import signed_volume
from posit.torch import PositTensor, posit_tensor
from postrain import optim
from postrain.config import parse
from postrain.convert import convert
from postrain.errors import ModeError, OptionsError
from postrain.loop import Plan
from postrain.models import reversible_geometric
from postrain.modes import Settings, forward_in_parts, stepper
from postrain.modes._directions import Directions
from postrain.modes._rules import values
from postrain.modes.local import Local
from postrain.nn import LocalNetwork, ReversibleStack
from postrain.optim._parts import step_part
from postrain.run import train as run_config

SAMPLES, STEPS = 12, 3
Make = Callable[[Any], torch.optim.Optimizer]


def reversible(store: bool = False, dropout: float = 0.0) -> nn.Sequential:
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.Dropout(dropout))

    stack = ReversibleStack([block() for _ in range(3)], store=store)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), stack, nn.Linear(8, 4))


def plain() -> nn.Sequential:
    layers = [nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.25)) for _ in range(4)]
    return nn.Sequential(*layers, nn.Linear(6, 4))


def batch() -> tuple[PositTensor, torch.Tensor]:
    x = torch.randn(SAMPLES, 6, generator=torch.Generator().manual_seed(1))
    return posit_tensor(x, "posit16"), torch.arange(SAMPLES) % 4


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return optim.SGD(parameters, lr=0.125, momentum=0.9, state_format="posit8")


def trained(
    mode: str, make: Callable[[], nn.Module], optimizer: Make = sgd, **settings: Any
) -> list[torch.Tensor]:
    """Codes of all weights after three steps."""
    torch.manual_seed(0)
    model = convert(make(), "posit16")
    x, y = batch()
    reduction = "mean" if "micro_batch" not in settings else "sum"

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction=reduction)

    step = stepper(mode, model, loss, optimizer(model.named_parameters()), Settings(**settings))
    for number in range(1, STEPS + 1):
        step(number, torch.arange(SAMPLES), x, y, count=number == 2)
    assert all(each.grad is None for each in model.parameters()) or mode in (
        "reverse",
        "accumulate",
        "checkpointed",
    )
    return [each.codes for each in model.parameters() if isinstance(each, PositTensor)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_reversible_is_reverse_mode_to_the_bit() -> None:
    stored = trained("reverse", lambda: reversible(store=True, dropout=0.25))
    assert same(stored, trained("reversible", lambda: reversible(dropout=0.25)))
    assert not same(stored, trained("reverse", lambda: reversible(store=True)))  # dropout made a difference


OPTIMIZERS: dict[str, Make] = {
    "momentum in posit8": sgd,
    "stochastic": lambda p: optim.SGD(p, lr=0.125, rounding="stochastic"),
    "adam in posit8": lambda p: optim.Adam(p, lr=0.01, state_format="posit8"),
    "adafactor": lambda p: optim.Adafactor(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_micro_batches_of_any_size_are_exact_accumulation_to_the_bit(name: str) -> None:
    make = OPTIMIZERS[name]
    whole = trained("accumulate", lambda: reversible(store=True), make, micro_batch=12)
    for size in (1, 5) if name == "stochastic" else (5,):
        assert same(whole, trained("reversible", reversible, make, micro_batch=size))


@pytest.mark.parametrize("mode", ["fused", "checkpointed"])
def test_fused_and_checkpointed_are_reverse_mode_to_the_bit(mode: str) -> None:
    assert same(trained("reverse", plain), trained(mode, plain))


def test_a_step_in_parts_is_one_step() -> None:
    for make in OPTIMIZERS.values():
        found = []
        for parts in ([[0, 1, 2]], [[2], [0, 1]], [[1], [2], [0]]):
            weights = [
                nn.Parameter(posit_tensor(torch.linspace(-1, 1, 6).reshape(2, 3), "posit16"))
                for _ in range(3)
            ]
            optimizer = make([(f"w{i}", w) for i, w in enumerate(weights)])
            for step in range(2):
                for part in parts:
                    for i in part:
                        g = torch.randn(2, 3, generator=torch.Generator().manual_seed(10 * step + i))
                        weights[i].grad = posit_tensor(g, "posit16")
                    step_part(optimizer, [weights[i] for i in part])
                optimizer.step()
            assert isinstance(optimizer, optim.PositOptimizer)
            assert optimizer.steps == 2
            found.append([w.codes for w in weights if isinstance(w, PositTensor)])
        assert same(found[0], found[1])
        assert same(found[0], found[2])


def test_parts_of_float32_optimizers() -> None:
    torch.manual_seed(0)
    models = [reversible(), reversible(store=True)]
    models[1].load_state_dict(models[0].state_dict())
    x, y = batch()
    for model, mode in zip(models, ("reversible", "reverse"), strict=True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        step = stepper(mode, model, nn.functional.cross_entropy, optimizer)
        for number in (1, 2):
            step(number, torch.arange(SAMPLES), x.to_float(), y, count=False)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_inference_in_parts_has_the_same_bits() -> None:
    torch.manual_seed(0)
    model = convert(reversible(), "posit16").eval()
    x, _ = batch()
    parts = forward_in_parts(model, x, 5)
    assert isinstance(parts, PositTensor)
    assert torch.equal(parts.codes, model(x).codes)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)
    )


@pytest.mark.parametrize("recipe", ["float32", "posit16"])
def test_forward_gradients_are_derivatives_along_their_directions(recipe: str) -> None:
    torch.manual_seed(0)
    model = convert(network(), recipe)
    posits, y = batch()
    x: torch.Tensor = posits if recipe == "posit16" else posits.to_float()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    reverse = [values(each.grad) for each in model.parameters() if each.grad is not None]
    before = [values(each).copy() for each in model.parameters()]
    optimizer = optim.SGD if recipe == "posit16" else torch.optim.SGD
    settings = Settings(seed=4, tangents=2)
    step = stepper(
        "forward", model, nn.functional.cross_entropy, optimizer(model.parameters(), lr=1.0), settings
    )
    step(1, torch.arange(SAMPLES), x, y, count=False)
    directions = Directions(4, 1)
    drawn = [
        [values(directions.like(each, k, place)) for place, each in enumerate(model.parameters())]
        for k in range(2)
    ]
    slopes = [sum(float((g * v).sum()) for g, v in zip(reverse, each, strict=True)) for each in drawn]
    close = (
        1e-4 if recipe == "float32" else 0.02
    )  # posit16 has 12 bits near 1, and some thirty roundings in a row
    for place, (old, each) in enumerate(zip(before, model.parameters(), strict=True)):
        wanted = (slopes[0] * drawn[0][place] + slopes[1] * drawn[1][place]) / 2
        assert abs((old - values(each)) - wanted).max() <= close * (1 + abs(wanted).max())


def local_network() -> LocalNetwork:
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.ReLU()), nn.Sequential(nn.Linear(6, 6), nn.Tanh())]
    return LocalNetwork(blocks, [nn.Sequential(nn.Linear(6, 4)) for _ in blocks])


def test_local_gradients_are_derivatives_along_activations() -> None:
    torch.manual_seed(0)
    model = local_network()
    posits, y = batch()
    x = posits.to_float()
    layer, rest = model.get_submodule("blocks.0.0"), model.get_submodule("blocks.0.1")
    assert isinstance(layer, nn.Linear)
    a = layer(x).detach().requires_grad_()
    nn.functional.cross_entropy(model.heads[0](rest(a)), y).backward()
    assert a.grad is not None
    u = Directions(0, 1).like(a.detach(), 0, 0)
    estimate = (a.grad * u).sum(1, keepdim=True) * u
    wanted = layer.weight.detach() - estimate.t() @ x
    step = Local(model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), lr=1.0), Settings())
    step(1, torch.arange(SAMPLES), x, y, count=False)
    torch.testing.assert_close(layer.weight.detach(), wanted)


def test_zeroth_moves_weights_and_puts_them_back() -> None:
    torch.manual_seed(0)
    model = convert(reversible(), "posit16")
    before = [each.codes.clone() for each in model.parameters() if isinstance(each, PositTensor)]
    x, y = batch()
    for lr in (0.0, 0.5):
        optimizer = optim.SGD(model.named_parameters(), lr=lr)
        step = stepper("zeroth", model, nn.functional.cross_entropy, optimizer, Settings(tangents=2))
        result = step(1, torch.arange(SAMPLES), x, y, count=False)
        after = [each.codes for each in model.parameters() if isinstance(each, PositTensor)]
        assert same(before, after) == (lr == 0.0)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x), y)
    assert result.loss == pytest.approx(float(loss), abs=0.2)


def test_local_and_forward_learn_in_posits() -> None:
    x, y = batch()
    for mode, make in (("forward", network), ("local", local_network)):
        torch.manual_seed(0)
        model = convert(make(), "posit16")
        optimizer = optim.SGD(model.named_parameters(), lr=0.05)
        step = stepper(mode, model, nn.functional.cross_entropy, optimizer, Settings(tangents=8))
        losses = [step(n, torch.arange(SAMPLES), x, y, count=False).loss for n in range(1, 31)]
        assert losses[-1] < losses[0] - 0.05, mode


Case = tuple[str, Callable[[], nn.Module], dict[str, Any], str]
REFUSED: dict[str, Case] = {
    "unknown": ("backwards", plain, {}, "unknown mode 'backwards'; there are reverse, accumulate"),
    "no size": ("accumulate", plain, {}, "needs micro_batch"),
    "no stack": (
        "reversible",
        plain,
        {},
        "one module is a postrain.nn.ReversibleStack, got Sequential with 0",
    ),
    "stored": ("reversible", lambda: reversible(store=True), {}, "stores its activations"),
    "clip": ("reversible", reversible, {"clip": 1.0}, "cannot be clipped"),
    "skip": ("fused", plain, {"on_nar": "skip"}, "cannot be left out"),
    "micro": ("fused", plain, {"micro_batch": 2}, "frees a gradient before the next micro-batch"),
    "no sequence": ("checkpointed", lambda: nn.Bilinear(2, 2, 2), {}, "needs an nn.Sequential, got Bilinear"),
    "batch norm": ("checkpointed", lambda: nn.Sequential(nn.BatchNorm1d(6)), {}, "running statistics twice"),
    "stack": ("checkpointed", reversible, {}, "needs no checkpoints"),
    "no rule": ("forward", lambda: nn.Sequential(nn.LayerNorm(6)), {}, "no forward derivative of LayerNorm"),
    "no heads": ("local", plain, {}, "needs a postrain.nn.LocalNetwork, got Sequential"),
    "tangents": ("forward", network, {"tangents": 0}, "tangents must be at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_mode_needs_is_said(name: str) -> None:
    mode, make, settings, message = REFUSED[name]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ModeError, match=message):
        stepper(mode, model, nn.functional.cross_entropy, optimizer, Settings(**settings))


def test_shared_blocks_and_other_optimizers_are_refused() -> None:
    block = nn.Linear(4, 4)
    model = nn.Sequential(ReversibleStack([block, block]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ModeError, match="weight of block 1 is also used in block 0"):
        stepper("reversible", model, nn.functional.mse_loss, optimizer)
    with pytest.raises(ModeError, match="LBFGS has no rule for a step in parts"):
        stepper("fused", plain(), nn.functional.mse_loss, torch.optim.LBFGS(plain().parameters()))


CONFIG = """
[data]
name = "digits"
train_limit = 48
test_limit = 20
[model]
name = "reversible-mlp"
width = 16
depth = 2
[train]
iterations = 3
batch = 16
micro_batch = 8
evaluate_every = 3
"""


def test_configurations_choose_a_mode(tmp_path: Path) -> None:
    digests = [
        run_config(parse(CONFIG, settings=[f"train.mode={mode}"]), tmp_path / mode, figures=False).digest
        for mode in ("accumulate", "reversible")
    ]
    assert digests[0] == digests[1]
    more = parse(CONFIG.replace("iterations = 3", "iterations = 4"), settings=["train.mode=reversible"])
    assert run_config(more, tmp_path / "reversible", figures=False).fitted.resumed_at == 3
    with pytest.raises(OptionsError, match="unknown mode 'sideways'"):
        parse(CONFIG, settings=["train.mode=sideways"])
    assert "mode" not in Plan(epochs=1).identity()


def test_a_geometric_stack_trains_reversibly_and_keeps_its_grades() -> None:
    points, volumes = signed_volume(16, torch.Generator().manual_seed(0))
    found = []
    for store in (True, False):
        torch.manual_seed(0)
        model = convert(reversible_geometric(channels=4, depth=2), "posit16")
        model.get_submodule("stack").store = store  # type: ignore[assignment]
        optimizer = optim.SGD(model.named_parameters(), lr=0.01)
        step = stepper("reverse" if store else "reversible", model, nn.functional.mse_loss, optimizer)
        for number in (1, 2):
            step(
                number,
                torch.arange(16),
                posit_tensor(points, "posit16"),
                posit_tensor(volumes, "posit16"),
                count=False,
            )
            assert check_grades(model)
        found.append([each.codes for each in model.parameters() if isinstance(each, PositTensor)])
    assert same(*found)


def test_train_is_one_call() -> None:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    fitted = postrain.train(plain(), x, torch.arange(8) % 4, mode="fused", iterations=2, batch=4)
    assert len(fitted.losses) == 2
