"""How far networks are from turning with their inputs, by number format.

``python examples/equivariance/equivariance.py``: a stack of blocks in Cl(3,0,0), with random and with trained weights,
computes in float32, bfloat16, float16 and in posits.  Its error is that of f(R x) = R f(x) for random rotations R; and
under the 48 signed permutations of the axes, which only reorder and negate what is summed, the share of the output's
components that change.  A stack of GATr's layers in Cl(3,0,1) is moved by translations of growing length.

Writes ``results.json`` and ``figure.png`` beside this file, or into ``--out``.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ga import PGA3, VGA3, Layout, Multivector, exp
from ga.conversions import to_matrix
from ga.nn import (
    GeometricBilinear,
    GeometricProductLayer,
    GradeLinear,
    GradeNorm,
    MultivectorLayerNorm,
)
from ga.tasks.signed_volume import signed_volume
from ga.testing import random_orthogonal, signed_permutations, transform
from posit.torch import PositTensor, posit_tensor
from postrain.convert import convert

FORMATS = ("float64", "float32", "bfloat16", "float16", "posit16", "posit32")
CHANNELS, SAMPLES, ROTATIONS = 8, 16, 16
FULL, PROJECTIVE = Layout.full(VGA3), Layout.full(PGA3)
DISTANCES = (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)


class Block(nn.Module):
    """Linear map, normalization and weighted product, beside the input; normalized."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.mix = GradeLinear(FULL, CHANNELS, CHANNELS, generator=generator)
        self.before, self.after = GradeNorm(FULL, CHANNELS), GradeNorm(FULL, CHANNELS)
        self.product = GeometricProductLayer(FULL, CHANNELS, generator=generator)

    def forward(self, x: Multivector) -> Multivector:
        """Batch shape (*batch, channels)."""
        found: Multivector = self.after(x + self.product(self.before(self.mix(x))))
        return found


