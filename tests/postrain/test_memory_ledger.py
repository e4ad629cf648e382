"""The ledger in this process: whose bytes it sees, what they are for, when they are gone."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import posit
from posit import _buffers
from posit.torch import posit_tensor
from postrain.convert import convert
from postrain.memory._ledger import Ledger
from postrain.memory.purposes import ACTIVATIONS, GRADIENTS, INPUTS, WEIGHTS, purpose
from postrain.optim.sgd import SGD
from postrain.report.schema import Bytes
from postrain.tasks import mlp


@pytest.fixture(autouse=True)
def _no_collection_meanwhile() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_16_bit_weights_really_take_2_bytes() -> None:
    model = convert(mlp((64, 128, 64, 10), seed=0), "posit16")
    stored = sum(parameter.codes.untyped_storage().nbytes() for parameter in model.parameters())  # type: ignore[attr-defined]
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert stored == 2 * numbers == 2 * 17226
    with Ledger() as ledger:
        ledger.label(WEIGHTS, model.parameters())
    assert ledger.peak().weights == 2 * numbers


def test_momentum_takes_2_bytes_too() -> None:
    model = convert(mlp((4, 3, 2), seed=0), "posit16")
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = posit_tensor(torch.rand(5, 4), "posit16")
    torch.nn.functional.cross_entropy(model(x), torch.zeros(5, dtype=torch.int64)).backward()
    optimizer.step()
    states = [state["momentum"].codes.untyped_storage().nbytes() for state in optimizer.state.values()]
    assert sum(states) == 2 * sum(parameter.numel() for parameter in model.parameters())


def test_views_are_counted_once() -> None:
    with Ledger() as ledger, purpose(ACTIVATIONS):
        x = torch.zeros(10, 10)
        kept = [x.t(), x[2:], x.view(-1), x.detach()]
    assert ledger.peak() == Bytes(0, 0, 0, activations=400, workspace=0, inputs=0)
    assert len(kept) == 4


def test_views_of_codes_in_numpy_memory_are_counted_once() -> None:
    x = posit_tensor(torch.rand(8, 8), posit.posit16)
    with Ledger() as ledger, purpose(ACTIVATIONS):
        y = torch.relu(x + x)
        kept = [y.t(), (x + x)[3:]]
        _ = torch.cat(kept)
    peak = ledger.peak()
    assert peak.activations + peak.workspace <= 2 * (4 * 64 + 104) + 64  # x+x, relu, x+x, cat; masks of relu
    assert peak.activations >= 2 * (64 + 64 + 104)


def test_the_parts_are_those_at_the_moment_of_the_peak() -> None:
    """The sum of each purpose's own peak would be 1200 bytes; no more than 800 lived together."""
    with Ledger() as ledger:
        with purpose(ACTIVATIONS):
            x = torch.zeros(100)
        del x
        with purpose(INPUTS):
            y = torch.zeros(100)
        with purpose(GRADIENTS):
            z = torch.zeros(100)
        del y, z
    assert ledger.peak() == Bytes(0, gradients=400, optimizer_state=0, activations=0, workspace=0, inputs=400)


def test_a_purpose_known_late_holds_from_the_beginning() -> None:
    with Ledger() as ledger:
        x = torch.zeros(100)
        y = torch.zeros(50)
        del y
        ledger.label(GRADIENTS, [x])
    assert ledger.peak() == Bytes(0, gradients=400, optimizer_state=0, activations=0, workspace=200, inputs=0)


def test_freed_bytes_are_gone() -> None:
    with Ledger() as ledger:
        for _ in range(20):
            torch.zeros(100)
            _buffers.empty(50)
    assert ledger.peak().total == 400


def test_a_result_is_not_workspace() -> None:
    a, b = (posit_tensor(torch.rand(16, 16), posit.posit16) for _ in range(2))
    with Ledger() as ledger, purpose(ACTIVATIONS):
        c = a @ b
    peak = ledger.peak()
    assert peak.activations == c.numel() * 2
    assert peak.workspace >= 3 * 16 * 16 * 8, "two decoded factors and the float64 product"


def test_nothing_is_counted_outside() -> None:
    with Ledger() as ledger:
        pass
    torch.zeros(10)
    _buffers.empty(10)
    assert ledger.peak().total == 0


def test_listeners_nest() -> None:
    heard: list[tuple[str, int]] = []
    with _buffers.listening(lambda buffer: heard.append(("outer", buffer.nbytes))):
        with _buffers.listening(lambda buffer: heard.append(("inner", buffer.nbytes))):
            _buffers.zeros(1)
        _buffers.full(2, 1.0)
    _buffers.empty(3, np.int8)
    assert heard == [("inner", 8), ("outer", 16)]
