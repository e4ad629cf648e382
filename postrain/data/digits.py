"""The 8×8 optical digits, part of the package.

1797 images of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998), the file
that scikit-learn ships; `digits.LICENSE.txt` beside it holds the licences. The file has no split of its own.
Ours takes the 360 images whose row number has the smallest SHA-256 as test data: fixed for ever, the same on
every machine and with every version of NumPy.
"""

import gzip
import hashlib
from importlib import resources

import numpy as np

from postrain.data._dataset import Dataset

TEST_IMAGES = 360  #: a fifth of the 1797


def load_digits() -> Dataset:
    """Read the digits, pixels divided by 16, in a fixed split of 1437 training and 360 test images."""
    packed = resources.files("postrain.data").joinpath("digits.csv.gz").read_bytes()
    rows = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines(), delimiter=",", dtype=np.uint8)
    x = (rows[:, :-1] / np.float32(16)).astype(np.float32).reshape(-1, 8, 8)
    y = rows[:, -1].astype(np.int64)
    order = sorted(range(len(rows)), key=lambda row: hashlib.sha256(str(row).encode()).digest())
    test, train = sorted(order[:TEST_IMAGES]), sorted(order[TEST_IMAGES:])
    return Dataset(
        name="digits",
        x_train=x[train],
        y_train=y[train],
        x_test=x[test],
        y_test=y[test],
        classes=10,
        shape=(8, 8),
        license="CC BY 4.0",
        source="UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak",
    )
