"""Any classification data from an `.npz` file with the arrays `x_train`, `y_train`, `x_test` and `y_test`."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from postrain.data._dataset import Dataset
from postrain.data.folder import read_npz
from postrain.errors import DataError


def load_arrays(path: Path, name: str = "npz") -> Dataset:
    """Read real-valued inputs and integer labels; bytes are divided by 255, other numbers stay as they are.

    The number of classes is one more than the largest label.

    Raises:
        DataError: the file is missing or damaged, an array is missing, or its content cannot be trained on.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"cannot read {path}: there is no such file; check data.path")
    arrays = read_npz(path)
    x_train, x_test = (_inputs(x, path) for x in (arrays.x_train, arrays.x_test))
    y_train, y_test = (_labels(y, path) for y in (arrays.y_train, arrays.y_test))
    return Dataset(
        name=name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=int(max(y_train.max(initial=0), y_test.max(initial=0))) + 1,
        shape=tuple(x_train.shape[1:]),
        license="",
        source=str(path),
        bounded=False,
    )


def _inputs(x: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.float32]:
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    if np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer):
        return x.astype(np.float32)
    raise DataError(f"{path} holds inputs of dtype {x.dtype}; they must be numbers")


def _labels(y: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.int64]:
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{path} holds labels of dtype {y.dtype}; they must be integers")
    return y.astype(np.int64)
