"""Decimal accuracy over magnitude, of posits beside floats and takums: the curves, and their figure."""

import math
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from posit._rational import from_rational, to_rational
from posit.errors import FormatError, TextError
from posit.formats import Format

Curve = list[tuple[float, float]]  #: (log10 of magnitude, decimal digits)

_SUFFIXES = (".png", ".svg", ".pdf")

#: float formats: bits of precision (with the hidden one), least and greatest exponent of normal numbers
FLOATS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "fp8_e4m3": (4, -6, 8),
    "fp8_e5m2": (3, -14, 15),
}
DEFAULT = (
    "posit16",
    "bposit16",
    "float16",
    "bfloat16",
    "takum16",
    "posit8",
    "fp8_e4m3",
    "fp8_e5m2",
    "float32",
)


def digits(scale: int, below: Fraction, above: Fraction) -> float:
    """Decimal digits between two neighbours of 1.5 * 2**scale: -log10 of the largest relative error."""
    middle = Fraction(3, 2) * Fraction(2) ** scale
    return -math.log10((above - below) / (2 * middle))


def posit_curve(fmt: Format) -> Curve:
    """Digits in every binade of a posit format, between the neighbours of 1.5 * 2**scale.

    >>> curve = posit_curve(Format(16))
    >>> max(curve)[0] > 16, round(max(d for _, d in curve), 1)
    (True, 3.8)
    """
    curve = []
    for scale in range(fmt.min_scale, fmt.max_scale):
        middle = Fraction(3, 2) * Fraction(2) ** scale
        code = from_rational(middle, fmt)
        value = to_rational(code, fmt)
        assert value is not None  # a real number rounds to a real number
        low = code - 1 if value > middle else code
        low = max(min(low, fmt.maxpos - 1), fmt.minpos)
        below, above = to_rational(low, fmt), to_rational(low + 1, fmt)
        assert below is not None
        assert above is not None
        curve.append((math.log10(1.5) + scale * math.log10(2), max(0.0, digits(scale, below, above))))
    return curve


def float_curve(name: str) -> Curve:
    """Digits in every binade of a float format, subnormal ones included."""
    precision, low, high = FLOATS[name]
    curve = []
    for scale in range(low - precision + 1, high + 1):
        bits = precision - max(0, low - scale)
        gap = Fraction(2) ** (scale - bits + 1)
        curve.append((math.log10(1.5) + scale * math.log10(2), digits(scale, Fraction(0), gap)))
    return curve


def takum_curve(nbits: int = 16) -> Curve:
    """Digits in every binade of a linear takum (arXiv 2404.18603), whose characteristic has 0 to 7 bits."""
    curve = []
    for scale in range(-255, 255):
        length = (scale + 1 if scale >= 0 else -scale).bit_length() - 1
        gap = Fraction(2) ** (scale - max(nbits - 5 - length, 0))
        curve.append((math.log10(1.5) + scale * math.log10(2), digits(scale, Fraction(0), gap)))
    return curve


def curve_of(name: str) -> Curve:
    """The curve of a posit format, a float format or ``takum16``, by name.

    Raises:
        FormatError: none of these.
    """
    if name in FLOATS:
        return float_curve(name)
    if name == "takum16":
        return takum_curve()
    try:
        return posit_curve(Format.parse(name))
    except FormatError as error:
        known = ", ".join([*FLOATS, "takum16"])
        raise FormatError(f"{error}; or one of {known}") from None


def plot(names: Sequence[str], path: Path) -> None:
    """Draw the curves into a file; png, svg or pdf by its suffix.

    Raises:
        FormatError: an unknown name.
        TextError: another suffix.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise TextError(f"the figure's file must end in {', '.join(_SUFFIXES)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise TextError(
            f"the figure's folder {path.parent} does not exist; create it or choose another with --output"
        )
    curves = {name: curve_of(name) for name in names or DEFAULT}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        style = "-" if "posit" in name else "--"
        axes.step([x for x, _ in curve], [y for _, y in curve], style, where="mid", label=name)
    axes.set_xlabel("magnitude, log10 |x|")
    axes.set_ylabel("decimal digits, -log10 of the largest relative error")
    axes.set_xlim(-40, 40)
    axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend()
    _write(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:].lower()))


def _write(path: Path, save: Callable[[Path], None]) -> None:
    """Under a temporary name first, so that an interrupted run leaves no half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
