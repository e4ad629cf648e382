"""Checkpoints: everything that a run needs to go on to the same bits, in one safetensors file, whole or not at all.

A file holds the tensors by name and, in its header under the key ``postrain``, a JSON text: the version of this layout,
the metadata, the state in which the tensors have their places, and a SHA-256 over all of it. Metadata are reserved for
the recipe, the digests of parent and data, the grade layout and the code's version; fields that this version does not
know are kept. A folder holds the last few, ``step-00000120.safetensors``; since each appears by a rename, a process
killed at any moment leaves the one before.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from postrain import __version__
from postrain._state import Tensors, flatten, unflatten
from postrain.errors import DataError
from postrain.files import load_weights, save_weights

VERSION = 1  #: of the layout
_KEY = "postrain"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
_RESERVED: dict[str, Any] = {
    "recipe": None,
    "parent": None,  #: digest of the checkpoint this one's run began with, if any
    "data": None,  #: digest of the training data
    "grade_layout": None,  #: of multivector parameters
    "code_version": __version__,
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file held."""

    state: dict[str, Any]
    metadata: dict[str, Any]
    digest: str  #: SHA-256 of the contents


def save(path: Path, state: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> str:
    """Write a checkpoint atomically.

    Args:
        path: The file; its folder must exist.
        state: Nested dictionaries and lists of tensors, posits, NumPy arrays, numbers and text.
        metadata: JSON values by name; the reserved names are filled in where they are missing.

    Returns:
        The digest of the contents: equal states and metadata give the same, on every machine.

    Raises:
        RecipeError: the state holds something that cannot be saved without pickling.
        OutputError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = save(Path(folder) / "a.safetensors", {"w": torch.ones(1), "step": 3}, {"note": "kept"})
    ...     found = load(Path(folder) / "a.safetensors")
    >>> found.state, found.metadata["note"], found.digest == digest
    ({'w': tensor([1.]), 'step': 3}, 'kept', True)
    """
    tree, tensors = flatten(dict(state))
    given = {**_RESERVED, **(metadata or {})}
    content = {"version": VERSION, "metadata": dict(sorted(given.items())), "state": tree}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digest = _digest(content, whole)
    save_weights(path, whole, {_KEY: json.dumps({**content, "sha256": digest})})
    return digest


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Raises:
        DataError: the file is missing, cut short, changed since it was written, of a later layout, or none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no checkpoint {path}; check the path")
    try:
        stored, header = load_weights(path)
    except DataError as error:
        raise DataError(
            f"the checkpoint {path} is damaged or cut short ({error.__cause__}); delete it to go on from the one before"
        ) from error
    tensors = {name: tensor.clone() for name, tensor in stored.items()}
    content = _content(path, header)
    written = content.pop("sha256", None)
    digest = _digest(content, tensors)
    if written != digest:
        raise DataError(
            f"the checkpoint {path} was changed or damaged after it was written (its SHA-256 does not match); "
            "delete it to go on from the one before"
        )
    others = {key: value for key, value in header.items() if key != _KEY}
    return Checkpoint(unflatten(content["state"], tensors), {**others, **content["metadata"]}, digest)


def _content(path: Path, header: dict[str, str]) -> dict[str, Any]:
    """The JSON in the header, of a layout that we know."""
    if _KEY not in header:
        raise DataError(
            f"{path} is a safetensors file but no checkpoint of postrain; give one that postrain wrote"
        )
    try:
        content = json.loads(header[_KEY])
    except json.JSONDecodeError as error:
        raise DataError(
            f"the checkpoint {path} is damaged (its header is no JSON: {error}); use another"
        ) from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        version = content.get("version") if isinstance(content, dict) else None
        raise DataError(
            f"the checkpoint {path} has layout version {version}, this program reads {VERSION}; "
            "use the version of postrain that wrote it"
        )
    return content


def _digest(content: Mapping[str, Any], tensors: Tensors) -> str:
    sha = hashlib.sha256(json.dumps(content).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies.

    >>> path_of(Path("run"), 120).name
    'step-00000120.safetensors'
    """
    return Path(folder) / f"step-{step:08d}.safetensors"


def all_of(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not Path(folder).is_dir():
        return []
    found = [
        (int(match[1]), path) for path in Path(folder).iterdir() if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, or None.

    It is complete, whenever its writer was killed: a file gets its name only when all its bytes are on the disk.
    """
    found = all_of(folder)
    return found[-1] if found else None


def save_step(
    folder: Path, step: int, state: Mapping[str, Any], metadata: Mapping[str, Any], keep: int = 2
) -> Path:
    """Save the checkpoint of a step, then delete all but the last `keep` of the folder."""
    path = path_of(folder, step)
    save(path, state, metadata)
    for old in all_of(folder)[: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    return path


def clean(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder."""
    for path in Path(folder).glob(".step-*.safetensors.*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()
