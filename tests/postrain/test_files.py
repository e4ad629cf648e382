"""Files are written whole or not at all, and weights come back bit for bit."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from postrain.errors import DataError, OutputError
from postrain.files import load_weights, prepare_output, save_weights, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a long old content")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    write_atomic(path, lambda file: file.writelines([b"from ", b"a writer"]))
    assert path.read_bytes() == b"from a writer"
    assert names(tmp_path) == ["a.bin"]


def test_who_reads_the_old_file_reads_it_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomic(path, b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_a_failure_leaves_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    expected = OutputError if isinstance(failure, OSError) else failure
    with pytest.raises(expected):  # type: ignore[arg-type]  # a class or an instance's class
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"nowhere/a\.bin: No such file or directory; choose another folder"
    ):
        write_atomic(tmp_path / "nowhere" / "a.bin", b"")


def test_output_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = prepare_output(tmp_path / "some" / "where")
    assert names(folder) == []
    assert folder.is_absolute()


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            OutputError, match=rf"cannot write to {path}: .*; choose another folder with --out"
        ):
            prepare_output(path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write to")
def test_output_folder_that_is_not_writable() -> None:
    with pytest.raises(OutputError, match=r"cannot write to /proc/self: "):
        prepare_output(Path("/proc/self"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_output_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied; choose another folder with --out"):
        prepare_output(tmp_path)


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "codes": torch.tensor([[0, 1, -(2**15)], [3, 4, 5]], dtype=torch.int16).t(),  # not contiguous
        "bias": torch.tensor([0.1, -0.0]).requires_grad_(),
    }
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors, {"format": "posit16"})
    loaded, metadata = load_weights(path)
    assert metadata == {"format": "posit16"}
    assert {name: (t.dtype, t.shape) for name, t in loaded.items()} == {
        "codes": (torch.int16, (3, 2)),
        "bias": (torch.float32, (2,)),
    }
    for name, tensor in tensors.items():
        assert loaded[name].contiguous().numpy().tobytes() == tensor.detach().contiguous().numpy().tobytes()


def test_broken_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(DataError, match=r"there is no weights file .*w\.safetensors"):
        load_weights(path)
    save_weights(path, {"w": torch.zeros(100)}, {})
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:20], b"", b"\x80\x04pickle" * 9):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read weights from .*w\.safetensors .*; save them again"):
            load_weights(path)
