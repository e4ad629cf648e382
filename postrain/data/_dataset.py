"""What a data set is once loaded, and the checks that every data set passes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from postrain.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images and their classes, split into training and test data.

    Pixels are float32 in [0, 1] (other inputs any finite float32), shape ``(n, *shape)``; labels int64 in
    ``range(classes)``, shape ``(n,)``.

    Raises:
        DataError: The arrays do not fit together, or hold NaN, infinity or an unknown label.
    """

    name: str
    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]
    classes: int  #: how many there are
    shape: tuple[int, ...]  #: of one image
    license: str
    source: str  #: who made it, or the folder it was read from
    bounded: bool = True  #: whether inputs are pixels, in [0, 1]

    def __post_init__(self) -> None:
        for part, x, y in (("training", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            self._check(f"the {part} data of {self.name} ({self.source})", x, y)

    @property
    def features(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape)

    def _check(self, what: str, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> None:
        if x.dtype != np.float32 or y.dtype != np.int64:
            raise DataError(f"{what} must be float32 with int64 labels, got {x.dtype} and {y.dtype}")
        if x.shape[1:] != self.shape or y.ndim != 1:
            raise DataError(
                f"{what} must hold images of shape {self.shape} and one label each, "
                f"got shapes {x.shape} and {y.shape}"
            )
        if len(x) != len(y) or len(x) == 0:
            raise DataError(f"{what} has {len(x)} images and {len(y)} labels; each image needs one label")
        bad = int(np.count_nonzero(~np.isfinite(x)))
        if bad:
            raise DataError(f"{what} holds {bad} pixels that are NaN or infinite; remove or replace them")
        if self.bounded and (x.min() < 0 or x.max() > 1):
            raise DataError(
                f"{what} holds pixels outside [0, 1]: {x.min()} to {x.max()}; divide by the largest pixel"
            )
        if y.min() < 0 or y.max() >= self.classes:
            raise DataError(
                f"{what} holds labels {y.min()} to {y.max()}; they must lie in 0 to {self.classes - 1}"
            )
