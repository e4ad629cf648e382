"""Checkpoints come back to the bit, appear whole, and are refused when they are not what was written."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from posit import posit8, posit16
from posit.torch import PositTensor, posit_tensor
from postrain import checkpoint
from postrain._state import flatten, unflatten
from postrain.convert import convert
from postrain.errors import DataError, OutputError, RecipeError
from postrain.optim import SGD
from postrain.snapshot import capture, restore


def state() -> dict[str, Any]:
    return {
        "model": {
            "w": posit_tensor(torch.tensor([[0.1, -3.0, 1e9]]), posit16),
            "b": torch.tensor([0.1, -0.0, float("inf")]),
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(7, dtype=torch.int64),
        },
        "optimizer": {
            "state": {0: {"momentum": posit_tensor(torch.ones(2), posit8), "step": 3}, 5: {}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 5], "name": None, "on": True}],
        },
        "generators": {"numpy": np.random.Generator(np.random.Philox(3)).bit_generator.state},
        "floats": [1e-323, float("inf"), 0.1 + 0.2],
    }


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, with the same types."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, PositTensor):
        return isinstance(b, PositTensor) and a.format == b.format and torch.equal(a.codes, b.codes)
    if isinstance(a, torch.Tensor):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes())
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tolist() == b.tolist()
    return type(a) is type(b) and bool(a == b)


def test_nested_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    digest = checkpoint.save(tmp_path / "a.safetensors", state(), {"recipe": {"weights": "posit16"}})
    found = checkpoint.load(tmp_path / "a.safetensors")
    assert same(found.state, state())
    assert found.digest == digest
    reserved = {"recipe", "parent", "data", "grade_layout", "code_version"}
    assert reserved <= found.metadata.keys()


def test_the_comparison_would_notice() -> None:
    other = state()
    other["model"]["b"][1] = 0.0  # not -0.0
    assert not same(state(), other)


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, state(), {"x": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_share_memory_are_stored_once() -> None:
    w = torch.ones(3)
    tree, tensors = flatten({"a": w, "b": w})
    assert list(tensors) == ["a"]
    back = unflatten(tree, tensors)
    assert back["a"] is back["b"]


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {}, {"grade_layout": {"w": [0, 2]}, "a later version": {"says": ["this", 1.5]}})
    found = checkpoint.load(path)
    checkpoint.save(path, found.state, found.metadata)
    assert checkpoint.load(path).metadata == found.metadata
    assert found.metadata["a later version"] == {"says": ["this", 1.5]}


def test_what_would_need_pickling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a/0 is a object, which cannot be saved without pickling"):
        checkpoint.save(tmp_path / "a", {"a": [object()]})
    assert list(tmp_path.iterdir()) == []


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"w": torch.arange(40, dtype=torch.int16)}, {"data": "abc"})
    whole = path.read_bytes()
    places = {*range(0, len(whole), 7), *range(8), len(whole) - 1}
    contents = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in sorted(places)]
    contents += [whole[:cut] for cut in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(DataError, match="a.safetensors"):
            checkpoint.load(path)


def test_a_tampered_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"step": 10}, {})
    whole = path.read_bytes()
    assert whole.count(rb"\"step\": 10") == 1
    path.write_bytes(whole.replace(rb"\"step\": 10", rb"\"step\": 99"))
    with pytest.raises(DataError, match="was changed or damaged after it was written"):
        checkpoint.load(path)


def test_other_files_and_later_layouts_are_refused(tmp_path: Path) -> None:
    from postrain.files import save_weights

    path = tmp_path / "a.safetensors"
    with pytest.raises(DataError, match="there is no checkpoint"):
        checkpoint.load(path)
    save_weights(path, {"w": torch.ones(1)}, {"format": "posit16"})
    with pytest.raises(DataError, match="a safetensors file but no checkpoint"):
        checkpoint.load(path)
    save_weights(path, {}, {"postrain": json.dumps({"version": 2})})
    with pytest.raises(DataError, match="has layout version 2, this program reads 1"):
        checkpoint.load(path)
    path.write_bytes(b"no such file" * 9)
    with pytest.raises(DataError, match="damaged or cut short"):
        checkpoint.load(path)


def test_the_last_few_are_kept_and_half_files_are_cleaned_away(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None
    for step in (5, 100, 20, 1_000_000_000):
        checkpoint.save_step(tmp_path, step, {"step": step}, {}, keep=2)
    (tmp_path / ".step-00000007.safetensors.12345678.tmp").write_bytes(b"half")
    checkpoint.clean(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-00000100.safetensors",
        "step-1000000000.safetensors",
    ]
    latest = checkpoint.latest(tmp_path)
    assert latest is not None
    assert checkpoint.load(latest).state == {"step": 1_000_000_000}


def test_a_failed_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save_step(tmp_path, 1, {"step": 1}, {}, keep=1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save_step(tmp_path, 2, {"step": 2}, {}, keep=1)
    latest = checkpoint.latest(tmp_path)
    assert latest is not None
    assert checkpoint.load(latest).state == {"step": 1}


def trained(fmt: str, steps: int) -> tuple[nn.Module, SGD, Any]:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    convert(model, fmt)
    optimizer = SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for _ in range(steps):
        one_step(model, optimizer, scheduler)
    return model, optimizer, scheduler


def one_step(model: nn.Module, optimizer: SGD, scheduler: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler.step()


def test_model_optimizer_scheduler_and_generators_go_on_to_the_same_bits(tmp_path: Path) -> None:
    draws = np.random.Generator(np.random.Philox(1))
    draws.random(3)
    first = trained("posit16", 3)
    checkpoint.save(tmp_path / "a", capture(*first, {"draws": draws}))
    random, number = torch.rand(1), draws.random()
    one_step(*first)

    other = np.random.Generator(np.random.Philox(2))
    second = trained("posit16", 0)
    restore(checkpoint.load(tmp_path / "a").state, *second, {"draws": other})
    assert torch.equal(torch.rand(1), random)
    assert other.random() == number
    one_step(*second)
    assert same(capture(*second)["model"], capture(*first)["model"])
    assert same(second[1].state_dict(), first[1].state_dict())
    assert second[2].get_last_lr() == first[2].get_last_lr()


def test_a_checkpoint_of_another_format_or_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", capture(*trained("posit8", 1)))
    saved = checkpoint.load(tmp_path / "a").state
    model, optimizer, scheduler = trained("posit16", 0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(
        RecipeError, match=r"holds 0.weight as posit8 of shape \(4, 3\), this model as posit16"
    ):
        restore(saved, model, optimizer, scheduler)
    assert all(same(a, b.detach()) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(RecipeError, match="0.bias is a tensor that the checkpoint has, the model has not"):
        restore(
            saved,
            nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)),
            optimizer,
        )


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Eight bytes of length, a JSON header, then data: nothing that runs code when it is read."""
    checkpoint.save(tmp_path / "a", {"w": posit_tensor(torch.ones(2), posit16)}, {})
    content = (tmp_path / "a").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["w"]["dtype"] == "I16"
    assert json.loads(header["__metadata__"]["postrain"])["state"] == {
        "w": {"$posit": "w", "format": "posit16"}
    }
