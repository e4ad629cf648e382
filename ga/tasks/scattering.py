"""Electron-muon scattering: the squared amplitude, a Lorentz-invariant function of four momenta."""

from __future__ import annotations

import torch
from torch import Tensor

METRIC = (1.0, -1.0, -1.0, -1.0)
"""Signature of ``ga.STA``: energy first."""


def squared_amplitude(electron: Tensor, muon: Tensor, electron_after: Tensor, muon_after: Tensor) -> Tensor:
    r"""Spin-averaged squared amplitude of e⁻ μ⁻ → e⁻ μ⁻ at tree level, without the photon's factor e⁴/q⁴.

    With k, p the momenta of electron and muon before, k', p' after, and m² = k·k, M² = p·p,

    .. math:: 8 [(k'·p')(k·p) + (k'·p)(k·p') - m^2 p·p' - M^2 k·k' + 2 m^2 M^2],

    which is the contraction of the two leptons' tensors :math:`2 [k'^\mu k^\nu + k'^\nu k^\mu - (k·k' - m^2)
    \eta^{\mu\nu}]` (Halzen and Martin give the electron's as their equation 6.20).

    Args:
        electron: k, shape ``(*batch, 4)``, energy first.
        muon: p, of the same shape.
        electron_after: k'.
        muon_after: p'.

    Returns:
        Shape ``(*batch)``.

    Source:
        Halzen, Martin, "Quarks and Leptons" (1984), sections 6.3 and 6.4; Peskin, Schroeder, "An Introduction to
        Quantum Field Theory" (1995), section 5.4.

    >>> k, p = torch.tensor([2.0, 0.0, 0.0, 2.0]), torch.tensor([2.0, 0.0, 0.0, -2.0])
    >>> squared_amplitude(k, p, k, p)  # forwards, without masses: 2 (s² + u²) = 4 s² with s = 16
    tensor(1024.)
    """
    k, p, k2, p2 = electron, muon, electron_after, muon_after
    m2, muon_m2 = inner(k, k), inner(p, p)
    direct = inner(k2, p2) * inner(k, p) + inner(k2, p) * inner(k, p2)
    return 8 * (direct - m2 * inner(p, p2) - muon_m2 * inner(k, k2) + 2 * m2 * muon_m2)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Minkowski product of four-vectors, energy first, shape ``(*batch)``."""
    return (a * b * torch.tensor(METRIC, dtype=a.dtype, device=a.device)).sum(-1)


def electron_muon_scattering(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw four momenta, not on any mass shell, and the squared amplitude as a function of them.

    Args:
        n: Number of samples.
        generator: Source of the momenta.

    Returns:
        Momenta of electron, muon, electron after and muon after, normal with standard deviation 1/4, float32,
        shape ``(n, 4 momenta, 4 components)``; values, computed in float64 and rounded, float32, shape ``(n,)``,
        with mean 0 but for sampling; not standardized.

    Source:
        The task of Finzi, Welling, Wilson, arXiv 2104.09459, section 7.1, with the same momenta.  Their formula
        contracts tensors of the same form with symmetrized products in the paper; ours is Halzen and Martin's.

    >>> momenta, values = electron_muon_scattering(4, torch.Generator().manual_seed(0))
    >>> momenta.shape, values.shape
    (torch.Size([4, 4, 4]), torch.Size([4]))
    """
    momenta = torch.randn(n, 4, 4, generator=generator) / 4
    return momenta, squared_amplitude(*momenta.double().unbind(1)).float()
