"""Residual blocks run forth and back, with the stream in fixed point and in floating point: ``python streams.py``.

The same perceptron blocks (norm, linear, ReLU, linear) add to two halves of a stream in turn.  On the way back each
block is run again, on what the stream is then, and its output is taken away.  Compared are posit16 blocks on a stream
in fixed point (`postrain.nn.ReversibleStack`), and float32 blocks on streams in float32 and in bfloat16.  Two scales of
the blocks' outputs: as initialised, and eight times that.

Writes ``results.json`` and ``figure.png`` beside this file, or into ``--out``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import posit
from posit.torch import posit_tensor
from postrain.convert import convert
from postrain.models import reversible_mlp
from postrain.nn import ReversibleStack

SAMPLES, FEATURES, CLASSES = 64, 64, 10
STREAMS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def stack(depth: int, width: int, scale: float, seed: int) -> ReversibleStack:
    """The blocks of a reversible perceptron, their last layers' weights times `scale`."""
    torch.manual_seed(seed)
    made: Any = reversible_mlp((FEATURES,), CLASSES, width, depth).stack
    with torch.no_grad():
        for block in made.blocks:
            block[-1].weight.mul_(scale)
    assert isinstance(made, ReversibleStack)
    return made


def halves_of(width: int, seed: int) -> Tensor:
    """What enters the stream."""
    return torch.randn(SAMPLES, width, generator=torch.Generator().manual_seed(seed))


def in_fixed_point(depth: int, width: int, scale: float, seed: int) -> tuple[float, int]:
    """Largest error of the recovered input, and how many blocks came back with other bits, in posit16."""
    blocks: Any = convert(stack(depth, width, scale, seed), "posit16")
    x = posit_tensor(halves_of(width, seed), "posit16")
    blocks.calibrate(x)
    passage = blocks.begin(x, record=True)
    passage.enter(x)
    states = [[half.clone() for half in passage.halves]]  # before each block, and at the end
    states += [[half.clone() for half in passage.halves] for _ in passage.steps()]
    zeros = [torch.zeros(half.shape, dtype=torch.int16) for half in passage.halves]
    other = []

    def compare(*_: object) -> None:
        wanted = states[passage.at]
        other.append(not all(torch.equal(a, b) for a, b in zip(passage.halves, wanted, strict=True)))

    passage.backward((zeros[0], zeros[1]), compare)
    assert len(other) == depth
    unit = 2.0**-blocks.stream.fraction_bits
    gaps = [
        (one.double() - two.double()).abs().max() for one, two in zip(states[0], passage.halves, strict=True)
    ]
    return float(max(gaps)) * unit, sum(other)


def in_floating_point(
    depth: int, width: int, scale: float, seed: int, dtype: torch.dtype
) -> tuple[float, int]:
    """The same with float32 blocks and a stream of `dtype`."""
    blocks: list[nn.Module] = list(stack(depth, width, scale, seed).blocks)
    halves = [part.contiguous().to(dtype) for part in halves_of(width, seed).chunk(2, -1)]
    states, other = [], 0
    with torch.no_grad():
        for index, block in enumerate(blocks):
            states.append([half.clone() for half in halves])
            halves[index % 2] += block(halves[1 - index % 2].float()).to(dtype)
        for index, block in reversed(list(enumerate(blocks))):
            halves[index % 2] -= block(halves[1 - index % 2].float()).to(dtype)
            other += not all(torch.equal(a, b) for a, b in zip(halves, states[index], strict=True))
    gaps = [(one.float() - two.float()).abs().max() for one, two in zip(halves, states[0], strict=True)]
    return float(max(gaps)), other


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Error over depth; errors of 0 are drawn at the lower edge."""
    scales = sorted({row["scale"] for row in rows})
    figure = Figure(figsize=(5 * len(scales), 3.8), layout="constrained")
    axes = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    colours = {"fixed point": "#0072b2", "float32": "#d55e00", "bfloat16": "#cc79a7"}
    for axis, scale in zip(axes, scales, strict=True):
        for stream, colour in colours.items():
            own = [row for row in rows if (row["scale"], row["stream"]) == (scale, stream)]
            depths = sorted({row["depth"] for row in own})
            worst = [max(row["error"] for row in own if row["depth"] == depth) for depth in depths]
            axis.loglog(depths, [max(each, 1e-9) for each in worst], "o-", color=colour, label=stream)
        axis.set_title(f"outputs of blocks × {scale:g}")
        axis.set_xlabel("blocks")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("largest error of the input (0 drawn at 1e-9)")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything, print a table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 8.0])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    posit.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for scale in options.scales:
        for depth in options.depths:
            for seed in range(options.seeds):
                place = depth, options.width, scale, seed
                found = {"fixed point": in_fixed_point(*place)}
                found |= {name: in_floating_point(*place, dtype) for name, dtype in STREAMS.items()}
                rows += [
                    {
                        "scale": scale,
                        "depth": depth,
                        "seed": seed,
                        "stream": name,
                        "error": error,
                        "other_bits": other,
                    }
                    for name, (error, other) in found.items()
                ]
            own = [row for row in rows if (row["scale"], row["depth"]) == (scale, depth)]
            shown = [
                f"{max(row['error'] for row in own if row['stream'] == name):.2g} "
                f"({sum(row['other_bits'] for row in own if row['stream'] == name)})"
                for name in ("fixed point", *STREAMS)
            ]
            print(f"| {scale:g} | {depth} | {' | '.join(shown)} |", flush=True)
    about = {"width": options.width, "samples": SAMPLES, "seeds": options.seeds, "rows": rows}
    (options.out / "results.json").write_text(json.dumps(about, indent=1) + "\n")
    draw(rows, options.out / "figure.png")


if __name__ == "__main__":
    main()
