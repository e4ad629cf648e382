"""The signed-volume task and its network."""

import pytest
import torch
from torch import Tensor

from ga import check_grades
from ga.algebra import VGA3
from ga.tasks.signed_volume import SignedVolumeNet, signed_volume
from ga.testing import random_orthogonal, signed_permutations


def test_target_is_a_tenth_of_the_determinant(generator: torch.Generator) -> None:
    points, target = signed_volume(64, generator)
    a, b, c = points.double().unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(-1)
    torch.testing.assert_close(target.double(), volume / 10, rtol=1e-5, atol=1e-7)
    assert points.dtype == target.dtype == torch.float32


def test_samples_are_reproducible() -> None:
    first, second = (signed_volume(8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def error(net: SignedVolumeNet, points: Tensor, matrix: Tensor) -> float:
    """Relative error of net(M p) = det(M) net(p)."""
    with torch.no_grad():
        expected = net(points) * matrix.det().to(points.dtype)
        return float((net(points @ matrix.T.to(points.dtype)) - expected).abs().max() / expected.abs().max())


def test_network_changes_sign_under_reflections(generator: torch.Generator) -> None:
    net = SignedVolumeNet(8, generator=generator)
    points, _ = signed_volume(64, generator)
    assert net(points).abs().max() > 0.01
    for _ in range(10):
        assert error(net, points, random_orthogonal(VGA3, generator)) < 1e-5
    assert max(error(net, points, m) for m in signed_permutations(3)) < 1e-6


def test_every_parameter_is_declared_and_used(generator: torch.Generator) -> None:
    net = SignedVolumeNet(8, generator=generator)
    points, target = signed_volume(32, generator)
    torch.autograd.backward((net(points) - target).square().mean())
    assert all(record.paths for record in check_grades(net))
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in net.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_plain_sgd_with_momentum_learns_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points, target = signed_volume(4096, generator)
    net = SignedVolumeNet(16, generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        for rows in torch.split(torch.randperm(len(points), generator=generator), 64):
            optimizer.zero_grad()
            torch.autograd.backward((net(points[rows]) - target[rows]).square().mean())
            optimizer.step()
    test_points, test_target = signed_volume(1024, generator)
    with torch.no_grad():
        assert float((net(test_points) - test_target).square().mean()) < 1e-5  # predicting 0 gives 0.06
