"""The formulas for workspace against tracemalloc, which sees every NumPy buffer, counted by posit or not."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

import postrain.geometric  # noqa: F401  (rules for geometric products)
from ga import VGA3, Layout, plan_for
from posit import Format
from posit.torch import PositTensor, posit_tensor
from postrain._train import threads
from postrain.memory.formulas import posit_workspace

aten, ga = torch.ops.aten, torch.ops.ga

FORMATS = [Format.parse(name) for name in ("posit8", "posit16")]


def numpy_peak(run: Callable[[], Any]) -> int:
    """Most bytes that NumPy held at once beyond those held before."""
    run()  # compiles
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        gc.enable()


def rounded(shape: tuple[int, ...], fmt: Format, seed: int = 0) -> PositTensor:
    return posit_tensor(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), fmt)


def operations(fmt: Format) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Operators with arguments large enough that Python's own objects do not matter."""
    a, b, bias = rounded((256, 96), fmt), rounded((96, 160), fmt), rounded((160,), fmt)
    table = rounded((1500, 40), fmt)
    vector, bivector = (Layout.of_grades(VGA3, k) for k in (1, 2))
    plan = plan_for("geometric", vector, vector, bivector)
    # so many that the 64 KiB through which NumPy multiplies by a factor that is broadcast do not matter
    x, y, w = rounded((3, 512, 64), fmt), rounded((3, 512, 64), fmt, seed=1), rounded((1, 64), fmt)
    return {
        "mm": (aten.mm.default, (a, b)),
        "addmm": (aten.addmm.default, (bias, a, b)),
        "sum": (aten.sum.dim_IntList, (a, [0])),
        "log_softmax": (aten._log_softmax.default, (table, 1, False)),
        "log_softmax backward": (
            aten._log_softmax_backward_data.default,
            (table, torch.log_softmax(table, 1), 1, torch.float32),
        ),
        "mse": (aten.mse_loss.default, (table, table * 0.5)),
        "mse backward": (aten.mse_loss_backward.default, (rounded((), fmt), table, table * 0.5, 1)),
        "product": (ga.weighted_product.default, (x, y, w, plan.key)),
        "weight gradient": (
            ga.weighted_product_grad_weight.default,
            (x, x, y, plan.key, [1, 64]),
        ),
    }


LAYERS: dict[str, Any] = {
    "layer norm": (
        lambda x, w, b: functional.layer_norm(x, (128,), w, b),
        (4096, 128),
        [(128,), (128,)],
        lambda x, w, b: (aten.native_layer_norm.default, (x, (128,), w, b, 1e-5)),
        lambda g, x, w, b: (
            aten.native_layer_norm_backward.default,
            (g, x, (128,), None, None, w, b, [True] * 3),
        ),
    ),
    "group norm": (
        lambda x, w, b: functional.group_norm(x, 2, w, b),
        (64, 16, 14, 14),
        [(16,), (16,)],
        lambda x, w, b: (aten.native_group_norm.default, (x, w, b, 64, 16, 196, 2, 1e-5)),
        lambda g, x, w, b: (
            aten.native_group_norm_backward.default,
            (g, x, None, None, w, 64, 16, 196, 2, [True] * 3),
        ),
    ),
    "convolution": (
        lambda x, w, b: functional.conv2d(x, w, b, padding=1),
        (32, 16, 20, 20),
        [(16, 16, 3, 3), (16,)],
        lambda x, w, b: (aten.convolution.default, (x, w, b, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
        lambda g, x, w, b: (
            aten.convolution_backward.default,
            (g, x, w, [16], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True] * 3),
        ),
    ),
}


def workspace(call: tuple[Any, tuple[Any, ...]], fmt: Format) -> int:
    return posit_workspace(call[0], call[1], None, fmt)


@pytest.mark.parametrize("name", list(LAYERS))
def test_workspace_of_layers_is_what_tracemalloc_sees(name: str) -> None:
    run, shape, shapes, forward, backward = LAYERS[name]
    fmt = FORMATS[1]
    args = [rounded(each, fmt).requires_grad_() for each in (shape, *shapes)]
    with threads(1):
        y: Any = run(*args)
        with torch.no_grad():
            seen = numpy_peak(lambda: run(*args)) - y.codes.untyped_storage().nbytes()
        assert workspace(forward(*args), fmt) == pytest.approx(seen, rel=0.15, abs=1 << 15)
        grad = rounded(tuple(y.shape), fmt, seed=1)
        results = sum(2 * each.numel() for each in args)
        seen = numpy_peak(lambda: torch.autograd.grad(y, args, grad, retain_graph=True)) - results
        assert workspace(backward(grad, *args), fmt) == pytest.approx(seen, rel=0.25)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("name", list(operations(FORMATS[1])))
def test_workspace_is_what_tracemalloc_sees(name: str, fmt: Format) -> None:
    op, args = operations(fmt)[name]
    with threads(1):  # two threads hold their workspace at the same time or not, as it happens
        result = op(*args)
        seen = numpy_peak(lambda: op(*args)) - result.codes.untyped_storage().nbytes()
        python = 1 << 14  # its own objects, beside products that are made piece by piece
        assert posit_workspace(op, args, result, fmt) == pytest.approx(seen, rel=0.05, abs=python)
