"""The commands of ``postrain bench``: each measures in this run, prints a table, and stores nothing."""

import os
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Measure speed and accuracy beside their peers, in one run.")
_Format = Annotated[str, typer.Option("--format", help="Posit format, e.g. posit16.")]


@bench.command()
def training(
    network: Annotated[str, typer.Option(help="Only networks whose name holds this text.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 11,
    json: Annotated[Path | None, typer.Option(help="File for every row, as JSON.")] = None,
) -> None:
    """Time training steps of an MLP, LeNet-5 and a transformer beside float32; bits are proved first."""
    from rich.console import Console

    from postrain.bench.table import print_rows, write_json
    from postrain.bench.training import legend, measure_training
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)
    with Bars() as bars:
        measured = measure_training(repeats, bars, network)
    if json:
        write_json(measured, json)
    facts = measured.machine | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "unset")}
    print_rows({"Machine": facts}, measured.rows, legend(measured), Console())


@bench.command()
def memory(
    network: Annotated[str, typer.Option(help="Only networks whose name holds this text.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 7,
    json: Annotated[Path | None, typer.Option(help="File for every row, as JSON.")] = None,
) -> None:
    """Time training steps of the modes that save memory beside 'reverse'; each is proved to have its bits."""
    from rich.console import Console

    from postrain.bench.memory import legend, measure_memory
    from postrain.bench.table import print_rows, write_json
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)
    with Bars() as bars:
        measured = measure_memory(repeats, bars, network)
    if json:
        write_json(measured, json)
    print_rows({"Machine": measured.machine}, measured.rows, legend(measured), Console())


@bench.command()
def digits(
    format_: _Format = "posit16",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Compare the test accuracy on the 8x8 digits over several seeds with float32's."""
    from postrain.bench.seeds import digits_scores
    from postrain.progress import Bars
    from postrain.recipe import Recipe

    recipe = Recipe(format_)
    with Bars() as bars:
        found = digits_scores(recipe, seeds, epochs, bars)
    for name, scores in ((found.arithmetic, found.scores), ("float32", found.float32_scores)):
        listed = " ".join(f"{100 * score:.2f}" for score in scores)
        typer.echo(f"{name:10} test accuracy % by seed: {listed}; mean {100 * sum(scores) / len(scores):.2f}")
    typer.echo(f"difference of the means: {found.difference:+.2f} points")


@bench.command()
def numbers(
    elements: Annotated[int, typer.Option(min=1, help="Random numbers in each array.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 7,
    seed: Annotated[int, typer.Option(min=0, help="The random numbers follow from it.")] = 0,
    json: Annotated[Path | None, typer.Option(help="File for every row, as JSON.")] = None,
) -> None:
    """Time posit conversion and arithmetic beside NumPy, ml_dtypes and SoftPosit; each result is proved first."""
    from rich.console import Console

    from postrain.bench.numbers import legend, measure_numbers
    from postrain.bench.table import print_rows, write_json
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)  # a folder that refuses files is reported before the minutes
    with Bars() as bars:
        measured = measure_numbers(elements, repeats, seed, bars)
    if json:
        write_json(measured, json)
    facts = {"Machine": measured.machine, "Kernels": measured.kernels}
    print_rows(facts, measured.rows, legend(measured), Console())


@bench.command()
def quire(
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the square products.")] = 1024,
    elements: Annotated[int, typer.Option(min=1, help="Length of the long vectors.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 7,
    seed: Annotated[int, typer.Option(min=0, help="The random numbers follow from it.")] = 0,
    data: Annotated[str, typer.Option(help="What the recorded networks are trained on.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of data that are not in the package.")] = None,
    json: Annotated[Path | None, typer.Option(help="File for every row, as JSON.")] = None,
) -> None:
    """Time exact products and sums beside NumPy's BLAS and SoftPosit's quire; each result is proved first."""
    from rich.console import Console

    from postrain.bench.quire import QuireOptions, legend, measure_quire
    from postrain.bench.table import print_rows, write_json
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)
    with Bars() as bars:
        measured = measure_quire(QuireOptions(size, elements, repeats, seed, data, data_dir), bars)
    if json:
        write_json(measured, json)
    print_rows({"Machine": measured.machine}, measured.rows, legend(measured), Console())


@bench.command()
def distributed(
    world: Annotated[str, typer.Option(help="Numbers of processes, e.g. 1,2.")] = "1,2",
    repeats: Annotated[int, typer.Option(min=1, help="Steps of each contestant that are timed.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training before bits are counted.")] = 100,
    json: Annotated[Path | None, typer.Option(help="File for every figure, as JSON.")] = None,
) -> None:
    """Time steps of LeNet-5 on several processes beside float32's DistributedDataParallel; count bits and bytes."""
    from postrain.bench.distributed import lines, measure_distributed
    from postrain.bench.table import write_json
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)
    worlds = tuple(int(each) for each in world.split(",") if each.strip().isdecimal())
    with Bars() as bars:
        measured = measure_distributed(worlds, repeats, steps, bars)
    if json:
        write_json(measured, json)
    for line in lines(measured):
        typer.echo(line)


@bench.command()
def ga(
    size: Annotated[int, typer.Option(min=1, help="Multivectors in a batch.")] = 100_000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 7,
    seed: Annotated[int, typer.Option(min=0, help="The random numbers follow from it.")] = 0,
    json: Annotated[Path | None, typer.Option(help="File for every row, as JSON.")] = None,
) -> None:
    """Time geometric products beside dense einsum, straight-line C, kingdon and clifford; each is proved first."""
    from rich.console import Console

    from postrain.bench.ga import GaOptions, legend, measure_ga
    from postrain.bench.table import print_rows, write_json
    from postrain.files import prepare_output
    from postrain.progress import Bars

    if json:
        prepare_output(json.absolute().parent)
    with Bars() as bars:
        measured = measure_ga(GaOptions(size, repeats, seed), bars)
    if json:
        write_json(measured, json)
    print_rows({"Machine": measured.machine}, measured.rows, legend(measured), Console())
