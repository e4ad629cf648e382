"""Writing files whole or not at all, and weights as safetensors.

A file appears under its name only when all its bytes are on the disk: they are written to a temporary name
in the same folder, flushed, and renamed over the old file, which stays intact if anything fails before.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from postrain.errors import DataError, OutputError

if TYPE_CHECKING:
    import torch

Writer = Callable[[BinaryIO], None]


def prepare_output(folder: Path) -> Path:
    """Make `folder` with its parents, and try that files can be written there.

    Returns:
        `folder`, as an absolute path.

    Raises:
        OutputError: It cannot be made, is a file, or refuses a new file.
    """
    folder = Path(folder).absolute()
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary_name(folder / "probe")
        probe.touch(exist_ok=False)
        probe.unlink()
    return folder


def write_atomic(path: Path, content: bytes | Writer) -> None:
    """Write `path` so that it holds either all of `content` or what it held before.

    Args:
        path: The file; its folder must exist.
        content: The bytes, or a function that writes them to the open file it is given.

    Raises:
        OutputError: The disk is full, the folder is missing, or it may not be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder) / "a.txt", b"whole")
    ...     [(file.name, file.read_bytes()) for file in Path(folder).iterdir()]
    [('a.txt', b'whole')]
    """
    path = Path(path)
    temporary = _temporary_name(path)
    with _explained(path):
        try:
            with temporary.open("xb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    content(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def save_weights(path: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> None:
    """Save named tensors as one safetensors file, atomically.

    Args:
        path: The file, usually ``*.safetensors``.
        tensors: Plain tensors by name; of a posit tensor its ``.codes``, with the format in `metadata`.
        metadata: Text by key, kept in the file's header.

    Raises:
        OutputError: The file cannot be written.
    """
    import safetensors.torch

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, safetensors.torch.save(whole, dict(metadata)))


def load_weights(path: Path) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """Load what `save_weights` saved: the tensors and the metadata.

    Raises:
        DataError: The file is missing, cut short, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise DataError(f"there is no weights file {path}; check the path") from error
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read weights from {path} ({error}); save them again") from error


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write to {path}: {reason}; choose another folder with --out") from error
