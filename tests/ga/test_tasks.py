"""Generators of tasks: their formulas, symmetries, conservation laws, and that a seed decides everything."""

import math

import torch

from ga import Algebra
from ga.tasks.n_body import charged_n_body, simulate
from ga.tasks.regression import o5_regression
from ga.testing import random_orthogonal

D = torch.float64


def test_o5_regression_is_its_formula(generator: torch.Generator) -> None:
    vectors, values = o5_regression(50, generator)
    for pair, value in zip(vectors.double().tolist(), values.tolist(), strict=True):
        x, y = (math.hypot(*v) for v in pair)
        dot = sum(a * b for a, b in zip(*pair, strict=True))
        assert math.isclose(value, math.sin(x) - y**3 / 2 + dot / (x * y), rel_tol=1e-5, abs_tol=1e-5)
    assert torch.equal(
        o5_regression(3, torch.Generator().manual_seed(1))[0],
        o5_regression(3, torch.Generator().manual_seed(1))[0],
    )


def test_two_charges_move_as_the_formula_says() -> None:
    x = torch.tensor([[[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]], dtype=D)
    v = torch.zeros(1, 2, 3, dtype=D)
    for signs, towards in (([1.0, -1.0], 1.0), ([1.0, 1.0], -1.0)):
        _, after = simulate(torch.tensor([signs], dtype=D), x, v, 1, 0.5)
        assert torch.allclose(
            after[0, 0], torch.tensor([towards * 0.5 / 4, 0.0, 0.0], dtype=D).clamp(-0.1, 0.1)
        )


def test_momentum_is_kept_and_energy_nearly(generator: torch.Generator) -> None:
    charges = torch.ones(4, 5, dtype=D)  # all repel, so that none come near
    x = torch.randn(4, 5, 3, generator=generator, dtype=D) * 3
    v = torch.randn(4, 5, 3, generator=generator, dtype=D) * 0.1

    def energy(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return v.square().sum((1, 2)) / 2 + torch.stack(
            [torch.nn.functional.pdist(one).reciprocal().sum() for one in x]
        )

    later, faster = simulate(charges, x, v, 500, 0.001)
    torch.testing.assert_close(faster.sum(1), v.sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(energy(later, faster), energy(x, v), rtol=1e-3, atol=0)
    turn = random_orthogonal(Algebra(3), generator)
    turned, _ = simulate(charges, x @ turn.T, v @ turn.T, 500, 0.001)
    torch.testing.assert_close(turned, later @ turn.T, rtol=1e-9, atol=1e-9)


def test_bodies_are_decided_by_the_seed_and_go_on_from_what_is_given() -> None:
    first, second = (
        charged_n_body(3, torch.Generator().manual_seed(4), before=50, steps=50) for _ in range(2)
    )
    assert torch.equal(first.targets, second.targets)
    assert set(first.charges.flatten().tolist()) == {-1.0, 1.0}
    later, _ = simulate(
        first.charges.double(), first.positions.double(), first.velocities.double(), 50, 0.001
    )
    torch.testing.assert_close(later.float(), first.targets, rtol=1e-4, atol=1e-4)
