"""The command line, a thin door: it reads options, calls the library, prints what it returns.

Exit codes: 0 done; 1 done, but the run refuted a claim of its report; 2 an error, said in one sentence on
stderr; 130 interrupted. Heavy modules are imported inside the commands, so that ``--help`` is quick.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postrain import __version__
from postrain.bench.commands import bench
from postrain.errors import PostrainError
from postrain.options import CompareOptions

if TYPE_CHECKING:
    from postrain.config import Config
    from postrain.progress import Bars
    from postrain.run import Outcome

_DEFAULTS = CompareOptions()

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train small neural networks in posit arithmetic, every sum exact and rounded once.",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line on `argv` (without the program's name) and return the exit code.

    >>> main(["--version"])
    postrain 0.1.0.dev0
    0
    """
    try:
        app(args=argv, prog_name="postrain")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except Exception as error:
        if not isinstance(error, _errors_on_purpose()):
            raise
        _complain(" ".join(str(error).split()))
        return 2
    return 0


def main_entry() -> None:
    """Run as the program ``postrain``.

    Torch's waiting threads would spin on cores that posit's threads could use, so unless the caller has chosen they
    are told to sleep; OpenMP reads this when torch is imported, which the commands do later.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())


app.add_typer(bench, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"postrain {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


@app.command()
def compare(
    data: Annotated[str, typer.Option(help="digits, fashion-mnist or mnist.")] = _DEFAULTS.data,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the files of fashion-mnist or mnist (IDX or .npz).")
    ] = _DEFAULTS.data_dir,
    format: Annotated[str, typer.Option(help="Posit format, e.g. posit16.")] = _DEFAULTS.format,  # noqa: A002 (--format)
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = _DEFAULTS.epochs,
    seed: Annotated[
        int, typer.Option(help="Initial weights, batches and samples follow from it.")
    ] = _DEFAULTS.seed,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, results.json and weights.")
    ] = _DEFAULTS.out,
) -> None:
    """Train in a posit format beside float32, prove the sums exact, measure memory, write a report."""
    from postrain.progress import Bars

    bars = Bars()
    try:
        code = _compare(CompareOptions(data, data_dir, format, epochs, seed, out), bars)
    except KeyboardInterrupt:
        _complain(f"interrupted; {_last_checkpoint(bars)}")
        code = 130
    raise typer.Exit(code)


def _compare(options: CompareOptions, bars: "Bars") -> int:
    """Check the format, train, then show and write the report; the exit code."""
    from posit.formats import Format
    from postrain.recipe import Recipe

    Recipe(
        Format.parse(options.format).name
    )  # a format that cannot be used is reported before anything is read or made

    from rich.console import Console

    from postrain.compare import compare as run
    from postrain.report.check import failures
    from postrain.report.output import write_report
    from postrain.report.terminal import print_results

    with bars:
        results = run(options, bars)
    files = write_report(results, options.out)
    console = Console()
    print_results(results, console)
    console.print(f"Report: {files.page}", soft_wrap=True, markup=False, highlight=False)
    return 1 if failures(results) else 0


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see examples/configs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, logs, weights and figures [runs/NAME].")
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--new", help="Demand a checkpoint in the folder, or refuse one [take what is there]."
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, before data.dir.")] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="What is stored and when weights change: reverse, accumulate, reversible, … [train.mode]."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.FIELD=VALUE", help="A field of the file, changed; repeatable."
        ),
    ] = None,
) -> None:
    """Train as a configuration says; started again, it goes on from its last checkpoint to the same bits."""
    from postrain.config import with_data_dir
    from postrain.progress import Bars

    bars = Bars()
    changed = [*(settings or ()), *([] if mode is None else [f"train.mode={mode}"])]
    try:
        _train(with_data_dir(config, data_dir, changed), out or Path("runs") / config.stem, resume, bars)
    except KeyboardInterrupt:
        _complain(f"interrupted; {_last_checkpoint(bars)}")
        raise typer.Exit(130) from None


def _train(config: "Config", out: Path, resume: bool | None, bars: "Bars") -> None:
    from rich.console import Console

    outcome = _trained(config, out, resume, bars)
    if outcome is None:
        return
    console = Console()
    scores = ", ".join(f"{name} {value:.6g}" for name, value in outcome.scores.items())
    skipped = f"; {outcome.nar} left out for a NaR" if outcome.nar else ""
    for line in (
        f"{outcome.fitted.steps} steps{skipped}; on the test data: {scores}",
        f"weights: SHA-256 {outcome.digest}",
        f"folder: {outcome.folder}",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _trained(config: "Config", out: Path, resume: bool | None, bars: "Bars") -> "Outcome | None":
    """Train alone, or as one of the processes that torchrun started; None where another rank writes the files."""
    from contextlib import nullcontext

    from postrain.distributed import launched

    if not launched():
        from postrain.run import train as train_alone

        with bars:
            return train_alone(config, out, bars, resume=resume)
    from postrain.distributed import joined, train

    with joined() as team, bars if team.first else nullcontext():
        return train(config, out, team, bars, resume=resume)


@app.command()
def coverage(
    config: Annotated[Path, typer.Argument(help="A TOML file, as of postrain train.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, before data.dir.")] = None,
) -> None:
    """List the operators that a network needs and whether posits have them; exit code 1 if one is missing."""
    from rich.console import Console

    from postrain.config import with_data_dir
    from postrain.run import covered

    report = covered(with_data_dir(config, data_dir))
    Console().print(str(report), soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(0 if report.ok else 1)


@app.command(name="verify-parallel")
def verify_parallel(
    config: Annotated[Path, typer.Argument(help="A TOML file, as of postrain train.")],
    world: Annotated[str, typer.Option(help="Numbers of processes, e.g. 1,2,4.")] = "1,2,4",
    micro_batch: Annotated[
        str, typer.Option(help="Samples of a backward pass, e.g. 1,8 [a process's whole share].")
    ] = "",
    bucket: Annotated[str, typer.Option(help="Bytes of a buffer, e.g. 4096,1048576.")] = "1048576",
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 20,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, before data.dir.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="A field of the file; repeatable."),
    ] = None,
    float32: Annotated[bool, typer.Option(help="Also train in float32, with torch's own.")] = True,
) -> None:
    """Train on several numbers of processes and compare the weights; exit code 1 if a bit differs."""
    from postrain.config import with_data_dir
    from postrain.distributed.verify import VerifyOptions, lines, verify
    from postrain.progress import Bars

    with_data_dir(
        config, data_dir, settings or ()
    )  # what is wrong with it is said before anything is started
    options = VerifyOptions(
        config.absolute(),
        _numbers("--world", world),
        _numbers("--micro-batch", micro_batch) or (None,),
        _numbers("--bucket", bucket),
        steps,
        data_dir and data_dir.absolute(),
        tuple(settings or ()),
        float32,
    )
    with Bars() as bars:
        found = verify(options, bars)
    for line in lines(found):
        typer.echo(line)
    raise typer.Exit(0 if found.same else 1)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    from postrain.errors import OptionsError

    parts = _names(text)
    if not all(part.isdecimal() for part in parts):
        raise OptionsError(f"{option} takes whole numbers with commas between them, got {text!r}")
    return tuple(int(part) for part in parts)


@app.command()
def memory(
    model: Annotated[str, typer.Option(help="mlp, cnn, transformer, or FILE.py:factory.")] = "mlp",
    depth: Annotated[str, typer.Option(help="Depths, separated by commas.")] = "4,8,16,32,64",
    width: Annotated[int, typer.Option(help="Features or channels of the residual stream.")] = 128,
    batch: Annotated[int, typer.Option(help="Samples of a step.")] = 256,
    micro_batch: Annotated[
        int, typer.Option(help="Samples worked on together, in modes with micro-batches.")
    ] = 32,
    modes: Annotated[
        str, typer.Option(help="Modes of training; see docs/memory.md.")
    ] = "reverse,accumulate,checkpointed,fused,reversible",
    recipes: Annotated[str, typer.Option(help="Posit formats beside the IEEE baselines.")] = "posit16",
    optimizer: Annotated[str, typer.Option(help="sgd (with momentum), adam or adafactor.")] = "sgd",
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    state_format: Annotated[
        str | None, typer.Option(help="Format of the optimizer's moments [the recipe's].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights and inputs.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for memory.html and memory.json.")] = Path(
        "postrain-memory"
    ),
) -> None:
    """Measure what training holds beside inference, over depth and modes, and judge the claim of twice inference."""
    from rich.console import Console

    from postrain.files import prepare_output
    from postrain.memory.grid import GridOptions, measure
    from postrain.memory.show import print_study, write
    from postrain.progress import Bars

    options = GridOptions(
        model, _numbers("--depth", depth), width, batch, micro_batch, _names(modes), _names(recipes),
        optimizer, state_format, momentum, seed=seed,
    )  # fmt: skip
    prepare_output(out)
    bars = Bars()
    try:
        with bars:
            study = measure(options, bars)
    except KeyboardInterrupt:
        _complain("interrupted; nothing was written")
        raise typer.Exit(130) from None
    files = write(study, out)
    console = Console()
    print_study(study, console)
    console.print(f"Page: {files.page}", soft_wrap=True, markup=False, highlight=False)


def _names(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _errors_on_purpose() -> tuple[type[Exception], ...]:
    """The base errors of our packages, as far as they have been imported: others cannot have been raised."""
    bases: list[type[Exception]] = [PostrainError]
    for module, name in (("posit.errors", "PositError"), ("ga.errors", "GAError")):
        if module in sys.modules:
            bases.append(getattr(sys.modules[module], name))
    return tuple(bases)


def _last_checkpoint(bars: "Bars") -> str:
    if bars.last_saved is None:
        return "no weights had been saved yet"
    return f"the last complete checkpoint is {bars.last_saved}"


def _complain(message: str) -> None:
    typer.echo(f"postrain: {message}", err=True)
