"""Hulls, scattering, molecules: known values and invariances of the tasks, and of the networks made for them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ga import STA, VGA3, Algebra, check_grades
from ga.tasks.hulls import convex_hulls, hull_volumes
from ga.tasks.molecules import ELEMENTS, MoleculeFileError, MoleculeNet, load_molecules
from ga.tasks.n_body import BodiesNet
from ga.tasks.networks import InvariantNet
from ga.tasks.scattering import electron_muon_scattering, inner, squared_amplitude
from ga.testing import random_group_element, random_orthogonal

D = torch.float64


def test_hulls_of_simplices_cubes_and_cross_polytopes() -> None:
    for d in (2, 3, 5):
        simplex = torch.cat([torch.zeros(1, d, dtype=D), torch.eye(d, dtype=D)])
        cross = torch.cat([torch.eye(d, dtype=D), -torch.eye(d, dtype=D), 0.01 * torch.ones(1, d, dtype=D)])
        torch.testing.assert_close(
            hull_volumes(simplex[None]), torch.tensor([1 / math.factorial(d)], dtype=D)
        )
        torch.testing.assert_close(
            hull_volumes(cross[None]), torch.tensor([2**d / math.factorial(d)], dtype=D)
        )
    with pytest.raises(ValueError, match="more than d points"):
        hull_volumes(torch.zeros(1, 5, 5))


def test_hulls_equal_qhull_and_are_moved_by_nothing(generator: torch.Generator) -> None:
    spatial = pytest.importorskip("scipy.spatial")
    clouds, volumes = convex_hulls(4, generator, points=12, dim=4)
    expected = [spatial.ConvexHull(cloud).volume for cloud in clouds.double().numpy()]
    torch.testing.assert_close(volumes, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=0)
    turn = random_orthogonal(Algebra(4), generator)
    moved = clouds.double() @ turn.T + 3.0
    torch.testing.assert_close(hull_volumes(moved).float(), volumes, rtol=1e-5, atol=0)


def dirac() -> torch.Tensor:
    """Gamma matrices in Dirac's representation, shape (4, 4, 4)."""
    zero, one = torch.zeros(2, 2, dtype=torch.complex128), torch.eye(2, dtype=torch.complex128)
    pauli = torch.tensor([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128)
    rows = [torch.block_diag(one, -one)]
    rows += [torch.cat([torch.cat([zero, s], 1), torch.cat([-s, zero], 1)]) for s in pauli]
    return torch.stack(rows)


def test_amplitude_is_the_trace_of_gamma_matrices(generator: torch.Generator) -> None:
    masses = torch.tensor([0.3, 1.1, 0.3, 1.1], dtype=D)
    momenta = torch.randn(4, 3, generator=generator, dtype=D)
    energy = (momenta.square().sum(-1) + masses**2).sqrt()
    k, p, k2, p2 = torch.cat([energy[:, None], momenta], 1)
    gamma, metric = dirac(), torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=torch.complex128))

    def tensor(a: torch.Tensor, b: torch.Tensor, mass: float) -> torch.Tensor:
        lower = torch.einsum("mij,mn->nij", gamma, metric)
        slash = [
            torch.einsum("m,mij->ij", x.to(torch.complex128), lower) + mass * torch.eye(4) for x in (b, a)
        ]
        return torch.einsum("ij,mjk,kl,nli->mn", slash[0], gamma, slash[1], gamma) / 2

    left, right = tensor(k, k2, 0.3), tensor(p, p2, 1.1)
    expected = torch.einsum("mn,mr,ns,rs->", left, metric, metric, right).real
    torch.testing.assert_close(squared_amplitude(k, p, k2, p2), expected)


