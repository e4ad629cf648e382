"""Posit numbers with exact (quire) accumulation: formats, arrays, linear algebra, references."""

from posit._threads import get_num_threads, set_num_threads
from posit.formats import Format, bposit16, bposit32, bposit64, posit8, posit16, posit32, posit64

__all__ = [
    "Format",
    "bposit16",
    "bposit32",
    "bposit64",
    "get_num_threads",
    "posit8",
    "posit16",
    "posit32",
    "posit64",
    "set_num_threads",
]
