"""Data sets: what `digits` holds for ever, and a clear error for everything that can be wrong elsewhere."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from postrain.data import NAMES, Dataset, load
from postrain.errors import DataError

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
RNG = np.random.default_rng(0)
ARRAYS: dict[str, npt.NDArray[np.uint8]] = {
    "x_train": RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8),
    "y_train": np.arange(6, dtype=np.uint8),
    "x_test": RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8),
    "y_test": np.arange(3, dtype=np.uint8),
}


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A folder with the four gzipped IDX files of a tiny data set."""
    for name, array in zip(IDX_FILES, ARRAYS.values(), strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def save_npz(path: Path, **changes: npt.NDArray[np.generic]) -> None:
    np.savez_compressed(path, **{**ARRAYS, **changes})  # type: ignore[arg-type]  # numpy's allow_pickle keyword


def same(dataset: Dataset) -> bool:
    """Whether `dataset` holds `ARRAYS`."""
    return all(
        np.array_equal(getattr(dataset, name) * (255 if name[0] == "x" else 1), array)
        for name, array in ARRAYS.items()
    )


def test_digits_are_these_for_ever() -> None:
    digits = load("digits")
    parts = (digits.x_train, digits.y_train, digits.x_test, digits.y_test)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    assert digest == "8518a3ef275b5d583938be0a18024f1629271dd68c15464767a772c340c652ec"


def test_digits_come_whole_and_split_once() -> None:
    digits = load("digits")
    x = np.concatenate([digits.x_train, digits.x_test])
    assert (digits.x_train.shape, digits.x_test.shape, digits.features) == ((1437, 8, 8), (360, 8, 8), 64)
    assert len({image.tobytes() for image in x}) == 1797  # no image is both in training and test data
    assert np.array_equal(x * 16, np.round(x * 16))
    assert x.max() == 1
    counts = np.bincount(np.concatenate([digits.y_train, digits.y_test]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(digits.y_test).min() >= 25  # no class is rare among the test images


def test_digits_licence_lies_beside_them() -> None:
    import postrain.data as package

    text = (Path(package.__file__).parent / "digits.LICENSE.txt").read_text("utf-8")
    packed = (Path(package.__file__).parent / "digits.csv.gz").read_bytes()
    assert "CC BY 4.0" in text
    assert hashlib.sha256(packed).hexdigest() in text


def test_idx_files_gzipped_or_plain(idx_folder: Path) -> None:
    assert same(load("fashion-mnist", idx_folder))
    for name in IDX_FILES:
        packed = idx_folder / f"{name}.gz"
        (idx_folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert same(load("mnist", idx_folder))


def test_parent_folder_is_enough(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = tmp_path_factory.mktemp("data")
    idx_folder.rename(parent / "fashion-mnist")
    save_npz(parent / "mnist.npz")
    assert load("fashion-mnist", parent).source == str(parent / "fashion-mnist")
    assert load("mnist", parent).source == str(parent / "mnist.npz")
    assert same(load("mnist", parent))
    with pytest.raises(DataError, match=r"seems to hold fashion-mnist, not mnist"):
        load("mnist", parent / "fashion-mnist")


def test_unknown_name() -> None:
    with pytest.raises(
        DataError, match=r"unknown data set 'cifar'; choose one of digits, fashion-mnist, mnist"
    ):
        load("cifar")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_folder_not_named_or_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name} is not part of the package.* --data-dir"):
        load(name)
    with pytest.raises(DataError, match=r"nowhere does not exist.* --data-dir"):
        load(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is missing.* --data-dir"):
        load(name, tmp_path)


IMAGES = idx(ARRAYS["x_train"])
BROKEN_IDX = {
    "gzip cut short": (gzip.compress(IMAGES)[:-20], "damaged or cut short"),
    "gzip damaged": (
        gzip.compress(IMAGES)[:40] + b"\xff" * 40 + gzip.compress(IMAGES)[80:],
        "damaged or cut short",
    ),
    "not gzip": (b"<html>not found</html>", "damaged or cut short"),
    "empty": (gzip.compress(b""), "begins with nothing, wanted 00000803"),
    "labels for images": (gzip.compress(idx(ARRAYS["y_train"])), "begins with 00000801, wanted 00000803"),
    "header cut short": (gzip.compress(IMAGES[:10]), "cut short inside its header"),
    "pixels cut short": (gzip.compress(IMAGES[:-1]), "announces 6 × 28 × 28 = 4704 bytes but holds 4703"),
    "pixels too many": (gzip.compress(IMAGES + b"\0"), "holds 4705"),
    "too few images": (gzip.compress(idx(ARRAYS["x_test"])), "has 3 images and 6 labels"),
    "other image size": (gzip.compress(idx(ARRAYS["x_train"][:, 1:])), r"images of shape \(27, 28\)"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN_IDX.values(), ids=BROKEN_IDX)
def test_broken_idx(idx_folder: Path, content: bytes, message: str) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", idx_folder)
    assert str(idx_folder) in str(caught.value)


def test_unreadable_file(idx_folder: Path) -> None:
    path = idx_folder / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"cannot read .*t10k-labels-idx1-ubyte\.gz"):
        load("mnist", idx_folder)


def not_finite(value: float) -> npt.NDArray[np.float32]:
    x = (ARRAYS["x_train"] / 255).astype(np.float32)
    x[2, 3, 4] = value
    return x


BROKEN_NPZ: dict[str, tuple[dict[str, npt.NDArray[np.generic]], str]] = {
    "nan": ({"x_train": not_finite(np.nan)}, "training data .* holds 1 pixels that are NaN or infinite"),
    "infinity": (
        {"x_test": np.full((3, 28, 28), np.inf)},
        "test data .* holds 2352 pixels that are NaN or infinite",
    ),
    "range": ({"x_train": ARRAYS["x_train"].astype(np.float32)}, r"outside \[0, 1\]: 0\.0 to 255\.0"),
    "integers": ({"x_train": ARRAYS["x_train"].astype(np.int64)}, "pixels of dtype int64"),
    "real labels": ({"y_train": np.zeros(6)}, "labels of dtype float64"),
    "label 10": ({"y_test": np.array([0, 1, 10])}, "labels 0 to 10; they must lie in 0 to 9"),
    "label -1": ({"y_test": np.array([0, 1, -1])}, "labels -1 to 1"),
    "label shape": ({"y_test": np.zeros((3, 1), int)}, r"shapes \(3, 28, 28\) and \(3, 1\)"),
    "objects": ({"x_train": np.array([None])}, "damaged or cut short"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN_NPZ.values(), ids=BROKEN_NPZ)
def test_broken_npz_content(
    tmp_path: Path, changes: dict[str, npt.NDArray[np.generic]], message: str
) -> None:
    save_npz(tmp_path / "mnist.npz", **changes)
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)


def test_broken_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    save_npz(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>", whole[:200] + b"\0" * 200 + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"mnist\.npz is damaged or cut short"):
            load("mnist", tmp_path)
    np.savez(path, x_train=ARRAYS["x_train"])
    with pytest.raises(DataError, match=r"mnist\.npz lacks y_train, x_test, y_test"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_real_data(name: str, shared_data: Path) -> None:
    real = load(name, shared_data)
    assert (real.x_train.shape, real.x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(real.y_test).sum() == 10_000
    assert real.x_test.max() == 1
