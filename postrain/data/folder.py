"""MNIST and Fashion-MNIST from a folder that the user names: four IDX files or one `.npz`."""

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from postrain.data._dataset import Dataset
from postrain.data.idx import read_idx
from postrain.errors import DataError

LICENSES = {"fashion-mnist": "MIT", "mnist": "CC BY-SA 3.0"}  #: of the data sets that come from a folder


class Arrays(NamedTuple):
    """The four arrays, under the names that ``.npz`` files give them."""

    x_train: npt.NDArray[np.generic]
    y_train: npt.NDArray[np.generic]
    x_test: npt.NDArray[np.generic]
    y_test: npt.NDArray[np.generic]


def _idx_names(stem: str, ndim: int) -> list[str]:
    """The names under which IDX files are found in the wild."""
    return [f"{stem}{dot}idx{ndim}-ubyte{suffix}" for suffix in (".gz", "") for dot in "-."]


def load_folder(name: str, data_dir: Path | None) -> Dataset:
    """Load `name`, a key of `LICENSES`, from `data_dir`.

    Looked for, in this order: IDX files in ``data_dir/name``, the file ``data_dir/name.npz``, IDX files in
    `data_dir` itself unless that folder bears another data set's name.

    Raises:
        DataError: The folder or a file is missing or damaged, or its content cannot be trained on.
    """
    if data_dir is None:
        raise DataError(
            f"{name} is not part of the package; name the folder that holds its files with --data-dir"
        )
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise DataError(
            f"the data folder {data_dir} does not exist; name one that holds {name} with --data-dir"
        )
    archive = data_dir / f"{name}.npz"
    inner = data_dir / name
    if inner.is_dir():
        return _dataset(name, inner, _read_idx_files(inner))
    if archive.exists():
        return _dataset(name, archive, read_npz(archive))
    if data_dir.name in LICENSES and data_dir.name != name:
        raise DataError(
            f"{data_dir} seems to hold {data_dir.name}, not {name}; name another folder with --data-dir"
        )
    return _dataset(name, data_dir, _read_idx_files(data_dir))


def _dataset(name: str, source: Path, arrays: Arrays) -> Dataset:
    return Dataset(
        name=name,
        x_train=_pixels(arrays.x_train, source),
        y_train=_labels(arrays.y_train, source),
        x_test=_pixels(arrays.x_test, source),
        y_test=_labels(arrays.y_test, source),
        classes=10,
        shape=tuple(arrays.x_train.shape[1:]),
        license=LICENSES[name],
        source=str(source),
    )


def _pixels(x: npt.NDArray[np.generic], source: Path) -> npt.NDArray[np.float32]:
    """Bytes divided by 255; floating-point pixels as they are."""
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    if np.issubdtype(x.dtype, np.floating):
        return x.astype(np.float32)
    raise DataError(f"{source} holds pixels of dtype {x.dtype}; they must be uint8, or floats in [0, 1]")


def _labels(y: npt.NDArray[np.generic], source: Path) -> npt.NDArray[np.int64]:
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{source} holds labels of dtype {y.dtype}; they must be integers")
    return y.astype(np.int64)


def _read_idx_files(folder: Path) -> Arrays:
    wanted = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
    paths = [(_find_idx(folder, stem, ndim), ndim) for stem, ndim in wanted]  # all there, before any is read
    return Arrays(*(read_idx(path, ndim) for path, ndim in paths))


def _find_idx(folder: Path, stem: str, ndim: int) -> Path:
    names = _idx_names(stem, ndim)
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise DataError(
        f"{folder / names[0]} is missing; put the four IDX files there or name another --data-dir"
    )


def read_npz(path: Path) -> Arrays:
    """The four arrays of an ``.npz`` file.

    Raises:
        DataError: it is damaged, or lacks one.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is damaged or cut short (no .npz archive); fetch the file again")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in Arrays._fields if key in archive}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut short ({error}); fetch the file again") from error
    missing = [key for key in Arrays._fields if key not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(Arrays._fields)}")
    return Arrays(**arrays)
