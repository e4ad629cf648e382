"""Most bytes that training holds at once: `python examples/peak.py CONFIG --set recipe.name=posit16 --data-dir FOLDER`.

Counted are the buffers of NumPy and torch, of a network, its optimizer and three steps on one thread, with no more data
than a batch.  Kernels are compiled and caches filled by a run before, which is not counted.
"""

import argparse
import gc
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import posit
from postrain import config
from postrain.loop import fit
from postrain.memory.meter import Meter
from postrain.prepared import loss_of, prepare


def train(settings: config.Config, meter: Meter | None = None) -> None:
    """Build everything, then make three steps, which the meter is told of."""
    made = prepare(settings)
    gc.collect()
    with meter.window("training") if meter else nullcontext():
        fit(
            made.model,
            made.source.train,
            loss_of("mean"),
            made.optimizer,
            settings.plan,
            scheduler=made.scheduler,
        )


def main() -> None:
    """Train twice, count the second time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    posit.set_num_threads(1)
    read = config.with_data_dir(options.config, options.data_dir, options.settings)
    plan = replace(read.plan, epochs=None, iterations=3, statistics_every=0, threads=1)
    samples = plan.batch if not read.data.is_text else 4 * plan.batch * (read.data.context + 1)
    settings = replace(read, plan=plan, data=replace(read.data, train_limit=samples, test_limit=samples))
    train(settings)
    gc.collect()
    gc.disable()
    with Meter() as meter:
        train(settings, meter)
    print(meter.peaks()["training"], flush=True)
    os._exit(0)  # what lives on must not be freed through the meter


if __name__ == "__main__":
    main()
