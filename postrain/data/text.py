"""A text as numbers: its characters, in the order of their code points, and where training ends."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from postrain.errors import DataError

TRAINING_SHARE = 0.9  #: the first nine tenths, as usual for Tiny Shakespeare


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """The characters of a text, split into training and test part; int64, each in ``range(len(symbols))``."""

    name: str
    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    symbols: str  #: each different character once
    source: str


def load_text(path: Path, name: str = "text") -> Text:
    """Read a UTF-8 text file.

    Raises:
        DataError: the file is missing, no UTF-8 text, or shorter than 100 characters.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("banana " * 100)
    ...     text = load_text(Path(folder) / "a.txt")
    >>> text.symbols, text.train[:6].tolist(), len(text.train), len(text.test)
    (' abn', [2, 1, 3, 1, 3, 1], 630, 70)
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; check that it exists and may be read"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error.reason}); convert it first") from error
    if len(content) < 100:
        raise DataError(f"{path} has {len(content)} characters; a text to train on needs at least 100")
    points = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    different, numbers = np.unique(points, return_inverse=True)
    cut = int(TRAINING_SHARE * len(points))
    symbols = "".join(map(chr, different.tolist()))
    numbers = numbers.astype(np.int64)
    return Text(name, numbers[:cut], numbers[cut:], symbols, str(path))


def load_tinyshakespeare(data_dir: Path | None) -> Text:
    """Read ``tinyshakespeare.txt`` (or ``input.txt``) from a folder.

    Raises:
        DataError: no folder is named, or it does not hold the file.
    """
    if data_dir is None or not Path(data_dir).is_dir():
        what = (
            "name the folder that holds"
            if data_dir is None
            else f"the data folder {data_dir} does not exist; name one with"
        )
        raise DataError(f"tinyshakespeare is not part of the package: {what} tinyshakespeare.txt (data.dir)")
    for name in ("tinyshakespeare.txt", "input.txt"):
        if (Path(data_dir) / name).exists():
            return load_text(Path(data_dir) / name, "tinyshakespeare")
    raise DataError(
        f"{Path(data_dir) / 'tinyshakespeare.txt'} is missing; put the file there or name another data.dir"
    )
