"""The command `posit`: show a number, list formats, plot their accuracy, check a sum."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from posit import plot as plotting
from posit.errors import PositError
from posit.formats import Format
from posit.show import show as show_text
from posit.show import table

app = typer.Typer(
    name="posit", help="Look inside posit numbers.", add_completion=False, pretty_exceptions_enable=False
)

#: typer may bring its own copy of click; this is the base of what either raises on a wrong command line
_UsageError: Any = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130  #: the exit code that typer makes of Ctrl-C

_READY = (
    "posit8", "posit16", "posit32", "posit64", "bposit16", "bposit32", "bposit64",
    "posit<8,0>", "posit<16,1>",
)  # fmt: skip


@app.command(context_settings={"ignore_unknown_options": True})
def show(
    value: Annotated[
        str, typer.Argument(help="A code (0x5a00, 0b01011010) or a decimal number (3.14159, -1e-5, NaR).")
    ],
    fmt: Annotated[str, typer.Option("--format", "-f", help="posit16, bposit32, posit<12,1>, …")] = "posit16",
) -> None:
    """Print sign, regime, exponent, fraction, exact value and neighbours of one posit."""
    typer.echo(show_text(value, Format.parse(fmt)))


@app.command()
def formats(
    names: Annotated[
        list[str] | None, typer.Argument(help="Formats; by default the ready-made ones.")
    ] = None,
) -> None:
    """List formats with range, precision near 1 and quire width."""
    typer.echo(table(Format.parse(name) for name in names or _READY))


@app.command()
def plot(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Posit formats, {', '.join(plotting.FLOATS)}, takum16; by default a selection."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: png, svg or pdf.")] = Path(
        "posit-accuracy.png"
    ),
) -> None:
    """Draw decimal accuracy over magnitude, posits beside floats and takums."""
    plotting.plot(names or plotting.DEFAULT, output)
    typer.echo(f"wrote {output}")


@app.command("check-sum")
def check_sum(
    function: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="numpy:sum, posit:dot, path/to/file.py:total, …")
    ],
    fmt: Annotated[
        str, typer.Option("--format", "-f", help="A posit format, float16, bfloat16, float32 or float64.")
    ] = "posit16",
    kind: Annotated[str, typer.Option(help="sum: fn(x); dot: fn(a, b); matmul: fn(A, B).")] = "sum",
    examples: Annotated[int, typer.Option(help="Operands to try, for each of the two questions.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed tries the same operands.")] = 0,
    min_size: Annotated[int, typer.Option(help="Fewest terms of a sum.")] = 0,
    max_size: Annotated[int, typer.Option(help="Most terms, but for a few long sums.")] = 40,
    special: Annotated[bool, typer.Option(help="NaR, NaN and infinities among the operands.")] = True,
    operands: Annotated[
        str | None, typer.Option(help="array, list or torch; torch for torch's own functions.")
    ] = None,
    result: Annotated[str | None, typer.Option(help="Format of the answer, if another.")] = None,
) -> None:
    """Ask whether a function sums exactly, and the same in any order; 0 if so, 1 with a counter-example."""
    from posit.errors import MissingReferenceError

    try:
        from posit import _check_sum
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise MissingReferenceError(
            "check-sum draws its examples with Hypothesis, which is not installed: pip install hypothesis"
        ) from error
    asked = _check_sum.CheckOptions(
        function, fmt, kind, examples, seed, min_size, max_size, special, operands, result
    )
    raise typer.Exit(_check_sum.check_sum(asked, sys.stdout))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; errors go to stderr in one sentence.

    Args:
        argv: Arguments without the program's name; by default the process's.

    Returns:
        0; 1 where `check-sum` found a counter-example; 2 after an error; 130 if interrupted.

    >>> main(["show", "0x4000", "--format", "posit8"])
    2
    """
    try:
        arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
        code = app(args=arguments, prog_name="posit", standalone_mode=False)
    except (PositError, OSError) as error:
        sys.stderr.write(f"posit: {error}\n")
        return 2
    except _UsageError as error:
        sys.stderr.write(f"posit: {error.format_message()}\n")
        return 2
    if code == _INTERRUPTED:
        sys.stderr.write("posit: interrupted\n")
    return code if isinstance(code, int) else 0


def main_entry() -> None:
    """The console script."""
    sys.exit(main())
