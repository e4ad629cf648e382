"""``python -m posit`` is the command `posit`."""

from posit.cli import main_entry

main_entry()
