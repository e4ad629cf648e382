"""Oracles: `exact` (rationals, decides) and, where the extra is installed, `softposit` (a witness)."""
