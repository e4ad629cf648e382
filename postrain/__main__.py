"""``python -m postrain``: the same as the program ``postrain``."""

from postrain.cli import main_entry

main_entry()