class Stack(nn.Module):
    """Three points to multivectors of all grades, through blocks."""

    def __init__(self, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embed = GradeLinear(FULL, 3, CHANNELS, generator=generator)
        self.blocks = nn.Sequential(*(Block(generator) for _ in range(depth)))

    def forward(self, x: Multivector) -> Multivector:
        """Batch shape (*batch, 3)."""
        found: Multivector = self.blocks(self.embed(x))
        return found


class ProjectiveStack(nn.Module):
    """Products and joins of linear maps with e0, beside the input; normalized by the part that translations keep."""

    def __init__(self, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GeometricBilinear(PROJECTIVE, CHANNELS, CHANNELS, generator=generator) for _ in range(depth)
        )
        self.norm = MultivectorLayerNorm(PROJECTIVE)

    def forward(self, x: Multivector) -> Multivector:
        """Batch shape (*batch, channels)."""
        for layer in self.layers:
            x = x + layer(self.norm(x))
        return x


def points(n: int, generator: torch.Generator) -> tuple[Multivector, Tensor]:
    """Triples of points as vectors in a full layout, and their signed volumes."""
    given, volumes = signed_volume(n, generator)
    planes = torch.zeros(len(FULL), n, 3)
    planes[FULL.slices[1]] = given.permute(2, 0, 1)
    return Multivector(planes, FULL), volumes


def trained(depth: int, steps: int, generator: torch.Generator) -> nn.Module:
    """A stack whose first channel's pseudoscalar has learnt the signed volume; float32."""
    model = Stack(depth, generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, volumes = points(64, generator)
        optimizer.zero_grad()
        torch.autograd.backward((model(x).planes[-1, :, 0] - volumes).square().mean())
        optimizer.step()
    return model


def in_format(model: nn.Module, name: str) -> nn.Module:
    """A copy of a float32 model that computes in a format."""
    copied = deepcopy(model)
    return convert(copied, name) if name.startswith("posit") else copied.to(getattr(torch, name))


def rounded(planes: Tensor, name: str) -> Tensor:
    """Numbers that a format has, as float64."""
    if name.startswith("posit"):
        return posit_tensor(planes, name).to_float(torch.float64)
    return planes.to(getattr(torch, name)).double()


@torch.no_grad()
def applied(model: nn.Module, x: Multivector, name: str) -> Multivector:
    """The model's output as float64; the input's numbers are rounded to the format first."""
    planes = x.planes if name.startswith("posit") else x.planes.to(getattr(torch, name))
    found = model(Multivector(planes, x.layout))
    values = found.planes
    real = values.to_float(torch.float64) if isinstance(values, PositTensor) else values.double()
    return Multivector(real, found.layout)


def images(x: Multivector, matrices: Iterable[Tensor]) -> Multivector:
    """The images of a batch under several maps, in one batch."""
    return Multivector(torch.cat([transform(x, m).planes for m in matrices], 1), x.layout)


def compared(model: nn.Module, x: Multivector, matrices: list[Tensor], name: str) -> tuple[Tensor, Tensor]:
    """f(M x) and M f(x) in float64, shape (maps, blades, samples, channels)."""
    base = Multivector(rounded(x.planes, name), x.layout)
    moved = applied(model, images(base, matrices), name).planes
    wanted = images(applied(model, base, name), matrices).planes
    return tuple(torch.stack(each.split(len(x), 1)) for each in (moved, wanted))  # type: ignore[return-value]


def relative(moved: Tensor, wanted: Tensor) -> float:
    """Median over the maps of the root mean square of the difference over that of the value."""
    size = wanted.square().flatten(1).mean(1).sqrt()
    ratios = (moved - wanted).square().flatten(1).mean(1).sqrt() / size
    return float(ratios.median())


def finite(x: float) -> float | None:
    """A number as JSON has it; None where a format has overflowed."""
    return x if math.isfinite(x) else None


def by_depth(depths: list[int], steps: int) -> list[dict[str, Any]]:
    """Errors of all formats, random and trained weights."""
    found = []
    for depth in depths:
        generator = torch.Generator().manual_seed(depth)
        models = {"random": Stack(depth, generator), "trained": trained(depth, steps, generator)}
        x, _ = points(SAMPLES, generator)
        turns = [random_orthogonal(VGA3, generator) for _ in range(ROTATIONS)]
        turns = [m * m.det().sign() for m in turns]  # in 3 dimensions -m turns where m reflects
        for weights, model in models.items():
            for name in FORMATS:
                start = time.perf_counter()
                own = in_format(model, name)
                moved, wanted = compared(own, x, list(signed_permutations(3)), name)
                row = {
                    "depth": depth,
                    "weights": weights,
                    "format": name,
                    "rotations": relative(*compared(own, x, turns, name)),
                    "changed": float((moved != wanted).double().mean()),
                    "seconds": time.perf_counter() - start,
                }
                print(row, flush=True)
                found.append(row)
    return found


def by_distance(depth: int) -> list[dict[str, Any]]:
    """Errors under translations of points and other objects."""
    generator = torch.Generator().manual_seed(0)
    model = ProjectiveStack(depth, generator)
    places = PGA3.point(torch.randn(SAMPLES, CHANNELS, 3, generator=generator)).planes
    planes = torch.zeros(len(PROJECTIVE), SAMPLES, CHANNELS)
    planes[PROJECTIVE.slices[3]] = places
    x = Multivector(planes, PROJECTIVE)
    found = []
    for distance in DISTANCES:
        matrices = []
        for _ in range(ROTATIONS):
            way = torch.randn(3, generator=generator, dtype=torch.float64)
            way = way / way.norm() * distance / 2
            matrices.append(
                to_matrix(exp(PGA3.bivector(torch.cat([way, torch.zeros(3, dtype=torch.float64)]))))
            )
        for name in FORMATS:
            row = {
                "depth": depth,
                "distance": distance,
                "format": name,
                "translations": finite(relative(*compared(in_format(model, name), x, matrices, name))),
            }
            print(row, flush=True)
            found.append(row)
    return found


def draw(depths: list[dict[str, Any]], distances: list[dict[str, Any]], path: Path) -> None:
    """Error against depth, share of changed components, error against distance."""
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for color, name in enumerate(FORMATS[1:]):
        for weights, line in (("random", "-"), ("trained", "--")):
            rows = [r for r in depths if (r["format"], r["weights"]) == (name, weights)]
            label = name if weights == "random" else None
            at = [r["depth"] for r in rows]
            left.loglog(at, [r["rotations"] for r in rows], line, color=f"C{color}", marker=".", label=label)
            shares = [100 * r["changed"] for r in rows]
            middle.semilogx(at, shares, line, color=f"C{color}", marker=".", label=label)
        rows = [r for r in distances if r["format"] == name]
        errors = [r["translations"] or math.nan for r in rows]  # neither an overflow nor 0 has a place
        right.plot([r["distance"] for r in rows], errors, color=f"C{color}", marker=".")
    right.set_xscale("symlog", linthresh=0.1)
    right.set_yscale("log")
    for axis, x, y in (
        (left, "depth", "error under rotations"),
        (middle, "depth", "% of components changed, axes permuted"),
        (right, "distance", "error under translations, Cl(3,0,1)"),
    ):
        axis.set_xlabel(x)
        axis.set_ylabel(y)
    left.set_title("random weights —, trained - -")
    left.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    depths, distances = by_depth(options.depths, options.steps), by_distance(2)
    about = {
        "channels": CHANNELS,
        "samples": SAMPLES,
        "rotations": ROTATIONS,
        "steps": options.steps,
        "torch": torch.__version__,
        "by_depth": depths,
        "by_distance": distances,
    }
    (options.out / "results.json").write_text(json.dumps(about, indent=1) + "\n")
    draw(depths, distances, options.out / "figure.png")


if __name__ == "__main__":
    main()
