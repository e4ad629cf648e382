"""A float32 network turned into posits after training: ``python quantize.py --data-dir FOLDER``.

LeNet-5 is trained in float32 on Fashion-MNIST, then its weights and activations are rounded to formats of 16 and of 8
bits, without any further training.  Prints a table, and writes ``results.json`` and ``figure.png`` beside this file.
"""

import argparse
import copy
import json
import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from posit.torch import PositTensor
from postrain import Recipe, convert
from postrain.data import load
from postrain.feeds import Samples
from postrain.loop import Plan, fit
from postrain.models import LeNet5, initialise

MEAN, DEVIATION = 0.2860, 0.3300  # of the training pixels
CHUNK = 500  # test images at a time
RECIPES = {
    "float32": Recipe("float32"),
    "posit16": Recipe("posit16"),
    "posit8": Recipe("posit8"),
    "posit8, a power of two a tensor": Recipe("posit8", scale="tensor"),
    "posit8, es = 1": Recipe("posit<8,1>"),
    "posit8, es = 0": Recipe("posit<8,0>"),
    "fp8 E4M3, a power of two a tensor": Recipe.named("fp8_e4m3"),
}


def train(x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    """LeNet-5 after some epochs in float32: SGD, momentum 0.5, learning rate 1/16, batches of 64."""
    model = initialise(LeNet5(), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0625, momentum=0.5)
    fit(model, Samples(x, y), nn.functional.cross_entropy, optimizer, Plan(seed=0, epochs=epochs, batch=64))
    return model


@torch.no_grad()
def scores(model: nn.Module, x: Tensor) -> Tensor:
    """What the network says of each image, as float64."""
    found = [model(part) for part in x.split(CHUNK)]
    return torch.cat([y.to_float(torch.float64) if isinstance(y, PositTensor) else y.double() for y in found])


def measure(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Test accuracy in %, its standard error, and images named otherwise than in float32, by format."""
    results: dict[str, dict[str, float]] = {}
    reference = scores(model.eval(), x).argmax(dim=1)
    for name, recipe in RECIPES.items():
        found = scores(convert(copy.deepcopy(model), recipe), x).argmax(dim=1)
        right = float((found == y).double().mean())
        results[name] = {
            "accuracy": 100 * right,
            "error": 100 * math.sqrt(right * (1 - right) / len(y)),
            "changed": int((found != reference).sum()),
        }
        sys.stdout.write(f"| {name} | {100 * right:.2f} % | {results[name]['changed']} |\n")
    return results


def draw(results: dict[str, dict[str, float]], path: Path) -> None:
    """Accuracy by format, with standard errors of the test set, and answers that changed."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(results)[::-1]
    accuracy, errors, changed = (
        [results[name][key] for name in names] for key in ("accuracy", "error", "changed")
    )
    colours = ["#0072b2" if "posit" in name else "#999999" for name in names]
    bars = left.barh(names, accuracy, xerr=errors, color=colours, error_kw={"elinewidth": 1, "capsize": 3})
    left.bar_label(bars, [f"{value:.2f}" for value in accuracy], padding=4)
    left.set(xlim=(0, 112), xticks=range(0, 101, 20), xlabel="test accuracy / %")
    bars = right.barh(names, changed, color=colours)
    right.bar_label(bars, [f"{value:.0f}" for value in changed], padding=4)
    right.set(xlim=(0, 1.15 * max(*changed, 1)), xlabel="test images named otherwise than in float32")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("LeNet-5 on Fashion-MNIST: trained in float32, then rounded")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Train, round, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, help="folder in which fashion-mnist lies")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--train-limit", type=int, help="training images, the first ones")
    parser.add_argument("--test-limit", type=int, help="test images, the first ones")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    data = load("fashion-mnist", options.data_dir)
    train_x, test_x = (
        (torch.from_numpy(x[:limit]).reshape(-1, 1, 28, 28) - MEAN) / DEVIATION
        for x, limit in ((data.x_train, options.train_limit), (data.x_test, options.test_limit))
    )
    model = train(train_x, torch.from_numpy(data.y_train[: options.train_limit]), options.epochs)
    results = measure(model, test_x, torch.from_numpy(data.y_test[: options.test_limit]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "figure.png")


if __name__ == "__main__":
    main()
