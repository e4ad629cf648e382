"""The command `posit`: show a number, list formats, plot their accuracy."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; errors go to stderr in one sentence.

    Args:
        argv: Arguments without the program's name; by default the process's.

    Returns:
        0, or 2 after an error.

    >>> main(["show", "0x4000", "--format", "posit8"])
    2
    """
    try:
        arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
        app(args=arguments, prog_name="posit", standalone_mode=False)
    except (PositError, OSError) as error:
        sys.stderr.write(f"posit: {error}\n")
        return 2
    except _UsageError as error:
        sys.stderr.write(f"posit: {error.format_message()}\n")
        return 2
    return 0


def main_entry() -> None:
    """The console script."""
    sys.exit(main())
