"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

from postrain.data import digits, folder
from postrain.data._dataset import Dataset
from postrain.errors import DataError

_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": lambda data_dir: digits.load_digits(),  # part of the package, wherever others lie
    "fashion-mnist": lambda data_dir: folder.load_folder("fashion-mnist", data_dir),
    "mnist": lambda data_dir: folder.load_folder("mnist", data_dir),
}
NAMES = tuple(_LOADERS)  #: the names that `load` knows


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: One of `NAMES`. ``digits`` is part of the package; the others are read from `data_dir`.
        data_dir: The folder that holds the files of `name`, or holds a folder or ``.npz`` file called `name`.

    Raises:
        DataError: The name is unknown, a file is missing or damaged, or its content cannot be trained on.

    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.classes
    ((1437, 8, 8), (360, 8, 8), 10)
    """
    if name not in _LOADERS:
        raise DataError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    return _LOADERS[name](data_dir)
