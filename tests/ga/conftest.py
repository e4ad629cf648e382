"""Fixtures shared by the tests of ``ga``."""

import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed, new for every test."""
    return torch.Generator().manual_seed(20240)
