"""Molecules of QM9 from a file that the user has: atoms, their places, and what quantum chemistry says of them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ga.algebra import VGA3
from ga.errors import GAError
from ga.layout import Layout
from ga.tasks.networks import GraphNet, Invariants, perceptron

ELEMENTS = (1, 6, 7, 8, 9)
"""Atomic numbers of QM9: hydrogen, carbon, nitrogen, oxygen, fluorine."""
FIELDS = ("positions", "atomic_numbers", "offsets", "dipole", "polarizability")
"""Arrays of the file that are read."""


class MoleculeFileError(GAError, ValueError):
    """A file of molecules is missing, damaged, or lacks something."""


@dataclass(frozen=True)
class Molecules:
    """Molecules, filled up with absent atoms to the size of the largest; float32."""

    positions: Tensor  #: in Å, 0 for absent atoms, shape ``(n, atoms, 3)``
    elements: Tensor  #: place in :data:`ELEMENTS`, -1 for absent atoms, shape ``(n, atoms)``
    dipole: Tensor  #: length of the dipole moment in debye, shape ``(n,)``
    polarizability: Tensor  #: isotropic polarizability in cubic bohr radii, shape ``(n,)``

    def __len__(self) -> int:
        return len(self.dipole)

    def __getitem__(self, index: Tensor | slice) -> Molecules:
        return Molecules(
            self.positions[index], self.elements[index], self.dipole[index], self.polarizability[index]
        )


def load_molecules(data_dir: Path | str, name: str = "qm9_10k") -> Molecules:
    """Load molecules from a ``.npz`` file.

    It holds ``positions`` (Å), ``atomic_numbers``, ``offsets`` (the atoms of molecule i are ``offsets[i]`` to
    ``offsets[i + 1]``), ``dipole`` (debye) and ``polarizability`` (cubic bohr radii); other arrays are not read.

    Args:
        data_dir: The folder that holds the file.
        name: Its name without ``.npz``.

    Raises:
        MoleculeFileError: it is missing or damaged, lacks an array, or has other elements than QM9.

    Source:
        Ramakrishnan, Dral, Rupp, von Lilienfeld, "Quantum chemistry structures and properties of 134 kilo
        molecules", Scientific Data 1 (2014).
    """
    path = Path(data_dir) / f"{name}.npz"
    if not path.is_file():
        raise MoleculeFileError(f"{path} is missing; name the folder that holds it")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in FIELDS if key in archive}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise MoleculeFileError(f"{path} is damaged or cut short ({error}); fetch the file again") from error
    missing = [key for key in FIELDS if key not in arrays]
    if missing:
        raise MoleculeFileError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(FIELDS)}")
    places = {number: t for t, number in enumerate(ELEMENTS)}
    others = sorted(set(arrays["atomic_numbers"].tolist()) - set(places))
    if others:
        raise MoleculeFileError(f"{path} has atomic numbers {others}; those of QM9 are {ELEMENTS}")
    sizes = np.diff(arrays["offsets"])
    here = np.arange(sizes.max()) < sizes[:, None]
    positions = np.zeros((*here.shape, 3), np.float32)
    elements = np.full(here.shape, -1, np.int64)
    positions[here] = arrays["positions"]
    elements[here] = [places[number] for number in arrays["atomic_numbers"].tolist()]
    numbers = (torch.from_numpy(arrays[key].astype(np.float32)) for key in ("dipole", "polarizability"))
    return Molecules(torch.from_numpy(positions), torch.from_numpy(elements), *numbers)


class MoleculeNet(nn.Module):
    """A number for each molecule, the sum of its atoms', which no motion or reflection of space changes.

    Args:
        hidden: Channels of the multivectors of Cl(3) at each atom.
        layers: How often messages pass.
        width: Hidden units of the perceptrons.
        generator: Source of the initial weights.

    >>> net = MoleculeNet(hidden=8, layers=1, width=16, generator=torch.Generator().manual_seed(0))
    >>> net(torch.randn(2, 3, 3), torch.tensor([[3, 0, 0], [0, 0, -1]])).shape  # water, and hydrogen
    torch.Size([2])
    """

    def __init__(
        self, hidden: int = 16, layers: int = 3, width: int = 64, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.graph = GraphNet(
            numbers=len(ELEMENTS),
            vectors=0,
            pair=BASIS,
            hidden=hidden,
            layers=layers,
            width=width,
            generator=generator,
        )
        layout = Layout.full(VGA3)
        self.invariants = Invariants(layout)
        self.readout = perceptron([hidden * len(layout.grades), width, 1], generator)

    def forward(self, positions: Tensor, elements: Tensor) -> Tensor:
        """Predict.

        Args:
            positions: In Å, shape ``(n, atoms, 3)``.
            elements: Place in :data:`ELEMENTS`, -1 for absent atoms, shape ``(n, atoms)``.

        Returns:
            Shape ``(n,)``.
        """
        mask = elements >= 0
        kinds = (
            nn.functional.one_hot(elements.clamp(min=0), len(ELEMENTS)).to(positions.dtype) * mask[..., None]
        )
        apart = (positions[:, :, None] - positions[:, None]).norm(dim=-1, keepdim=True)
        x = self.graph(kinds, None, positions, radial(apart), mask)
        each = self.readout(self.invariants(x)).squeeze(-1) * mask
        total: Tensor = each.sum(-1)
        return total


BASIS = 8
"""Number of radial functions of a distance."""


def radial(distance: Tensor) -> Tensor:
    """Gaussians of width 0.5 Å around 0.75 to 4.25 Å, shape ``(*distance, BASIS)`` without its last dimension of 1."""
    centers = torch.linspace(0.75, 4.25, BASIS, dtype=distance.dtype, device=distance.device)
    return torch.exp(-0.5 * ((distance - centers) / 0.5).square())