def test_amplitude_without_masses_and_under_boosts(generator: torch.Generator) -> None:
    angle = 0.7
    k, p = torch.tensor([1.0, 0, 0, 1.0], dtype=D), torch.tensor([1.0, 0, 0, -1.0], dtype=D)
    k2 = torch.tensor([1.0, math.sin(angle), 0, math.cos(angle)], dtype=D)
    s, u = float(inner(k + p, k + p)), float(inner(k - (k + p - k2), k - (k + p - k2)))
    torch.testing.assert_close(
        squared_amplitude(k, p, k2, k + p - k2), torch.tensor(2 * (s**2 + u**2), dtype=D)
    )
    momenta, values = electron_muon_scattering(50, generator)
    boost = random_group_element(STA, generator, "spin").matrix
    moved = squared_amplitude(*(momenta.double() @ boost.T).unbind(1))
    torch.testing.assert_close(moved.float(), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algebra", [Algebra(5), STA], ids=str)
def test_invariant_networks(algebra: Algebra, generator: torch.Generator) -> None:
    net = InvariantNet(algebra, 3, 4, blocks=2, width=8, generator=generator).double()
    x = torch.randn(6, 3, algebra.n, generator=generator, dtype=D) / 2
    turn = random_group_element(algebra, generator, "pin").matrix
    value = net(x)
    assert float(value.detach().std()) > 1e-3
    torch.testing.assert_close(net(x @ turn.T), value, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(net(x @ (turn.T * 1.1)), value)
    assert check_grades(net)
    torch.autograd.backward(value.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def test_bodies_turn_with_space(generator: torch.Generator) -> None:
    net = BodiesNet(hidden=4, layers=2, width=8, generator=generator).double()
    charges = torch.tensor([[1.0, -1, 1, 1, -1]], dtype=D).expand(2, 5)
    x, v = torch.randn(2, 2, 5, 3, generator=generator, dtype=D)
    turn, shift = random_orthogonal(VGA3, generator), torch.tensor([3.0, -1.0, 2.0], dtype=D)
    later = net(charges, x, v)
    torch.testing.assert_close(net(charges, x @ turn.T + shift, v @ turn.T), later @ turn.T + shift)
    order = torch.tensor([3, 1, 0, 4, 2])
    torch.testing.assert_close(net(charges[:, order], x[:, order], v[:, order]), later[:, order])
    assert not torch.allclose(net(charges * torch.tensor([1, 1, 1, 1, -1], dtype=D), x, v), later)


def archive(path: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "positions": np.arange(15, dtype=np.float32).reshape(5, 3),
        "atomic_numbers": np.array([8, 1, 1, 7, 9], np.uint8),
        "offsets": np.array([0, 3, 5], np.int32),
        "dipole": np.array([1.8, 0.2], np.float32),
        "polarizability": np.array([6.3, 9.0], np.float32),
    } | changes
    np.savez(path / "qm9_10k.npz", **{k: v for k, v in arrays.items() if v.size})
    return path


def test_molecules_are_read_and_filled_up(tmp_path: Path) -> None:
    found = load_molecules(archive(tmp_path))
    assert len(found) == 2
    assert found.elements.tolist() == [[3, 0, 0], [2, 4, -1]]
    assert found.positions[1].tolist() == [[9, 10, 11], [12, 13, 14], [0, 0, 0]]
    assert found[1:].dipole.tolist() == pytest.approx([0.2])
    assert ELEMENTS[int(found.elements[1, 1])] == 9


def test_files_of_molecules_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MoleculeFileError, match="is missing"):
        load_molecules(tmp_path)
    with pytest.raises(MoleculeFileError, match="lacks dipole"):
        load_molecules(archive(tmp_path, dipole=np.array([])))
    with pytest.raises(MoleculeFileError, match=r"atomic numbers \[17\]"):
        load_molecules(archive(tmp_path, atomic_numbers=np.array([8, 1, 1, 7, 17], np.uint8)))
    (tmp_path / "qm9_10k.npz").write_bytes(b"no archive")
    with pytest.raises(MoleculeFileError, match="damaged"):
        load_molecules(tmp_path)


def test_molecules_are_moved_by_nothing_and_absent_atoms_are_absent(generator: torch.Generator) -> None:
    net = MoleculeNet(hidden=4, layers=2, width=8, generator=generator).double()
    elements = torch.tensor([[3, 0, 0, 1, -1, -1]])
    x = torch.randn(1, 6, 3, generator=generator, dtype=D)
    value = net(x, elements)
    turn = random_orthogonal(VGA3, generator)
    torch.testing.assert_close(net(x @ turn.T + 2.0, elements), value)
    torch.testing.assert_close(net(x[:, :4], elements[:, :4]), value)
    assert not torch.allclose(net(x * 1.1, elements), value)
